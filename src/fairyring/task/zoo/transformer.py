"""A small transformer."""

from functools import partial
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from fairyring.core.errors import ModelError
from fairyring.task.adapters import from_equinox
from fairyring.task.model import Model
from fairyring.task.zoo.layers import Attention, Dense, LayerNorm, dropout
from fairyring.task.zoo.layers.initialise import small_normal


class Block(eqx.Module):
    """Attention, then two dense layers with four times the width between them; each has a normalised input and a residual."""

    attention_norm: LayerNorm
    attention: Attention
    dense_norm: LayerNorm
    widen: Dense
    narrow: Dense

    def __init__(self, width: int, heads: int, *, causal: bool, key: jax.Array) -> None:
        keys = jax.random.split(key, 3)
        self.attention_norm = LayerNorm(width)
        self.attention = Attention(width, heads, causal=causal, key=keys[0])
        self.dense_norm = LayerNorm(width)
        self.widen = Dense(width, 4 * width, key=keys[1])
        self.narrow = Dense(4 * width, width, key=keys[2])

    def __call__(self, x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
        first, second = (None, None) if key is None else jax.random.split(key)
        x = x + dropout(self.attention(self.attention_norm(x)), rate, first)
        hidden = jax.nn.gelu(self.widen(self.dense_norm(x)))
        return x + dropout(self.narrow(hidden), rate, second)


class Transformer(eqx.Module):
    """A pre-norm transformer (Vaswani et al. 2017; Xiong et al. 2020) with learned positions.

    Tokens `[B, T]`, with T at most `length`, -> logits `[B, T, vocabulary]`. With `classes`, the mean over positions
    goes to logits `[B, classes]` instead. With `causal`, no position attends to later ones, as `next_token` requires.
    """

    batched: ClassVar[bool] = True
    embedding: jax.Array
    positions: jax.Array
    blocks: list[Block]
    norm: LayerNorm
    out: Dense
    rate: float = eqx.field(static=True)
    pooled: bool = eqx.field(static=True)

    def __init__(
        self,
        vocabulary: int,
        length: int,
        width: int = 128,
        layers: int = 2,
        heads: int = 4,
        *,
        causal: bool = True,
        classes: int | None = None,
        rate: float = 0.0,
        key: jax.Array,
    ) -> None:
        keys = jax.random.split(key, layers + 3)
        self.embedding = small_normal(keys[0], (vocabulary, width), jnp.float32)
        self.positions = small_normal(keys[1], (length, width), jnp.float32)
        self.blocks = [Block(width, heads, causal=causal, key=k) for k in keys[3:]]
        self.norm = LayerNorm(width)
        self.out = Dense(width, vocabulary if classes is None else classes, key=keys[2])
        self.rate = rate
        self.pooled = classes is not None

    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        longest = self.positions.shape[0]
        if x.shape[1] > longest:
            raise ModelError(
                "sequence",
                given=f"{x.shape[1]} tokens",
                expected=f"at most {longest}, the number of learned positions",
                do="Make the transformer with a larger length, or cut the sequences.",
            )
        keys = [None] * (len(self.blocks) + 1) if key is None else jax.random.split(key, len(self.blocks) + 1)
        x = dropout(self.embedding[x] + self.positions[: x.shape[1]], self.rate, keys[0])
        for block, k in zip(self.blocks, keys[1:], strict=True):
            x = block(x, self.rate, k)
        x = self.norm(x)
        return self.out(x.mean(axis=1) if self.pooled else x)


def transformer(
    vocabulary: int = 80,
    length: int = 80,
    *,
    width: int = 128,
    layers: int = 2,
    heads: int = 4,
    causal: bool = True,
    classes: int | None = None,
    rate: float = 0.0,
) -> Model:
    """A small transformer: a language model, or with `classes` a classifier (give `causal=False`, too).

    Args:
        vocabulary: the number of tokens.
        length: the longest sequence.
        width: of the embedding.
        layers: the number of blocks.
        heads: of the attention; divides `width`.
        causal: whether positions attend only to earlier ones.
        classes: the number of classes of a classifier; None for a language model.
        rate: of dropout.

    Raises:
        ModelError: `width` is not divisible by `heads`; when called: a sequence is longer than `length`.
    """
    return from_equinox(
        partial(
            Transformer,
            vocabulary,
            length,
            width,
            layers,
            heads,
            causal=causal,
            classes=classes,
            rate=rate,
        ),
        traced=True,
    )
