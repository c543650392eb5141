"""Normalisation that does not depend on the batch."""

import equinox as eqx
import jax
import jax.numpy as jnp

from fairyring.core.errors import ModelError

_EPSILON = 1e-5


class LayerNorm(eqx.Module):
    """Zero mean and unit variance over the last axis, then scale and shift (Ba et al. 2016)."""

    scale: jax.Array
    shift: jax.Array

    def __init__(self, features: int) -> None:
        self.scale = jnp.ones((features,), jnp.float32)
        self.shift = jnp.zeros((features,), jnp.float32)

    def __call__(self, x: jax.Array) -> jax.Array:
        return _standardise(x, (-1,)) * self.scale + self.shift


class GroupNorm(eqx.Module):
    """Zero mean and unit variance over space and a group of channels of `[B, height, width, channels]`.

    Wu & He 2018. Hsieh et al. 2020 use it in place of batch normalisation for heterogeneous clients.
    """

    scale: jax.Array
    shift: jax.Array
    groups: int = eqx.field(static=True)

    def __init__(self, channels: int, groups: int) -> None:
        if groups < 1 or channels % groups:
            raise ModelError(
                "groups",
                given=groups,
                expected=f"a divisor of {channels} channels",
                do="Usual numbers are 2 to 32.",
            )
        self.scale = jnp.ones((channels,), jnp.float32)
        self.shift = jnp.zeros((channels,), jnp.float32)
        self.groups = groups

    def __call__(self, x: jax.Array) -> jax.Array:
        batch, height, width, channels = x.shape
        grouped = x.reshape(batch, height * width, self.groups, channels // self.groups)
        return _standardise(grouped, (1, 3)).reshape(x.shape) * self.scale + self.shift


def _standardise(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    centred = x - x.mean(axis=axes, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.square(centred).mean(axis=axes, keepdims=True) + _EPSILON)
