"""Convolutions and products with matrices.

Channels stay first and dense layers multiply from the left, as the module has them: `fairyring.lowering` finds the fast form of both.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fairyring.task.pytorch.operators.values import Handler, each

_SPACE = "DHW"


def convolution(
    x: jax.Array,
    weight: jax.Array,
    bias: jax.Array | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> jax.Array:
    """`x` `[B, in, *space]` or `[in, *space]`, `weight` `[out, in / groups, *kernel]` -> `[B, out, *space]`."""
    axes = weight.ndim - 2
    kernel, strides, dilation = weight.shape[2:], each(stride, axes), each(dilation, axes)
    if padding == "same":  # an odd element of padding comes last
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        edges = [(n // 2, n - n // 2) for n in total]
    else:
        edges = [(n, n) for n in each(0 if padding == "valid" else padding, axes)]
    return _convolve(x, weight, bias, strides, edges, [1] * axes, dilation, groups)


def transposed(
    x: jax.Array,
    weight: jax.Array,
    bias: jax.Array | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> jax.Array:
    """A transposed convolution: `weight` `[in, out / groups, *kernel]`."""
    axes = weight.ndim - 2
    kernel, dilation = weight.shape[2:], each(dilation, axes)
    # The gradient of a convolution: a convolution of the spread input with the flipped kernel.
    split = weight.reshape(groups, -1, *weight.shape[1:]).swapaxes(1, 2)
    flipped = jnp.flip(split.reshape(-1, split.shape[2], *kernel), range(2, axes + 2))
    reach = [d * (k - 1) - p for d, k, p in zip(dilation, kernel, each(padding, axes), strict=True)]
    edges = [(n, n + more) for n, more in zip(reach, each(output_padding, axes), strict=True)]
    return _convolve(x, flipped, bias, [1] * axes, edges, each(stride, axes), dilation, groups)


def _convolve(
    x: jax.Array,
    weight: jax.Array,
    bias: jax.Array | None,
    strides: list[int],
    edges: list[tuple[int, int]],
    spread: list[int],
    dilation: list[int],
    groups: int,
) -> jax.Array:
    axes = weight.ndim - 2
    alone = x.ndim == axes + 1
    space = _SPACE[-axes:]
    y = lax.conv_general_dilated(
        x[None] if alone else x,
        weight,
        strides,
        edges,
        lhs_dilation=spread,
        rhs_dilation=dilation,
        dimension_numbers=(f"NC{space}", f"OI{space}", f"NC{space}"),
        feature_group_count=groups,
    )
    if bias is not None:
        y = y + bias.reshape(-1, *[1] * axes)
    return y[0] if alone else y


def any_convolution(
    x: jax.Array,
    weight: jax.Array,
    bias: jax.Array | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
) -> jax.Array:
    """`aten.convolution`, to which decompositions lead."""
    if transposed:
        return _transposed(x, weight, bias, stride, padding, output_padding, groups, dilation)
    return convolution(x, weight, bias, stride, padding, dilation, groups)


_transposed = transposed


def linear(x: jax.Array, weight: jax.Array, bias: jax.Array | None) -> jax.Array:
    """`x @ weight.T + bias`: `[..., in]`, `[out, in]` -> `[..., out]`."""
    # One matrix of rows, and the weight first: so the engine recognises the product of a dense layer.
    rows = x.reshape(-1, x.shape[-1])
    y = lax.dot_general(weight, rows, (((1,), (1,)), ((), ()))).T.reshape(*x.shape[:-1], weight.shape[0])
    return y if bias is None else y + bias


def add_product(x: Any, one: jax.Array, other: jax.Array, beta: Any, alpha: Any) -> jax.Array:
    product = one @ other
    return (x if beta == 1 else beta * x) + (product if alpha == 1 else alpha * product)


def trilinear(
    i1: jax.Array,
    i2: jax.Array,
    i3: jax.Array,
    expand1: list[int],
    expand2: list[int],
    expand3: list[int],
    sumdim: list[int],
    unroll_dim: int,
) -> jax.Array:
    """The sum over some axes of a product of three arrays, each with axes of length 1 inserted."""
    del unroll_dim  # how it is computed
    parts = [jnp.expand_dims(x, axes) for x, axes in ((i1, expand1), (i2, expand2), (i3, expand3))]
    return (parts[0] * parts[1] * parts[2]).sum(axis=tuple(sumdim))


OPERATORS: dict[str, Handler] = {
    **dict.fromkeys(
        [f"aten.conv{n}d.{form}" for n in (1, 2, 3) for form in ("default", "padding")], convolution
    ),
    "aten.conv_transpose1d.default": transposed,
    "aten.conv_transpose2d.input": transposed,
    "aten.conv_transpose3d.input": transposed,
    "aten.convolution.default": any_convolution,
    "aten.linear.default": linear,
    "aten.matmul.default": lambda x, other: jnp.matmul(x, other),
    "aten.mm.default": lambda x, mat2: x @ mat2,
    "aten.bmm.default": lambda x, mat2: x @ mat2,
    "aten.mv.default": lambda x, vec: x @ vec,
    "aten.dot.default": lambda x, tensor: x @ tensor,
    "aten.outer.default": lambda x, vec2: jnp.outer(x, vec2),
    "aten.addmm.default": lambda x, mat1, mat2, beta, alpha: add_product(x, mat1, mat2, beta, alpha),
    "aten.baddbmm.default": lambda x, batch1, batch2, beta, alpha: add_product(
        x, batch1, batch2, beta, alpha
    ),
    # `path` is the order of the products only.
    "aten.einsum.default": lambda equation, tensors, path: jnp.einsum(equation, *tensors),
    "aten._trilinear.default": trilinear,
}
