"""How parameters, and all trees like them, are kept while a client works."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from fairyring.core.errors import PlanError
from fairyring.learning.algorithm import Algorithm
from fairyring.learning.local import LocalTraining
from fairyring.learning.rehearsal import RehearsalClient
from fairyring.lowering import Storage, keeps_padding

Tree = Any
Align = Callable[..., Storage]

# Taking padding out costs a pass over all parameters: not for a large model's small last layer.
WORTHWHILE = 0.25
STEPS = 3  # of the training that shows whether padding stays zero


def storage_for(
    align: Align | None,
    objective: Callable,
    arguments: tuple[Any, ...],
    local: LocalTraining,
    algorithm: Algorithm,
    states: tuple[Tree, Tree],
) -> Storage:
    """What `align` makes of an objective, if padded parameters cannot change what is learned; else as given.

    `pad` and `unpad` take any tree: each part of it that is like the parameters is padded, and the rest left as it is.

    Args:
        align: such as `align_dense`; None to leave everything as it is.
        objective: the local loss.
        arguments: of the objective, the parameters first; shapes are enough.
        local, algorithm: how the parameters are trained.
        states: what the algorithm keeps on the server and for a client.
    """
    if align is None:
        return Storage.as_given(objective)
    params = _shapes(arguments[0])
    storage = align(objective, *arguments)
    if not storage.padded:
        return Storage.as_given(storage.fn)
    padded = jax.eval_shape(storage.pad, params)
    pad, unpad = _each(storage.pad, params), _each(storage.unpad, padded)
    if _share(params, padded) >= WORTHWHILE and _keeps_padding(params, pad, unpad, local, algorithm, states):
        return storage._replace(pad=pad, unpad=unpad)
    return Storage.as_given(align(objective, *arguments, pad=False).fn)


def _each(change: Callable[[Tree], Tree], like: Tree) -> Callable[[Tree], Tree]:
    """`change` for every part of a tree that has the structure and shapes of `like`."""
    structure = jax.tree.structure(like)

    def is_like(part: Tree) -> bool:
        return jax.tree.structure(part) == structure and _shapes(part) == like

    return lambda tree: jax.tree.map(
        lambda part: change(part) if is_like(part) else part, tree, is_leaf=is_like
    )


def _share(params: Tree, padded: Tree) -> float:
    """The share of the parameters that lie in padded leaves."""
    pairs = list(zip(jax.tree.leaves(params), jax.tree.leaves(padded), strict=True))
    return sum(true.size for true, kept in pairs if true.shape != kept.shape) / sum(
        true.size for true, _ in pairs
    )


def _keeps_padding(
    params: Tree,
    pad: Callable[[Tree], Tree],
    unpad: Callable[[Tree], Tree],
    local: LocalTraining,
    algorithm: Algorithm,
    states: tuple[Tree, Tree],
) -> bool:
    """Whether a client's whole round keeps padding zero, whatever gradients its batches give."""
    # Any round's optimiser tells: a traced round cannot choose between different ones.
    optimizer = local.optimizer_of(np.int32(1))

    def round(received: Tree, server_state: Tree, client_state: Tree, *gradients: Tree) -> Tree:
        return algorithm.device(RehearsalClient(optimizer, gradients), received, server_state, client_state)

    arguments = (params, *map(_shapes, states), *[params] * STEPS)
    try:
        # What has the shapes of padded parameters as it is would be cut.
        kept = arguments, jax.eval_shape(round, *arguments)
        return jax.eval_shape(unpad, kept) == kept and keeps_padding(round, arguments, pad)
    except PlanError:  # it reads columns, of which nothing is known here
        return False


def _shapes(tree: Tree) -> Tree:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype), tree)
