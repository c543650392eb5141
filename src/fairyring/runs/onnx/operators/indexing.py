"""Reading and writing where an array of indices says."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fairyring.runs.onnx.operators.shapes import starts_of
from fairyring.runs.onnx.operators.values import (
    Graph,
    Handler,
    Operation,
    Tensor,
    Untranslatable,
    computed_in,
)
from fairyring.runs.onnx.stablehlo import combination


def _gather(graph: Graph, operation: Operation, x: Tensor, indices: Tensor) -> Tensor:
    """Slices of `x`: each begins where a row of indices says, moved so that it lies within."""
    numbers, sizes = operation.attribute("dimension_numbers"), operation.numbers("slice_sizes")
    named, offsets = list(numbers.start_index_map), list(numbers.offset_dims)
    batching = list(numbers.operand_batching_dims)
    dropped = {*numbers.collapsed_slice_dims, *batching}
    starts = _rows(graph, indices, numbers.index_vector_dim)
    limits = [x.shape[axis] - sizes[axis] for axis in named]
    starts = graph.each("Max", starts, graph.integers([0]), dtype=np.int64)
    starts = graph.whole(graph.each("Min", starts, graph.integers(limits), dtype=np.int64))
    batch = starts.shape[:-1]
    indexed = sorted({*named, *batching})
    rest = [axis for axis in range(len(x.shape)) if axis not in indexed]
    # An axis without a start begins at zero.
    x = graph.slice(x, [0] * len(sizes), [sizes[a] if a in rest else x.shape[a] for a in range(len(sizes))])
    windows = [axis for axis in indexed if sizes[axis] > 1]
    of_batch = [("batch", number) for number in range(len(batch))]
    sources: list[Any] = [*of_batch, *windows, *rest]
    if not indexed:  # the same slice again and again
        x = graph.whole(x)
        out = x._replace(shape=(*batch, *x.shape))
    elif len(indexed) == 1 and not windows and not batching:
        (axis,) = indexed
        places = graph.reshape(starts, batch)
        shape = (*x.shape[:axis], *batch, *x.shape[axis + 1 :])
        out = graph.add("Gather", graph.whole(x), places, shape=shape, dtype=x.dtype, axis=axis)
        before = [one for one in rest if one < axis]
        sources = [*before, *of_batch, *rest[len(before) :]]
    else:
        pairs = list(zip(batching, numbers.start_indices_batching_dims, strict=True))
        columns = _columns(graph, starts, named, pairs, numbers.index_vector_dim, indexed)
        grid = _with_windows(graph, columns, indexed, windows, sizes)
        moved = graph.whole(graph.transpose(x, [*indexed, *rest]))
        shape = (*grid.shape[:-1], *(x.shape[axis] for axis in rest))
        out = graph.add("GatherND", moved, grid, shape=shape, dtype=x.dtype)
    # The axes of the result: those of the batch where no offset is, and of the slices in their order.
    slices, rows = iter([axis for axis in range(len(sizes)) if axis not in dropped]), iter(of_batch)
    wanted = [next(slices) if axis in offsets else next(rows) for axis in range(len(operation.shape))]
    # What is not there has one place, as what is left over has.
    order = [sources.index(one) for one in [*wanted, *(set(sources) - set(wanted))] if one in sources]
    return graph.reshape(graph.transpose(out, order), operation.shape)


def _rows(graph: Graph, indices: Tensor, axis: int) -> Tensor:
    """Indices in int64 with the axis of a position last, `[..., axes]`."""
    indices = graph.cast(indices, np.int64)
    if axis == len(indices.shape):
        return graph.reshape(indices, (*indices.shape, 1))
    others = [one for one in range(len(indices.shape)) if one != axis]
    return graph.transpose(indices, [*others, axis])


def _columns(
    graph: Graph,
    starts: Tensor,
    named: Sequence[int],
    batching: Sequence[tuple[int, int]],
    vector: int,
    indexed: Sequence[int],
) -> Tensor:
    """Starts with a column for each indexed axis in its order, `[batch, axes]`.

    Args:
        graph: to write to.
        starts: `[batch, named]`.
        named: the axis of each column.
        batching: axes of the array that run along with one of the indices' axes.
        vector: the axis of the indices that had the columns.
        indexed: the axes for which a column is wanted.
    """
    if list(named) == list(indexed):
        return starts
    batch, parts = starts.shape[:-1], []
    along = dict(batching)
    for axis in indexed:
        if axis in along:
            place = along[axis] - (along[axis] > vector)
            held = (batch[place], *(1,) * (len(batch) - place))
            parts.append(graph.whole(graph.constant(np.arange(batch[place]).reshape(held), (*batch, 1))))
        elif axis in named:
            low, high = [0] * len(starts.shape), list(starts.shape)
            low[-1] = list(named).index(axis)
            high[-1] = low[-1] + 1
            parts.append(graph.whole(graph.slice(starts, low, high)))
        else:
            parts.append(graph.whole(graph.constant(np.zeros((), np.int64), (*batch, 1))))
    if len(parts) == 1:
        return parts[0]
    return graph.add("Concat", *parts, shape=(*batch, len(indexed)), dtype=np.int64, axis=-1)


def _with_windows(
    graph: Graph, columns: Tensor, indexed: Sequence[int], windows: Sequence[int], sizes: Sequence[int]
) -> Tensor:
    """The positions of all places of a slice: `[batch, axes]` to `[batch, windows, axes]`."""
    if not windows:
        return graph.whole(columns)
    extents = [sizes[axis] for axis in windows]
    steps = np.zeros((*extents, len(indexed)), np.int64)
    for number, axis in enumerate(windows):
        along = np.arange(sizes[axis]).reshape((-1, *(1,) * (len(windows) - number - 1)))
        steps[..., list(indexed).index(axis)] = along
    batch = columns.shape[:-1]
    spread = graph.reshape(columns, (*batch, *(1,) * len(windows), len(indexed)))
    return graph.whole(graph.each("Add", spread, graph.constant(steps), dtype=np.int64))


def _scatter(graph: Graph, operation: Operation, *operands: Tensor) -> Tensor:
    """Updates written or added into `x`; those of a window that does not lie within it are dropped."""
    if len(operands) != 3:
        raise Untranslatable("it writes to several arrays at once", "Write to one array at a time.")
    x, indices, updates = operands
    numbers = operation.attribute("scatter_dimension_numbers")
    named, batching = list(numbers.scattered_dims_to_operand_dims), list(numbers.input_batching_dims)
    inserted = {*numbers.inserted_window_dims, *batching}
    kept = [axis for axis in range(len(x.shape)) if axis not in inserted]
    sizes = [1] * len(x.shape)
    for axis, place in zip(kept, numbers.update_window_dims, strict=True):
        sizes[axis] = updates.shape[place]
    partial = [axis for axis in kept if sizes[axis] < x.shape[axis]]
    indexed = sorted({*named, *inserted, *partial}) or [0][: len(x.shape)]
    if not indexed:
        raise Untranslatable("it writes to a number", "Write to an array.")
    windows = [axis for axis in indexed if sizes[axis] > 1]
    rest = [axis for axis in range(len(x.shape)) if axis not in indexed]
    starts = _rows(graph, indices, numbers.index_vector_dim)
    limits = [x.shape[axis] - sizes[axis] for axis in named]
    pairs = list(zip(batching, numbers.scatter_indices_batching_dims, strict=True))
    columns = _columns(graph, starts, named, pairs, numbers.index_vector_dim, indexed)
    grid = _with_windows(graph, columns, indexed, windows, sizes)
    if named:
        grid = _outside_apart(graph, grid, starts, limits, x.shape[indexed[0]])
    kind = combination(operation.blocks[0], 0, 1)
    reduction = _REDUCTIONS.get(kind or "")
    if reduction is None or (x.dtype == np.bool_ and reduction != "none"):
        raise Untranslatable(
            f"it combines {x.dtype} values by {kind or 'a function of its own'}",
            "Use .at[...] with set, add, multiply, max or min.",
        )
    dtype = x.dtype if reduction == "none" else computed_in(x.dtype)
    order = [*indexed, *rest]
    ends = [1 if number == 0 else 0 for number in range(len(order))]
    into = graph.transpose(graph.cast(x, dtype), order)
    into = graph.pad(graph.whole(into), [0] * len(order), ends)
    # Updates: the batch, the windows over indexed axes, and whole axes.
    window_places = dict(zip(kept, numbers.update_window_dims, strict=True))
    of_batch = [one for one in range(len(updates.shape)) if one not in numbers.update_window_dims]
    flat = [window_places[axis] for axis in indexed if axis in window_places and axis not in windows]
    new = graph.transpose(
        graph.cast(updates, dtype), [*of_batch, *(window_places[axis] for axis in (*windows, *rest)), *flat]
    )
    new = graph.whole(graph.reshape(new, (*grid.shape[:-1], *(x.shape[axis] for axis in rest))))
    made = graph.add("ScatterND", into, grid, new, shape=into.shape, dtype=dtype, reduction=reduction)
    made = graph.slice(made, [0] * len(order), [x.shape[axis] for axis in order])
    return graph.cast(graph.transpose(made, list(np.argsort(order))), operation.dtype)


def _outside_apart(graph: Graph, grid: Tensor, starts: Tensor, limits: list[int], row: int) -> Tensor:
    """Positions where those of a window that is not within are in a row that is cut off in the end."""
    low = graph.each("GreaterOrEqual", starts, graph.integers([0]), dtype=np.bool_)
    high = graph.each("LessOrEqual", starts, graph.integers(limits), dtype=np.bool_)
    within = graph.whole(graph.cast(graph.each("And", low, high, dtype=np.bool_), np.int32))
    batch, axes = starts.shape[:-1], grid.shape[-1]
    last = graph.integers([-1])
    every = graph.add("ReduceMin", within, last, shape=(*batch, 1), dtype=np.int32, keepdims=1)
    ones = (1,) * (len(grid.shape) - len(batch) - 1)
    every = graph.reshape(graph.cast(every, np.bool_), (*batch, *ones, 1))
    outside = graph.integers([row] + [0] * (axes - 1))
    return graph.whole(graph.each("Where", every, grid, outside, dtype=np.int64))


_REDUCTIONS = {
    "second": "none",
    "stablehlo.add": "add",
    "stablehlo.multiply": "mul",
    "stablehlo.maximum": "max",
    "stablehlo.minimum": "min",
}


def _dynamic_update_slice(
    graph: Graph, operation: Operation, x: Tensor, update: Tensor, *starts: Tensor
) -> Tensor:
    partial = [axis for axis in range(len(x.shape)) if update.shape[axis] < x.shape[axis]]
    if not partial:
        return update
    limits = [have - size for have, size in zip(x.shape, update.shape, strict=True)]
    places = starts_of(graph, starts, limits)
    columns = [places[axis] for axis in partial]
    if len(columns) > 1:
        row = graph.add("Concat", *columns, shape=(len(columns),), dtype=np.int64, axis=0)
    else:
        (row,) = columns
    rest = [axis for axis in range(len(x.shape)) if axis not in partial]
    steps = np.stack(np.meshgrid(*(np.arange(update.shape[axis]) for axis in partial), indexing="ij"), -1)
    grid = graph.whole(graph.each("Add", row, graph.constant(steps), dtype=np.int64))
    order = [*partial, *rest]
    into, new = (graph.whole(graph.transpose(one, order)) for one in (x, update))
    made = graph.add("ScatterND", into, grid, new, shape=into.shape, dtype=x.dtype)
    return graph.transpose(made, list(np.argsort(order)))


OPERATORS: dict[str, Handler] = {
    "stablehlo.gather": _gather,
    "stablehlo.scatter": _scatter,
    "stablehlo.dynamic_update_slice": _dynamic_update_slice,
}
