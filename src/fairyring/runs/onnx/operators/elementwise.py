"""Operations that compute element by element: arithmetic, comparisons, logic, types."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fairyring.runs.onnx.operators.values import (
    Graph,
    Handler,
    Operation,
    Tensor,
    arithmetic,
    computed_in,
    scalar,
)


def _composed(function: Callable[..., Tensor]) -> Handler:
    """A handler of several operators, for floats: `function(call, x, ...)`, where `call(op, ...)` writes one of them."""

    def handler(graph: Graph, operation: Operation, *operands: Tensor) -> Tensor:
        dtype = computed_in(operands[0].dtype)

        def call(op: str, *inputs: Tensor | float, of: Any = dtype) -> Tensor:
            tensors = [
                one if isinstance(one, Tensor) else graph.constant(np.array(one, dtype)) for one in inputs
            ]
            return graph.each(op, *tensors, dtype=of)

        return graph.cast(function(call, *(graph.cast(x, dtype) for x in operands)), operation.dtype)

    return handler


def _expm1(call: Any, x: Tensor) -> Tensor:
    """tanh(x / 2) (e^x + 1): exact for small x too, and -1 and infinite where it should be."""
    return call("Mul", call("Tanh", call("Mul", x, 0.5)), call("Add", call("Exp", x), 1.0))


def _log1p(call: Any, x: Tensor) -> Tensor:
    """2 artanh(x / (2 + x)) for small x, where 1 + x loses digits."""
    small = call("Mul", call("Atanh", call("Div", x, call("Add", x, 2.0))), 2.0)
    large = call("Log", call("Add", x, 1.0))
    return call("Where", call("Less", call("Abs", x), 0.5, of=np.bool_), small, large)


def _cbrt(call: Any, x: Tensor) -> Tensor:
    return call("Mul", call("Sign", x), call("Pow", call("Abs", x), 1 / 3))


def _round_half_away(call: Any, x: Tensor) -> Tensor:
    return call("Mul", call("Sign", x), call("Floor", call("Add", call("Abs", x), 0.5)))


def _atan2(call: Any, y: Tensor, x: Tensor) -> Tensor:
    """The angle of a half plane, and half a turn for the other; a quotient of two zeros counts as zero."""
    nowhere = call("And", call("Equal", x, 0.0, of=np.bool_), call("Equal", y, 0.0, of=np.bool_), of=np.bool_)
    slope = call("Where", nowhere, 0.0, call("Div", y, x))
    turn = call("Where", call("Less", y, 0.0, of=np.bool_), -math.pi, math.pi)
    left = call("Less", x, 0.0, of=np.bool_)
    return call("Add", call("Atan", slope), call("Where", left, turn, 0.0))


def _clamp(graph: Graph, operation: Operation, low: Tensor, x: Tensor, high: Tensor) -> Tensor:
    dtype = computed_in(x.dtype)
    low, x, high = (graph.cast(one, dtype) for one in (low, x, high))
    above = graph.each("Max", x, low, dtype=dtype)
    return graph.cast(graph.each("Min", above, high, dtype=dtype), operation.dtype)


def _is_finite(graph: Graph, operation: Operation, x: Tensor) -> Tensor:
    """NaN is less than nothing."""
    x = graph.cast(x, computed_in(x.dtype))
    return graph.each("Less", graph.each("Abs", x, dtype=x.dtype), scalar(graph, math.inf, x), dtype=np.bool_)


_DIRECTIONS = {"EQ": "Equal", "LT": "Less", "LE": "LessOrEqual", "GT": "Greater", "GE": "GreaterOrEqual"}


def _compare(graph: Graph, operation: Operation, x: Tensor, y: Tensor) -> Tensor:
    direction = operation.word("comparison_direction")
    dtype = computed_in(x.dtype)
    x, y = graph.cast(x, dtype), graph.cast(y, dtype)
    if direction == "NE":
        return graph.each("Not", graph.each("Equal", x, y, dtype=np.bool_), dtype=np.bool_)
    return graph.each(_DIRECTIONS[direction], x, y, dtype=np.bool_)


def _select(graph: Graph, operation: Operation, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    dtype = computed_in(x.dtype)
    chosen = graph.each("Where", condition, graph.cast(x, dtype), graph.cast(y, dtype), dtype=dtype)
    return graph.cast(chosen._replace(shape=operation.shape), operation.dtype)


def _logical(name: str) -> Handler:
    """Of truth values, or of bits."""

    def handler(graph: Graph, operation: Operation, *operands: Tensor) -> Tensor:
        op = name if operation.dtype == np.bool_ else f"Bitwise{name}"
        return graph.each(op, *operands, dtype=operation.dtype)

    return handler


def _convert(graph: Graph, operation: Operation, x: Tensor) -> Tensor:
    return graph.cast(x, operation.dtype)


def _constant(graph: Graph, operation: Operation) -> Tensor:
    return graph.constant(*operation.array("value"))


def _iota(graph: Graph, operation: Operation) -> Tensor:
    axis, rank = operation.number("iota_dimension"), len(operation.shape)
    held = (operation.shape[axis], *(1,) * (rank - axis - 1))
    return graph.constant(np.arange(held[0]).astype(operation.dtype).reshape(held), operation.shape)


def _same(graph: Graph, operation: Operation, *operands: Tensor) -> list[Tensor]:
    return list(operands)


OPERATORS: dict[str, Handler] = {
    **{
        f"stablehlo.{name}": arithmetic(op)
        for name, op in {
            "abs": "Abs",
            "add": "Add",
            "ceil": "Ceil",
            "cosine": "Cos",
            "divide": "Div",
            "exponential": "Exp",
            "floor": "Floor",
            "log": "Log",
            "maximum": "Max",
            "minimum": "Min",
            "multiply": "Mul",
            "negate": "Neg",
            "power": "Pow",
            "round_nearest_even": "Round",
            "sign": "Sign",
            "sine": "Sin",
            "sqrt": "Sqrt",
            "subtract": "Sub",
            "tan": "Tan",
            "tanh": "Tanh",
        }.items()
    },
    **{
        f"chlo.{name}": arithmetic(op)
        for name, op in {
            "acos": "Acos",
            "acosh": "Acosh",
            "asin": "Asin",
            "asinh": "Asinh",
            "atan": "Atan",
            "atanh": "Atanh",
            "cosh": "Cosh",
            "erf": "Erf",
            "sinh": "Sinh",
        }.items()
    },
    "stablehlo.remainder": arithmetic("Mod", fmod=1),
    "stablehlo.rsqrt": _composed(lambda call, x: call("Reciprocal", call("Sqrt", x))),
    "stablehlo.exponential_minus_one": _composed(_expm1),
    "stablehlo.log_plus_one": _composed(_log1p),
    "stablehlo.cbrt": _composed(_cbrt),
    "stablehlo.round_nearest_afz": _composed(_round_half_away),
    "stablehlo.atan2": _composed(_atan2),
    "chlo.square": _composed(lambda call, x: call("Mul", x, x)),
    "stablehlo.clamp": _clamp,
    "stablehlo.is_finite": _is_finite,
    "stablehlo.compare": _compare,
    "stablehlo.select": _select,
    **{f"stablehlo.{name.lower()}": _logical(name) for name in ("And", "Or", "Not", "Xor")},
    "stablehlo.convert": _convert,
    "stablehlo.constant": _constant,
    "stablehlo.iota": _iota,
    "stablehlo.optimization_barrier": _same,
}
