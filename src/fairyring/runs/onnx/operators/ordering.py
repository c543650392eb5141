"""Sorting, and the greatest values."""

from typing import Any

import numpy as np

from fairyring.runs.onnx.operators.values import (
    Graph,
    Handler,
    Operation,
    Tensor,
    Untranslatable,
    computed_in,
)
from fairyring.runs.onnx.stablehlo import producer, word


def _top(graph: Graph, x: Tensor, count: int, axis: int, largest: bool) -> list[Tensor]:
    """The first values in order, and their places; of equals the one that stands first."""
    x = graph.whole(graph.cast(x, computed_in(x.dtype)))
    shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
    return graph.add_many(
        "TopK",
        x,
        graph.integers([count]),
        results=[(shape, x.dtype), (shape, np.dtype(np.int64))],
        axis=axis,
        largest=int(largest),
        sorted=1,
    )


def _top_k(graph: Graph, operation: Operation, x: Tensor) -> list[Tensor]:
    values, places = _top(graph, x, operation.number("k"), len(x.shape) - 1, True)
    return [graph.cast(values, x.dtype), graph.cast(places, operation.results[1][1])]


def _key_of(value: Any) -> int | None:
    """The number of the argument that a compared value is; JAX takes care of -0 and NaN on the way, by selecting."""
    made = producer(value)
    if made is None:
        return int(value.arg_number)
    return _key_of(made.operands[2]) if made.name == "stablehlo.select" else None


def _keys(value: Any) -> list[tuple[int, bool]]:
    """The operands by which a comparator sorts, the first first, and whether each is sorted downwards.

    Several keys are compared as `a < b, or a = b and the next keys`.
    """
    made = producer(value)
    if made is not None and made.name == "stablehlo.or":
        first, rest = made.operands
        later = producer(rest)
        if later is not None and later.name == "stablehlo.and":
            return [*_keys(first), *_keys(later.operands[1])]
    elif made is not None and made.name == "stablehlo.compare":
        direction = word(made.attributes["comparison_direction"])
        left, right = map(_key_of, made.operands)
        if direction in ("LT", "GT") and left is not None and right == left + 1 and left % 2 == 0:
            return [(left // 2, direction == "GT")]
    raise Untranslatable("it sorts by a function of its own", "Sort by the values themselves.")


def _sort(graph: Graph, operation: Operation, *operands: Tensor) -> list[Tensor]:
    """A stable sort by each key, the last first."""
    axis = operation.number("dimension") % len(operation.shape)
    keys = _keys(list(operation.blocks[0].operations)[-1].operands[0])
    order = None
    for key, downwards in reversed(keys):
        x = operands[key]
        if order is not None:
            x = _taken(graph, x, order, axis)
        values, places = _top(graph, x, operation.shape[axis], axis, downwards)
        if len(keys) == len(operands) == 1:
            return [graph.cast(values, operation.dtype)]
        order = places if order is None else _taken(graph, order, places, axis)
    assert order is not None
    return [_taken(graph, x, order, axis) for x in operands]


def _taken(graph: Graph, x: Tensor, order: Tensor, axis: int) -> Tensor:
    return graph.add("GatherElements", graph.whole(x), order, shape=x.shape, dtype=x.dtype, axis=axis)


OPERATORS: dict[str, Handler] = {
    "chlo.top_k": _top_k,
    "stablehlo.sort": _sort,
}
