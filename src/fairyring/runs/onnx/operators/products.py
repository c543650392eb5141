"""Products and convolutions."""

from math import prod

import numpy as np

from fairyring.runs.onnx.operators.values import (
    Graph,
    Handler,
    Operation,
    Tensor,
    Untranslatable,
    computed_in,
)


def _dot_general(graph: Graph, operation: Operation, left: Tensor, right: Tensor) -> Tensor:
    """A matrix product: `[batch, rows, inner] @ [batch, inner, columns]`."""
    numbers = operation.attribute("dot_dimension_numbers")
    batch, inner = list(numbers.lhs_batching_dimensions), list(numbers.lhs_contracting_dimensions)
    right_batch, right_inner = list(numbers.rhs_batching_dimensions), list(numbers.rhs_contracting_dimensions)
    rows = [axis for axis in range(len(left.shape)) if axis not in (*batch, *inner)]
    columns = [axis for axis in range(len(right.shape)) if axis not in (*right_batch, *right_inner)]
    if 0 in left.shape:  # a sum of nothing
        return graph.constant(np.zeros((), operation.dtype), operation.shape)
    dtype = computed_in(operation.dtype)
    # In the type of the result: a product of short numbers may be asked for in a longer type.
    left, right = graph.cast(left, dtype), graph.cast(right, dtype)
    left = graph.whole(graph.transpose(left, [*batch, *rows, *inner]))
    right = graph.whole(graph.transpose(right, [*right_batch, *right_inner, *columns]))
    many, depth = left.shape[: len(batch)], prod(left.shape[len(batch) + len(rows) :])
    if batch or len(inner) != 1 or not rows:  # else any number of axes before the last is well for MatMul
        left = graph.reshape(left, (*many, prod(left.shape[len(batch) : len(batch) + len(rows)]), depth))
    right = graph.reshape(right, (*many, depth, prod(right.shape[len(batch) + len(inner) :])))
    shape = (*left.shape[:-1], right.shape[-1])
    made = graph.add("MatMul", left, right, shape=shape, dtype=dtype)
    return graph.cast(graph.reshape(made, operation.shape), operation.dtype)


def _convolution(graph: Graph, operation: Operation, x: Tensor, kernel: Tensor) -> Tensor:
    numbers = operation.attribute("dimension_numbers")
    places = list(numbers.input_spatial_dimensions)
    count = len(places)
    if not 1 <= count <= 3:
        raise Untranslatable(f"it has {count} spatial axes", "Use one to three.")
    if operation.number("batch_group_count", 1) != 1:
        raise Untranslatable("it groups rows of the batch, as gradients of convolutions do")
    dtype = computed_in(operation.dtype)
    if dtype.kind != "f":
        raise Untranslatable(f"it is a convolution of {operation.dtype}", "Convert to float32 before it.")
    ones = [1] * count
    strides, spread, dilations = (
        operation.numbers(name, ones) for name in ("window_strides", "lhs_dilation", "rhs_dilation")
    )
    x = graph.cast(x, dtype)
    x = graph.transpose(x, [numbers.input_batch_dimension, numbers.input_feature_dimension, *places])
    kernel = graph.cast(kernel, dtype)
    kernel = graph.transpose(
        kernel,
        [
            numbers.kernel_output_feature_dimension,
            numbers.kernel_input_feature_dimension,
            *numbers.kernel_spatial_dimensions,
        ],
    )
    turned = [axis + 2 for axis, one in enumerate(operation.numbers("window_reversal", [0] * count)) if one]
    kernel = graph.whole(graph.reverse(kernel, turned))
    padding = operation.pairs("padding", count)
    before = [(0, 0)] * count
    if any(end < 0 for pair in padding for end in pair):  # Conv adds only
        before, padding = padding, before
    low, high = ([0, 0, *(pair[end] for pair in before)] for end in (0, 1))
    x = graph.whole(graph.pad(x, low, high, [0, 0, *(one - 1 for one in spread)]))
    order = [
        numbers.output_batch_dimension,
        numbers.output_feature_dimension,
        *numbers.output_spatial_dimensions,
    ]
    made = graph.add(
        "Conv",
        x,
        kernel,
        shape=tuple(operation.shape[axis] for axis in order),
        dtype=dtype,
        kernel_shape=list(kernel.shape[2:]),
        strides=strides,
        dilations=dilations,
        pads=[pair[end] for end in (0, 1) for pair in padding],
        group=operation.number("feature_group_count", 1),
    )
    return graph.cast(graph.transpose(made, list(np.argsort(order))), operation.dtype)


OPERATORS: dict[str, Handler] = {
    "stablehlo.dot_general": _dot_general,
    "stablehlo.convolution": _convolution,
}
