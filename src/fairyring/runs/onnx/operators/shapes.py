"""Operations that move values about."""

import numpy as np

from fairyring.runs.onnx.operators.values import Graph, Handler, Operation, Tensor


def _stripped(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Without the ones that it begins with: broadcasting adds them."""
    ones = next((axis for axis, size in enumerate(shape) if size != 1), len(shape))
    return shape[ones:]


def _broadcast_in_dim(graph: Graph, operation: Operation, x: Tensor) -> Tensor:
    places = operation.numbers("broadcast_dimensions")
    order = sorted(range(len(places)), key=places.__getitem__)
    x = graph.transpose(x, order)
    held = [1] * len(operation.shape)
    own = (1,) * (len(places) - len(x.held)) + x.held
    for axis, size in zip(order, own, strict=True):
        held[places[axis]] = size
    wanted = _stripped(tuple(held))
    if _stripped(x.held) != wanted or len(x.held) > len(held):
        x = graph.held_as(x, wanted)
    return x._replace(shape=operation.shape)


def _reshape(graph: Graph, operation: Operation, x: Tensor) -> Tensor:
    return graph.reshape(x, operation.shape)


def _transpose(graph: Graph, operation: Operation, x: Tensor) -> Tensor:
    return graph.transpose(x, operation.numbers("permutation"))


def _concatenate(graph: Graph, operation: Operation, *operands: Tensor) -> Tensor:
    whole = [graph.whole(x) for x in operands if 0 not in x.shape]
    if len(whole) == 1:
        return whole[0]
    axis = operation.number("dimension")
    return graph.add("Concat", *whole, shape=operation.shape, dtype=operation.dtype, axis=axis)


def _slice(graph: Graph, operation: Operation, x: Tensor) -> Tensor:
    starts, stops, steps = (operation.numbers(name) for name in ("start_indices", "limit_indices", "strides"))
    return graph.slice(x, starts, stops, steps)


def _pad(graph: Graph, operation: Operation, x: Tensor, value: Tensor) -> Tensor:
    low, high, interior = (
        operation.numbers(name) for name in ("edge_padding_low", "edge_padding_high", "interior_padding")
    )
    return graph.pad(x, low, high, interior, value)


def _reverse(graph: Graph, operation: Operation, x: Tensor) -> Tensor:
    return graph.reverse(x, [axis for axis in operation.numbers("dimensions") if x.shape[axis] > 1])


def starts_of(graph: Graph, starts: tuple[Tensor, ...], limits: list[int]) -> list[Tensor]:
    """Where a part begins on each axis, `[1]`, moved so that it lies within: at most at `limits`."""
    found = []
    for start, limit in zip(starts, limits, strict=True):
        if start.value is not None or limit == 0:
            place = 0 if start.value is None else int(np.clip(start.value, 0, limit))
            found.append(graph.integers([place]))
            continue
        start = graph.reshape(graph.cast(start, np.int64), (1,))
        start = graph.each("Max", start, graph.integers([0]), dtype=np.int64)
        found.append(graph.each("Min", start, graph.integers([limit]), dtype=np.int64))
    return found


def _dynamic_slice(graph: Graph, operation: Operation, x: Tensor, *starts: Tensor) -> Tensor:
    sizes = operation.shape
    places = starts_of(graph, starts, [have - size for have, size in zip(x.shape, sizes, strict=True)])
    for axis, (place, size) in enumerate(zip(places, sizes, strict=True)):
        shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
        if shape == x.shape:
            continue
        if place.value is not None:
            low, high = [0] * len(shape), list(x.shape)
            low[axis], high[axis] = int(place.value[0]), int(place.value[0]) + size
            x = graph.slice(x, low, high)
            continue
        rows = graph.each("Add", place, graph.integers(range(size)), dtype=np.int64) if size > 1 else place
        x = graph.add("Gather", graph.whole(x), rows, shape=shape, dtype=x.dtype, axis=axis)
    return x


OPERATORS: dict[str, Handler] = {
    "stablehlo.broadcast_in_dim": _broadcast_in_dim,
    "stablehlo.reshape": _reshape,
    "stablehlo.transpose": _transpose,
    "stablehlo.concatenate": _concatenate,
    "stablehlo.slice": _slice,
    "stablehlo.pad": _pad,
    "stablehlo.reverse": _reverse,
    "stablehlo.dynamic_slice": _dynamic_slice,
}
