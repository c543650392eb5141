"""Max-pooling over adjacent windows, with a gradient that takes one pass over memory."""

import itertools
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

_LARGEST_WINDOW = 64  # elements; each takes a separate slice


def pools_side_by_side(
    operand: Any,
    *,
    window_dimensions: Sequence[int],
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    base_dilation: Sequence[int],
    window_dilation: Sequence[int],
) -> bool:
    """Whether `max_pool` computes the same as `reduce_window_max` with these parameters."""
    return (
        tuple(window_dimensions) == tuple(window_strides)
        and math.prod(window_dimensions) <= _LARGEST_WINDOW
        and all(edge == (0, 0) for edge in padding)
        and all(d == 1 for d in (*base_dilation, *window_dilation))
        and all(d >= w for d, w in zip(operand.shape, window_dimensions, strict=True))
        and jnp.issubdtype(operand.dtype, jnp.floating)
    )


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def max_pool(x: jax.Array, window: tuple[int, ...]) -> jax.Array:
    """The maximum of each window of `x`. Windows are adjacent; incomplete ones at the edge are dropped.

    The gradient goes to one element of each window: the first in row-major order that equals the maximum, as in XLA's
    `select_and_scatter`. (The derivative of `jnp.max` would divide it among ties, and after a ReLU most windows have
    ties.) A window with a NaN passes its gradient to its last element.
    """
    # XLA does not fuse across a concatenation. Fused into the next operation, a maximum would be slower than the whole
    # pool (an eighth of a training step of a small network).
    half = x.shape[0] // 2 // window[0] * window[0]
    return jnp.concatenate([_top(x[:half], window), _top(x[half:], window)]) if half else _top(x, window)


def _forward(x: jax.Array, window: tuple[int, ...]) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    top: Any = max_pool(x, window)
    last = math.prod(window) - 1
    winner = jnp.full(top.shape, last, jnp.uint8)
    for index, member in reversed(list(enumerate(_members(x, window)))[:-1]):
        winner = jnp.where(member == top, jnp.asarray(index, winner.dtype), winner)
    return top, (winner, x)


def _backward(
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


max_pool.defvjp(_forward, _backward)


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
