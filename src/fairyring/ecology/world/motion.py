"""Changes of heading: a run goes nearly straight, a tumble ends in a random direction (Berg and Brown 1972)."""

from math import pi
from typing import Any

import jax.numpy as jnp

Array = Any  # jax.Array, which type checkers take for a variable

# Coefficients of the Taylor series of sin(pi x / 2) in odd powers of x; on [-1, 1] the remainder is below 1e-7.
_SERIES = (1.5707963, -0.64596410, 0.079692626, -0.0046817541, 0.00016044118, -3.5988432e-6, 5.6921729e-8)


def turned(ux: Array, uy: Array, turn: Array) -> tuple[Array, Array]:
    """Unit vectors rotated by `turn` full turns, `turn` in [-1/2, 1)."""
    c, s = _sine(turn + 0.25), _sine(turn)
    x, y = c * ux - s * uy, s * ux + c * uy
    # One step of Newton's method, so that rounding over a lifetime does not change the length.
    length = 1.5 - 0.5 * (x * x + y * y)
    return x * length, y * length


def swerve(chance: Array, turning: Array) -> Array:
    """The turn during a run, in full turns, from `chance` uniform in [0, 1). It is uniform with variance `2 turning` rad².

    The sum over a few steps is close to normal. Drawing normal numbers would cost more than the rest of a run.
    """
    return (chance - 0.5) * (jnp.sqrt(24 * turning) / (2 * pi))


def _sine(turn: Array) -> Array:
    """Sine of an angle in full turns. XLA's own sine reduces angles of any size first, at three times the cost."""
    quarter = 4 * (turn - jnp.floor(turn + 0.5))  # in [-2, 2): quarters of a turn
    x = jnp.where(quarter > 1, 2 - quarter, jnp.where(quarter < -1, -2 - quarter, quarter))
    square, total = x * x, jnp.float32(_SERIES[-1])
    for coefficient in _SERIES[-2::-1]:
        total = total * square + coefficient
    return x * total
