"""Loops apart from each other, and sums over axes between others, in the form that a CPU's vectors take."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

LOOP = 1 << 13  # elements; for fewer a loop costs more than it saves
_MOST_PARTS = 32
_VECTOR = 32  # numbers; loops over an axis as long as this are vectorised well
SHORT = 64  # numbers of an axis; a sum over a longer one is vectorised


def apart(make: Callable[[jax.Array], jax.Array], x: jax.Array, axis: int = 0) -> jax.Array:
    """`make(x)`, written to memory once.

    It runs in a loop over a few parts of `x`: XLA fuses a loop into nothing, but fuses all else into its users, however
    often they compute it again.

    Args:
        make: a function that works on each part by itself, and makes the axis of the parts the first.
        x: its argument.
        axis: the axis that is cut into parts.
    """
    rows = x.shape[axis]
    parts = next((n for n in range(2, _MOST_PARTS) if rows % n == 0), 1)
    if parts == 1 or x.size < LOOP:
        cut = partial(lax.slice_in_dim, x, axis=axis)
        half = rows // 2
        return jnp.concatenate([make(cut(0, half)), make(cut(half, rows))]) if half else make(x)
    size = rows // parts
    y = lax.map(lambda i: make(lax.dynamic_slice_in_dim(x, i * size, size, axis=axis)), jnp.arange(parts))
    return y.reshape(-1, *y.shape[2:])


def total(x: jax.Array, axes: Sequence[int]) -> jax.Array:
    """The sum over some axes. If the last is a short one of them, it is summed last, and the rest in whole vectors."""
    axes = sorted(axes)
    if not sums_apart(x.shape, axes):
        return _sum(x, axes)
    # The axes behind the last one that is summed first stay together as one vector.
    kept = x.shape[axes[-2] + 1 :]
    first = _sum(x.reshape(*x.shape[: axes[-2] + 1], math.prod(kept)), axes[:-1])
    first = kept_apart(first).reshape(*first.shape[:-1], *kept)
    return _sum(first, [first.ndim - 1])


@jax.custom_vjp
def kept_apart(x: jax.Array) -> jax.Array:
    """`x`. XLA does not simplify what is computed from it together with what it is computed from."""
    return lax.optimization_barrier(x)


kept_apart.defvjp(lambda x: (kept_apart(x), None), lambda _, g: (g,))


def _sum(x: jax.Array, axes: Sequence[int]) -> jax.Array:
    return lax.reduce_sum_p.bind(x, axes=tuple(axes), out_sharding=None)


def sums_apart(shape: Sequence[int], axes: Sequence[int]) -> bool:
    """Whether `total` takes two steps."""
    axes, last = sorted(axes), len(shape) - 1
    return (
        len(axes) > 1
        and axes[-1] == last
        and axes[-2] != last - 1
        and shape[last] <= SHORT
        and math.prod(shape) >= LOOP
    )


def spread_out(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """`x` broadcast to `shape` along its axes of length 1, with a short last axis joined to the one before.

    So a loop's innermost axis is as long as a vector. A gradient is summed in the same way.
    """
    joined = shape
    if len(shape) > 2 and shape[-1] < _VECTOR and math.prod(shape) >= LOOP:
        joined = (*shape[:-2], shape[-2] * shape[-1])
        x = jnp.broadcast_to(x, (*x.shape[:-2], *shape[-2:])).reshape(*x.shape[:-2], joined[-1])
    return _expand(x, joined, x.shape) if x.shape != joined else x


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _expand(x: jax.Array, shape: tuple[int, ...], own: tuple[int, ...]) -> jax.Array:
    return jnp.broadcast_to(x, shape)


def _expand_backward(shape: tuple[int, ...], own: tuple[int, ...], _: None, g: jax.Array) -> tuple[jax.Array]:
    axes = [a for a, (s, o) in enumerate(zip(shape, own, strict=True)) if o == 1 and s != 1]
    return (total(g, axes).reshape(own),)


_expand.defvjp(lambda x, shape, own: (_expand(x, shape, own), None), _expand_backward)
