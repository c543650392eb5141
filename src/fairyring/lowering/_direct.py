"""A convolution whose gradients are matrix products.

On a CPU, XLA's forward convolution is nearly as fast as a matrix product, except for few channels. The two
convolutions that automatic differentiation derives for its gradients are not. So the gradients are explicit here: if
`u` is the k x k windows of the input, the output is `u @ w`. Then the gradient of the weight is `u.T @ g`, and that of
the input is `g @ w.T`, with the windows added up at their positions.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

DIMENSIONS = ("NHWC", "HWIO", "NHWC")
_ROWS = (((0,), (0,)), ((), ()))  # contract the rows of two matrices
_FEW = 32  # numbers in a window; so few, as for an image's colours, are multiplied and added in one pass over the output


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def direct(x: jax.Array, w: jax.Array, strides: tuple[int, ...]) -> jax.Array:
    """Cross-correlate `x` `[n, h, w, c]` with `w` `[k, k, c, o]`, no padding: `[n, h', w', o]`."""
    if w.shape[:2] == (1, 1):
        x = x[:, :: strides[0], :: strides[1]]
        return (x.reshape(-1, x.shape[3]) @ w[0, 0]).reshape(*x.shape[:3], w.shape[3])
    if math.prod(w.shape[:3]) <= _FEW:
        return _summed(x, w, strides)
    return lax.conv_general_dilated(x, w, strides, "VALID", dimension_numbers=DIMENSIONS)


def _forward(
    x: jax.Array, w: jax.Array, strides: tuple[int, ...]
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return direct(x, w, strides), (x, w)


def _backward(
    strides: tuple[int, ...], residuals: tuple[jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, w = residuals
    return input_gradient(g, w, x.shape, strides), weight_gradient(x, g, w.shape, strides)


direct.defvjp(_forward, _backward)


def _summed(x: jax.Array, w: jax.Array, strides: tuple[int, ...]) -> jax.Array:
    """The convolution as a sum of products, which XLA compiles to one loop."""
    kernel = w.shape[:2]
    out = tuple((x.shape[1 + a] - kernel[a]) // strides[a] + 1 for a in range(2))
    total: jax.Array | None = None
    for piece, tap in zip(taps(x, kernel, out, strides), w.reshape(-1, *w.shape[2:]), strict=True):
        for channel in range(w.shape[2]):
            product = piece[..., channel, None] * tap[channel]
            total = product if total is None else total + product
    assert total is not None
    return total


def _windows(
    x: jax.Array, kernel: tuple[int, ...], out: tuple[int, ...], strides: tuple[int, ...]
) -> jax.Array:
    """The windows of `x` `[n, h, w, c]`, `[n, *out, k * k * c]`: one axis at a time, to copy longer runs of memory."""

    def along(x: jax.Array, axis: int) -> jax.Array:
        last = (out[axis - 1] - 1) * strides[axis - 1] + 1
        pieces = [lax.slice_in_dim(x, i, i + last, strides[axis - 1], axis) for i in range(kernel[axis - 1])]
        return jnp.concatenate(pieces, axis=-1)

    return along(along(x, 2), 1)


def taps(
    x: jax.Array, kernel: tuple[int, ...], out: tuple[int, ...], strides: tuple[int, ...]
) -> list[jax.Array]:
    """For each tap of the kernel, row by row, the part of `x` `[n, h, w, c]` that it multiplies: `[n, *out, c]`."""
    return [
        x[
            :,
            i : i + (out[0] - 1) * strides[0] + 1 : strides[0],
            j : j + (out[1] - 1) * strides[1] + 1 : strides[1],
        ]
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]


def untap(
    pieces: list[jax.Array], shape: tuple[int, ...], kernel: tuple[int, ...], strides: tuple[int, ...]
) -> jax.Array:
    """The transpose of `taps`: add each piece at its position to zeros of `shape`."""
    out, total = pieces[0].shape[1:3], None
    for index, piece in enumerate(pieces):
        low = divmod(index, kernel[1])
        edges = [
            (low[a], shape[1 + a] - low[a] - (out[a] - 1) * strides[a] - 1, strides[a] - 1) for a in range(2)
        ]
        placed = lax.pad(piece, jnp.zeros((), piece.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
        total = placed if total is None else total + placed
    assert total is not None
    return total


def input_gradient(g: jax.Array, w: jax.Array, shape: tuple[int, ...], strides: tuple[int, ...]) -> jax.Array:
    """The gradient with respect to an input of `shape`, from the cotangent `g` of the output."""
    kernel, c, o = w.shape[:2], w.shape[2], w.shape[3]
    windows = g.reshape(-1, o) @ w.reshape(-1, o).T
    windows = windows.reshape(*g.shape[:3], -1, c)
    return untap([windows[..., t, :] for t in range(windows.shape[3])], shape, kernel, strides)


def weight_gradient(
    x: jax.Array, g: jax.Array, shape: tuple[int, ...], strides: tuple[int, ...]
) -> jax.Array:
    """The gradient with respect to weights of `shape`, from the input and the cotangent of the output."""
    c, o = shape[2:]
    flat = g.reshape(-1, o)
    if c < 8:
        windows = _windows(x, shape[:2], g.shape[1:3], strides)
        return lax.dot_general(windows.reshape(len(flat), -1), flat, _ROWS).reshape(shape)
    pieces = taps(x, shape[:2], g.shape[1:3], strides)
    # One product per tap, so that the windows, which are k * k times the input, are never written to memory.
    return jnp.stack([lax.dot_general(piece.reshape(-1, c), flat, _ROWS) for piece in pieces]).reshape(shape)
