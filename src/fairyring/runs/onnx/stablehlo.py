"""StableHLO as this room reads it: its types, and its operations."""

from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any

import ml_dtypes
import numpy as np
from jaxlib.mlir import ir, passmanager
from jaxlib.mlir.dialects import stablehlo

DTYPES = {
    "f64": np.dtype(np.float64),
    "f32": np.dtype(np.float32),
    "f16": np.dtype(np.float16),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "i1": np.dtype(np.bool_),
    **{f"i{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"ui{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
}

# Attributes with parts of their own.
_STRUCTURES = (
    stablehlo.ConvDimensionNumbers,
    stablehlo.DotDimensionNumbers,
    stablehlo.GatherDimensionNumbers,
    stablehlo.ScatterDimensionNumbers,
)


class Untranslatable(Exception):
    """An operation cannot be written as ONNX in the form that it has.

    Args:
        reason: what is not possible.
        do: what to write instead.
    """

    def __init__(self, reason: str, do: str = "Write the model with other operators.") -> None:
        self.reason, self.do = reason, do
        super().__init__(reason)


def take_apart(module: ir.Module, known: Container[str]) -> None:
    """Replace functions of CHLO, such as erfc, by arithmetic, if one of them is not known."""
    if all(name in known for name in _names(module.operation) if name.startswith("chlo.")):
        return
    stablehlo.register_stablehlo_passes()
    with module.context:
        manager: Any = passmanager.PassManager
        manager.parse("builtin.module(func.func(chlo-legalize-to-stablehlo))").run(module.operation)


def _names(operation: Any) -> Iterator[str]:
    yield operation.name
    for region in operation.regions:
        for block in region.blocks:
            for inner in block.operations:
                yield from _names(inner.operation)


def functions_of(module: Any) -> dict[str, Any]:
    """The block of each function of a module, by its name."""
    operations = [one.operation for one in module.body.operations]
    functions = [one for one in operations if one.name == "func.func"]
    return {str(one.attributes["sym_name"].value): one.regions[0].blocks[0] for one in functions}


def type_of(value: Any) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of a value, or of anything else that has a `type`.

    Raises:
        Untranslatable: it is no array, or ONNX has no such type.
    """
    try:
        ranked = ir.RankedTensorType(value.type)
        return tuple(ranked.shape), DTYPES[str(ranked.element_type)]
    except (KeyError, ValueError) as error:
        raise Untranslatable(
            f"it has the type {value.type}", "Use floats of 16 bits or more, integers of 8 or more, or bool."
        ) from error


def array_of(attribute: Any) -> tuple[np.ndarray, tuple[int, ...]]:
    """The values of a constant, and its shape; of one that has the same value everywhere, that value only."""
    shape, dtype = type_of(attribute)
    if attribute.is_splat:
        value = attribute.get_splat_value().value
        if dtype.kind in "iu":  # bits, whose sign depends on how they are read
            value = value & ((1 << 8 * dtype.itemsize) - 1)
            return np.array(value, f"uint{8 * dtype.itemsize}").view(dtype), shape
        return np.array(value).astype(dtype), shape
    if dtype == ml_dtypes.bfloat16:  # which MLIR gives Python as text only
        return _from_text(str(attribute), dtype).reshape(shape), shape
    return np.array(attribute).astype(dtype, copy=False).reshape(shape), shape


def _from_text(text: str, dtype: np.dtype) -> np.ndarray:
    """Values in MLIR's writing: in hexadecimal where there are many of them, or one is no number."""
    values = text[text.index("<") + 1 : text.rindex("> :")]
    if values.startswith('"0x'):
        return np.frombuffer(bytes.fromhex(values[3:-1]), dtype)
    bits = np.dtype(f"uint{8 * dtype.itemsize}")
    words = values.replace("[", "").replace("]", "").split(",")
    found = [
        np.array(int(one, 16), bits).view(dtype) if "0x" in one else np.array(float(one)).astype(dtype)
        for one in words
    ]
    return np.stack(found)


class Operation:
    """An operation of StableHLO.

    Args:
        operation: as MLIR has it.
        evaluate: translates a block: `(graph, block, arguments) -> results`.
        functions: the module's functions by name.
        values: what has been translated, by the value of MLIR.

    Attributes:
        name: such as "stablehlo.add".
        results: shape and dtype of each result.
        shape: of the first result.
        dtype: of the first result.
        blocks: the block of each region.
        functions: the block of each function of the module.
        values: what has been translated, by the value of MLIR; also what is within a block that was evaluated.
    """

    def __init__(
        self,
        operation: Any,
        evaluate: Callable[[Any, Any, Sequence[Any]], list[Any]],
        functions: dict[str, Any],
        values: dict[Any, Any],
    ) -> None:
        self.raw, self.evaluate, self.functions, self.values = operation, evaluate, functions, values
        self.name: str = operation.name
        self.results = [type_of(result) for result in operation.results]
        self.shape: tuple[int, ...] = self.results[0][0] if self.results else ()
        self.dtype: np.dtype = self.results[0][1] if self.results else np.dtype(np.bool_)
        self.blocks = [region.blocks[0] for region in operation.regions]

    def attribute(self, name: str) -> Any:
        """An attribute as MLIR has it; None if it is not there."""
        attribute = self.raw.attributes.get(name, None)
        kind = next((kind for kind in _STRUCTURES if attribute and kind.isinstance(attribute)), None)
        return kind(attribute) if kind else attribute

    def number(self, name: str, default: int = 0) -> int:
        """An attribute that is a whole number."""
        attribute = self.attribute(name)
        return default if attribute is None else int(attribute.value)

    def numbers(self, name: str, default: Sequence[int] = ()) -> list[int]:
        """An attribute that is a list of whole numbers, or of truth values."""
        attribute = self.attribute(name)
        return list(default) if attribute is None else [int(one) for one in attribute]

    def array(self, name: str) -> tuple[np.ndarray, tuple[int, ...]]:
        """An attribute that is an array, and its shape; of one that has the same value everywhere, that value only."""
        return array_of(self.attribute(name))

    def pairs(self, name: str, count: int) -> list[tuple[int, int]]:
        """An attribute of two whole numbers for each of `count` axes; zeros if it is not there."""
        attribute = self.attribute(name)
        if attribute is None:
            return [(0, 0)] * count
        array, _ = self.array(name)
        low_high = np.broadcast_to(array, (count, 2)).tolist()
        return [(low, high) for low, high in low_high]

    def word(self, name: str) -> str:
        """An attribute that is one of several words."""
        return word(self.attribute(name))

    def text(self, name: str) -> str:
        """An attribute that is a string or a symbol."""
        return str(self.attribute(name).value)


def word(attribute: Any) -> str:
    """The word of an attribute that is one of several, such as the direction of a comparison: "LT"."""
    return str(attribute).removesuffix(">").split()[-1]


def combination(block: Any, index: int, count: int) -> str | None:
    """The operation with which a reducer's block makes its result `index` out of the values `index` of its two groups of `count`.

    None if the block does something else. "second" if the result is the value of the second group.
    """
    returned = list(block.operations)[-1].operands[index]
    first, second = block.arguments[index], block.arguments[index + count]
    if returned == second:
        return "second"
    made = producer(returned)
    if made is None or len(made.operands) != 2:
        return None
    left, right = made.operands
    return str(made.name) if (left, right) in ((first, second), (second, first)) else None


def producer(value: Any) -> Any:
    """The operation that a value is a result of; None for a block's argument."""
    return None if isinstance(value.owner, ir.Block) else getattr(value.owner, "operation", value.owner)


def number_of(value: Any) -> int | None:
    """The whole number that a value is known to be; None if it is another, or not known."""
    made = producer(value)
    if made is None or made.name != "stablehlo.constant":
        return None
    array, shape = array_of(made.attributes["value"])
    return int(array) if shape == () and array.dtype.kind in "iu" else None
