"""Winograd's minimal filtering for 3x3 convolutions of stride 1: fewer multiplications, as matrix products.

F(m, 3) computes an m x m tile of outputs from an (m + 2) x (m + 2) tile of inputs with (m + 2)^2 products per pair of
channels. The direct form needs 9 m^2, which is 2.25 times as many for m = 2, and 4 times as many for m = 4. With the
tiles of the input as columns of a matrix, each of the three transforms is one product with a small constant matrix.
Between them are (m + 2)^2 products of [tiles, channels] with [channels, channels].

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016 (arXiv:1509.09308).
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fairyring.lowering._blocks import in_blocks


class _Transforms(NamedTuple):
    """The transforms of flattened tiles, with a = m + 2: input `[a^2, a^2]`, weights `[a^2, 9]`, output `[m^2, a^2]`."""

    input: Any
    weight: Any
    output: Any


_MATRICES = {
    2: (
        [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]],
        [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
        [[1, 1, 1, 0], [0, 1, -1, -1]],
    ),
    4: (
        [
            [4, 0, -5, 0, 1, 0],
            [0, -4, -4, 1, 1, 0],
            [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0],
            [0, 2, -1, -2, 1, 0],
            [0, 4, 0, -5, 0, 1],
        ],
        [
            [1 / 4, 0, 0],
            [-1 / 6, -1 / 6, -1 / 6],
            [-1 / 6, 1 / 6, -1 / 6],
            [1 / 24, 1 / 12, 1 / 6],
            [1 / 24, -1 / 12, 1 / 6],
            [0, 0, 1],
        ],
        [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    ),
}


@cache
def _transforms(m: int) -> _Transforms:
    one_axis = (np.array(matrix, np.float64) for matrix in _MATRICES[m])
    return _Transforms(*(np.kron(matrix, matrix).astype(np.float32) for matrix in one_axis))


def winograd(x: jax.Array, w: jax.Array, m: int) -> jax.Array:
    """Cross-correlate `x` `[n, h, w, c]` with `w` `[3, 3, c, o]`, stride 1, no padding: `[n, h - 2, w - 2, o]`.

    Args:
        m: side of an output tile, 2 or 4. Relative error in float32 is about 1e-6 for 2 and 1e-5 for 4.
    """
    h, v = x.shape[1] - 2, x.shape[2] - 2
    p, q = -(-h // m), -(-v // m)
    x = jnp.pad(x, ((0, 0), (0, (p + 1) * m - h - 2), (0, (q + 1) * m - v - 2), (0, 0)))
    y: Any = in_blocks(x, w, _Tiles(m))
    return y[:, :h, :v]


@dataclass(frozen=True)
class _Tiles:
    """F(m, 3) of an input `[n, (p + 1) * m, (q + 1) * m, c]` to an output `[n, p * m, q * m, o]`."""

    m: int

    def prepare(self, w: jax.Array) -> jax.Array:
        return (_transforms(self.m).weight @ w.reshape(9, -1)).reshape(-1, *w.shape[2:])

    def finish(self, filters: jax.Array) -> jax.Array:
        return (_transforms(self.m).weight.T @ filters.reshape(len(filters), -1)).reshape(
            3, 3, *filters.shape[1:]
        )

    def forward(self, x: jax.Array, filters: jax.Array) -> tuple[jax.Array, jax.Array]:
        m, t = self.m, _transforms(self.m)
        n, h, v, c = x.shape
        tiles = (t.input @ _cut(x, m)).reshape(len(filters), -1, c)
        products = jnp.einsum("atc,aco->ato", tiles, filters)
        y = t.output @ products.reshape(len(filters), -1)
        return _untile(y.reshape(m, m, n, h // m - 1, v // m - 1, -1)), tiles

    def backward(
        self, tiles: jax.Array, filters: jax.Array, g: jax.Array, shape: tuple[int, ...]
    ) -> tuple[jax.Array, jax.Array]:
        m, t = self.m, _transforms(self.m)
        n, h, v, o = g.shape
        products = (t.output.T @ _tile(g, m)).reshape(len(filters), -1, o)
        df = jnp.einsum("atc,ato->aco", tiles, products)
        dtiles = jnp.einsum("ato,aco->atc", products, filters)
        dx = t.input.T @ dtiles.reshape(len(filters), -1)
        return _uncut(dx.reshape(m + 2, m + 2, n, h // m, v // m, -1), m), df

    def example_bytes(self, x: jax.Array, w: jax.Array) -> int:
        tiles = (x.shape[1] // self.m - 1) * (x.shape[2] // self.m - 1)
        return 4 * (self.m + 2) ** 2 * tiles * (w.shape[2] + w.shape[3])


# The way tiles are copied determines the speed. XLA's CPU backend compiles one transpose, or (m + 2)^2 strided slices,
# to slow loops, and to slower ones if it fuses them with another operation. It does not fuse across a concatenation,
# so each copy is made by two stacks of long runs of memory, one axis of tiles at a time.


def _untile(y: Any) -> jax.Array:
    """Tiles `[m, m, n, p, q, o]`, joined: `[n, p * m, q * m, o]`."""
    m, _, n, p, q, o = y.shape
    halves = [half.transpose(2, 3, 0, 4, 1, 5) for half in (y[:, :, : n // 2], y[:, :, n // 2 :])]
    return jnp.concatenate(halves).reshape(n, p * m, q * m, o)


def _tile(y: jax.Array, m: int) -> jax.Array:
    """The m x m tiles of `y` `[n, p * m, q * m, o]` as columns: `[m^2, n * p * q * o]`."""
    n, h, v, o = y.shape
    blocks = y.reshape(n * h // m, m, v * o)
    rows = jnp.stack([blocks[:, i] for i in range(m)]).reshape(m, n * h // m * (v // m), m * o)
    places = [rows[:, :, j * o : (j + 1) * o] for j in range(m)]
    return jnp.stack(places, axis=1).reshape(m * m, -1)


def _cut(x: jax.Array, m: int) -> jax.Array:
    """The overlapping (m + 2) x (m + 2) tiles of `x` `[n, (p + 1) * m, (q + 1) * m, c]` as columns.

    The last m - 2 rows and columns of `x` are in no tile. Returns `[(m + 2)^2, n * p * q * c]`.
    """
    n, h, v, c = x.shape
    p, q = h // m - 1, v // m - 1
    blocks = x.reshape(n, p + 1, m, v * c)
    rows = jnp.stack([blocks[:, i // m : i // m + p, i % m] for i in range(m + 2)])
    rows = rows.reshape(m + 2, n, p, v, c)
    places = [rows[:, :, :, j : j + (q - 1) * m + 1 : m] for j in range(m + 2)]
    return jnp.stack(places, axis=1).reshape((m + 2) ** 2, -1)


def _uncut(d: Any, m: int) -> jax.Array:
    """The transpose of `_cut`: the sum of overlapping tiles `[m + 2, m + 2, n, p, q, c]`."""
    d = _overlap(_overlap(d, 0, 3, m), 1, 4, m)  # [m, m, n, p + 1, q + 1, c]
    n, p, q, c = d.shape[2:]
    return d.transpose(2, 3, 0, 4, 1, 5).reshape(n, p * m, q * m, c)


def _overlap(d: jax.Array, inside: int, along: int, m: int) -> jax.Array:
    """Add the last two positions of each tile to the first two of the next, along one axis of tiles."""
    own = lax.slice_in_dim(d, 0, m, axis=inside)
    over = lax.slice_in_dim(d, m, m + 2, axis=inside)
    zero = jnp.zeros((), d.dtype)
    own_pad, over_pad = [(0, 0, 0)] * d.ndim, [(0, 0, 0)] * d.ndim
    own_pad[along], over_pad[along], over_pad[inside] = (0, 1, 0), (1, 0, 0), (0, m - 2, 0)
    return lax.pad(own, zero, own_pad) + lax.pad(over, zero, over_pad)
