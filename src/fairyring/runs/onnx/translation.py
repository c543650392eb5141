"""A program of StableHLO as an ONNX model."""

from collections.abc import Callable, Sequence
from typing import Any, Never, Protocol

import jax
import numpy as np

from fairyring.core.errors import MissingExtra, ModelError
from fairyring.runs.onnx.graph import TYPES, Graph, Tensor
from fairyring.runs.onnx.operators import OPERATORS
from fairyring.runs.onnx.stablehlo import Operation, Untranslatable, functions_of, take_apart
from fairyring.runs.static import lowered

# Of all parameters: a model is one message, which has to be shorter than 2 GiB.
MOST_BYTES = (1 << 31) - (1 << 20)
_OTHERS = "Write the model with other operators."


class Reads(Protocol):
    """What a model reads: the name of its input, the shape of a row, and the dtype."""

    @property
    def column(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype: ...


def to_onnx(
    function: Callable[[list[Any], Any], Any],
    parameters: Sequence[np.ndarray],
    names: Sequence[str],
    inputs: Reads,
    rows: int,
) -> bytes:
    """A function of JAX arrays as an ONNX model, for a fixed number of rows.

    Args:
        function: `(list of parameters, x [rows, ...]) -> outputs`, such as an exported program's `call`.
        parameters: arrays, which the model holds as initializers.
        names: of the parameters.
        inputs: what the function reads; its column is the name of the model's input.
        rows: of the input.

    Returns:
        The file's content. Its outputs are the leaves of the function's outputs in JAX's order: `output`, or of several
        `output_0`, `output_1` and so on.

    Raises:
        ModelError: an operation of the function cannot be written as ONNX, or the parameters are too large for one file.
        MissingExtra: onnx is not installed.
    """
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise MissingExtra("onnx", extra="onnx", purpose="a model as ONNX") from error
    size = sum(array.nbytes for array in parameters)
    if size > MOST_BYTES:
        raise ModelError(
            "a model as ONNX",
            given=f"parameters of {size:,} bytes",
            expected=f"at most {MOST_BYTES:,}, as an ONNX file is one message of less than 2 GiB",
            do="Export the model in another format.",
        )
    x = jax.ShapeDtypeStruct((rows, *inputs.shape), inputs.dtype)
    try:
        module = lowered(function, list(parameters), x)
    except jax.errors.JaxRuntimeError as error:
        raise ModelError(
            f"the model for {rows} rows",
            given=f"shapes that do not fit together: {str(error).splitlines()[0]}",
            expected="a number of rows that the model takes",
            do="Give another number of rows.",
        ) from error
    take_apart(module, OPERATORS)
    functions = functions_of(module)
    main = functions["main"]
    results = list(list(main.operations)[-1].operands)
    numbered = [f"output_{index}" for index in range(len(results))]
    outputs = _free(["output"] if len(results) == 1 else numbered, [inputs.column])
    own = _free(names, [inputs.column, *outputs])
    graph = Graph([inputs.column, *outputs, *own])
    entry = Tensor(inputs.column, x.shape, x.shape, np.dtype(x.dtype))
    graph.inputs = [entry]
    held = [
        graph.constant(array, name=name)._replace(value=None)
        for name, array in zip(own, parameters, strict=True)
    ]
    for one in (entry, *held):
        if one.dtype.name not in TYPES:
            raise ModelError(
                f"{one.name!r} as ONNX",
                given=f"values of type {one.dtype}",
                expected=f"one of {', '.join(TYPES)}",
                do="Train the model in one of these types.",
            )
    graph.finish(_Evaluation(functions)(graph, main, [*held, entry]), outputs)
    return graph.encode()


def _free(names: Sequence[str], taken: Sequence[str]) -> list[str]:
    """The names, with underscores after those that are taken."""
    used, found = set(taken), []
    for name in names:
        while name in used:
            name += "_"
        used.add(name)
        found.append(name)
    return found


class _Evaluation:
    """Blocks of a module, written to a graph: `(graph, block, arguments) -> results`."""

    def __init__(self, functions: dict[str, Any]) -> None:
        self._functions = functions
        self._values: dict[Any, Tensor] = {}

    def __call__(self, graph: Graph, block: Any, arguments: Sequence[Tensor]) -> list[Tensor]:
        self._values.update(zip(block.arguments, arguments, strict=True))
        *steps, end = (one.operation for one in block.operations)
        for step in steps:
            made = self._written(graph, step, [self._values[one] for one in step.operands])
            self._values.update(zip(step.results, made, strict=True))
        return [self._values[one] for one in end.operands]

    def _written(self, graph: Graph, step: Any, operands: list[Tensor]) -> list[Tensor]:
        handler = OPERATORS.get(step.name)
        if step.name == "stablehlo.custom_call":
            target = str(step.attributes["call_target_name"].value)
            _refuse(f"{step.name} {target}", "it is a function outside of the program", _OTHERS)
        if handler is None:
            _refuse(step.name, "it is not translated to ONNX", _OTHERS)
        try:
            operation = Operation(step, self, self._functions, self._values)
            if operation.results and all(0 in shape for shape, _ in operation.results):
                # Optimisers of runtimes are not made for arrays without values.
                return [graph.constant(np.zeros(*result)) for result in operation.results]
            made = handler(graph, operation, *operands)
        except Untranslatable as error:
            _refuse(step.name, error.reason, error.do)
        return [made] if isinstance(made, Tensor) else made


def _refuse(name: str, reason: str, do: str) -> Never:
    raise ModelError(
        f"operation {name} as ONNX",
        given=f"a model that uses it; {reason}",
        expected="operations that fairyring translates to ONNX",
        do=f"{do} `predict` works without ONNX.",
    )
