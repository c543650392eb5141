"""Sums, means and other functions over axes."""

from typing import Any

import jax
import jax.numpy as jnp

from fairyring.task.pytorch.operators.normalisation import vector_norm
from fairyring.task.pytorch.operators.values import Handler, axes_of, in_floats


def _sum(x: jax.Array, dim: Any, keepdim: bool, dtype: Any) -> jax.Array:
    x = x if dtype is None else x.astype(dtype)
    return x.sum(axis=axes_of(dim, x.ndim), keepdims=keepdim)


def _mean(x: jax.Array, dim: Any, keepdim: bool, dtype: Any) -> jax.Array:
    x = x if dtype is None else x.astype(dtype)
    return x.mean(axis=axes_of(dim, x.ndim), keepdims=keepdim)


def _variance(x: jax.Array, dim: Any, correction: float | None, keepdim: bool) -> jax.Array:
    """Bessel's correction, 1, is what PyTorch takes if none is given."""
    own = 1 if correction is None else correction
    return in_floats(x).var(axis=axes_of(dim, x.ndim), correction=own, keepdims=keepdim)


def _deviation(x: jax.Array, dim: Any, correction: float | None, keepdim: bool) -> jax.Array:
    """With the gradient zero where the deviation is zero."""
    variance = _variance(x, dim, correction, keepdim)
    positive = variance > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, variance, 1)), 0 * variance)


def _extreme(find: Any) -> Handler:
    """The extreme value along an axis and its place; the gradient goes to that place."""

    def handler(x: jax.Array, dim: int, keepdim: bool) -> tuple[jax.Array, jax.Array]:
        if not x.ndim:
            return x, jnp.zeros((), jnp.int32)
        place = find(x, axis=dim, keepdims=True)
        value = jnp.take_along_axis(x, place, axis=dim)
        return (value, place) if keepdim else (value.squeeze(dim), place.squeeze(dim))

    return handler


def _place(find: Any) -> Handler:
    return lambda x, dim, keepdim: find(x, axis=dim, keepdims=keepdim)


def _norm(x: jax.Array, p: Any, dim: Any, keepdim: bool) -> jax.Array:
    return vector_norm(x, 2 if p is None else p, axes_of(dim, x.ndim), keepdim)


def _logsumexp(x: jax.Array, dim: Any, keepdim: bool) -> jax.Array:
    return jax.nn.logsumexp(x, axis=axes_of(dim, x.ndim), keepdims=keepdim)


def _product(x: jax.Array, dim: Any, keepdim: bool, dtype: Any) -> jax.Array:
    x = x if dtype is None else x.astype(dtype)
    return x.prod(axis=axes_of(dim, x.ndim), keepdims=keepdim)


def _logical(function: Any) -> dict[str, Handler]:
    def handler(x: jax.Array, dim: Any, keepdim: bool) -> jax.Array:
        return function(x, axis=axes_of(dim, x.ndim), keepdims=keepdim)

    name = function.__name__
    return {
        f"aten.{name}.default": lambda x: handler(x, None, False),
        f"aten.{name}.dim": handler,
        f"aten.{name}.dims": handler,
    }


def _cumulative(function: Any) -> Handler:
    def handler(x: jax.Array, dim: int, dtype: Any) -> jax.Array:
        x = x if dtype is None else x.astype(dtype)
        return function(x, axis=dim) if x.ndim else x

    return handler


OPERATORS: dict[str, Handler] = {
    "aten.sum.default": lambda x, dtype: _sum(x, None, False, dtype),
    "aten.sum.dim_IntList": _sum,
    "aten.mean.default": lambda x, dtype: _mean(x, None, False, dtype),
    "aten.mean.dim": _mean,
    "aten.prod.default": lambda x, dtype: _product(x, None, False, dtype),
    "aten.prod.dim_int": _product,
    "aten.var.default": lambda x, unbiased: _variance(x, None, int(unbiased), False),
    "aten.var.dim": lambda x, dim, unbiased, keepdim: _variance(x, dim, int(unbiased), keepdim),
    "aten.var.correction": _variance,
    "aten.std.default": lambda x, unbiased: _deviation(x, None, int(unbiased), False),
    "aten.std.dim": lambda x, dim, unbiased, keepdim: _deviation(x, dim, int(unbiased), keepdim),
    "aten.std.correction": _deviation,
    "aten.var_mean.correction": lambda x, dim, correction, keepdim: (
        _variance(x, dim, correction, keepdim),
        _mean(x, dim, keepdim, None),
    ),
    "aten.amax.default": lambda x, dim, keepdim: x.max(axis=axes_of(dim, x.ndim), keepdims=keepdim),
    "aten.amin.default": lambda x, dim, keepdim: x.min(axis=axes_of(dim, x.ndim), keepdims=keepdim),
    "aten.max.default": lambda x: x.max(),
    "aten.min.default": lambda x: x.min(),
    "aten.max.dim": _extreme(jnp.argmax),
    "aten.min.dim": _extreme(jnp.argmin),
    "aten.argmax.default": _place(jnp.argmax),
    "aten.argmin.default": _place(jnp.argmin),
    **_logical(jnp.all),
    **_logical(jnp.any),
    "aten.norm.Scalar": lambda x, p: _norm(x, p, None, False),
    "aten.norm.ScalarOpt_dim": _norm,
    "aten.linalg_vector_norm.default": lambda x, ord, dim, keepdim, dtype: _norm(
        x if dtype is None else x.astype(dtype), ord, dim, keepdim
    ),
    "aten.logsumexp.default": _logsumexp,
    "aten.cumsum.default": _cumulative(jnp.cumsum),
    "aten.cumprod.default": _cumulative(jnp.cumprod),
}
