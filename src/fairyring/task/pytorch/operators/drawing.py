"""Dropout and random numbers. They come from the key of a training step; an evaluation has none."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fairyring.task.pytorch.operators.values import Handler, Missing, Untranslatable
from fairyring.task.zoo.layers import dropout

# Of SELU's self-normalisation (Klambauer et al. 2017): what a dropped unit becomes.
_ALPHA_DROPPED = -1.7580993408473766


def drop(x: jax.Array, p: float, draw: jax.Array | None) -> jax.Array:
    """Dropout with the rate `p`; off without a key."""
    if draw is None or p == 0:
        return x
    if p >= 1:
        return x * 0
    return dropout(x[None], p, draw)[0] if x.ndim == 0 else dropout(x, p, draw)


def _drop_channels(x: jax.Array, p: float, train: bool, draw: jax.Array | None) -> jax.Array:
    """Whole channels are dropped: `[B, C, ...]`."""
    kept = drop(jnp.ones(x.shape[:2], x.dtype), p, draw if train else None)
    return x * kept.reshape(*x.shape[:2], *[1] * (x.ndim - 2))


def _alpha(shape: Callable[[jax.Array], tuple[int, ...]]) -> Handler:
    def alpha_dropout(x: jax.Array, p: float, train: bool, draw: jax.Array | None) -> jax.Array:
        if draw is None or not train or p == 0:
            return x
        if p >= 1:
            return x * 0
        kept = jax.random.bernoulli(draw, 1 - p, shape(x))
        kept = kept.reshape(*kept.shape, *[1] * (x.ndim - kept.ndim))
        scale = ((1 - p) * (1 + p * _ALPHA_DROPPED**2)) ** -0.5
        return jnp.where(kept, x, _ALPHA_DROPPED) * scale - scale * p * _ALPHA_DROPPED

    return alpha_dropout


def _native_dropout(x: jax.Array, p: float, train: bool | None, draw: jax.Array | None) -> Any:
    return drop(x, p, draw if train in (None, True) else None), Missing("the mask")


def _rrelu(x: jax.Array, lower: float, upper: float, training: bool, draw: jax.Array | None) -> jax.Array:
    if not training or draw is None:
        return jnp.where(x > 0, x, x * (lower + upper) / 2)
    return jnp.where(x > 0, x, x * jax.random.uniform(draw, x.shape, x.dtype, lower, upper))


def _key(draw: jax.Array | None) -> jax.Array:
    if draw is None:
        raise Untranslatable(
            "it draws random numbers in evaluation, whose outputs depend on parameters and inputs only",
            "Draw them only `if self.training`.",
        )
    return draw


def _uniform(draw: jax.Array | None, shape: Any, dtype: Any) -> jax.Array:
    return jax.random.uniform(_key(draw), tuple(shape), dtype or jnp.float32)


def _normal(draw: jax.Array | None, shape: Any, dtype: Any) -> jax.Array:
    return jax.random.normal(_key(draw), tuple(shape), dtype or jnp.float32)


OPERATORS: dict[str, Handler] = {
    "aten.dropout.default": lambda x, p, train, draw: drop(x, p, draw if train else None),
    "aten.native_dropout.default": _native_dropout,
    "aten.feature_dropout.default": _drop_channels,
    "aten.alpha_dropout.default": _alpha(lambda x: x.shape),
    "aten.feature_alpha_dropout.default": _alpha(lambda x: x.shape[:2]),
    "aten.rrelu.default": _rrelu,
    "aten.rand.default": lambda size, dtype, draw: _uniform(draw, size, dtype),
    "aten.rand_like.default": lambda x, dtype, draw: _uniform(draw, x.shape, dtype or x.dtype),
    "aten.randn.default": lambda size, dtype, draw: _normal(draw, size, dtype),
    "aten.randn_like.default": lambda x, dtype, draw: _normal(draw, x.shape, dtype or x.dtype),
    "aten.bernoulli.default": lambda x, draw: (jax.random.uniform(_key(draw), x.shape, x.dtype) < x).astype(
        x.dtype
    ),
    "aten.bernoulli.p": lambda x, p, draw: jax.random.bernoulli(_key(draw), p, x.shape).astype(x.dtype),
    "aten.normal_functional.default": lambda x, mean, std, draw: mean + std * _normal(draw, x.shape, x.dtype),
    "aten.uniform.default": lambda x, low, to, draw: low + (to - low) * _uniform(draw, x.shape, x.dtype),
    # The largest number that is drawn is just below 1, so its logarithm is finite.
    "aten.exponential.default": lambda x, lambd, draw: -jnp.log1p(-_uniform(draw, x.shape, x.dtype)) / lambd,
}
