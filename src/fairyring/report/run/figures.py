"""The figures of a run."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fairyring.report.kit import ACCENT, SOFT, WARM, legend_below, svg, units, whole_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def curves(
    title: str,
    name: str,
    rounds: np.ndarray,
    training: np.ndarray,
    evaluations: Sequence[tuple[int, float]],
    noise: np.ndarray | None = None,
    *,
    higher_is_better: bool,
) -> str:
    """A metric by round: training, `[rounds]`, and `(round, value)` on held-out data.

    `noise` is the standard deviation of the noise in training's values, `[rounds]`, drawn as a band about them.
    """

    def draw(ax: "Axes") -> None:
        few = ".-" if len(rounds) < 3 else "-"
        if np.isfinite(training).any():
            if noise is not None and np.isfinite(noise).any():
                top = 1.0 if units.is_share(name) else np.inf
                low, high = np.clip(training - noise, 0, top), np.clip(training + noise, 0, top)
                ax.fill_between(rounds, low, high, color=SOFT, linewidth=0, label="± its noise")
            ax.plot(rounds, training, few, color=WARM, linewidth=1.3, label="training")
        if evaluations:
            at, values = zip(*evaluations, strict=True)
            ax.plot(at, values, ".-", color=ACCENT, linewidth=2, markersize=5, label="held-out")
        ax.set_title(title)
        ax.set_xlabel("round")
        round_axis(ax, int(rounds[-1]))
        if units.is_share(name):
            _percent(ax.yaxis)
        finite = [v for v in (*training, *(v for _, v in evaluations)) if np.isfinite(v)]
        if not higher_is_better and finite and min(finite) >= 0:
            ax.set_ylim(bottom=0)
        legend_below(ax)

    return svg(f"curve-{name}", draw)


def clipped(rounds: np.ndarray, shares: np.ndarray) -> str:
    """The share of updates that were clipped, by round: `[rounds]`."""

    def draw(ax: "Axes") -> None:
        ax.plot(rounds, shares, ".-" if len(rounds) < 3 else "-", color=ACCENT, linewidth=1.5)
        ax.set_title("Clipped updates")
        ax.set_xlabel("round")
        round_axis(ax, int(rounds[-1]))
        ax.set_ylim(-0.02, 1.02)
        _percent(ax.yaxis)

    return svg("clipped", draw)


def distribution(name: str, values: np.ndarray, worst: np.ndarray, *, higher_is_better: bool) -> str:
    """How a metric is spread over clients; `worst` `[clients]` marks the worst decile."""

    def draw(ax: "Axes") -> None:
        low, high = (0.0, 1.0) if units.is_share(name) else (float(values.min()), float(values.max()))
        if high <= low:
            low, high = low - 0.5, high + 0.5
        if units.is_share(name):
            # Start at the last multiple of 10 % below everybody, so that the spread fills the figure.
            low = min(np.floor(10 * float(values.min())) / 10, 0.9)
        edges = np.linspace(low, high, 21)
        _bars(
            ax,
            edges,
            [np.histogram(values[~worst], edges)[0], np.histogram(values[worst], edges)[0]],
            [ACCENT, WARM],
            ["nine in ten", "worst decile"],
        )
        if units.is_share(name):
            _percent(ax.xaxis)
        ax.set_title(f"{units.title(name)} of each client")
        ax.set_xlabel(f"{units.label(name)} on the client's own data")
        _count_axis(ax, "clients")
        legend_below(ax)

    return svg(f"spread-{name}", draw)


def by_name(
    key: str,
    title: str,
    xlabel: str,
    names: Sequence[str],
    values: np.ndarray,
    *,
    share: bool = False,
    worst: np.ndarray | None = None,
) -> str:
    """A value `[clients]` of each client, by its name, from the first at the top; `worst` `[clients]` marks the worst decile."""

    def draw(ax: "Axes") -> None:
        places = np.arange(len(names))
        marked = np.zeros(len(names), bool) if worst is None else worst
        for some, colour, label in ((~marked, ACCENT, "nine in ten"), (marked, WARM, "worst decile")):
            ax.barh(places[some], values[some], height=0.72, color=colour, label=label)
        ax.set_yticks(places, [name if len(name) <= 24 else f"{name[:23].rstrip()}…" for name in names])
        small = 10.0 if len(names) <= 25 else 8.0
        for tick in ax.get_yticklabels():
            tick.set_parse_math(False)
            tick.set_fontsize(small)
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.grid(axis="y", visible=False)
        ax.grid(axis="x", visible=True)
        if share:
            ax.set_xlim(0, 1)
            _percent(ax.xaxis)
        else:
            ax.set_xlim(min(0.0, float(values.min())), max(1e-12, float(values.max())) * 1.05)
            if np.issubdtype(values.dtype, np.integer):
                whole_ticks(ax.xaxis)
        ax.set_title(title)
        ax.set_xlabel(xlabel)
        if worst is not None:
            legend_below(ax)

    return svg(key, draw, (5.4, max(3.1 if len(names) > 6 else 2.4, 1.0 + 0.17 * len(names))))


def histogram(key: str, title: str, xlabel: str, values: np.ndarray, noun: str = "clients") -> str:
    """A histogram of whole numbers `[n]`, which are so many of a `noun`."""

    def draw(ax: "Axes") -> None:
        low, high = int(values.min()), int(values.max())
        if high - low < 4:  # values nearly alike make a narrow figure, not two slabs
            low, high = max(0, low - 3), high + 3
        step = max(1, -(-(high - low + 1) // 30))
        edges = np.arange(low, high + step + 1, step) - 0.5
        _bars(ax, edges, [np.histogram(values, edges)[0]], [ACCENT], None)
        ax.set_title(title)
        ax.set_xlabel(xlabel)
        whole_ticks(ax.xaxis)
        _count_axis(ax, noun)

    return svg(key, draw)


def traffic(rounds: np.ndarray, up: np.ndarray, down: np.ndarray, *, cumulative: bool) -> str:
    """Bytes by round in both directions, `[rounds]` each."""

    def draw(ax: "Axes") -> None:
        lines = (
            (down, WARM, 3.6, "-", "down: model to clients"),  # wide, so that it shows beneath an equal one
            (up, ACCENT, 1.8, "--", "up: reports to server"),
        )
        for values, colour, width, dashes, label in lines:
            shown = np.nancumsum(values) if cumulative else values
            few = "." if len(rounds) < 3 else ""
            ax.plot(rounds, shown, dashes, marker=few, color=colour, linewidth=width, label=label)
        ax.set_title("Since the start" if cumulative else "In each round")
        ax.set_xlabel("round")
        round_axis(ax, int(rounds[-1]))
        ax.set_ylim(bottom=0, top=ax.get_ylim()[1] * (1.0 if cumulative else 1.45))
        _byte_ticks(ax)
        legend_below(ax)

    return svg("traffic-sum" if cumulative else "traffic", draw)


def pace(rounds: np.ndarray, seconds: np.ndarray) -> str:
    """Seconds each round took, `[rounds]`, with their median."""

    def draw(ax: "Axes") -> None:
        from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

        ax.plot(rounds, seconds, ".", color=ACCENT, markersize=6, markeredgewidth=0)
        median = float(np.nanmedian(seconds))
        ax.axhline(median, color=WARM, linewidth=1.3, label=f"median {units.duration(median)}")
        # One slow round would press the others onto the axis; a logarithm keeps them visible.
        if np.nanmax(seconds) > 5 * median > 0:
            ax.set_yscale("log")
            ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            ax.yaxis.set_minor_locator(NullLocator())
        else:
            ax.set_ylim(bottom=0)
        ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: units.duration(v)))
        ax.set_title("Time of each round")
        ax.set_xlabel("round")
        round_axis(ax, int(rounds[-1]))
        legend_below(ax)

    return svg("pace", draw)


def picture(key: str, title: str, values: np.ndarray, low: float, high: float) -> str:
    """Numbers `[n]` as squares from dark (`low`) to light (`high`), row by row."""

    def draw(ax: "Axes") -> None:
        width = max(1, int(np.sqrt(len(values) * 1.9)))
        rows = len(values) // width
        square = np.asarray(values[: rows * width], np.float64).reshape(rows, width)
        ax.imshow(square, cmap="gray", vmin=low, vmax=high, aspect="auto", interpolation="nearest")
        ax.set_title(title)
        ax.set_axis_off()

    return svg(key, draw)


def density(key: str, title: str, values: np.ndarray, low: float, high: float) -> str:
    """How numbers `[n]` between `low` and `high` are spread."""

    def draw(ax: "Axes") -> None:
        edges = np.linspace(low, high, 65)
        counts = np.histogram(np.asarray(values, np.float64), edges)[0]
        ax.stairs(counts / max(1, len(values)), np.arange(65) / 64, fill=True, color=ACCENT)
        ax.set_title(title)
        ax.set_xlabel("from the lowest to the highest number the modulus allows")
        ax.set_xlim(0, 1)
        ax.xaxis.set_ticks([])
        ax.set_ylim(bottom=0)
        _percent(ax.yaxis)

    return svg(key, draw)


def _bars(
    ax: "Axes",
    edges: np.ndarray,
    stacks: list[np.ndarray],
    colours: list[str],
    labels: list[str] | None,
) -> None:
    bottom = np.zeros(len(edges) - 1)
    for index, (heights, colour) in enumerate(zip(stacks, colours, strict=True)):
        ax.bar(
            edges[:-1],
            heights,
            width=np.diff(edges) * 0.88,
            align="edge",
            bottom=bottom,
            color=colour,
            label=labels[index] if labels else None,
        )
        bottom = bottom + heights
    ax.set_ylim(0, max(1.0, float(bottom.max()) * (1.25 if labels else 1.08)))


def _count_axis(ax: "Axes", noun: str) -> None:
    ax.set_ylabel(noun)
    whole_ticks(ax.yaxis)


def round_axis(ax: "Axes", last: int) -> None:
    whole_ticks(ax.xaxis)
    ax.set_xlim(0 if last > 3 else 0.5, max(last, 1) + (0.02 * last if last > 3 else 0.5))


def _percent(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.3g} %"))


def _byte_ticks(ax: "Axes") -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

    top = max(ax.get_ylim()[1], 1.0)
    unit = 1024.0 ** int(np.log(top) / np.log(1024))
    ticks = np.asarray(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(0, top / unit)) * unit
    ax.yaxis.set_major_locator(FixedLocator([t for t in ticks if 0 <= t <= top]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: units.size(v).replace(".0 ", " ")))
