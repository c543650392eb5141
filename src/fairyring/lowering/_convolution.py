"""The form in which a convolution is computed on a CPU, and its conversion from any layout."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fairyring.lowering._depthwise import depthwise, grouped
from fairyring.lowering._direct import direct
from fairyring.lowering._placed import Placed, in_order, move, placed
from fairyring.lowering._winograd import winograd as winograd_form

LARGEST_KERNEL = 49  # taps; each tap of a kernel can be a separate operation


def fast_form_exists(
    lhs: Any,
    rhs: Any,
    *,
    lhs_dilation: Sequence[int],
    rhs_dilation: Sequence[int],
    padding: Sequence[tuple[int, int]],
    batch_group_count: int,
    dimension_numbers: lax.ConvDimensionNumbers,
    preferred_element_type: object | None,
    **_: object,
) -> bool:
    """Whether `convolve` supports a `conv_general_dilated` with these operands and parameters."""
    spatial = [rhs.shape[axis] for axis in dimension_numbers.rhs_spec[2:]]
    taps = 1
    for size in spatial:
        taps *= size
    return (
        lhs.dtype == rhs.dtype == jnp.float32
        and preferred_element_type in (None, jnp.float32)
        and len(spatial) in (1, 2)
        and 0 < taps <= LARGEST_KERNEL
        and batch_group_count == 1
        and 0 not in lhs.shape
        and 0 not in rhs.shape
        and all(
            (lhs.shape[axis] - 1) * apart + 1 + low + high >= (size - 1) * step + 1
            for axis, (low, high), apart, size, step in zip(
                dimension_numbers.lhs_spec[2:], padding, lhs_dilation, spatial, rhs_dilation, strict=True
            )
        )
    )


def convolve(
    lhs: Placed | jax.Array,
    rhs: Placed | jax.Array,
    *,
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int],
    rhs_dilation: Sequence[int],
    dimension_numbers: lax.ConvDimensionNumbers,
    feature_group_count: int,
    winograd: int,
    **_: object,
) -> Placed | jax.Array:
    """`lax.conv_general_dilated` in a fast form, with its parameters as in a jaxpr. See `fast_form_exists`."""
    spec = dimension_numbers
    x = in_order(lhs, _last(spec.lhs_spec))
    w = in_order(rhs, (*spec.rhs_spec[2:], spec.rhs_spec[1], spec.rhs_spec[0]))
    strides, dilation = tuple(window_strides), tuple(rhs_dilation)
    edges = [(low, high, apart - 1) for (low, high), apart in zip(padding, lhs_dilation, strict=True)]
    line = len(strides) == 1
    if line:
        x, w = x[:, :, None], w[:, None]
        strides, dilation, edges = (*strides, 1), (*dilation, 1), [*edges, (0, 0, 0)]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    y = _dilated(x, w, strides, dilation, feature_group_count, winograd)
    if line:
        y = y[:, :, 0]
    order = _last(spec.out_spec)
    return placed(y, [(order.index(axis),) for axis in range(y.ndim)])


def _dilated(
    x: jax.Array,
    w: jax.Array,
    strides: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    winograd: int,
) -> jax.Array:
    """A convolution whose taps are `dilation` apart, as one of adjacent taps.

    Every `dilation`-th row and column of `x` is an image of its own, and the outputs interleave likewise.
    """
    if dilation == (1, 1):
        return _form(x, w, strides, groups, winograd)
    if all(s % d == 0 for s, d in zip(strides, dilation, strict=True)):
        strides = tuple(s // d for s, d in zip(strides, dilation, strict=True))
        return _form(x[:, :: dilation[0], :: dilation[1]], w, strides, groups, winograd)
    (n, h, v, c), (down, across) = x.shape, dilation
    out = h - (w.shape[0] - 1) * down, v - (w.shape[1] - 1) * across
    x = jnp.pad(x, ((0, 0), (0, -h % down), (0, -v % across), (0, 0)))
    x = x.reshape(n, -(-h // down), down, -(-v // across), across, c)
    images = move(x, (0, 2, 4, 1, 3, 5)).reshape(n * down * across, x.shape[1], x.shape[3], c)
    y = _form(images, w, (1, 1), groups, winograd)
    y = move(y.reshape(n, down, across, *y.shape[1:]), (0, 3, 1, 4, 2, 5))
    y = y.reshape(n, y.shape[1] * down, y.shape[3] * across, -1)
    return y[:, : out[0] : strides[0], : out[1] : strides[1]]


def _form(x: jax.Array, w: jax.Array, strides: tuple[int, ...], groups: int, winograd: int) -> jax.Array:
    if groups > 1:
        return depthwise(x, w, strides) if w.shape[2] == 1 else grouped(x, w, groups, strides)
    c, o = w.shape[2:]
    if winograd and w.shape[:2] == (3, 3) and strides == (1, 1) and min(c, o) >= 16:
        return winograd_form(x, w, winograd)
    return direct(x, w, strides)


def _last(spec: Sequence[int]) -> tuple[int, ...]:
    """Axes in the order batch, space, channels, for a specification in the order batch, channels, space."""
    return (spec[0], *spec[2:], spec[1])
