"""A small MobileNet."""

from functools import partial
from typing import ClassVar

import equinox as eqx
import jax

from fairyring.task.adapters import from_equinox
from fairyring.task.model import Model
from fairyring.task.zoo.layers import Convolution, Dense, Depthwise, GroupNorm
from fairyring.task.zoo.layers.initialise import he_normal


class Separable(eqx.Module):
    """A depthwise 3 x 3 convolution, then a 1 x 1 convolution, each followed by normalisation and a ReLU."""

    depth: Depthwise
    depth_norm: GroupNorm
    point: Dense
    point_norm: GroupNorm

    def __init__(self, channels: int, filters: int, *, stride: int, groups: int, key: jax.Array) -> None:
        first, second = jax.random.split(key)
        self.depth = Depthwise(channels, 3, key=first, stride=stride)
        self.depth_norm = GroupNorm(channels, groups)
        self.point = Dense(channels, filters, key=second, initialise=he_normal)
        self.point_norm = GroupNorm(filters, groups)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = jax.nn.relu(self.depth_norm(self.depth(x)))
        return jax.nn.relu(self.point_norm(self.point(x)))


class MobileNet(eqx.Module):
    """Depthwise separable convolutions (Howard et al. 2017) with GroupNorm instead of batch normalisation.

    Images `[B, height, width]` or `[B, height, width, channels]` -> logits `[B, classes]`. A block with more
    channels than the one before also halves height and width. The mean over positions goes to the logits.
    """

    batched: ClassVar[bool] = True
    stem: Convolution
    stem_norm: GroupNorm
    blocks: list[Separable]
    out: Dense
    image: tuple[int, int, int] = eqx.field(static=True)

    def __init__(
        self,
        image: tuple[int, int, int],
        classes: int,
        widths: tuple[int, ...] = (32, 64, 64, 128, 128, 256),
        groups: int = 8,
        *,
        key: jax.Array,
    ) -> None:
        keys = jax.random.split(key, len(widths) + 1)
        self.stem = Convolution(image[2], widths[0], 3, key=keys[0], padding="SAME", initialise=he_normal)
        self.stem_norm = GroupNorm(widths[0], groups)
        self.blocks = [
            Separable(before, after, stride=2 if after > before else 1, groups=groups, key=k)
            for before, after, k in zip(widths, widths[1:], keys[1:], strict=False)
        ]
        self.out = Dense(widths[-1], classes, key=keys[-1])
        self.image = image

    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        x = x.reshape(x.shape[0], *self.image)
        x = jax.nn.relu(self.stem_norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return self.out(x.mean(axis=(1, 2)))


def mobilenet(
    image: tuple[int, int, int] = (32, 32, 3),
    classes: int = 10,
    *,
    widths: tuple[int, ...] = (32, 64, 64, 128, 128, 256),
    groups: int = 8,
) -> Model:
    """A small MobileNet.

    Args:
        image: height, width and channels.
        classes: the number of classes.
        widths: channels after the stem and after each block; a block with more channels halves height and width.
        groups: of the group normalisation; divides every width.

    Raises:
        ModelError: a width is not divisible by `groups`.
    """
    return from_equinox(partial(MobileNet, image, classes, widths, groups), traced=True)
