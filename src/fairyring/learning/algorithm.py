"""The contract of a federated algorithm: what it changes in plain federated averaging.

An algorithm is a handful of pure functions over pytrees. What it keeps on the server is sent to every client of
a round (`shared`); what it keeps for a client stays with that client (`mine`). The engine calls them inside one
compiled program, so they must be traceable by JAX.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fairyring.aggregation.contract import Auxiliary

Tree = Any


class Local(NamedTuple):
    """What a client's local training came to.

    `delta` is trained minus received parameters; `steps` the number of optimiser steps (float32 scalar);
    `gradient` the mean of the uncorrected batch gradients along the way, or None unless the algorithm asks.
    """

    delta: Tree
    steps: jax.Array
    gradient: Tree | None


class Report(NamedTuple):
    """What a client makes of it: an update (any pytree, the same for all clients), side values, its new state."""

    update: Tree
    auxiliary: tuple[jax.Array, ...]
    mine: Tree


class Algorithm(NamedTuple):
    """How a federated algorithm differs from plain averaging.

    Attributes:
        name: that of the function that makes it, such as ``fedprox``.
        shared: `params -> shared`, the server's extra state at the start; sent to the clients of each round.
        mine: `params -> mine`, a client's own state before its first round; None for a client without memory.
        correct: `(gradient, params, received params, shared, mine) -> gradient`, at every local step.
        report: `(Local, shared, mine) -> Report`.
        sides: the side values of a report, with their bounds.
        apply: `(mean update, mean auxiliaries, shared, fraction) -> (mean delta, shared)`, on the server; `fraction` is
            the share of all clients that reported.
        gradient: `Local.gradient` is wanted.
        in_clips: updates travel in units of a clip norm that the algorithm keeps.
        settings: the arguments of the function that makes it, all of them: plain values, or another algorithm.
    """

    name: str
    shared: Callable[[Tree], Tree]
    mine: Callable[[Tree], Tree]
    correct: Callable[[Tree, Tree, Tree, Tree, Tree], Tree]
    report: Callable[[Local, Tree, Tree], Report]
    apply: Callable[[Tree, tuple[jax.Array, ...], Tree, jax.Array], tuple[Tree, Tree]]
    auxiliaries: tuple[Auxiliary, ...] = ()
    gradient: bool = False
    in_clips: bool = False
    settings: tuple[tuple[str, Any], ...] = ()


def keeps_nothing(params: Tree) -> tuple[()]:
    """The state of an algorithm without state."""
    return ()


def leaves_gradient(gradient: Tree, params: Tree, received: Tree, shared: Tree, mine: Tree) -> Tree:
    """The correction of an algorithm that makes none."""
    return gradient


def reports_delta(local: Local, shared: Tree, mine: Tree) -> Report:
    """The report of plain averaging: the delta itself."""
    return Report(local.delta, (), mine)


def applies_mean(
    update: Tree, auxiliaries: tuple[jax.Array, ...], shared: Tree, fraction: jax.Array
) -> tuple[Tree, Tree]:
    """The server half of plain averaging: the mean delta as it is."""
    return update, shared


def zeros_like(params: Tree) -> Tree:
    """Zeros in the shapes of `params`."""
    return jax.tree.map(jnp.zeros_like, params)
