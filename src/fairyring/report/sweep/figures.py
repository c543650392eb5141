"""The figure of a sweep: a measure by a field's value, with a band over seeds."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fairyring.report.kit import INK, STYLES, legend_below, measure_axis, svg, units
from fairyring.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
        ax.set_title(f"{units.title(column)} by {field.rpartition('.')[2]}", color=INK)
        ax.set_xlabel(field)
        measure_axis(ax, column)
        if any(lines):
            legend_below(ax)

    return svg(f"sweep-{column}-{field}", draw)
