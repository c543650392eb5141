"""How parameters, and all pytrees like them, are stored while a client trains."""

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

# The least share of parameters in padded leaves, or transposed ones, for which that pays. Removing it costs a pass over all parameters, too much for
# the small last layer of a large model.
WORTHWHILE = 0.25
MANY = 8  # local steps, for which it pays to transpose matrices before and after
STEPS = 3  # length of the training that shows whether padding stays zero


def storage_for(
    align: Align | None,
    objective: Callable,
    arguments: tuple[Any, ...],
    local: LocalTraining,
    algorithm: Algorithm,
    states: tuple[Tree, Tree],
    steps: int,
) -> Storage:
    """What `align` makes of an objective. Parameters are padded only if that cannot change what is learned, and pays.

    `pad` and `unpad` take any pytree. They change each part of it that is like the parameters, and nothing else.

    Args:
        align: a rewriting such as `align_dense`; None to leave everything unchanged.
        objective: the local loss.
        arguments: the objective's arguments, the parameters first; shapes are enough.
        local, algorithm: how the parameters are trained.
        states: the algorithm's state on the server and on a client.
        steps: how many local steps a client takes, about.
    """
    if align is None:
        return Storage.as_given(objective)
    params = _shapes(arguments[0])
    storage = align(objective, *arguments, transpose=steps >= MANY)
    if not storage.padded:
        return Storage.as_given(storage.fn)
    padded = jax.eval_shape(storage.pad, params)
    pad, unpad = _each(storage.pad, params), _each(storage.unpad, padded)
    if storage.share >= WORTHWHILE and _keeps_padding(params, pad, unpad, local, algorithm, states):
        return storage._replace(pad=pad, unpad=unpad)
    return Storage.as_given(align(objective, *arguments, pad=False).fn)


def _each(change: Callable[[Tree], Tree], like: Tree) -> Callable[[Tree], Tree]:
    """Apply `change` to every part of a pytree that has the structure, shapes and dtypes of `like`."""
    structure = jax.tree.structure(like)

    def is_like(part: Tree) -> bool:
        return jax.tree.structure(part) == structure and _shapes(part) == like

    return lambda tree: jax.tree.map(
        lambda part: change(part) if is_like(part) else part, tree, is_leaf=is_like
    )


def _keeps_padding(
    params: Tree,
    pad: Callable[[Tree], Tree],
    unpad: Callable[[Tree], Tree],
    local: LocalTraining,
    algorithm: Algorithm,
    states: tuple[Tree, Tree],
) -> bool:
    """Whether padding stays zero through a client's whole round, whatever the gradients of its batches."""
    # The optimiser of any round will do: the round is traced, so it cannot select one of several optimisers.
    optimizer = local.optimizer_of(np.int32(1))

    def round(received: Tree, server_state: Tree, client_state: Tree, *gradients: Tree) -> Tree:
        return algorithm.device(RehearsalClient(optimizer, gradients), received, server_state, client_state)

    arguments = (params, *map(_shapes, states), *[params] * STEPS)
    try:
        # What has the shapes of padded parameters as it is would be cut.
        kept = arguments, jax.eval_shape(round, *arguments)
        return jax.eval_shape(unpad, kept) == kept and keeps_padding(round, arguments, pad)
    except PlanError:  # the device half reads columns, and nothing is known of them here
        return False


def _shapes(tree: Tree) -> Tree:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype), tree)
