"""What every model is inside fairyring: a pytree of float32 parameters and a pure function of them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

Params = Any
"""A pytree of float32 arrays, nothing else."""


class Model(NamedTuple):
    """A model as two pure functions, both of which can be jitted, vmapped and exported.

    Attributes:
        init: `key -> params`, a pytree of float32 arrays.
        apply: `(params, x, key) -> outputs` on a batch, `x` `[B, ...]`. With a key the model trains (dropout
            is on, drawn from the key); with None it is evaluated, and the same input gives the same output.
    """

    init: Callable[[jax.Array], Params]
    apply: Callable[[Params, jax.Array, jax.Array | None], Any]
