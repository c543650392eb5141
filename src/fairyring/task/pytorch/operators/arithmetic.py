"""Arithmetic and comparisons, element by element."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fairyring.task.pytorch.operators.values import Handler, Untranslatable


def _scaled(x: Any, alpha: Any) -> Any:
    return x if alpha == 1 else alpha * x


def _divide(x: Any, other: Any, rounding_mode: str | None) -> jax.Array:
    if rounding_mode == "floor":
        return jnp.floor_divide(x, other)
    return jnp.trunc(x / other) if rounding_mode == "trunc" else jnp.true_divide(x, other)


def _power(x: Any, exponent: Any) -> jax.Array:
    """A whole exponent has a gradient at zero, and for negative numbers."""
    if isinstance(exponent, float) and exponent.is_integer():
        exponent = int(exponent)
    if isinstance(exponent, float) and exponent == 0.5:
        return jnp.sqrt(x)
    if isinstance(exponent, int) and exponent < 0:
        return 1 / (x**-exponent)
    return x**exponent


def _clamp(x: jax.Array, min: Any, max: Any) -> jax.Array:
    """With the gradient 1 at both ends."""
    x = x if min is None else jnp.where(x < min, min, x)
    return x if max is None else jnp.where(x > max, max, x)


def _round(x: jax.Array, decimals: int) -> jax.Array:
    return jnp.round(x, decimals)


def _nan_to_num(x: jax.Array, nan: Any, posinf: Any, neginf: Any) -> jax.Array:
    return jnp.nan_to_num(x, nan=nan or 0.0, posinf=posinf, neginf=neginf)


def _no_number(x: jax.Array) -> Any:
    raise Untranslatable(
        "it makes a Python number of a tensor, and numbers are known only when the program runs",
        "Leave out .item(), float(...) and int(...), and compute with the tensor.",
    )


def _both(name: str, handler: Handler) -> dict[str, Handler]:
    """An operator of two arrays, and of an array and a number."""
    return {f"aten.{name}.{form}": handler for form in ("Tensor", "Scalar")}


_OF_ONE = {
    "abs": jnp.abs,
    "neg": jnp.negative,
    "exp": jnp.exp,
    "exp2": jnp.exp2,
    "expm1": jnp.expm1,
    "log": jnp.log,
    "log1p": jnp.log1p,
    "log2": jnp.log2,
    "log10": jnp.log10,
    "sqrt": jnp.sqrt,
    "rsqrt": lax.rsqrt,
    "square": jnp.square,
    "reciprocal": jnp.reciprocal,
    "sin": jnp.sin,
    "cos": jnp.cos,
    "tan": jnp.tan,
    "asin": jnp.arcsin,
    "acos": jnp.arccos,
    "atan": jnp.arctan,
    "sinh": jnp.sinh,
    "cosh": jnp.cosh,
    "erf": jax.scipy.special.erf,
    "erfc": jax.scipy.special.erfc,
    "erfinv": jax.scipy.special.erfinv,
    "sign": jnp.sign,
    "floor": jnp.floor,
    "ceil": jnp.ceil,
    "round": jnp.round,
    "trunc": jnp.trunc,
    "isnan": jnp.isnan,
    "isinf": jnp.isinf,
    "isfinite": jnp.isfinite,
    "logical_not": jnp.logical_not,
    "bitwise_not": jnp.bitwise_not,
}


def _of_one(function: Any) -> Handler:
    return lambda x: function(x)


def _of_two(function: Any) -> Handler:
    return lambda x, other: function(x, other)


_COMPARISONS = {
    "eq": jnp.equal,
    "ne": jnp.not_equal,
    "lt": jnp.less,
    "le": jnp.less_equal,
    "gt": jnp.greater,
    "ge": jnp.greater_equal,
    "remainder": jnp.remainder,
    "fmod": jnp.fmod,
    "bitwise_and": jnp.bitwise_and,
    "bitwise_or": jnp.bitwise_or,
    "bitwise_xor": jnp.bitwise_xor,
    "__and__": jnp.bitwise_and,
    "__or__": jnp.bitwise_or,
    "__xor__": jnp.bitwise_xor,
}
_OF_TWO = {
    "maximum": jnp.maximum,
    "minimum": jnp.minimum,
    "atan2": jnp.arctan2,
    "hypot": jnp.hypot,
    "logaddexp": jnp.logaddexp,
    "logical_and": jnp.logical_and,
    "logical_or": jnp.logical_or,
    "logical_xor": jnp.logical_xor,
    "floor_divide": jnp.floor_divide,
}

OPERATORS: dict[str, Handler] = {
    **{f"aten.{name}.default": _of_one(function) for name, function in _OF_ONE.items()},
    **{key: h for name, f in _COMPARISONS.items() for key, h in _both(name, _of_two(f)).items()},
    **{f"aten.{name}.default": _of_two(function) for name, function in _OF_TWO.items()},
    "aten.floor_divide.Scalar": _of_two(jnp.floor_divide),
    "aten.max.other": _of_two(jnp.maximum),
    "aten.min.other": _of_two(jnp.minimum),
    **_both("add", lambda x, other, alpha: x + _scaled(other, alpha)),
    **_both("sub", lambda x, other, alpha: x - _scaled(other, alpha)),
    **_both("rsub", lambda x, other, alpha: other - _scaled(x, alpha)),
    **_both("mul", lambda x, other: x * other),
    **_both("div", lambda x, other: _divide(x, other, None)),
    **{f"aten.div.{form}_mode": _divide for form in ("Tensor", "Scalar")},
    "aten.pow.Tensor_Scalar": _power,
    "aten.pow.Tensor_Tensor": _power,
    "aten.pow.Scalar": _power,
    "aten.clamp.default": _clamp,
    "aten.clamp.Tensor": _clamp,
    "aten.clamp_min.default": lambda x, min: _clamp(x, min, None),
    "aten.clamp_max.default": lambda x, max: _clamp(x, None, max),
    "aten.round.decimals": _round,
    "aten.frac.default": lambda x: x - jnp.trunc(x),
    "aten.nan_to_num.default": _nan_to_num,
    "aten.addcmul.default": lambda x, tensor1, tensor2, value: x + _scaled(tensor1 * tensor2, value),
    "aten.addcdiv.default": lambda x, tensor1, tensor2, value: x + _scaled(tensor1 / tensor2, value),
    "aten.lerp.Scalar": lambda x, end, weight: x + weight * (end - x),
    "aten.lerp.Tensor": lambda x, end, weight: x + weight * (end - x),
    **{
        f"aten.where.{form}": lambda condition, x, other: jnp.where(condition, x, other)
        for form in ("self", "ScalarOther", "ScalarSelf", "Scalar")
    },
    "aten.item.default": _no_number,
    "aten._local_scalar_dense.default": _no_number,
}
