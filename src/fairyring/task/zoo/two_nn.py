"""2NN: a perceptron with two hidden layers of ReLU units."""

from functools import partial
from typing import ClassVar

import equinox as eqx
import jax

from fairyring.task.adapters import from_equinox
from fairyring.task.model import Model
from fairyring.task.zoo.layers import Dense


class TwoNN(eqx.Module):
    """The "2NN" of McMahan et al. 2017: `[B, ...]`, flattened to `[B, features]` -> logits `[B, classes]`."""

    batched: ClassVar[bool] = True
    first: Dense
    second: Dense
    out: Dense

    def __init__(self, features: int, hidden: int, classes: int, *, key: jax.Array) -> None:
        keys = jax.random.split(key, 3)
        self.first = Dense(features, hidden, key=keys[0])
        self.second = Dense(hidden, hidden, key=keys[1])
        self.out = Dense(hidden, classes, key=keys[2])

    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        x = x.reshape(x.shape[0], -1)
        x = jax.nn.relu(self.first(x))
        x = jax.nn.relu(self.second(x))
        return self.out(x)


def two_nn(features: int = 784, hidden: int = 200, classes: int = 62) -> Model:
    """A perceptron with two hidden layers of `hidden` ReLU units on flattened inputs."""
    return from_equinox(partial(TwoNN, features, hidden, classes), traced=True)
