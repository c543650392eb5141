"""Curves with bands over seeds: a measure by round, a line for each setting."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fairyring.records import units
from fairyring.report.kit.drawing import ACCENT, MUTED, WARM, svg, whole_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDEST = 56  # letters of a legend's text that a figure has room for
_ROW = 0.2  # inches of a row of a legend

# Lines differ in colour and in dashes, so that they are told apart in print too.
STYLES = [(colour, dashes) for dashes in ("-", "--", ":") for colour in (ACCENT, WARM, MUTED)][:8]


def curves(
    column: str,
    runs: Mapping[str, Sequence[Sequence[tuple[int, float]]]],
    *,
    where: str,
    best: str | None = None,
    key: str = "curves",
) -> str:
    """A measure by round: for each setting a line for the mean over its runs, and a band from the lowest to the highest.

    Args:
        column: `loss` or `metrics.NAME`.
        runs: by the name of a setting, for each of its runs `(round, value)` of every evaluation.
        where: of whom, such as `on the validation clients`.
        best: the setting whose line is drawn thicker.
        key: with the column, of the figure's ids.
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
        ax.set_title(f"{units.title(column)} {where}")
        ax.set_xlabel("round")
        ax.set_xlim(right=last)
        whole_ticks(ax.xaxis)
        measure_axis(ax, column)
        legend_below(ax)

    return svg(f"{key}-{column}", draw)


def legend_below(ax: "Axes") -> None:
    """A legend below the axes and their label, where it covers nothing. The figure grows with its rows, so that the axes stay."""
    handles, labels = ax.get_legend_handles_labels()
    figure = ax.get_figure(root=True)
    if figure is None or not labels:
        return
    labels = [label if len(label) <= _WIDEST else f"{label[: _WIDEST - 1].rstrip()}…" for label in labels]
    width, height = figure.get_size_inches()
    column = 0.55 + 0.083 * max(map(len, labels))  # inches: a line, a gap, and letters of ten points
    columns = max(1, min(3, len(labels), int(width // column)))
    figure.set_size_inches(width, height + _ROW * (-(-len(labels) // columns) - 1))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, handlelength=1.8)


def _aligned(runs: Sequence[Sequence[tuple[int, float]]]) -> tuple[np.ndarray, np.ndarray]:
    """The rounds at which all runs were evaluated, `[n]`, and their values, `[runs, n]`."""
    tables = [dict(run) for run in runs if run]
    if not tables:
        return np.zeros(0), np.zeros((0, 0))
    rounds = sorted(set.intersection(*map(set, tables)))
    return np.array(rounds), np.array([[table[one] for one in rounds] for table in tables])


def measure_axis(ax: "Axes", column: str) -> None:
    """Per cent on the axis of a measure that is a share."""
    if units.is_share(column):
        from matplotlib.ticker import PercentFormatter

        ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
