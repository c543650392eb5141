"""Reductions: over axes, and over windows."""

from collections.abc import Sequence
from itertools import product
from math import inf, prod
from typing import Any

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
from fairyring.runs.onnx.stablehlo import combination, producer

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
    value, _, other, _ = block.arguments
    directions = [
        str(one.attributes["comparison_direction"]).removesuffix(">").split()[-1]
        for one in block.operations
        if one.operation.name == "stablehlo.compare" and tuple(one.operands) == (value, other)
    ]
    found = next((one for one in directions if one in ("GT", "LT")), None)
    known = {"stablehlo.compare", "stablehlo.or", "stablehlo.and", "stablehlo.select", "stablehlo.return"}
    counted = (
        len(axes) == 1
        and places is not None
        and places.name == "stablehlo.iota"
        and int(places.attributes["iota_dimension"].value) == axes[0]
    )
    if found is None or not counted or not {one.operation.name for one in block.operations} <= known:
        _how(None, x.dtype)
    over, place = ("ReduceMax", "ArgMax") if found == "GT" else ("ReduceMin", "ArgMin")
    dtype = computed_in(x.dtype)
    x = graph.whole(graph.cast(x, dtype))
    (shape, own), (_, counting) = operation.results
    extreme = graph.add(over, x, graph.integers(axes), shape=shape, dtype=dtype, keepdims=0)
    at = graph.add(place, x, shape=shape, dtype=np.int64, axis=axes[0], keepdims=0)
    return [graph.cast(extreme, own), graph.cast(at, counting)]


def _reduce_window(graph: Graph, operation: Operation, *operands: Tensor) -> list[Tensor]:
    if len(operands) != 2:
        raise Untranslatable("it reduces windows of several arrays at once", "Reduce one array at a time.")
    x, start = operands
    kind = combination(operation.blocks[0], 0, 1)
    _, pair = _how(kind, x.dtype)
    assert kind is not None
    rank = len(x.shape)
    ones = [1] * rank
    window, strides, spread, dilations = (
        operation.numbers(name, ones)
        for name in ("window_dimensions", "window_strides", "base_dilations", "window_dilations")
    )
    padding = operation.pairs("padding", rank)
    nothing = graph.constant(np.array(_neutral(kind, x.dtype), x.dtype))
    neutral = _is_neutral(kind, start)
    dtype = computed_in(x.dtype)
    x, start, nothing = (graph.cast(one, dtype) for one in (x, start, nothing))
    if any(one > 1 for one in spread):
        x = graph.pad(x, [0] * rank, [0] * rank, [one - 1 for one in spread], nothing)
    whole = [axis for axis in range(rank) if window[axis] == x.shape[axis] > 1]
    running = [axis for axis in whole if set(padding[axis]) == {0, window[axis] - 1}]
    plain = all(one == 1 for one in (*strides, *dilations))
    if (
        kind == "stablehlo.add"
        and neutral
        and plain
        and len(running) == 1
        and prod(window) == window[running[0]]
    ):
        made = _running_sum(graph, x, running[0], padding[running[0]][1] > 0)
    elif kind in _POOLED and neutral and dtype.kind == "f" and _pools(window, strides, dilations, padding):
        made = _pool(graph, kind, x, operation.shape, window, strides, dilations, padding)
    else:
        made = _step_by_step(graph, pair, x, nothing, operation.shape, window, strides, dilations, padding)
        if not neutral:
            made = graph.each(pair, made, start, dtype=dtype)
    return [graph.cast(made, operation.dtype)]


_POOLED = ("stablehlo.add", "stablehlo.maximum", "stablehlo.minimum")


def _running_sum(graph: Graph, x: Tensor, axis: int, backwards: bool) -> Tensor:
    at = graph.constant(np.array(axis, np.int64))
    return graph.add("CumSum", graph.whole(x), at, shape=x.shape, dtype=x.dtype, reverse=int(backwards))


def _axes(window: list[int], strides: list[int], padding: list[tuple[int, int]]) -> list[int]:
    """Those that a window runs along."""
    sizes = zip(window, strides, padding, strict=True)
    return [axis for axis, (size, stride, ends) in enumerate(sizes) if size > 1 or stride > 1 or any(ends)]


def _pools(window: Any, strides: Any, dilations: Any, padding: Any) -> bool:
    """Whether pools of ONNX can do it: up to three axes, and less padding than window."""
    axes = _axes(window, strides, padding)
    reach = all(0 <= one < window[axis] for axis in axes for one in padding[axis])
    return 1 <= len(axes) <= 3 and reach and all(dilations[axis] == 1 for axis in axes)


def _pool(
    graph: Graph,
    kind: str,
    x: Tensor,
    shape: tuple[int, ...],
    window: list[int],
    strides: list[int],
    dilations: list[int],
    padding: list[tuple[int, int]],
) -> Tensor:
    """With the axes that a window runs along last, and the others as rows and channels."""
    axes = _axes(window, strides, padding)
    others = [axis for axis in range(len(shape)) if axis not in axes]
    order = [*others, *axes]
    x = graph.transpose(x, order)
    rows = x.shape[0] if len(others) > 1 else 1
    channels = prod(x.shape[: len(others)]) // max(rows, 1)
    x = graph.whole(graph.reshape(x, (rows, channels, *x.shape[len(others) :])))
    least = kind == "stablehlo.minimum"
    if least:
        x = graph.each("Neg", x, dtype=x.dtype)
    more = {"count_include_pad": 1} if kind == "stablehlo.add" else {}
    out = graph.add(
        "AveragePool" if kind == "stablehlo.add" else "MaxPool",
        x,
        shape=(rows, channels, *(shape[axis] for axis in axes)),
        dtype=x.dtype,
        kernel_shape=[window[axis] for axis in axes],
        strides=[strides[axis] for axis in axes],
        pads=[padding[axis][end] for end in (0, 1) for axis in axes],
        **more,
    )
    if kind == "stablehlo.add":
        out = graph.each("Mul", out, scalar(graph, prod(window), out), dtype=x.dtype)
    if least:
        out = graph.each("Neg", out, dtype=x.dtype)
    out = graph.reshape(out, [shape[axis] for axis in order])
    return graph.transpose(out, list(np.argsort(order)))


def _step_by_step(
    graph: Graph,
    pair: str,
    x: Tensor,
    nothing: Tensor,
    shape: tuple[int, ...],
    window: list[int],
    strides: list[int],
    dilations: list[int],
    padding: list[tuple[int, int]],
) -> Tensor:
    """Every place of the window is a slice of the array."""
    if prod(window) > MAX_STEPS:
        raise Untranslatable(
            f"its window has {prod(window)} places, of {x.dtype}",
            f"Use windows of at most {MAX_STEPS} places, or without dilation and of floats.",
        )
    x = graph.pad(x, [low for low, _ in padding], [high for _, high in padding], None, nothing)
    made = None
    for place in product(*map(range, window)):
        low = [one * dilation for one, dilation in zip(place, dilations, strict=True)]
        high = [at + (size - 1) * stride + 1 for at, size, stride in zip(low, shape, strides, strict=True)]
        part = graph.slice(x, low, high, strides)
        made = part if made is None else graph.each(pair, made, part, dtype=x.dtype)
    assert made is not None
    return made


OPERATORS: dict[str, Handler] = {
    "stablehlo.reduce": _reduce,
    "stablehlo.reduce_window": _reduce_window,
}
