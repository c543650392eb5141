"""The form of every model in fairyring: a pytree of float32 parameters, and pure functions of it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

Params = Any
"""A pytree of float32 arrays only."""


class Model(NamedTuple):
    """A model as two pure functions. Both can be jitted, vmapped and exported.

    Attributes:
        init: `key -> params`, a pytree of float32 arrays.
        apply: `(params, x, key) -> outputs` for a batch, `x` `[B, ...]`. With a key the model is in training mode
            (dropout is on, drawn from the key). With None it is in evaluation mode: outputs depend on parameters and
            inputs only.
        native: `params -> params` in the form of the framework that the model was written in, where that differs: the
            state dict of a PyTorch module. None if `params` have it already, as for Equinox, Flax NNX and functions.
        into: `(params, object, rounds) -> object`: writes parameters into an object of that framework, in place, and returns it;
            `rounds` is how many they were trained for. None if it is done by their names, or by `native`.
        whole: `params -> params` of the whole model, where only a part or a change of it is trained. None if `params` are all of it.
    """

    init: Callable[[jax.Array], Params]
    apply: Callable[[Params, jax.Array, jax.Array | None], Any]
    native: Callable[[Params], Any] | None = None
    into: Callable[[Params, Any, int], Any] | None = None
    whole: Callable[[Params], Params] | None = None
