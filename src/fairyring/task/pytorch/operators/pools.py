"""Pools: maxima and means over windows of space, which are the last axes."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fairyring.task.pytorch.operators.values import Handler, Missing, each


class _Windows:
    """The windows of a pool.

    Args:
        x: what is pooled; its last axes are space.
        axes: how many.
        kernel_size, stride, padding, dilation, ceil_mode: as in PyTorch. A stride that is not given is the size.
    """

    def __init__(
        self,
        x: jax.Array,
        axes: int,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        ceil_mode: bool,
    ) -> None:
        self.size, self.low = each(kernel_size, axes), each(padding, axes)
        self.stride = self.size if stride in (None, []) else each(stride, axes)
        self.dilation = each(dilation, axes)
        self.space = x.shape[-axes:]
        self.front = x.ndim - axes
        reach = [d * (k - 1) + 1 for k, d in zip(self.size, self.dilation, strict=True)]
        self.count, self.high = [], []
        for n, r, s, p in zip(self.space, reach, self.stride, self.low, strict=True):
            left = n + 2 * p - r
            count = (-(-left // s) if ceil_mode else left // s) + 1
            if ceil_mode and (count - 1) * s >= n + p:
                count -= 1  # a window may not begin in the padding behind
            self.count.append(count)
            self.high.append(max(0, (count - 1) * s + r - n - p) if ceil_mode else p)

    def reduce(self, x: jax.Array, start: float, function: Any) -> jax.Array:
        ones = [1] * self.front
        return lax.reduce_window(
            x,
            jnp.array(start, x.dtype) if not jnp.issubdtype(x.dtype, jnp.floating) else start,
            function,
            (*ones, *self.size),
            (*ones, *self.stride),
            [(0, 0)] * self.front + list(zip(self.low, self.high, strict=True)),
            window_dilation=(*ones, *self.dilation),
        )

    def members(self, x: jax.Array, filler: float) -> jax.Array:
        """The elements at each place in a window, one place after another: `[places, ..., *count]`."""
        edges = [(0, 0, 0)] * self.front + [
            (low, high, 0) for low, high in zip(self.low, self.high, strict=True)
        ]
        x = lax.pad(x, jnp.array(filler, x.dtype), edges)
        parts = []
        for place in itertools.product(*map(range, self.size)):
            cuts = [
                slice(i * d, i * d + (n - 1) * s + 1, s)
                for i, d, n, s in zip(place, self.dilation, self.count, self.stride, strict=True)
            ]
            parts.append(x[(..., *cuts)])
        return jnp.stack(parts)

    def covered(self, *, with_padding: bool) -> np.ndarray:
        """How many elements each window has, float32 `[*count]`; with padding, those of the given padding count."""
        sizes = []
        for n, k, s, p, count in zip(self.space, self.size, self.stride, self.low, self.count, strict=True):
            first = np.arange(count) * s - p
            last = np.minimum(first + k, n + p)
            sizes.append(last - first if with_padding else np.minimum(last, n) - np.maximum(first, 0))
        return np.asarray(math.prod(np.ix_(*sizes)), np.float32)


def _max_pool(axes: int) -> Handler:
    def max_pool(
        x: jax.Array, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
    ) -> jax.Array:
        windows = _Windows(x, axes, kernel_size, stride, padding, dilation, ceil_mode)
        least = -math.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min
        if any(d > 1 for d in windows.dilation):
            # JAX has no gradient for it. That of the maximum goes to the first of equal elements, as in PyTorch.
            members = windows.members(x, least)
            return jnp.take_along_axis(members, jnp.argmax(members, axis=0, keepdims=True), axis=0)[0]
        return windows.reduce(x, least, lax.max)

    return max_pool


def _max_pool_and_places(axes: int) -> Handler:
    pool = _max_pool(axes)

    def max_pool(
        x: jax.Array, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
    ) -> Any:
        return pool(x, kernel_size, stride, padding, dilation, ceil_mode), Missing("the places of the maxima")

    return max_pool


def _avg_pool(axes: int) -> Handler:
    def average(
        x: jax.Array,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        ceil_mode: bool,
        count_include_pad: bool,
        divisor_override: int | None,
    ) -> jax.Array:
        windows = _Windows(x, axes, kernel_size, stride, padding, 1, ceil_mode)
        sums = windows.reduce(x, 0.0, lax.add)
        if divisor_override is not None:
            return sums / divisor_override
        covered = windows.covered(with_padding=count_include_pad)
        same = covered.min() == covered.max()
        return sums / (float(covered.flat[0]) if same else jnp.asarray(covered, x.dtype))

    if axes == 1:  # it has no divisor_override
        return lambda x, kernel_size, stride, padding, ceil_mode, count_include_pad: average(
            x, kernel_size, stride, padding, ceil_mode, count_include_pad, None
        )
    return average


def _adaptive_avg_pool(axes: int) -> Handler:
    def adaptive(x: jax.Array, output_size: Any) -> jax.Array:
        wanted = each(output_size, axes)
        space = x.shape[-axes:]
        if all(out == 1 for out in wanted):
            return x.mean(axis=tuple(range(x.ndim - axes, x.ndim)), keepdims=True)
        if all(n % out == 0 for n, out in zip(space, wanted, strict=True)):
            sizes = [n // out for n, out in zip(space, wanted, strict=True)]
            return _Windows(x, axes, sizes, None, 0, 1, False).reduce(x, 0.0, lax.add) / math.prod(sizes)
        for axis, (n, out) in enumerate(zip(space, wanted, strict=True), x.ndim - axes):
            means = np.zeros((n, out), np.float32)
            for i, part in enumerate(_parts(n, out)):
                means[part, i] = 1 / (part.stop - part.start)
            x = jnp.moveaxis(jnp.moveaxis(x, axis, -1) @ jnp.asarray(means, x.dtype), -1, axis)
        return x

    return adaptive


def _adaptive_max_pool(axes: int) -> Handler:
    def adaptive(x: jax.Array, output_size: Any) -> Any:
        for axis, out in enumerate(each(output_size, axes), x.ndim - axes):
            parts = _parts(x.shape[axis], out)
            tops = [
                lax.slice_in_dim(x, p.start, p.stop, axis=axis).max(axis=axis, keepdims=True) for p in parts
            ]
            x = jnp.concatenate(tops, axis=axis)
        return x, Missing("the places of the maxima")

    return adaptive


def _parts(n: int, out: int) -> list[slice]:
    """`n` elements cut into `out` parts of nearly the same length, which overlap where they must."""
    return [slice(i * n // out, -(-(i + 1) * n // out)) for i in range(out)]


OPERATORS: dict[str, Handler] = {
    **{f"aten.max_pool{n}d.default": _max_pool(n) for n in (1, 2, 3)},
    **{f"aten.max_pool{n}d_with_indices.default": _max_pool_and_places(n) for n in (1, 2, 3)},
    **{f"aten.avg_pool{n}d.default": _avg_pool(n) for n in (1, 2, 3)},
    **{f"aten.adaptive_avg_pool{n}d.default": _adaptive_avg_pool(n) for n in (1, 2, 3)},
    **{f"aten._adaptive_avg_pool{n}d.default": _adaptive_avg_pool(n) for n in (2, 3)},
    **{f"aten.adaptive_max_pool{n}d.default": _adaptive_max_pool(n) for n in (1, 2, 3)},
}
