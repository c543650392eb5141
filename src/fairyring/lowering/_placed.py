"""Values of a program that lie in memory otherwise than the program names their axes, and how they get into its order.

An array with its axes in another order (`Placed`), one that is still to be repeated (`Spread`), and a value that is computed when it is
used (`Pending`).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fairyring.lowering._sums import LOOP, apart

TINY = 1 << 7  # elements; a transposition of fewer may be fused into its users
_WRITTEN = (
    16,
    512,
)  # numbers of the last axis, and of all; so long a concatenation along the last axis is not fused


@dataclass(frozen=True)
class Placed:
    """An array of a program, as it lies in memory.

    Attributes:
        array: what lies in memory.
        axes: for each axis of the program, the axes of `array` it is made of, the slowest first. An axis of length 1 is
            made of none. Each axis of `array` belongs to one axis of the program.
    """

    array: jax.Array
    axes: tuple[tuple[int, ...], ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """As the program sees it."""
        return tuple(math.prod(self.array.shape[a] for a in one) for one in self.axes)

    def in_order(self, order: Sequence[int]) -> jax.Array:
        """The array with the program's axes in this order."""
        moved = move(self.array, [a for axis in order for a in self.axes[axis]])
        return moved.reshape([self.shape[axis] for axis in order])


@dataclass(frozen=True)
class Spread:
    """An array that a program broadcasts to `shape`; `array` has axes of length 1 where it is repeated.

    Its users broadcast it themselves, so that its gradient is one sum.
    """

    array: jax.Array
    shape: tuple[int, ...]


class Pending(ABC):
    """A value of a program that is computed when it is used."""

    @abstractmethod
    def settled(self) -> "Placed | Spread | jax.Array":
        """The value, computed."""


def settled(value: Any) -> Any:
    """A value of a program, computed if it was put off."""
    return value.settled() if isinstance(value, Pending) else value


def placed(array: jax.Array, axes: Sequence[Sequence[int]]) -> "Placed | jax.Array":
    """`array` with a note of its axes, which is left out if they lie as the program has them."""
    own = tuple(tuple(a for a in one if array.shape[a] != 1) for one in axes)
    used = [a for one in own for a in one]
    if used == sorted(used):
        return array.reshape([math.prod(array.shape[a] for a in one) for one in own])
    kept = sorted(used)
    # Neighbours in memory that are neighbours in the program are one axis: loops over it are as long as they can be.
    follows = {b for one in own for a, b in pairwise(one) if kept.index(b) == kept.index(a) + 1}
    lengths: list[int] = []
    place: dict[int, int] = {}
    for a in kept:
        if a in follows:
            lengths[-1] *= array.shape[a]
        else:
            lengths.append(array.shape[a])
        place[a] = len(lengths) - 1
    axes = tuple(tuple(dict.fromkeys(place[a] for a in one)) for one in own)
    return Placed(array.reshape(lengths), axes)


def plain(value: Any) -> Any:
    """A value of a program in the order of its own axes."""
    value = settled(value)
    if isinstance(value, Spread):
        return jnp.broadcast_to(value.array, value.shape)
    return value.in_order(range(len(value.axes))) if isinstance(value, Placed) else value


def in_order(value: Any, order: Sequence[int]) -> jax.Array:
    """A value of a program with its axes in this order."""
    value = settled(value)
    return value.in_order(order) if isinstance(value, Placed) else move(plain(value), order)


def move(x: jax.Array, order: Sequence[int]) -> jax.Array:
    """`x.transpose(order)`, written to memory once, and so is its gradient.

    Fused into its users, a transposition would fetch single numbers from all over the array, once for every use.
    """
    order = tuple(order)
    long = [a for a in order if x.shape[a] != 1]
    if long == sorted(long) or x.size < TINY:
        return x.transpose(order)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return _written(x, order)
    return _move(x, order)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _move(x: jax.Array, order: tuple[int, ...]) -> jax.Array:
    return _written(x, order)


def _move_back(order: tuple[int, ...], _: None, g: jax.Array) -> tuple[jax.Array]:
    return (_written(g, tuple(order.index(a) for a in range(len(order)))),)


_move.defvjp(lambda x, order: (_move(x, order), None), _move_back)


def _written(x: jax.Array, order: tuple[int, ...]) -> jax.Array:
    long = [a for a in order if x.shape[a] != 1]
    last = long[-1]
    if x.size < LOOP and x.shape[last] >= _WRITTEN[0] and x.size >= _WRITTEN[1]:
        # XLA fuses nothing with such a concatenation, and users read rows of the result, which are in both parts.
        half = x.shape[last] // 2
        parts = (lax.slice_in_dim(x, *ends, axis=last) for ends in ((0, half), (half, x.shape[last])))
        return jnp.concatenate([part.transpose(order) for part in parts], axis=order.index(last))
    first = long[0]
    rest = [a for a in order if a != first]
    y = apart(lambda part: part.transpose(first, *rest), x, first)
    return y.reshape([x.shape[a] for a in order])


def like(value: Any, model: Placed) -> jax.Array | None:
    """`value` with its axes placed as in `model`; of length 1 where the value's are."""
    value = value.array if isinstance(value, Spread) else value
    shape = value.shape
    if len(shape) != len(model.axes) or any(s not in (1, m) for s, m in zip(shape, model.shape, strict=True)):
        return None
    if isinstance(value, Placed):
        if value.axes == model.axes and value.array.shape == model.array.shape:
            return value.array
        value = plain(value)
    pieces: list[int] = []
    for size, one in zip(shape, model.axes, strict=True):
        pieces += [model.array.shape[a] if size != 1 else 1 for a in one]
    flat = [a for one in model.axes for a in one]
    return move(value.reshape(pieces), [flat.index(a) for a in range(len(flat))])
