"""How parameters are kept between a client's training steps."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from fairyring.learning.algorithm import Algorithm, leaves_gradient
from fairyring.learning.local import LocalTraining
from fairyring.lowering import Storage, keeps_padding

Tree = Any
Align = Callable[..., Storage]

# Taking padding out costs a pass over all parameters: not for a large model's small last layer.
WORTHWHILE = 0.25


def storage_for(
    align: Align | None,
    objective: Callable,
    arguments: tuple[Any, ...],
    local: LocalTraining,
    algorithm: Algorithm,
    states: tuple[Tree, Tree],
) -> Storage:
    """What `align` makes of an objective, if padded parameters cannot change what is learned; else as given.

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
        return storage
    if _share(params, storage) >= WORTHWHILE and _keeps_padding(params, storage, local, algorithm, states):
        return storage
    return align(objective, *arguments, pad=False)


def _share(params: Tree, storage: Storage) -> float:
    """The share of the parameters that lie in padded leaves."""
    pairs = list(
        zip(*(jax.tree.leaves(t) for t in (params, jax.eval_shape(storage.pad, params))), strict=True)
    )
    return sum(true.size for true, kept in pairs if true.shape != kept.shape) / sum(
        true.size for true, _ in pairs
    )


def _keeps_padding(
    params: Tree, storage: Storage, local: LocalTraining, algorithm: Algorithm, states: tuple[Tree, Tree]
) -> bool:
    # Any round's optimiser tells: a traced round cannot choose between different ones.
    optimizer = local.optimizer_of(np.int32(1))
    if not keeps_padding(optimizer.init, optimizer.update, params, storage.pad):
        return False
    if algorithm.correct is leaves_gradient:
        return True
    if any(jax.tree.leaves(state) and _shapes(state) != params for state in states):
        return False
    return keeps_padding(
        lambda tree: (tree, *(tree if jax.tree.leaves(state) else () for state in states)),
        lambda gradient, kept, now: (algorithm.correct(gradient, now, *kept), kept),
        params,
        storage.pad,
    )


def _shapes(tree: Tree) -> Tree:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)
