"""New arrays."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fairyring.task.pytorch.operators.values import Handler


def _full(size: Sequence[int], value: Any, dtype: Any) -> jax.Array:
    return jnp.full(tuple(size), value, dtype)


def _new(value: float) -> Handler:
    return lambda x, size, dtype: _full(size, value, dtype or x.dtype)


def _like(value: float) -> Handler:
    return lambda x, dtype: _full(x.shape, value, dtype or x.dtype)


def _all(value: float) -> Handler:
    return lambda size, dtype: _full(size, value, dtype or jnp.float32)


OPERATORS: dict[str, Handler] = {
    "aten.zeros.default": _all(0),
    "aten.ones.default": _all(1),
    "aten.empty.memory_format": _all(0),
    "aten.full.default": lambda size, fill_value, dtype: _full(size, fill_value, dtype),
    "aten.new_zeros.default": _new(0),
    "aten.new_ones.default": _new(1),
    "aten.new_empty.default": _new(0),
    "aten.new_full.default": lambda x, size, fill_value, dtype: _full(size, fill_value, dtype or x.dtype),
    "aten.zeros_like.default": _like(0),
    "aten.ones_like.default": _like(1),
    "aten.empty_like.default": _like(0),
    "aten.empty_permuted.default": lambda size, physical_layout, dtype: _full(size, 0, dtype or jnp.float32),
    "aten.full_like.default": lambda x, fill_value, dtype: _full(x.shape, fill_value, dtype or x.dtype),
    "aten.fill.Scalar": lambda x, value: jnp.full_like(x, value),
    "aten.fill.Tensor": lambda x, value: jnp.broadcast_to(value.astype(x.dtype), x.shape),
    "aten.copy.default": lambda x, src: jnp.broadcast_to(src.astype(x.dtype), x.shape),
    "aten.scalar_tensor.default": lambda s, dtype: jnp.asarray(s, dtype),
    "aten.arange.default": lambda end, dtype: jnp.arange(end, dtype=dtype),
    "aten.arange.start": lambda start, end, dtype: jnp.arange(start, end, dtype=dtype),
    "aten.arange.start_step": lambda start, end, step, dtype: jnp.arange(start, end, step, dtype),
    "aten.linspace.default": lambda start, end, steps, dtype: jnp.linspace(start, end, steps, dtype=dtype),
    "aten.eye.default": lambda n, dtype: jnp.eye(n, dtype=dtype),
    "aten.eye.m": lambda n, m, dtype: jnp.eye(n, m, dtype=dtype),
}
