"""The table: StableHLO's operations, each by a function that writes it as operators of ONNX. One file for each kind."""

from fairyring.runs.onnx.operators import (
    control,
    elementwise,
    indexing,
    ordering,
    products,
    reductions,
    shapes,
)
from fairyring.runs.onnx.operators.values import Handler

_KINDS = (control, elementwise, indexing, ordering, products, reductions, shapes)

OPERATORS: dict[str, Handler] = {name: handler for kind in _KINDS for name, handler in kind.OPERATORS.items()}
"""Handlers by the full name of the operation, as in "stablehlo.add"."""

__all__ = ["OPERATORS", "Handler"]
