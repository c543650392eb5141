"""What the operators share: the form of a handler, and the types in which runtimes compute."""

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from fairyring.runs.onnx.graph import Graph, Tensor
from fairyring.runs.onnx.stablehlo import Operation, Untranslatable

Handler = Callable[..., Any]
"""`(graph, operation, *operands) -> result`, or a list of results where the operation has several or none. It writes to the graph, and raises
`Untranslatable`."""

_COMPUTED_IN = {
    np.dtype(np.float16): np.dtype(np.float32),
    np.dtype(ml_dtypes.bfloat16): np.dtype(np.float32),
    np.dtype(np.bool_): np.dtype(np.int32),
    **{np.dtype(name): np.dtype(np.int32) for name in ("int8", "uint8", "int16", "uint16")},
    np.dtype(np.uint32): np.dtype(np.int64),
}


def computed_in(dtype: np.dtype) -> np.dtype:
    """The type in which arithmetic of a type is written.

    Runtimes have kernels for few types. Casting back from a longer integer wraps, as arithmetic of the shorter one does, and XLA computes
    floats of 16 bits on a CPU in 32 as well.
    """
    return _COMPUTED_IN.get(dtype, dtype)


def arithmetic(op: str, **attributes: Any) -> Handler:
    """A handler for an operator of ONNX that computes element by element."""

    def handler(graph: Graph, operation: Operation, *operands: Tensor) -> Tensor:
        dtype = computed_in(operands[0].dtype)
        inputs = [graph.cast(x, dtype) for x in operands]
        return graph.cast(graph.each(op, *inputs, dtype=dtype, **attributes), operation.dtype)

    return handler


def scalar(graph: Graph, value: float, like: Tensor) -> Tensor:
    """A number in the type of a tensor."""
    return graph.constant(np.array(value, like.dtype))


__all__ = ["Graph", "Handler", "Operation", "Tensor", "Untranslatable", "arithmetic", "computed_in", "scalar"]
