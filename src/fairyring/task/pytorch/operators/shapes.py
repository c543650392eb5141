"""Shapes: reshaping, reordering, joining and cutting of arrays, and their types."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fairyring.task.pytorch.operators.values import Handler, Untranslatable


def _flatten(x: jax.Array, start_dim: int, end_dim: int) -> jax.Array:
    if not x.ndim:
        return x.reshape(1)
    first, last = start_dim % x.ndim, end_dim % x.ndim
    return x.reshape(*x.shape[:first], math.prod(x.shape[first : last + 1]), *x.shape[last + 1 :])


def _unflatten(x: jax.Array, dim: int, sizes: Sequence[int]) -> jax.Array:
    dim %= x.ndim
    known = -math.prod(sizes)  # with one size of -1
    own = [x.shape[dim] // known if s == -1 else s for s in sizes]
    return x.reshape(*x.shape[:dim], *own, *x.shape[dim + 1 :])


def _squeeze(x: jax.Array, dims: Sequence[int]) -> jax.Array:
    """Without those of the axes that have length 1."""
    return x.squeeze(tuple(d % x.ndim for d in dims if x.shape[d] == 1)) if x.ndim else x


def _expand(x: jax.Array, size: Sequence[int]) -> jax.Array:
    own = [1] * (len(size) - x.ndim) + list(x.shape)
    return jnp.broadcast_to(x, [n if s == -1 else s for s, n in zip(size, own, strict=True)])


def slice_of(x: jax.Array, dim: int, start: int | None, end: int | None, step: int) -> jax.Array:
    size = x.shape[dim]
    first, last, step = slice(start, end, step).indices(size)
    if (first, last, step) == (0, size, 1):
        return x
    return lax.slice_in_dim(x, first, max(first, last), step, axis=dim)


def _split(x: jax.Array, sizes: Sequence[int], dim: int) -> list[jax.Array]:
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return [lax.slice_in_dim(x, end - size, end, axis=dim) for size, end in zip(sizes, ends, strict=True)]


def _parts(total: int, size: int) -> list[int]:
    return [min(size, total - at) for at in range(0, total, size)] or [0]


def _chunk(x: jax.Array, chunks: int, dim: int) -> list[jax.Array]:
    total = x.shape[dim]
    return _split(x, _parts(total, max(1, -(-total // chunks))), dim)


def _tensor_split(x: jax.Array, sections: int, dim: int) -> list[jax.Array]:
    each, more = divmod(x.shape[dim], sections)
    return _split(x, [each + (i < more) for i in range(sections)], dim)


def _tensor_split_at(x: jax.Array, indices: Sequence[int], dim: int) -> list[jax.Array]:
    edges = [0, *indices, x.shape[dim]]
    return [slice_of(x, dim, a, b, 1) for a, b in itertools.pairwise(edges)]


def _unbind(x: jax.Array, dim: int) -> list[jax.Array]:
    return [lax.index_in_dim(x, i, dim, keepdims=False) for i in range(x.shape[dim])]


def _cat(tensors: Sequence[jax.Array], dim: int) -> jax.Array:
    parts = [x for x in tensors if x.shape != (0,)] or list(tensors)  # PyTorch ignores empty vectors
    return jnp.concatenate(parts, axis=dim)


_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def _pad(x: jax.Array, pad: Sequence[int], mode: str, value: float | None) -> jax.Array:
    """PyTorch lists the edges from the last axis on."""
    edges = [(0, 0)] * (x.ndim - len(pad) // 2) + list(zip(pad[::2], pad[1::2], strict=True))[::-1]
    if mode == "constant":
        return lax.pad(x, jnp.array(value or 0, x.dtype), [(low, high, 0) for low, high in edges])
    if any(n < 0 for edge in edges for n in edge):
        raise Untranslatable(f"padding {list(pad)} is negative in mode {mode!r}", "Cut with a slice first.")
    return jnp.pad(x, edges, mode=_MODES[mode])


def _repeat_interleave(x: jax.Array, repeats: int, dim: int | None) -> jax.Array:
    return jnp.repeat(x, repeats, axis=dim)


def _roll(x: jax.Array, shifts: Any, dims: Any) -> jax.Array:
    if dims in ([], None):
        return jnp.roll(x.reshape(-1), shifts[0] if isinstance(shifts, list | tuple) else shifts).reshape(
            x.shape
        )
    return jnp.roll(x, tuple(shifts), tuple(dims))


def _unfold(x: jax.Array, dimension: int, size: int, step: int) -> jax.Array:
    """Windows along an axis; their elements are the last axis."""
    dim = dimension % x.ndim
    count = (x.shape[dim] - size) // step + 1
    parts = [lax.slice_in_dim(x, i, i + (count - 1) * step + 1, step, axis=dim) for i in range(size)]
    return jnp.stack(parts, axis=-1)


def _to(x: jax.Array, dtype: Any) -> jax.Array:
    return x if dtype is None else x.astype(dtype)


def _pixel_shuffle(x: jax.Array, upscale_factor: int) -> jax.Array:
    r = upscale_factor
    *front, c, h, w = x.shape
    y = jnp.moveaxis(x.reshape(-1, c // (r * r), r, r, h, w), (2, 3), (3, 5))
    return y.reshape(*front, c // (r * r), h * r, w * r)


def _pixel_unshuffle(x: jax.Array, downscale_factor: int) -> jax.Array:
    r = downscale_factor
    *front, c, h, w = x.shape
    y = jnp.moveaxis(x.reshape(-1, c, h // r, r, w // r, r), (3, 5), (2, 3))
    return y.reshape(*front, c * r * r, h // r, w // r)


def _channel_shuffle(x: jax.Array, groups: int) -> jax.Array:
    return x.reshape(x.shape[0], groups, -1, *x.shape[2:]).swapaxes(1, 2).reshape(x.shape)


def _move(x: jax.Array, source: Any, destination: Any) -> jax.Array:
    return jnp.moveaxis(x, source, destination)


def _same(x: jax.Array) -> jax.Array:
    return x


_VALUES = (
    "aten.alias.default",
    "aten.clone.default",
    "aten.contiguous.default",
    "aten.lift_fresh_copy.default",
)

OPERATORS: dict[str, Handler] = {
    **dict.fromkeys(_VALUES, _same),
    "aten.sym_size.int": lambda x, dim: x.shape[dim],
    "aten.sym_numel.default": lambda x: x.size,
    "aten.to.device": lambda x, dtype: _to(x, dtype),
    "aten.to.dtype": _to,
    "aten.to.dtype_layout": _to,
    "aten._to_copy.default": _to,
    "aten.to.other": lambda x, other: x.astype(other.dtype),
    "aten.type_as.default": lambda x, other: x.astype(other.dtype),
    "aten.view.default": lambda x, size: x.reshape(size),
    "aten.view_as.default": lambda x, other: x.reshape(other.shape),
    "aten._unsafe_view.default": lambda x, size: x.reshape(size),
    "aten.reshape.default": lambda x, shape: x.reshape(shape),
    "aten.reshape_as.default": lambda x, other: x.reshape(other.shape),
    "aten.flatten.using_ints": _flatten,
    "aten.ravel.default": lambda x: x.reshape(-1),
    "aten.unflatten.int": _unflatten,
    "aten.squeeze.default": lambda x: x.squeeze(),
    "aten.squeeze.dim": lambda x, dim: _squeeze(x, [dim]),
    "aten.squeeze.dims": lambda x, dim: _squeeze(x, dim),
    "aten.unsqueeze.default": lambda x, dim: jnp.expand_dims(x, dim),
    "aten.expand.default": _expand,
    "aten.expand_as.default": lambda x, other: jnp.broadcast_to(x, other.shape),
    "aten.broadcast_to.default": _expand,
    "aten.permute.default": lambda x, dims: x.transpose(dims),
    "aten.transpose.int": lambda x, dim0, dim1: x.swapaxes(dim0, dim1) if x.ndim else x,
    "aten.swapaxes.default": lambda x, axis0, axis1: x.swapaxes(axis0, axis1),
    "aten.t.default": lambda x: x.T,
    "aten.numpy_T.default": lambda x: x.T,
    "aten.mT.default": lambda x: x.swapaxes(-1, -2),
    "aten.movedim.int": _move,
    "aten.movedim.intlist": _move,
    "aten.flip.default": lambda x, dims: jnp.flip(x, tuple(dims)),
    "aten.roll.default": _roll,
    "aten.repeat.default": lambda x, repeats: jnp.tile(x, repeats),
    "aten.tile.default": lambda x, dims: jnp.tile(x, dims),
    "aten.repeat_interleave.self_int": lambda x, repeats, dim, output_size: _repeat_interleave(
        x, repeats, dim
    ),
    "aten.cat.default": _cat,
    "aten.stack.default": lambda tensors, dim: jnp.stack(tensors, axis=dim),
    "aten.chunk.default": _chunk,
    "aten.split.Tensor": lambda x, split_size, dim: _split(x, _parts(x.shape[dim], split_size), dim),
    "aten.split.sizes": lambda x, split_size, dim: _split(x, split_size, dim),
    "aten.split_with_sizes.default": lambda x, split_sizes, dim: _split(x, split_sizes, dim),
    "aten.tensor_split.sections": _tensor_split,
    "aten.tensor_split.indices": _tensor_split_at,
    "aten.unbind.int": _unbind,
    "aten.slice.Tensor": lambda x, dim, start, end, step: slice_of(x, dim, start, end, step),
    "aten.narrow.default": lambda x, dim, start, length: slice_of(x, dim, start, start + length, 1),
    "aten.select.int": lambda x, dim, index: lax.index_in_dim(x, index % x.shape[dim], dim, keepdims=False),
    "aten.diagonal.default": lambda x, offset, dim1, dim2: jnp.diagonal(x, offset, dim1, dim2),
    "aten.unfold.default": _unfold,
    "aten.pad.default": _pad,
    "aten.constant_pad_nd.default": lambda x, pad, value: _pad(x, pad, "constant", value),
    **{
        f"aten.{mode}_pad{n}d.default": lambda x, padding, mode=own: _pad(x, padding, mode, None)
        for mode, own in (("reflection", "reflect"), ("replication", "replicate"))
        for n in (1, 2, 3)
    },
    "aten.pixel_shuffle.default": _pixel_shuffle,
    "aten.pixel_unshuffle.default": _pixel_unshuffle,
    "aten.channel_shuffle.default": _channel_shuffle,
    "aten.tril.default": lambda x, diagonal: jnp.tril(x, diagonal),
    "aten.triu.default": lambda x, diagonal: jnp.triu(x, diagonal),
}
