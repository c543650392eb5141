"""Images made larger or smaller, and taken apart into patches."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fairyring.task.pytorch.operators.values import Handler, each


def _sizes(x: jax.Array, axes: int, output_size: Any, scale_factors: Any) -> list[tuple[int, int, float]]:
    """For each axis of space: its length, that of the result, and the step of a pixel of the result."""
    space = x.shape[-axes:]
    if output_size is not None:
        return [(n, out, n / out) for n, out in zip(space, output_size, strict=True)]
    return [(n, math.floor(n * factor), 1 / factor) for n, factor in zip(space, scale_factors, strict=True)]


def _nearest(axes: int, middle: float) -> Handler:
    def handler(x: jax.Array, output_size: Any, scale_factors: Any) -> jax.Array:
        for axis, (n, out, step) in enumerate(_sizes(x, axes, output_size, scale_factors), x.ndim - axes):
            source = np.float32(step) * (np.arange(out, dtype=np.float32) + np.float32(middle))
            place = np.minimum(np.floor(source).astype(np.int32), n - 1)
            if out % n == 0 and (place == np.arange(out) // (out // n)).all():
                x = jnp.repeat(x, out // n, axis=axis)
            else:
                x = jnp.take(x, place, axis=axis)
        return x

    return handler


def _linear(axes: int) -> Handler:
    def handler(x: jax.Array, output_size: Any, align_corners: bool, scale_factors: Any) -> jax.Array:
        for axis, (n, out, step) in enumerate(_sizes(x, axes, output_size, scale_factors), x.ndim - axes):
            if align_corners:
                source = np.arange(out) * ((n - 1) / (out - 1) if out > 1 else 0.0)
            else:
                source = np.maximum((np.arange(out) + 0.5) * step - 0.5, 0.0)
            low = np.minimum(np.floor(source).astype(int), n - 1)
            high, part = np.minimum(low + 1, n - 1), source - low
            weights = np.zeros((n, out), np.float32)
            np.add.at(weights, (low, np.arange(out)), 1 - part)
            np.add.at(weights, (high, np.arange(out)), part)
            x = jnp.moveaxis(jnp.moveaxis(x, axis, -1) @ jnp.asarray(weights, x.dtype), -1, axis)
        return x

    return handler


def _patches(
    x: jax.Array,
    kernel_size: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    stride: Sequence[int],
) -> jax.Array:
    """`[B, C, H, W]` -> `[B, C * kernel, places]`."""
    (a, b), (down, across), strides = each(kernel_size, 2), each(dilation, 2), each(stride, 2)
    edges = [(p, p, 0) for p in each(padding, 2)]
    alone = x.ndim == 3
    x = x[None] if alone else x
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), (0, 0, 0), *edges])
    rows = (x.shape[2] - (a - 1) * down - 1) // strides[0] + 1
    columns = (x.shape[3] - (b - 1) * across - 1) // strides[1] + 1
    parts = [
        x[
            :,
            :,
            i * down : i * down + (rows - 1) * strides[0] + 1 : strides[0],
            j * across : j * across + (columns - 1) * strides[1] + 1 : strides[1],
        ]
        for i in range(a)
        for j in range(b)
    ]
    y = jnp.stack(parts, axis=2).reshape(x.shape[0], -1, rows * columns)
    return y[0] if alone else y


OPERATORS: dict[str, Handler] = {
    **{f"aten.upsample_nearest{n}d.vec": _nearest(n, 0.0) for n in (1, 2, 3)},
    **{f"aten._upsample_nearest_exact{n}d.vec": _nearest(n, 0.5) for n in (1, 2, 3)},
    "aten.upsample_linear1d.vec": _linear(1),
    "aten.upsample_bilinear2d.vec": _linear(2),
    "aten.upsample_trilinear3d.vec": _linear(3),
    "aten.im2col.default": _patches,
}
