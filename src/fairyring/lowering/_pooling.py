"""Pools as maxima and sums of slices, with gradients that are slices, too.

The gradients that automatic differentiation derives for `reduce_window` go through memory number by number on a CPU.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fairyring.lowering._sums import apart

LARGEST_WINDOW = 64  # elements; each takes a separate slice
_NOBODY = 255  # no place in a window


@dataclass(frozen=True)
class Window:
    """The window of a pool, for each axis of its operand.

    Attributes:
        sizes, strides: of the window.
        padding: how many elements are added before and after.
    """

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]

    @classmethod
    def of(
        cls,
        *,
        window_dimensions: Sequence[int],
        window_strides: Sequence[int],
        padding: Sequence[tuple[int, int]],
        **_: object,
    ) -> "Window":
        """From the parameters of `reduce_window_max` or `reduce_window_sum` in a jaxpr."""
        return cls(
            tuple(window_dimensions), tuple(window_strides), tuple((low, high) for low, high in padding)
        )

    @property
    def are_adjacent(self) -> bool:
        """Whether windows neither overlap nor reach into padding."""
        return self.sizes == self.strides and not any(low or high for low, high in self.padding)


def is_pool(
    operand: Any, *, base_dilation: Sequence[int], window_dilation: Sequence[int], **settings: Any
) -> bool:
    """Whether `max_pool` and `sum_pool` compute the same as `reduce_window_max` and `reduce_window_sum`."""
    window = Window.of(**settings)
    padded = [d + low + high for d, (low, high) in zip(operand.shape, window.padding, strict=True)]
    return (
        math.prod(window.sizes) <= LARGEST_WINDOW
        and all(edge >= 0 for edges in window.padding for edge in edges)
        and all(d == 1 for d in (*base_dilation, *window_dilation))
        and all(d >= w for d, w in zip(padded, window.sizes, strict=True))
        and 0 not in operand.shape
        and jnp.issubdtype(operand.dtype, jnp.floating)
    )


def max_pool(x: jax.Array, window: Window) -> jax.Array:
    """The maximum of each window of `x`; incomplete windows at the end are dropped.

    The gradient goes to one element of each window: the first in row-major order that equals the maximum, as in XLA's
    `select_and_scatter`. (The derivative of `jnp.max` would divide it among ties, and after a ReLU most windows have
    ties.) A window with a NaN passes its gradient to its last element.
    """
    return _adjacent_max(x, window.sizes) if window.are_adjacent else _overlapping_max(x, window, x.shape)


def sum_pool(x: jax.Array, window: Window) -> jax.Array:
    """The sum of each window of `x`; incomplete windows at the end are dropped."""
    for axis, (size, stride, edges) in enumerate(
        zip(window.sizes, window.strides, window.padding, strict=True)
    ):
        if size > 1 or stride > 1 or any(edges):
            rest = [1] * axis, [1] * (x.ndim - axis - 1)
            sizes, strides = ((*rest[0], own, *rest[1]) for own in (size, stride))
            padding = (*[(0, 0)] * axis, edges, *[(0, 0)] * len(rest[1]))
            x = _sum_along(x, Window(sizes, strides, padding), x.shape)
    return x


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _adjacent_max(x: jax.Array, window: tuple[int, ...]) -> jax.Array:
    # XLA does not fuse across a concatenation. Fused into the next operation, a maximum would be slower than the whole
    # pool (an eighth of a training step of a small network).
    half = x.shape[0] // 2 // window[0] * window[0]
    return jnp.concatenate([_top(x[:half], window), _top(x[half:], window)]) if half else _top(x, window)


def _adjacent_forward(x: jax.Array, window: tuple[int, ...]) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    top: Any = _adjacent_max(x, window)
    # Members are compared with each other: compared with `top`, which may be of another loop and rounded otherwise, there
    # could be none that equals it.
    largest, *rest = _members(x, window)
    winner = jnp.zeros(largest.shape, jnp.uint8)
    for index, member in enumerate(rest, 1):
        winner = jnp.where(member > largest, jnp.uint8(index), winner)
        largest = jnp.maximum(largest, member)
    return top, (jnp.where(largest != largest, jnp.uint8(len(rest)), winner), x)


def _adjacent_backward(
    window: tuple[int, ...], residuals: tuple[jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array]:
    winner, x = residuals
    # [d0 / w0, w0, d1 / w1, w1, ...]: the odd axes are inside a window.
    blocks = tuple(itertools.chain.from_iterable(zip(g.shape, window, strict=True)))
    outer = tuple(range(0, 2 * g.ndim, 2))
    place = jnp.zeros((), winner.dtype)
    for axis, size in enumerate(window):
        along = lax.broadcasted_iota(winner.dtype, blocks, 2 * axis + 1)
        place = place * jnp.asarray(size, winner.dtype) + along if size > 1 else place
    chosen = lax.broadcast_in_dim(winner, blocks, outer) == place
    spread = jnp.where(chosen, lax.broadcast_in_dim(g, blocks, outer), jnp.zeros((), g.dtype))
    spread = spread.reshape([n * w for n, w in zip(g.shape, window, strict=True)])
    short = [(0, d - s, 0) for d, s in zip(x.shape, spread.shape, strict=True)]
    return (lax.pad(spread, jnp.zeros((), g.dtype), short),)


_adjacent_max.defvjp(_adjacent_forward, _adjacent_backward)


def _top(x: jax.Array, window: tuple[int, ...]) -> jax.Array:
    top, *rest = _members(x, window)
    for member in rest:
        top = jnp.maximum(top, member)
    return top


def _members(x: jax.Array, window: tuple[int, ...]) -> list[jax.Array]:
    """For each position in a window, in row-major order, the elements of `x` at this position."""
    covered = [d // w * w for d, w in zip(x.shape, window, strict=True)]
    return [
        lax.slice(x, start, [s + n - w + 1 for s, n, w in zip(start, covered, window, strict=True)], window)
        for start in itertools.product(*(range(w) for w in window))
    ]


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _overlapping_max(x: jax.Array, window: Window, shape: tuple[int, ...]) -> jax.Array:
    def maximum(x: jax.Array) -> jax.Array:
        top, *rest = _slices(x, window)
        for one in rest:
            top = jnp.maximum(top, one)
        return top

    # Fused into the padding of the next layer, the maxima would not be computed in vectors.
    return maximum(x) if _spans_rows(window) else apart(maximum, x)


def _overlapping_forward(x: jax.Array, window: Window, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    def places(x: jax.Array) -> jax.Array:
        slices = _slices(x, window)
        top = slices[0]
        for one in slices[1:]:
            top = jnp.maximum(top, one)
        winner = jnp.full(top.shape, len(slices) - 1, jnp.uint8)
        for index, one in reversed(list(enumerate(slices))[:-1]):
            winner = jnp.where(one == top, jnp.uint8(index), winner)
        return winner

    top: Any = _overlapping_max(x, window, shape)
    return top, places(x) if _spans_rows(window) else apart(places, x)


def _overlapping_backward(
    window: Window, shape: tuple[int, ...], winner: jax.Array, g: jax.Array
) -> tuple[jax.Array]:
    own = _Gathering(window, shape, g.shape)
    g, winner = own.padded(g, 0), own.padded(winner, _NOBODY)

    def term(place: tuple[int, ...], cut: Callable[[jax.Array], jax.Array]) -> jax.Array:
        index = np.ravel_multi_index(place, window.sizes)
        return jnp.where(cut(winner) == jnp.uint8(index), cut(g), jnp.zeros((), g.dtype))

    return (own.total(term, g.dtype),)


_overlapping_max.defvjp(_overlapping_forward, _overlapping_backward)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _sum_along(x: jax.Array, window: Window, shape: tuple[int, ...]) -> jax.Array:
    """The sum of each window that is longer than 1 on one axis."""
    top, *rest = _slices(x, window, 0.0)
    for one in rest:
        top = top + one
    return top


def _sum_backward(window: Window, shape: tuple[int, ...], _: None, g: jax.Array) -> tuple[jax.Array]:
    own = _Gathering(window, shape, g.shape)
    g = own.padded(g, 0)
    return (own.total(lambda _, cut: cut(g), g.dtype),)


_sum_along.defvjp(lambda x, window, shape: (_sum_along(x, window, shape), None), _sum_backward)


class _Gathering:
    """For each element of a pool's operand, the sum over the windows that it is in.

    Elements are taken by their place modulo the stride: all of one kind are in the same places of their windows. So each
    kind is a sum of slices, and the kinds are interleaved at the end.

    Args:
        window: of the pool.
        shape: of its operand.
        out: of its result.
    """

    def __init__(self, window: Window, shape: tuple[int, ...], out: tuple[int, ...]) -> None:
        self.window, self.shape = window, shape
        sizes = zip(shape, window.padding, window.strides, strict=True)
        self.rows = [-(-(d + low + high) // s) for d, (low, high), s in sizes]  # of each kind
        self.deep = [-(-w // s) for w, s in zip(window.sizes, window.strides, strict=True)]
        self.edges = [(m - 1, max(0, q - n), 0) for m, q, n in zip(self.deep, self.rows, out, strict=True)]

    def padded(self, x: jax.Array, filler: int) -> jax.Array:
        """What belongs to windows, with those before the first and behind the last."""
        return lax.pad(x, jnp.array(filler, x.dtype), self.edges)

    def total(self, term: Callable[..., jax.Array], dtype: Any) -> jax.Array:
        """The sums, of the operand's shape.

        Args:
            term: `(place, cut) -> array`, for elements that are in this place of their window; `cut` takes the windows'
                part from a padded array.
            dtype: of the sums.
        """
        ndim = len(self.shape)

        def of_kind(kind: tuple[int, ...]) -> jax.Array:
            total: jax.Array | None = None
            for back in itertools.product(*map(range, self.deep)):
                place = tuple(r + s * m for r, s, m in zip(kind, self.window.strides, back, strict=True))
                if any(p >= w for p, w in zip(place, self.window.sizes, strict=True)):
                    continue
                start = [m - 1 - b for m, b in zip(self.deep, back, strict=True)]
                limit = [a + q for a, q in zip(start, self.rows, strict=True)]
                one = term(place, partial(lax.slice, start_indices=start, limit_indices=limit))
                total = one if total is None else total + one
            return jnp.zeros(self.rows, dtype) if total is None else total

        def interleaved(kind: tuple[int, ...]) -> jax.Array:
            axis = len(kind)
            if axis == ndim:
                return of_kind(kind)
            kinds = [interleaved((*kind, r)) for r in range(self.window.strides[axis])]
            if len(kinds) == 1:
                return kinds[0]
            both = jnp.stack(kinds, axis + 1)
            return both.reshape(*both.shape[:axis], -1, *both.shape[axis + 2 :])

        starts = [low for low, _ in self.window.padding]
        return lax.slice(interleaved(()), starts, [a + d for a, d in zip(starts, self.shape, strict=True)])


def _spans_rows(window: Window) -> bool:
    return (window.sizes[0], window.strides[0], window.padding[0]) != (1, 1, (0, 0))


def _slices(x: jax.Array, window: Window, filler: float = -math.inf) -> list[jax.Array]:
    """For each position in a window, in row-major order, the elements of `x` there; `filler` in the padding."""
    x = lax.pad(x, jnp.array(filler, x.dtype), [(low, high, 0) for low, high in window.padding])
    counts = [(d - w) // s + 1 for d, w, s in zip(x.shape, window.sizes, window.strides, strict=True)]
    return [
        lax.slice(
            x,
            start,
            [a + (n - 1) * s + 1 for a, n, s in zip(start, counts, window.strides, strict=True)],
            window.strides,
        )
        for start in itertools.product(*(range(w) for w in window.sizes))
    ]
