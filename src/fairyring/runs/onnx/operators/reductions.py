"""Reductions: over axes, and over windows."""

from collections.abc import Sequence
from functools import reduce
from itertools import product
from math import inf, prod
from typing import Any, NamedTuple

import numpy as np

from fairyring.runs.onnx.operators.values import (
    Graph,
    Handler,
    Operation,
    Tensor,
    Untranslatable,
    computed_in,
    scalar,
)
from fairyring.runs.onnx.stablehlo import combination, producer, word

MAX_STEPS = 256  # places of a window that are written out one by one, where no operator of ONNX does it

# What combines two values: the reduction over axes, and the operator of two values.
_COMBINED = {
    "stablehlo.add": ("ReduceSum", "Add"),
    "stablehlo.maximum": ("ReduceMax", "Max"),
    "stablehlo.minimum": ("ReduceMin", "Min"),
    "stablehlo.multiply": ("ReduceProd", "Mul"),
    "stablehlo.and": ("ReduceMin", "Min"),
    "stablehlo.or": ("ReduceMax", "Max"),
}


def _how(kind: str | None, dtype: np.dtype) -> tuple[str, str]:
    if kind not in _COMBINED or (kind in ("stablehlo.and", "stablehlo.or") and dtype != np.bool_):
        raise Untranslatable(
            f"it combines {dtype} values by {kind or 'a function of its own'}",
            "Reduce with sum, prod, max, min, argmax, argmin, all or any.",
        )
    return _COMBINED[kind]


def _neutral(kind: str, dtype: np.dtype) -> Any:
    """The value that changes no other when it is combined with it."""
    if dtype == np.bool_:
        least, greatest = False, True
    elif dtype.kind in "iu":
        least, greatest = np.iinfo(dtype).min, np.iinfo(dtype).max
    else:
        least, greatest = -inf, inf
    return {
        "stablehlo.add": 0,
        "stablehlo.multiply": 1,
        "stablehlo.or": False,
        "stablehlo.and": True,
        "stablehlo.maximum": least,
        "stablehlo.minimum": greatest,
    }[kind]


def _is_neutral(kind: str, start: Tensor) -> bool:
    return start.value is not None and bool(np.all(start.value == _neutral(kind, start.dtype)))


def _reduce(graph: Graph, operation: Operation, *operands: Tensor) -> list[Tensor]:
    count = len(operation.results)
    axes, block = operation.numbers("dimensions"), operation.blocks[0]
    kinds = [combination(block, index, count) for index in range(count)]
    if count == 2 and kinds == [None, None]:
        return _extreme_and_place(graph, operation, operands[0])
    return [
        _reduced(graph, operands[index], operands[count + index], axes, kinds[index])
        for index in range(count)
    ]


def _reduced(graph: Graph, x: Tensor, start: Tensor, axes: Sequence[int], kind: str | None) -> Tensor:
    over, pair = _how(kind, x.dtype)
    assert kind is not None
    dtype = computed_in(x.dtype)
    shape = tuple(size for axis, size in enumerate(x.shape) if axis not in axes)
    if 0 in x.shape:
        return start._replace(shape=shape)
    out = graph.whole(graph.cast(x, dtype))
    if axes:
        out = graph.add(over, out, graph.integers(axes), shape=shape, dtype=dtype, keepdims=0)
    if not _is_neutral(kind, start):
        out = graph.each(pair, out, graph.cast(start, dtype), dtype=dtype)
    return graph.cast(out, x.dtype)


def _extreme_and_place(graph: Graph, operation: Operation, x: Tensor) -> list[Tensor]:
    """argmax and argmin, as JAX writes them: pairs of a value and its place are reduced, and the greater value stays."""
    axes, block = operation.numbers("dimensions"), operation.blocks[0]
    places = producer(operation.raw.operands[1])
    value, place, other, other_place = block.arguments
    compared = {
        tuple(one.operands): word(one.attributes["comparison_direction"])
        for one in block.operations
        if one.operation.name == "stablehlo.compare"
        and word(one.attributes["comparison_direction"]) in ("GT", "LT")
    }
    greatest = compared.get((value, other)) == "GT"
    first = (value, other) in compared and compared.get((place, other_place)) == "LT"  # of several
    known = {"stablehlo.compare", "stablehlo.or", "stablehlo.and", "stablehlo.select", "stablehlo.return"}
    counted = (
        len(axes) == 1
        and places is not None
        and places.name == "stablehlo.iota"
        and int(places.attributes["iota_dimension"].value) == axes[0]
    )
    if not first or not counted or not {one.operation.name for one in block.operations} <= known:
        _how(None, x.dtype)
    over, where = ("ReduceMax", "ArgMax") if greatest else ("ReduceMin", "ArgMin")
    dtype = computed_in(x.dtype)
    x = graph.whole(graph.cast(x, dtype))
    (shape, own), (_, counting) = operation.results
    extreme = graph.add(over, x, graph.integers(axes), shape=shape, dtype=dtype, keepdims=0)
    at = graph.add(where, x, shape=shape, dtype=np.int64, axis=axes[0], keepdims=0)
    return [graph.cast(extreme, own), graph.cast(at, counting)]


class _Window(NamedTuple):
    """A window that runs over an array, with numbers for each axis.

    Attributes:
        sizes: how many values it takes.
        strides: the distance between two places of it.
        dilations: the distance between two values that it takes.
        padding: what the array gets at the ends of each axis.
    """

    sizes: list[int]
    strides: list[int]
    dilations: list[int]
    padding: list[tuple[int, int]]

    @property
    def axes(self) -> list[int]:
        """Those that it runs along."""
        numbers = enumerate(zip(self.sizes, self.strides, self.padding, strict=True))
        return [axis for axis, (size, stride, ends) in numbers if size > 1 or stride > 1 or any(ends)]

    @property
    def pools(self) -> bool:
        """Whether pools of ONNX have it: up to three axes, and less padding than window."""
        reach = all(0 <= end < self.sizes[axis] for axis in self.axes for end in self.padding[axis])
        return 1 <= len(self.axes) <= 3 and reach and all(self.dilations[axis] == 1 for axis in self.axes)

    def running(self, shape: tuple[int, ...]) -> tuple[int, bool] | None:
        """The axis over which it gives running totals, and whether they run backwards; None if it does not."""
        if len(self.axes) != 1 or any(one != 1 for one in (*self.strides, *self.dilations)):
            return None
        (axis,) = self.axes
        size, ends = self.sizes[axis], self.padding[axis]
        whole = size == shape[axis] and sorted(ends) == [0, size - 1]
        return (axis, ends[1] > 0) if whole else None


def _reduce_window(graph: Graph, operation: Operation, *operands: Tensor) -> list[Tensor]:
    if len(operands) != 2:
        raise Untranslatable("it reduces windows of several arrays at once", "Reduce one array at a time.")
    x, start = operands
    kind = combination(operation.blocks[0], 0, 1)
    _, pair = _how(kind, x.dtype)
    assert kind is not None
    rank = len(x.shape)
    ones = [1] * rank
    sizes, strides, spread, dilations = (
        operation.numbers(name, ones)
        for name in ("window_dimensions", "window_strides", "base_dilations", "window_dilations")
    )
    window = _Window(sizes, strides, dilations, operation.pairs("padding", rank))
    nothing = graph.constant(np.array(_neutral(kind, x.dtype), x.dtype))
    neutral = _is_neutral(kind, start)
    dtype = computed_in(x.dtype)
    x, start, nothing = (graph.cast(one, dtype) for one in (x, start, nothing))
    if any(one > 1 for one in spread):
        x = graph.pad(x, [0] * rank, [0] * rank, [one - 1 for one in spread], nothing)
    running = window.running(x.shape) if kind == "stablehlo.add" else None
    if running is not None and neutral:
        axis, backwards = running
        at = graph.constant(np.array(axis, np.int64))
        made = graph.add("CumSum", graph.whole(x), at, shape=x.shape, dtype=dtype, reverse=int(backwards))
    elif kind in _POOLED and neutral and dtype.kind == "f" and window.pools:
        made = _pool(graph, kind, x, operation.shape, window)
    else:
        made = _step_by_step(graph, pair, x, nothing, operation.shape, window)
        if not neutral:
            made = graph.each(pair, made, start, dtype=dtype)
    return [graph.cast(made, operation.dtype)]


_POOLED = ("stablehlo.add", "stablehlo.maximum", "stablehlo.minimum")


def _pool(graph: Graph, kind: str, x: Tensor, shape: tuple[int, ...], window: _Window) -> Tensor:
    """With the axes that a window runs along last, and the others as rows and channels."""
    axes = window.axes
    others = [axis for axis in range(len(shape)) if axis not in axes]
    order = [*others, *axes]
    x = graph.transpose(x, order)
    rows = x.shape[0] if len(others) > 1 else 1
    channels = prod(x.shape[: len(others)]) // max(rows, 1)
    x = graph.whole(graph.reshape(x, (rows, channels, *x.shape[len(others) :])))
    if kind == "stablehlo.minimum":
        x = graph.each("Neg", x, dtype=x.dtype)
    mean = kind == "stablehlo.add"
    out = graph.add(
        "AveragePool" if mean else "MaxPool",
        x,
        shape=(rows, channels, *(shape[axis] for axis in axes)),
        dtype=x.dtype,
        kernel_shape=[window.sizes[axis] for axis in axes],
        strides=[window.strides[axis] for axis in axes],
        pads=[window.padding[axis][end] for end in (0, 1) for axis in axes],
        **({"count_include_pad": 1} if mean else {}),
    )
    if mean:
        out = graph.each("Mul", out, scalar(graph, prod(window.sizes), out), dtype=x.dtype)
    if kind == "stablehlo.minimum":
        out = graph.each("Neg", out, dtype=x.dtype)
    out = graph.reshape(out, [shape[axis] for axis in order])
    return graph.transpose(out, list(np.argsort(order)))


def _step_by_step(
    graph: Graph, pair: str, x: Tensor, nothing: Tensor, shape: tuple[int, ...], window: _Window
) -> Tensor:
    """Every place of the window is a slice of the array."""
    if prod(window.sizes) > MAX_STEPS:
        raise Untranslatable(
            f"its window has {prod(window.sizes)} places, of {x.dtype}",
            f"Use windows of at most {MAX_STEPS} places, or without dilation and of floats.",
        )
    low, high = zip(*window.padding, strict=True)
    x = graph.pad(x, low, high, None, nothing)
    parts = []
    for place in product(*map(range, window.sizes)):
        starts = [at * dilation for at, dilation in zip(place, window.dilations, strict=True)]
        spans = [(size - 1) * stride + 1 for size, stride in zip(shape, window.strides, strict=True)]
        stops = [start + span for start, span in zip(starts, spans, strict=True)]
        parts.append(graph.slice(x, starts, stops, window.strides))
    return reduce(lambda made, part: graph.each(pair, made, part, dtype=x.dtype), parts)


OPERATORS: dict[str, Handler] = {
    "stablehlo.reduce": _reduce,
    "stablehlo.reduce_window": _reduce_window,
}
