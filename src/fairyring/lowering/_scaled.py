"""Large arrays shifted and scaled by small ones, as a normalisation does it: put off until they are used.

Group normalisation takes the mean and the variance of an array, subtracts, multiplies, scales and shifts. Operation by
operation that is a pass over the array each, and more of them backward. Here the array stays as it is, with a note of the
small arrays that shift and scale it, which are combined with each other first. What is left is one pass,
`(x - shift) * scale + offset`, whose gradient needs two sums. The sum of a shifted array, and of its square, is computed
from the array itself: over space in whole vectors of channels, and then over the channels of a group.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core

from fairyring.lowering._layout import regrouped
from fairyring.lowering._placed import Pending, Placed, Spread, like, placed
from fairyring.lowering._sums import LOOP, SHORT, kept_apart

Small = jax.Array | None
Axes = tuple[tuple[int, ...], ...]

_SMALL = 8  # small is what has at most one number for so many of the array
_SQUARES = {"square", "integer_pow"}


@dataclass(frozen=True, eq=False)
class Scaled(Pending):
    """`(array - shift) * scale + offset`.

    Attributes:
        array: the large array, as it lies in memory.
        axes: for each axis of the program the axes of `array` it is made of; see `Placed`.
        shift, scale, offset: with as many axes as `array`, each of the array's length or of length 1; None for 0, 1 and 0.
            There is no offset without a scale.
        now: makes a value without a scale, operation by operation.
    """

    array: jax.Array
    axes: Axes
    shift: Small = None
    scale: Small = None
    offset: Small = None
    now: Callable[[], Any] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """As the program sees it."""
        return tuple(math.prod(self.array.shape[a] for a in one) for one in self.axes)

    @property
    def smalls(self) -> list[jax.Array]:
        return [one for one in (self.shift, self.scale, self.offset) if one is not None]

    @cached_property
    def _settled(self) -> Any:
        if self.scale is None:
            assert self.now is not None
            return self.now()
        blocks = _blocks(self.array.shape, _kept(self.array.shape, self.smalls))
        assert blocks is not None
        smalls = [None if one is None else blocks.small(one) for one in (self.shift, self.scale, self.offset)]
        y = _scaled(blocks.large(self.array), *smalls)
        return placed(y.reshape(self.array.shape), self.axes)

    def settled(self) -> Any:
        """The value as an array, computed once."""
        return self._settled


@dataclass(frozen=True, eq=False)
class Squared(Pending):
    """The square of a value without a scale, and how the program makes it."""

    of: Scaled
    now: Callable[[], Any]

    @cached_property
    def _settled(self) -> Any:
        return self.now()

    def settled(self) -> Any:
        """The value as an array, computed once."""
        return self._settled


def follow(eqn: core.JaxprEqn, operands: Sequence[Any], now: Callable[[], Any]) -> Any:
    """The result of an equation as a value that is put off, or a sum of one; None if it is neither.

    Args:
        eqn, operands: the equation.
        now: computes it operation by operation.
    """
    name = eqn.primitive.name
    if name == "reduce_sum":
        (x,) = operands
        return _summed(x, eqn.params["axes"]) if isinstance(x, Pending) else None
    if any(isinstance(one, Squared) for one in operands):
        return None
    if name == "reshape" and isinstance(operands[0], Scaled):
        return _reshaped(eqn, operands, now)
    if name == "transpose" and isinstance(operands[0], Scaled):
        (x,) = operands
        return replace(x, axes=tuple(x.axes[axis] for axis in eqn.params["permutation"]), now=now)
    aval: Any = eqn.outvars[0].aval if eqn.outvars else None
    if aval is None or name not in {"add", "sub", "mul", "div", *_SQUARES}:
        return None
    avals: list[Any] = [atom.aval for atom in eqn.invars]
    if aval.ndim < 3 or aval.size < LOOP or any(one.dtype != jnp.float32 for one in (aval, *avals)):
        return None
    is_square = name == "square" or (name == "integer_pow" and eqn.params["y"] == 2)
    if is_square or (name == "mul" and operands[0] is operands[1]):
        x = _begun(operands[0])
        return Squared(x, now) if x is not None and x.scale is None else None
    return None if name in _SQUARES else _combined(name, aval.shape, operands, now)


def _begun(x: Any) -> Scaled | None:
    """A large array as a value that nothing was done to."""
    if isinstance(x, Scaled):
        return x
    if isinstance(x, Placed):
        return Scaled(x.array, x.axes, now=lambda: x)
    if isinstance(x, Spread):
        return None
    return Scaled(x, tuple((axis,) for axis in range(x.ndim)), now=lambda: x)


def _combined(name: str, shape: tuple[int, ...], operands: Sequence[Any], now: Callable[[], Any]) -> Any:
    """A sum, difference, product or quotient of a large value and a small one."""
    large = [o for o in operands if not isinstance(o, Spread) and jnp.shape(o) == shape]
    if len(large) != 1 or (name in {"sub", "div"} and large[0] is not operands[0]):
        return None
    x = _begun(large[0])
    if x is None:
        return None
    other = operands[1] if large[0] is operands[0] else operands[0]
    if jnp.shape(other) == ():
        # A number alone makes no normalisation.
        small = None if x.scale is None else jnp.reshape(other, (1,) * x.array.ndim)
    else:
        small = like(other, Placed(x.array, x.axes))
    if small is None:
        return None
    if name in {"mul", "div"}:
        small = small if name == "mul" else 1 / small
        scale = small if x.scale is None else x.scale * small
        offset = None if x.offset is None else x.offset * small
        y = replace(x, scale=scale, offset=offset, now=None)
    elif x.scale is None:
        small = small if name == "sub" else -small
        y = replace(x, shift=small if x.shift is None else x.shift + small, now=now)
    else:
        small = small if name == "add" else -small
        y = replace(x, offset=small if x.offset is None else x.offset + small)
    return y if _blocks(y.array.shape, _kept(y.array.shape, y.smalls)) is not None else None


def _reshaped(eqn: core.JaxprEqn, operands: Sequence[Any], now: Callable[[], Any]) -> Scaled | None:
    (x, *sizes) = operands
    new = (
        None
        if sizes or eqn.params["dimensions"]
        else regrouped(x.array.shape, x.axes, eqn.params["new_sizes"])
    )
    if new is None:
        return None
    pieces, axes = new

    def split(small: Small) -> Small:
        if small is None:
            return None
        lengths = [p if n != 1 else 1 for own, n in zip(pieces, small.shape, strict=True) for p in own]
        return small.reshape(lengths)

    array = x.array.reshape([length for own in pieces for length in own])
    return Scaled(array, axes, split(x.shift), split(x.scale), split(x.offset), now)


def _summed(x: Pending, axes: Sequence[int]) -> Any:
    """The sum of a value without a scale, or of its square, over some axes of the program."""
    of = x.of if isinstance(x, Squared) else x
    if not isinstance(of, Scaled) or of.scale is not None:
        return None
    shape = of.array.shape
    gone = {a for axis in axes for a in of.axes[axis]}
    kept = [k or a not in gone for a, k in enumerate(_kept(shape, of.smalls))]
    blocks = _blocks(shape, kept)
    if blocks is None:
        return None
    large, shift = blocks.large(of.array), None if of.shift is None else blocks.small(of.shift)
    sums = _sum(large, blocks.summed)
    if isinstance(x, Squared):
        sums = _squares(large, shift, sums)
    elif shift is not None:
        sums = sums - blocks.count * shift
    # Without the barrier XLA makes one sum of the two, which is not in whole vectors.
    sums = kept_apart(sums).reshape([n if k else 1 for n, k in zip(shape, blocks.kept, strict=True)])
    out = lax.reduce_sum(sums, sorted(gone))
    left = [a for a in range(len(shape)) if a not in gone]
    return placed(out, [[left.index(a) for a in one] for i, one in enumerate(of.axes) if i not in axes])


@dataclass(frozen=True)
class _Blocks:
    """The axes of an array that small arrays have, `kept`, and the others, each joined with its neighbours of its kind."""

    shape: tuple[int, ...]
    kept: tuple[bool, ...]

    @property
    def joined(self) -> list[tuple[bool, int]]:
        """For each block whether it is kept, and its length."""
        pairs = groupby(zip(self.kept, self.shape, strict=True), key=lambda pair: pair[0])
        return [(kept, math.prod(n for _, n in pair)) for kept, pair in pairs]

    @property
    def summed(self) -> tuple[int, ...]:
        """The blocks that small arrays do not have."""
        return tuple(i for i, (kept, _) in enumerate(self.joined) if not kept)

    @property
    def count(self) -> int:
        """How many numbers of the array there are for one of a small one."""
        return math.prod(n for kept, n in self.joined if not kept)

    def large(self, x: jax.Array) -> jax.Array:
        return x.reshape([n for _, n in self.joined])

    def small(self, x: jax.Array) -> jax.Array:
        """A small array, with its numbers repeated within each block."""
        whole = jnp.broadcast_to(x, [n if k else 1 for n, k in zip(self.shape, self.kept, strict=True)])
        return whole.reshape([n if kept else 1 for kept, n in self.joined])


def _kept(shape: Sequence[int], smalls: Sequence[jax.Array]) -> list[bool]:
    """Which axes some small array has."""
    return [any(one.shape[a] != 1 for one in smalls) for a in range(len(shape))]


def _blocks(shape: tuple[int, ...], kept: Sequence[bool]) -> _Blocks | None:
    """The blocks of an array, the last of them kept; None if they are not small, or vectors would run over what is summed.

    A few channels of a group at the end are kept as well.
    """
    last = max((a for a, k in enumerate(kept) if k), default=-1)
    if last < 0 or math.prod(shape[last + 1 :]) > SHORT:
        return None
    kept = [k or a > last or shape[a] == 1 for a, k in enumerate(kept)]
    blocks = _Blocks(shape, tuple(kept))
    return blocks if blocks.count >= _SMALL else None


def _sum(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    return lax.reduce_sum(x, axes).reshape([1 if a in axes else n for a, n in enumerate(x.shape)])


def _over(x: jax.Array, small: jax.Array) -> tuple[int, ...]:
    return tuple(a for a, (n, own) in enumerate(zip(x.shape, small.shape, strict=True)) if n != own)


@jax.custom_vjp
def _scaled(x: jax.Array, shift: Small, scale: jax.Array, offset: Small) -> jax.Array:
    y = (x if shift is None else x - shift) * scale
    return y if offset is None else y + offset


def _scaled_backward(kept: tuple[jax.Array, Small, jax.Array, Small], g: jax.Array) -> tuple[Any, ...]:
    x, shift, scale, offset = kept
    axes = _over(x, scale)
    sums = _sum(g, axes)  # computed only if used
    d_scale = _sum(g * (x if shift is None else x - shift), axes)
    d_shift = None if shift is None else -scale * sums
    return g * scale, d_shift, d_scale, None if offset is None else sums


_scaled.defvjp(lambda *args: (_scaled(*args), args), _scaled_backward)


@jax.custom_vjp
def _squares(x: jax.Array, shift: Small, sums: jax.Array) -> jax.Array:
    """The sums of `(x - shift) ** 2`, as those of `x` are."""
    return _sum(jnp.square(x if shift is None else x - shift), _over(x, sums))


def _squares_backward(kept: tuple[jax.Array, Small, jax.Array], g: jax.Array) -> tuple[Any, ...]:
    x, shift, sums = kept
    d_x = 2 * g * (x if shift is None else x - shift)
    d_shift = None if shift is None else -2 * g * (sums - x.size // sums.size * shift)
    return d_x, d_shift, jnp.zeros_like(sums)


_squares.defvjp(lambda x, shift, sums: (_squares(x, shift, sums), (x, shift, sums)), _squares_backward)
