"""Rounding bounds to a few digits so that they stay bounds."""

import math
from decimal import ROUND_CEILING, Context, Decimal


def at_most(value: float, digits: int = 4) -> str:
    """`value` rounded up to `digits` significant digits, so that an upper bound stays an upper bound."""
    if not math.isfinite(value):
        return f"{value}"
    return f"{Context(prec=digits, rounding=ROUND_CEILING).create_decimal(Decimal(repr(float(value)))).normalize():f}"
