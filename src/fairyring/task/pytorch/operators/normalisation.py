"""Normalisation within an example."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from fairyring.task.pytorch.operators.values import Handler, Missing, Untranslatable, in_floats


def _standardise(x: jax.Array, axes: tuple[int, ...], eps: float) -> jax.Array:
    centred = x - x.mean(axis=axes, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.square(centred).mean(axis=axes, keepdims=True) + eps)


def _by_channel(y: jax.Array, weight: jax.Array | None, bias: jax.Array | None) -> jax.Array:
    """Scaled and shifted along axis 1."""
    form = (-1, *[1] * (y.ndim - 2))
    y = y if weight is None else y * weight.reshape(form)
    return y if bias is None else y + bias.reshape(form)


def group_norm(
    x: jax.Array, num_groups: int, weight: jax.Array | None, bias: jax.Array | None, eps: float
) -> jax.Array:
    """`[B, C, ...]`, standardised over space and each group of channels."""
    grouped = in_floats(x).reshape(x.shape[0], num_groups, -1, *x.shape[2:])
    y = _standardise(grouped, tuple(range(2, grouped.ndim)), eps).reshape(x.shape)
    return _by_channel(y, weight, bias)


def instance_norm(
    x: jax.Array,
    weight: jax.Array | None,
    bias: jax.Array | None,
    running_mean: jax.Array | None,
    use_input_stats: bool,
    eps: float,
) -> jax.Array:
    """`[B, C, *space]`, standardised over space."""
    if running_mean is not None or not use_input_stats:
        raise Untranslatable(
            "it keeps statistics of batches, which would pass one client's data to the others",
            "Leave out track_running_stats.",
        )
    return _by_channel(_standardise(in_floats(x), tuple(range(2, x.ndim)), eps), weight, bias)


def layer_norm(
    x: jax.Array, normalized_shape: list[int], weight: jax.Array | None, bias: jax.Array | None, eps: float
) -> jax.Array:
    """Standardised over the last axes."""
    y = _standardise(in_floats(x), tuple(range(x.ndim - len(normalized_shape), x.ndim)), eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def rms_norm(
    x: jax.Array, normalized_shape: list[int], weight: jax.Array | None, eps: float | None
) -> jax.Array:
    """Divided by the root of the mean square over the last axes."""
    eps = float(jnp.finfo(x.dtype).eps) if eps is None else eps
    axes, wide = tuple(range(x.ndim - len(normalized_shape), x.ndim)), in_floats(x)
    y = wide * jax.lax.rsqrt(jnp.square(wide).mean(axis=axes, keepdims=True) + eps)
    return y if weight is None else y * weight


def _native_group_norm(
    x: jax.Array,
    weight: jax.Array | None,
    bias: jax.Array | None,
    N: int,
    C: int,
    HxW: int,
    group: int,
    eps: float,
) -> Any:
    del N, C, HxW  # the shape of x
    return group_norm(x, group, weight, bias, eps), Missing("the means"), Missing("the deviations")


def _weight_norm(v: jax.Array, g: jax.Array, dim: int) -> jax.Array:
    """`v`, scaled to have the norms `g` along `dim`."""
    axes = tuple(a for a in range(v.ndim) if a != dim % v.ndim)
    return v * (g / jnp.sqrt(jnp.square(v).sum(axis=axes, keepdims=True)))


def vector_norm(x: jax.Array, ord: float, axes: tuple[int, ...], keepdim: bool) -> jax.Array:
    """The norm over some axes; where it is zero, its gradient is zero."""
    if ord == math.inf:
        return jnp.abs(x).max(axis=axes, keepdims=keepdim)
    if ord == -math.inf:
        return jnp.abs(x).min(axis=axes, keepdims=keepdim)
    if ord == 0:
        return (x != 0).sum(axis=axes, keepdims=keepdim).astype(x.dtype)
    if ord == 1:
        return jnp.abs(x).sum(axis=axes, keepdims=keepdim)
    powers = jnp.square(x) if ord == 2 else jnp.abs(x) ** ord
    total = powers.sum(axis=axes, keepdims=keepdim)
    positive = total > 0
    root = jnp.where(positive, total, 1.0)
    return jnp.where(positive, jnp.sqrt(root) if ord == 2 else root ** (1 / ord), 0.0)


OPERATORS: dict[str, Handler] = {
    "aten.group_norm.default": group_norm,
    "aten.native_group_norm.default": _native_group_norm,
    "aten.instance_norm.default": lambda x, weight, bias, running_mean, running_var, use_input_stats, momentum, eps: (
        instance_norm(x, weight, bias, running_mean, use_input_stats, eps)
    ),
    "aten.layer_norm.default": layer_norm,
    "aten.native_layer_norm.default": lambda x, normalized_shape, weight, bias, eps: (
        layer_norm(x, normalized_shape, weight, bias, eps),
        Missing("the means"),
        Missing("the deviations"),
    ),
    "aten.rms_norm.default": rms_norm,
    "aten._weight_norm.default": _weight_norm,
    "aten._weight_norm_interface.default": lambda v, g, dim: (_weight_norm(v, g, dim), Missing("the norms")),
}
