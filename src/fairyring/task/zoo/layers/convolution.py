"""Convolutions over images `[B, height, width, channels]`, and pooling."""

import equinox as eqx
import jax
import jax.numpy as jnp

from fairyring.task.zoo.layers.initialise import Initialiser, glorot_uniform, he_normal


class Convolution(eqx.Module):
    """A `size` x `size` convolution with bias, as one XLA operation.

    The gradient that automatic differentiation derives for it is slow on a CPU. There the engine replaces it, as it
    does for every model's convolutions.
    """

    weight: jax.Array
    bias: jax.Array
    stride: int = eqx.field(static=True)
    padding: str = eqx.field(static=True)

    def __init__(
        self,
        channels: int,
        filters: int,
        size: int,
        *,
        key: jax.Array,
        stride: int = 1,
        padding: str = "VALID",
        initialise: Initialiser = glorot_uniform,
    ) -> None:
        self.weight = initialise(key, (size, size, channels, filters), jnp.float32)
        self.bias = jnp.zeros((filters,), jnp.float32)
        self.stride = stride
        self.padding = padding

    def __call__(self, x: jax.Array) -> jax.Array:
        out = jax.lax.conv_general_dilated(
            x,
            self.weight,
            (self.stride, self.stride),
            self.padding,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return out + self.bias


class Depthwise(eqx.Module):
    """A `size` x `size` convolution of each channel by itself, with same padding and no bias, as one XLA operation."""

    weight: jax.Array
    stride: int = eqx.field(static=True)

    def __init__(self, channels: int, size: int, *, key: jax.Array, stride: int = 1) -> None:
        self.weight = he_normal(key, (size * size, channels), jnp.float32).reshape(size, size, channels)
        self.stride = stride

    def __call__(self, x: jax.Array) -> jax.Array:
        size, channels = self.weight.shape[0], self.weight.shape[2]
        return jax.lax.conv_general_dilated(
            x,
            self.weight[:, :, None],
            (self.stride, self.stride),
            [((size - 1) // 2, size // 2)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=channels,
        )


def max_pool(x: jax.Array, size: int = 2) -> jax.Array:
    """The maximum of each `size` x `size` square. Squares do not overlap; incomplete ones at the edge are dropped."""
    window = (1, size, size, 1)
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")
