"""Bounds in few digits: rounded so that they still hold."""

import math
from decimal import ROUND_CEILING, Context, Decimal


def at_most(value: float, digits: int = 4) -> str:
    """A number in so many significant digits that is not below `value`, as that is written in full: an upper bound stays one."""
    if not math.isfinite(value):
        return f"{value}"
    return f"{Context(prec=digits, rounding=ROUND_CEILING).create_decimal(Decimal(repr(float(value)))).normalize():f}"
