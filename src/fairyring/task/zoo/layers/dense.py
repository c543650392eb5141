"""The dense layer."""

import equinox as eqx
import jax
import jax.numpy as jnp

from fairyring.task.zoo.layers.initialise import Initialiser, glorot_uniform


class Dense(eqx.Module):
    """`x @ weight + bias`: `[..., features]` -> `[..., units]`."""

    weight: jax.Array
    bias: jax.Array

    def __init__(
        self, features: int, units: int, *, key: jax.Array, initialise: Initialiser = glorot_uniform
    ) -> None:
        self.weight = initialise(key, (features, units), jnp.float32)
        self.bias = jnp.zeros((units,), jnp.float32)

    def __call__(self, x: jax.Array) -> jax.Array:
        return affine(x, self.weight, self.bias)


def affine(x: jax.Array, weight: jax.Array, bias: jax.Array) -> jax.Array:
    """`x @ weight + bias` over the last axis: `[..., features]` -> `[..., units]`."""
    # Flattened to one matrix: the weight's gradient contracts over all leading axes, and with several of them XLA is
    # three times slower on a CPU.
    flat = x.reshape(-1, weight.shape[0]) @ weight
    return flat.reshape(*x.shape[:-1], weight.shape[1]) + bias
