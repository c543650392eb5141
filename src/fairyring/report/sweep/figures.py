"""The figures of a sweep: a measure by round, and a measure by a field's value, each with a band over seeds."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fairyring.report.kit import ACCENT, INK, MUTED, WARM, svg, units, whole_ticks
from fairyring.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Lines differ in colour and in dashes, so that they are told apart in print too.
STYLES = [(colour, dashes) for dashes in ("-", "--", ":") for colour in (ACCENT, WARM, MUTED)][:8]


def curves(column: str, runs: Mapping[str, Sequence[Sequence[tuple[int, float]]]], best: str | None) -> str:
    """A measure by round: for each setting a line for the mean over its runs, and a band from the lowest to the highest.

    Args:
        column: `loss` or `metrics.NAME`.
        runs: by the name of a setting, for each of its runs `(round, value)` of every evaluation.
        best: the setting whose line is drawn thicker.
    """

    def draw(ax: "Axes") -> None:
        last = 1
        for (name, all_), (colour, dashes) in zip(runs.items(), STYLES, strict=False):
            rounds, values = _aligned(all_)
            if not len(rounds):
                continue
            last = max(last, int(rounds[-1]))
            ax.fill_between(rounds, values.min(0), values.max(0), color=colour, alpha=0.13, linewidth=0)
            width = 2.4 if name == best else 1.3
            marker = "." if len(rounds) < 3 else ""
            ax.plot(rounds, values.mean(0), dashes, marker=marker, color=colour, linewidth=width, label=name)
        ax.set_title(f"{units.label(column).capitalize()} on the validation clients")
        ax.set_xlabel("round")
        ax.set_xlim(right=last)
        whole_ticks(ax.xaxis)
        _axis(ax, column)
        _legend(ax, len(runs))

    return svg(f"sweep-{column}", draw)


def response(column: str, field: str, lines: Mapping[str, Sequence[tuple[float, Interval]]]) -> str:
    """A measure by the value of a field, with its interval over seeds: a line for each value of the other field.

    Args:
        column: `loss` or `metrics.NAME`.
        field: whose value is on the axis.
        lines: by what is common to a line, empty if there is one only: `(value, interval)` of each setting, ascending.
    """

    def draw(ax: "Axes") -> None:
        for (name, points), (colour, dashes) in zip(lines.items(), STYLES, strict=False):
            x = [value for value, _ in points]
            ends = [(i.low, i.high) if math.isfinite(i.low) else (i.estimate,) * 2 for _, i in points]
            if units.is_share(column):
                ends = [(max(0.0, low), min(1.0, high)) for low, high in ends]
            ax.fill_between(
                x, [low for low, _ in ends], [high for _, high in ends], color=colour, alpha=0.13, linewidth=0
            )
            ax.plot(x, [i.estimate for _, i in points], dashes, marker=".", color=colour, label=name)
        values = [value for points in lines.values() for value, _ in points]
        if min(values) > 0 and max(values) >= 10 * min(values):
            ax.set_xscale("log")
            at = sorted(set(values))
            ax.set_xticks(at if len(at) <= 8 else at[:: -(-len(at) // 8)])
            ax.minorticks_off()
            ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.set_title(f"{units.label(column).capitalize()} by {field.rpartition('.')[2]}", color=INK)
        ax.set_xlabel(field)
        _axis(ax, column)
        if any(lines):
            _legend(ax, len(lines))

    return svg(f"sweep-{column}-{field}", draw)


def _legend(ax: "Axes", lines: int) -> None:
    """Below the axes, where it covers no line."""
    columns = 1 if lines < 3 else 2
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=columns, handlelength=2.2)


def _aligned(runs: Sequence[Sequence[tuple[int, float]]]) -> tuple[np.ndarray, np.ndarray]:
    """The rounds at which all runs were evaluated, `[n]`, and their values, `[runs, n]`."""
    tables = [dict(run) for run in runs if run]
    if not tables:
        return np.zeros(0), np.zeros((0, 0))
    rounds = sorted(set.intersection(*map(set, tables)))
    return np.array(rounds), np.array([[table[one] for one in rounds] for table in tables])


def _axis(ax: "Axes", column: str) -> None:
    if units.is_share(column):
        from matplotlib.ticker import PercentFormatter

        ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
