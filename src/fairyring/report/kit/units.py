"""Numbers as a person reads them: every one with its unit, none with false precision."""

import math
from collections.abc import Mapping
from typing import Any

_LESS_IS_BETTER = ("loss", "error", "mse", "mae", "rmse", "perplexity")
_SHARES = ("accuracy", "precision", "recall", "f1", "share", "top_5", "top5", "exact_match", "hamming")


def is_share(metric: str) -> bool:
    """Whether a metric of this name is a share of something, shown in per cent."""
    return any(word in metric.lower() for word in _SHARES)


def less_is_better(metric: str) -> bool:
    """Whether a smaller value of a metric of this name is the better one."""
    return metric.lower().endswith(_LESS_IS_BETTER)


def metric(name: str, value: float | None) -> str:
    """A metric's value: ``94.6 %`` for a share, ``0.2312`` for anything else."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "not finite"
    return share(value) if is_share(name) else number(value)


def mean(record: Mapping[str, Any], name: str, *, noise: bool = False) -> str:
    """A mean of training in a round's record, or that it is lost in noise; `noise`: with the size of the noise in it."""
    value, deviation = record.get(name), noise_of(record, name)
    told = metric(name, deviation)
    if is_lost(record, name):
        return "lost in noise" if deviation is None else f"lost in noise (± {told})"
    shown = metric(name, float(value) if isinstance(value, int | float) else None)
    return shown if deviation is None or not noise else f"{shown} (noise ± {told})"


def is_lost(record: Mapping[str, Any], name: str) -> bool:
    """Whether a mean of training says nothing, for the noise in it."""
    lost = record.get("lost_in_noise")
    return isinstance(lost, list | tuple) and name in lost


def noise_of(record: Mapping[str, Any], name: str) -> float | None:
    """Standard deviation of the noise in a mean of training; None without noise."""
    deviations = record.get("noise_std")
    found = deviations.get(name) if isinstance(deviations, Mapping) else None
    return float(found) if isinstance(found, int | float) else None


def number(value: float) -> str:
    """At most four significant digits, thousands separated, no exponent for everyday sizes."""
    if not math.isfinite(value):
        return "not finite"
    size = abs(value)
    if size and (size < 1e-3 or size >= 1e9):
        return f"{value:.3g}"
    if float(value).is_integer():
        return f"{value:,.0f}"
    decimals = max(0, 3 - math.floor(math.log10(size))) if size else 0
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def count(value: int | float, noun: str = "", plural: str = "") -> str:
    """``1 client``, ``1,437 clients``."""
    text = f"{round(value):,}"
    return f"{text} {noun if value == 1 else plural or noun + 's'}" if noun else text


def not_finite(updates: int, facts: Mapping[str, Any]) -> str:
    """What became of so many updates that were not finite, of a run with these `facts` (`run.json`)."""
    promise = facts.get("privacy") or {}
    # Under masks, and noise that is added to sums, nobody may see whose they were.
    zeros = facts.get("secure_sum") or (promise and promise.get("unit") != "example")
    return f"{count(updates, 'update')} held a number that is not finite, and {'counted as zeros' if zeros else 'did not count'}"


def share(value: float) -> str:
    """A part of one, in per cent with one decimal: ``94.6 %``."""
    return f"{100 * value:.1f} %"


def size(value: float) -> str:
    """Bytes, in the binary unit that leaves one to four digits: ``812 B``, ``3.4 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024 or unit == "TiB":
            return f"{value:.0f} {unit}" if unit == "B" or abs(value) >= 100 else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")


def duration(seconds: float) -> str:
    """``3.1 ms``, ``41.2 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if not math.isfinite(seconds):
        return "unknown"
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms" if seconds else "0 s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"
