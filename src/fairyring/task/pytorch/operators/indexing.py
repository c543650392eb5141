"""Reading and writing by indices."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fairyring.task.pytorch.operators.values import Handler, Untranslatable


def _embedding(weight: jax.Array, indices: jax.Array, padding_idx: int) -> jax.Array:
    """`[rows, features]`, `[...]` -> `[..., features]`. The row of the padding has no gradient.

    An index without a row gives NaN, so that the loss shows it: PyTorch raises an error, JAX would take the nearest row.
    """
    found = weight.at[indices].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)
    if padding_idx < 0:
        return found
    return jnp.where((indices == padding_idx)[..., None], lax.stop_gradient(found), found)


def _places(indices: Sequence[jax.Array | None]) -> tuple[Any, ...]:
    if any(i is not None and i.dtype == jnp.bool_ for i in indices):
        raise Untranslatable(
            "it takes the elements where a mask is true: their number depends on the data",
            "Keep the shape: torch.where(mask, x, 0), or a sum weighted by the mask.",
        )
    return tuple(slice(None) if i is None else i for i in indices)


def _index_put(
    x: jax.Array, indices: Sequence[jax.Array | None], values: jax.Array, accumulate: bool
) -> jax.Array:
    first = indices[0]
    if len(indices) == 1 and first is not None and first.dtype == jnp.bool_ and values.size == 1:
        mask = first.reshape(*first.shape, *[1] * (x.ndim - first.ndim))
        return jnp.where(mask, x + values if accumulate else values, x)
    place = x.at[_places(indices)]
    return place.add(values) if accumulate else place.set(values)


def _along(index: jax.Array, dim: int) -> tuple[jax.Array, ...]:
    """The places that `index` names along an axis, each in its own row of the others."""
    grid: list[Any] = list(jnp.indices(index.shape, sparse=True))
    grid[dim] = index
    return tuple(grid)


def _gather(x: jax.Array, dim: int, index: jax.Array) -> jax.Array:
    return x[_along(index, dim)] if x.ndim else x


def _source(src: Any, index: jax.Array) -> Any:
    """The part of `src` that `index` covers."""
    return src if jnp.ndim(src) == 0 else src[tuple(slice(n) for n in index.shape)]


def _scatter(x: jax.Array, dim: int, index: jax.Array, src: Any) -> jax.Array:
    return x.at[_along(index, dim)].set(_source(src, index))


def _scatter_add(x: jax.Array, dim: int, index: jax.Array, src: jax.Array) -> jax.Array:
    return x.at[_along(index, dim)].add(_source(src, index))


def _slice_scatter(
    x: jax.Array, src: jax.Array, dim: int, start: int | None, end: int | None, step: int
) -> jax.Array:
    return x.at[(slice(None),) * (dim % x.ndim) + (slice(start, end, step),)].set(src)


def _one_hot(x: jax.Array, num_classes: int) -> jax.Array:
    return (x[..., None] == jnp.arange(num_classes)).astype(jnp.int32)


def _masked_fill(x: jax.Array, mask: jax.Array, value: Any) -> jax.Array:
    return jnp.where(mask, jnp.asarray(value).astype(x.dtype), x)


def _sort(x: jax.Array, dim: int, descending: bool) -> tuple[jax.Array, jax.Array]:
    order = jnp.argsort(x, axis=dim, stable=True, descending=descending)
    return jnp.take_along_axis(x, order, axis=dim), order


def _topk(x: jax.Array, k: int, dim: int, largest: bool, sorted: bool) -> tuple[jax.Array, jax.Array]:
    del sorted  # they are
    values, order = _sort(x, dim, largest)
    return lax.slice_in_dim(values, 0, k, axis=dim), lax.slice_in_dim(order, 0, k, axis=dim)


OPERATORS: dict[str, Handler] = {
    "aten.embedding.default": _embedding,
    "aten.index.Tensor": lambda x, indices: x[_places(indices)],
    "aten.index_put.default": _index_put,
    "aten.index_select.default": lambda x, dim, index: jnp.take(x, index, axis=dim),
    "aten.index_add.default": lambda x, dim, index, source, alpha: x.at[
        (slice(None),) * (dim % x.ndim) + (index,)
    ].add(source if alpha == 1 else alpha * source),
    "aten.gather.default": _gather,
    "aten.scatter.src": _scatter,
    "aten.scatter.value": lambda x, dim, index, value: _scatter(x, dim, index, value),
    "aten.scatter_add.default": _scatter_add,
    "aten.select_scatter.default": lambda x, src, dim, index: x.at[
        (slice(None),) * (dim % x.ndim) + (index,)
    ].set(src),
    "aten.slice_scatter.default": _slice_scatter,
    "aten.one_hot.default": _one_hot,
    "aten.masked_fill.Scalar": _masked_fill,
    "aten.masked_fill.Tensor": _masked_fill,
    "aten.sort.default": _sort,
    "aten.argsort.default": lambda x, dim, descending: _sort(x, dim, descending)[1],
    "aten.topk.default": _topk,
}
