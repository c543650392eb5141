"""Logistic regression."""

from functools import partial
from typing import ClassVar

import equinox as eqx
import jax

from fairyring.task.adapters import from_equinox
from fairyring.task.model import Model
from fairyring.task.zoo.layers import Dense


class LogisticRegression(eqx.Module):
    """Multinomial logistic regression: `[B, ...]`, flattened to `[B, features]` -> logits `[B, classes]`."""

    batched: ClassVar[bool] = True
    out: Dense

    def __init__(self, features: int, classes: int, *, key: jax.Array) -> None:
        self.out = Dense(features, classes, key=key)

    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        return self.out(x.reshape(x.shape[0], -1))


def logistic_regression(features: int = 784, classes: int = 62) -> Model:
    """Multinomial logistic regression on flattened inputs, `features` numbers per example."""
    return from_equinox(partial(LogisticRegression, features, classes), traced=True)
