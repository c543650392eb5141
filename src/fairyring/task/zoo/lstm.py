"""LSTM language models for next characters and next words."""

from functools import partial
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from fairyring.task.adapters import from_equinox
from fairyring.task.model import Model
from fairyring.task.zoo.layers import LSTM, Dense
from fairyring.task.zoo.layers.initialise import small_uniform


class LSTMLanguageModel(eqx.Module):
    """Embedding, LSTM layers, optionally a projection, logits: tokens `[B, T]` -> `[B, T, vocabulary]`."""

    batched: ClassVar[bool] = True
    embedding: jax.Array
    layers: list[LSTM]
    projection: Dense | None
    out: Dense

    def __init__(
        self,
        vocabulary: int,
        embedding: int,
        units: int,
        layers: int = 1,
        projection: int | None = None,
        *,
        key: jax.Array,
    ) -> None:
        keys = jax.random.split(key, layers + 3)
        widths = [embedding, *[units] * layers]
        self.embedding = small_uniform(keys[0], (vocabulary, embedding), jnp.float32)
        self.layers = [
            LSTM(before, after, key=k) for before, after, k in zip(widths, widths[1:], keys[3:], strict=False)
        ]
        self.projection = None if projection is None else Dense(units, projection, key=keys[1])
        self.out = Dense(projection or units, vocabulary, key=keys[2])

    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        states = self.embedding[x.T]
        for layer in self.layers:
            states = layer(states)
        states = states.swapaxes(0, 1)
        if self.projection is not None:
            states = self.projection(states)
        return self.out(states)


def lstm(
    vocabulary: int = 80,
    *,
    embedding: int = 8,
    units: int = 256,
    layers: int = 2,
    projection: int | None = None,
) -> Model:
    """An LSTM language model. `projection` is the width of a linear layer before the logits; None for no such layer."""
    return from_equinox(
        partial(LSTMLanguageModel, vocabulary, embedding, units, layers, projection), traced=True
    )


def c3() -> Model:
    """Next word of StackOverflow (Reddi et al. 2021): LSTM 670, 10,004 words, 4,050,748 parameters."""
    return lstm(10_004, embedding=96, units=670, layers=1, projection=96)


def c4() -> Model:
    """Next character of Shakespeare (McMahan et al. 2017): 2 x LSTM 256, 80 tokens, 817,872 parameters."""
    return lstm(80, embedding=8, units=256, layers=2)
