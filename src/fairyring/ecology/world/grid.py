"""Concentrations on a torus of cells: diffusion, sources, and the concentration at a point.

Cell `[i, j]` covers x in [i, i + 1) and y in [j, j + 1).
"""

from typing import Any

import jax
import jax.numpy as jnp

Array = Any  # jax.Array, which type checkers take for a variable


def spread(field: Array, decay: Array, diffusion: Array) -> Array:
    """A step of decay and of diffusion to the four neighbours: `X (1 - k - 4 D) + D * sum of neighbours`.

    Diffusion conserves the total, so it falls by the decay alone. A point spreads with variance 2 D a step along each axis.
    """
    wide = jnp.concatenate([field[-1:], field, field[:1]])
    wide = jnp.concatenate([wide[:, -1:], wide, wide[:, :1]], 1)
    wide = jax.lax.optimization_barrier(wide)
    around = wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:]
    return wide[1:-1, 1:-1] * (1 - decay - 4 * diffusion) + diffusion * around


def influx(places: Array, total: Array, width: float, cells: int) -> Array:
    """The influx of a step, `[cells, cells]`: each source gives an equal share of `total`, as a Gaussian about its place.

    Args:
        places: of the sources, `[sources, 2]`.
        total: influx of all sources together.
        width: standard deviation of the Gaussian, in cells.
        cells: side of the torus.
    """
    centres = jnp.arange(cells, dtype=jnp.float32)[:, None] + 0.5

    def bells(at: Array) -> Array:
        away = jnp.abs(centres - at)  # [cells, sources]
        away = jnp.minimum(away, cells - away)
        bell = jnp.exp(-0.5 * (away / width) ** 2)
        return bell / bell.sum(0)  # sums to one, so the discretisation loses nothing

    one, other = jax.lax.optimization_barrier((bells(places[:, 0]), bells(places[:, 1]).T))
    return (total / places.shape[0]) * (one @ other)


def felt(field: Array, x: Array, y: Array) -> Array:
    """The concentration at points, interpolated bilinearly between the centres of the four nearest cells.

    By the nearest cell alone, a bacterium would sense steps where it crosses cells, and no change within one.
    """
    cells = field.shape[0]
    flat = field.reshape(-1)
    u, v = x - 0.5, y - 0.5
    left, low = jnp.floor(u), jnp.floor(v)
    a, b = u - left, v - low
    i, j = left.astype(jnp.int32), low.astype(jnp.int32)
    i0, j0 = jnp.where(i < 0, cells - 1, i), jnp.where(j < 0, cells - 1, j)
    i1, j1 = jnp.where(i + 1 == cells, 0, i + 1), jnp.where(j + 1 == cells, 0, j + 1)

    def at(i, j):
        return flat.at[i * cells + j].get(mode="promise_in_bounds")

    near = at(i0, j0) * (1 - b) + at(i0, j1) * b
    far = at(i1, j0) * (1 - b) + at(i1, j1) * b
    return near * (1 - a) + far * a


def cell(x: Array, y: Array, cells: int) -> Array:
    """Index of the cell of each point, int32, row by row."""
    return x.astype(jnp.int32) * cells + y.astype(jnp.int32)


def wrapped(x: Array, cells: int) -> Array:
    """Coordinates that left the torus by less than its width, wrapped to [0, cells)."""
    x = x - cells * jnp.floor(x * (1.0 / cells))
    # In float32 -1e-9 + 128 is 128, and 13.999999 / 14 is 1.
    return jnp.where((x >= cells) | (x < 0), 0.0, x)
