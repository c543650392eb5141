"""Means over runs in words."""

import math

from fairyring.records import units
from fairyring.statistics import Interval


def mean_text(column: str, interval: Interval | None) -> str:
    """A mean with its interval: ``81.5 % ± 10.0 %``, or with both ends where they are not equally far; without one, the mean alone."""
    value = value_text(column, interval)
    width = width_text(column, interval)
    return f"{value} {width}" if width else value


def width_text(column: str, interval: Interval | None) -> str:
    """The interval alone: ``± 10.0 %``, or ``[62.0 %, 100.0 %]``; empty where there is none."""
    if interval is None or not math.isfinite(interval.high - interval.low):
        return ""
    if interval.symmetric:
        return f"± {units.metric(column, interval.high - interval.estimate)}"
    return f"[{units.metric(column, interval.low)}, {units.metric(column, interval.high)}]"


def value_text(column: str, interval: Interval | None) -> str:
    """The mean alone; a dash for None."""
    return units.metric(column, interval.estimate) if interval is not None else "–"
