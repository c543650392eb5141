"""Multi-head self-attention."""

import equinox as eqx
import jax
import jax.numpy as jnp

from fairyring.core.errors import ModelError
from fairyring.task.zoo.layers.dense import Dense


class Attention(eqx.Module):
    """Scaled dot-product self-attention with several heads (Vaswani et al. 2017): `[B, T, width]` -> `[B, T, width]`.

    With `causal`, a position attends only to itself and to earlier ones.
    """

    project: Dense
    merge: Dense
    heads: int = eqx.field(static=True)
    causal: bool = eqx.field(static=True)

    def __init__(self, width: int, heads: int, *, causal: bool, key: jax.Array) -> None:
        if heads < 1 or width % heads:
            raise ModelError(
                "heads", given=heads, expected=f"a divisor of the width {width}", do="Change heads or width."
            )
        first, second = jax.random.split(key)
        self.project = Dense(width, 3 * width, key=first)
        self.merge = Dense(width, width, key=second)
        self.heads = heads
        self.causal = causal

    def __call__(self, x: jax.Array) -> jax.Array:
        batch, length, width = x.shape
        split = self.project(x).reshape(batch, length, 3, self.heads, width // self.heads)
        query, key, value = split.transpose(2, 0, 3, 1, 4)
        scores = query @ key.swapaxes(-1, -2) * (width // self.heads) ** -0.5
        if self.causal:
            seen = jnp.tril(jnp.ones((length, length), bool))
            scores = jnp.where(seen, scores, jnp.finfo(scores.dtype).min)
        mixed = jax.nn.softmax(scores, axis=-1) @ value
        return self.merge(mixed.swapaxes(1, 2).reshape(batch, length, width))
