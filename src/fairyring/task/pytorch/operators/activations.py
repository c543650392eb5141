"""Activations and softmaxes. At a kink, the gradient is PyTorch's."""

from typing import Any

import jax
import jax.numpy as jnp

from fairyring.task.pytorch.operators.values import Handler, Untranslatable


def _elu(x: jax.Array, alpha: float, scale: float, input_scale: float) -> jax.Array:
    low = jnp.minimum(x, 0)  # so that the gradient of what is not chosen is finite
    return scale * jnp.where(x > 0, x, alpha * jnp.expm1(low * input_scale))


def _hardtanh(x: jax.Array, low: float, high: float) -> jax.Array:
    """With the gradient 0 at both ends."""
    return jnp.where(x <= low, low, jnp.where(x >= high, high, x))


def _softplus(x: jax.Array, beta: float, threshold: float) -> jax.Array:
    return jnp.where(x * beta > threshold, x, jax.nn.softplus(x * beta) / beta)


def _prelu(x: jax.Array, weight: jax.Array) -> jax.Array:
    if weight.size > 1:
        weight = weight.reshape(-1, *[1] * (x.ndim - 2)) if x.ndim > 1 else weight
    return jnp.where(x > 0, x, weight * x)


def _gelu(x: jax.Array, approximate: str) -> jax.Array:
    return jax.nn.gelu(x, approximate=approximate == "tanh")


def _glu(x: jax.Array, dim: int) -> jax.Array:
    one, other = jnp.split(x, 2, axis=dim)
    return one * jax.nn.sigmoid(other)


def _softmax(x: jax.Array, dim: int, dtype: Any = None) -> jax.Array:
    return jax.nn.softmax(x if dtype is None else x.astype(dtype), axis=dim if x.ndim else None)


def _log_softmax(x: jax.Array, dim: int, dtype: Any = None) -> jax.Array:
    return jax.nn.log_softmax(x if dtype is None else x.astype(dtype), axis=dim if x.ndim else None)


def _safe_softmax(x: jax.Array, dim: int, dtype: Any = None) -> jax.Array:
    """Zero where all is minus infinity."""
    seen = jnp.any(x > -jnp.inf, axis=dim, keepdims=True)
    return jnp.where(seen, _softmax(jnp.maximum(x, jnp.finfo(x.dtype).min), dim, dtype), 0)


def _logit(x: jax.Array, eps: float | None) -> jax.Array:
    x = x if eps is None else jnp.clip(x, eps, 1 - eps)
    return jnp.log(x / (1 - x))


def _whole(function: Any) -> Handler:
    def handler(x: jax.Array, dim: int, half_to_float: bool) -> jax.Array:
        if half_to_float:
            raise Untranslatable("half_to_float is for GPUs")
        return function(x, dim)

    return handler


OPERATORS: dict[str, Handler] = {
    "aten.relu.default": lambda x: jax.nn.relu(x),
    "aten.relu6.default": lambda x: _hardtanh(x, 0.0, 6.0),
    "aten.hardtanh.default": lambda x, min_val, max_val: _hardtanh(x, min_val, max_val),
    "aten.elu.default": _elu,
    "aten.selu.default": lambda x: _elu(x, 1.6732632423543772, 1.0507009873554805, 1.0),
    "aten.celu.default": lambda x, alpha: _elu(x, alpha, 1.0, 1.0 / alpha),
    "aten.leaky_relu.default": lambda x, negative_slope: jnp.where(x > 0, x, negative_slope * x),
    "aten.prelu.default": _prelu,
    "aten._prelu_kernel.default": lambda x, weight: jnp.where(x > 0, x, weight * x),
    "aten.gelu.default": _gelu,
    "aten.silu.default": lambda x: x * jax.nn.sigmoid(x),
    "aten.mish.default": lambda x: x * jnp.tanh(jax.nn.softplus(x)),
    "aten.hardswish.default": lambda x: x * jnp.clip(x + 3.0, 0.0, 6.0) / 6.0,
    "aten.hardsigmoid.default": lambda x: jnp.clip(x + 3.0, 0.0, 6.0) / 6.0,
    "aten.softplus.default": _softplus,
    "aten.sigmoid.default": lambda x: jax.nn.sigmoid(x),
    "aten.tanh.default": lambda x: jnp.tanh(x),
    "aten.log_sigmoid.default": lambda x: jax.nn.log_sigmoid(x),
    "aten.logit.default": _logit,
    "aten.hardshrink.default": lambda x, lambd: jnp.where(jnp.abs(x) > lambd, x, 0),
    "aten.softshrink.default": lambda x, lambd: jnp.where(
        x > lambd, x - lambd, jnp.where(x < -lambd, x + lambd, 0)
    ),
    "aten.threshold.default": lambda x, threshold, value: jnp.where(x > threshold, x, value),
    "aten.glu.default": _glu,
    "aten.softmax.int": _softmax,
    "aten._softmax.default": _whole(_softmax),
    "aten._safe_softmax.default": _safe_softmax,
    "aten.log_softmax.int": _log_softmax,
    "aten._log_softmax.default": _whole(_log_softmax),
}
