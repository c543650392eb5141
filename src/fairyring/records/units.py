"""Numbers as a person reads them: every one with its unit, none with false precision.

What is measured is named as the columns of a run's records are: `loss`, or `metrics.` and the metric's name.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fairyring.records.round_record import Means, RoundRecord

_SHARES = ("accuracy", "precision", "recall", "f1", "share", "top_5", "top5", "exact_match", "hamming")

_ABBREVIATIONS = ("auc", "f1", "mae", "mse", "r2", "rmse")  # that people write in capitals


def is_share(metric: str) -> bool:
    """Whether a metric of this name is a share of something, shown in per cent."""
    return any(word in metric.lower() for word in _SHARES)


def range_of(metric: str) -> tuple[float, float]:
    """The range in which a metric of this name is known to be: from 0 to 1 for a share, else the whole line."""
    return (0.0, 1.0) if is_share(metric) else (-math.inf, math.inf)


def metric(name: str, value: float | None) -> str:
    """A metric's value: ``94.6 %`` for a share, ``0.2312`` for anything else."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "not finite"
    return share(value) if is_share(name) else number(value)


def label(column: str) -> str:
    """What a column is called: ``squared error`` for ``metrics.squared_error``, ``macro F1`` for ``metrics.macro_f1``."""
    words = column.removeprefix("metrics.").replace("_", " ").split(" ")
    return " ".join(word.upper() if word in _ABBREVIATIONS else word for word in words)


def title(column: str) -> str:
    """The same at the beginning of a line: ``Squared error``."""
    text = label(column)
    return text[:1].upper() + text[1:]


def mean(record: RoundRecord, name: str, *, noise: bool = False) -> str:
    """A mean of training in a round's record, or that it is lost in noise; `noise`: with the size of the noise in it."""
    value, deviation = training(record).get(name), noise_of(record, name)
    size = metric(name, deviation)
    if is_lost(record, name):
        return "lost in noise" if deviation is None else f"lost in noise (± {size})"
    shown = metric(name, value)
    return shown if deviation is None or not noise else f"{shown} (noise ± {size})"


def training(record: RoundRecord) -> dict[str, float]:
    """The means of a round's training by column; none where there was no sum to take them from."""
    means = Means(record.loss, record.metrics).columns()
    return means if record.clients or any(map(math.isfinite, means.values())) else {}


def headline(columns: Sequence[str]) -> str | None:
    """The column that a run is judged by: the accuracy, else the first metric, else the loss; None of none."""
    if "metrics.accuracy" in columns:
        return "metrics.accuracy"
    return next((name for name in columns if name.startswith("metrics.")), columns[0] if columns else None)


def is_lost(record: RoundRecord, name: str) -> bool:
    """Whether a mean of training says nothing because of the noise in it."""
    return record.lost_in_noise is not None and record.lost_in_noise.columns().get(name, False)


def noise_of(record: RoundRecord, name: str) -> float | None:
    """Standard deviation of the noise in a mean of training; None without noise."""
    return record.noise_std.columns().get(name) if record.noise_std is not None else None


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


def not_finite(updates: int, header: Mapping[str, Any]) -> str:
    """What became of so many updates that were not finite, in a run with this header (`run.json`)."""
    privacy = header.get("privacy") or {}
    # Under masks, and with noise that is added to sums, nobody may see whose they were.
    zeros = header.get("secure_sum") or (privacy and privacy.get("unit") != "example")
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
    total = round(seconds)
    if total < 3600:
        return f"{total // 60} min {total % 60:02d} s"
    return f"{total // 3600:,} h {total % 3600 // 60:02d} min"
