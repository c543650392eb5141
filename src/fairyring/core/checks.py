"""Checks of plain arguments, the same wherever one is given."""

from typing import Any

import numpy as np

from fairyring.core.errors import FairyringError, PlanError


def whole_number(
    what: str,
    value: Any,
    *,
    least: int = 1,
    most: int | None = None,
    do: str = "",
    error: type[FairyringError] = PlanError,
) -> int:
    """`value` as an int; NumPy's whole numbers are such, booleans are not.

    Args:
        what: what it is, for the error.
        value: as it was given.
        least, most: the range.
        do: what the user can do, for the error.
        error: the kind of the error.

    Raises:
        PlanError, or what `error` is: it is not a whole number in the range.
    """
    is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_whole or value < least or (most is not None and value > most):
        raise error(
            what,
            given=repr(value)[:80],
            expected=f"a whole number >= {least}"
            if most is None
            else f"a whole number from {least} to {most}",
            do=do or f"Set {what.rpartition(' ')[2]}={max(least, 1)} or more.",
        )
    return int(value)


def number_in(what: str, value: Any, low: float, high: float, *, expected: str, do: str) -> float:
    """`value` as a float with `low <= value < high`.

    Args:
        what: what it is, for the error.
        value: as it was given.
        low, high: the range.
        expected, do: for the error.

    Raises:
        PlanError: it is not a number in the range.
    """
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not is_number or not low <= float(value) < high:
        raise PlanError(what, given=repr(value)[:80], expected=expected, do=do)
    return float(value)


def callable_or_none(what: str, value: Any, *, expected: str) -> None:
    """Raise `PlanError` unless `value` is None or can be called."""
    if value is not None and not callable(value):
        raise PlanError(
            what, given=repr(value)[:80], expected=expected, do="Give a function, or leave it out."
        )


def is_number(text: str) -> bool:
    """Whether text is a number, as Python reads it."""
    try:
        float(text)
    except ValueError:
        return False
    return True
