"""Attention."""

import math

import jax
import jax.numpy as jnp

from fairyring.task.pytorch.operators.drawing import drop
from fairyring.task.pytorch.operators.values import Handler, Untranslatable


def attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    attn_mask: jax.Array | None,
    dropout_p: float,
    is_causal: bool,
    scale: float | None,
    enable_gqa: bool,
    draw: jax.Array | None,
) -> jax.Array:
    """Scaled dot-product attention: `[..., L, E]`, `[..., S, E]`, `[..., S, V]` -> `[..., L, V]`.

    A mask is True where a position is seen, or is added to the scores. Where nothing is seen, the result is zero.
    """
    if enable_gqa:  # several heads of the query share one of the keys
        key, value = (jnp.repeat(x, query.shape[-3] // x.shape[-3], axis=-3) for x in (key, value))
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = query @ key.swapaxes(-1, -2) * scale
    lowest = jnp.finfo(scores.dtype).min
    seen: jax.Array | None = None
    if is_causal:
        if attn_mask is not None:
            raise Untranslatable("it has both a mask and is_causal", "Put both into the mask.")
        scores = jnp.where(jnp.tril(jnp.ones(scores.shape[-2:], bool)), scores, lowest)
    elif attn_mask is not None and attn_mask.dtype == jnp.bool_:
        scores, seen = jnp.where(attn_mask, scores, lowest), attn_mask
    elif attn_mask is not None:
        scores, seen = jnp.maximum(scores + attn_mask, lowest), attn_mask > -jnp.inf
    weights = jax.nn.softmax(scores, axis=-1)
    if seen is not None:
        weights = jnp.where(seen.any(axis=-1, keepdims=True), weights, 0)
    return drop(weights, dropout_p, draw) @ value


OPERATORS: dict[str, Handler] = {"aten.scaled_dot_product_attention.default": attention}
