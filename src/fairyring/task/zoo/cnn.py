"""The convolutional network of the federated benchmarks with images."""

from functools import partial
from typing import ClassVar

import equinox as eqx
import jax

from fairyring.core.errors import ModelError
from fairyring.task.adapters import from_equinox
from fairyring.task.model import Model
from fairyring.task.zoo.layers import Convolution, Dense, dropout, max_pool


class CNN(eqx.Module):
    """Two 3 x 3 convolutions, max-pooling, dropout, a dense layer, dropout, logits (Reddi et al. 2021, EMNIST).

    Images `[B, height, width]` or `[B, height, width, channels]` -> logits `[B, classes]`.
    """

    batched: ClassVar[bool] = True
    first: Convolution
    second: Convolution
    hidden: Dense
    out: Dense
    image: tuple[int, int, int] = eqx.field(static=True)
    rates: tuple[float, float] = eqx.field(static=True)

    def __init__(
        self,
        image: tuple[int, int, int],
        classes: int,
        filters: tuple[int, int] = (32, 64),
        hidden: int = 128,
        rates: tuple[float, float] = (0.25, 0.5),
        *,
        key: jax.Array,
    ) -> None:
        height, width, channels = image
        if min(height, width) < 6:
            raise ModelError(
                "image", given=image, expected="at least 6 x 6 pixels", do="Use two_nn for smaller ones."
            )
        keys = jax.random.split(key, 4)
        self.first = Convolution(channels, filters[0], 3, key=keys[0])
        self.second = Convolution(filters[0], filters[1], 3, key=keys[1])
        left = ((height - 4) // 2) * ((width - 4) // 2) * filters[1]
        self.hidden = Dense(left, hidden, key=keys[2])
        self.out = Dense(hidden, classes, key=keys[3])
        self.image = image
        self.rates = rates

    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        early, late = (None, None) if key is None else jax.random.split(key)
        x = x.reshape(x.shape[0], *self.image)
        x = jax.nn.relu(self.first(x))
        x = max_pool(jax.nn.relu(self.second(x)))
        x = dropout(x, self.rates[0], early).reshape(x.shape[0], -1)
        x = jax.nn.relu(self.hidden(x))
        return self.out(dropout(x, self.rates[1], late))


def cnn(
    image: tuple[int, int, int] = (28, 28, 1),
    classes: int = 62,
    *,
    filters: tuple[int, int] = (32, 64),
    hidden: int = 128,
    rates: tuple[float, float] = (0.25, 0.5),
) -> Model:
    """The CNN for images of any size.

    Args:
        image: height, width and channels.
        classes: the number of classes.
        filters: channels of the two convolutions.
        hidden: units of the dense layer.
        rates: the two dropout rates.

    Raises:
        ModelError: images are smaller than 6 x 6 pixels.
    """
    return from_equinox(partial(CNN, image, classes, filters, hidden, rates), traced=True)


def c1() -> Model:
    """The CNN for CIFAR-10: 32 x 32 x 3, 10 classes, 1,626,442 parameters."""
    return cnn((32, 32, 3), 10)


def c2() -> Model:
    """The CNN for FEMNIST: 28 x 28, 62 classes, 1,206,590 parameters."""
    return cnn((28, 28, 1), 62)
