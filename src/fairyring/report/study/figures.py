"""The figures of a study: dots for worlds, means with intervals, curves, tables of tumbling."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from fairyring.report.kit import ACCENT, INK, MUTED, PAPER, RULE, WARM, svg, whole_ticks
from fairyring.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"evolved": ACCENT, "scrambled": WARM, "blind": MUTED, "no-inheritance": INK}
_SMALL = (3.7, 3.0)
_HAIR = (0, (4, 3))


def dots(
    key: str,
    title: str,
    arms: Mapping[str, np.ndarray],
    means: Mapping[str, Interval | None],
    line: float | None = None,
) -> str:
    """A number for each world by arm, and beside the dots the mean of the arm with its interval.

    Args:
        key: of the figure.
        title: what is measured.
        arms: by name `[worlds]`; NaN is not drawn.
        means: of each arm.
        line: a reference value.
    """

    def draw(ax: "Axes") -> None:
        if line is not None:
            ax.axhline(line, color=INK, linewidth=0.9, linestyle=_HAIR)
        for at, (name, values) in enumerate(arms.items()):
            known = np.sort(values[np.isfinite(values)])
            ax.plot(
                at - 0.12 + _spread(known), known, "o", color=COLOURS[name], markersize=4.5, alpha=0.75,
                markeredgewidth=0,
            )  # fmt: skip
            _mean(ax, at + 0.27, means[name], COLOURS[name])
        wraps = len(arms) > 3  # there is room for three names side by side
        ax.set_xticks(range(len(arms)), [name.replace("-", "-\n") if wraps else name for name in arms])
        ax.set_xlim(-0.5, len(arms) - 0.4)
        ax.tick_params(axis="x", length=0)
        ax.set_title(title)

    return svg(key, draw, _SMALL)


def populations(key: str, arm: str, every: int, worlds: np.ndarray, top: float) -> str:
    """Population of each world `[worlds, times]`, counted every `every` steps; `top` is shared by the arms."""

    def draw(ax: "Axes") -> None:
        at = np.arange(worlds.shape[1]) * every
        for row in worlds:
            ax.plot(at, row, color=COLOURS[arm], linewidth=0.5, alpha=0.45)
        ax.plot(at, worlds.mean(0), color=INK, linewidth=1.6)
        ax.set_title(f"{arm.capitalize()}, {len(worlds)} worlds")
        ax.set_xlabel("step")
        ax.set_ylim(0, top)
        ax.set_xlim(0, max(1, int(at[-1])))
        whole_ticks(ax.xaxis)
        whole_ticks(ax.yaxis)

    return svg(key, draw, _SMALL)


def tumbling(key: str, title: str, worlds: np.ndarray, levels: Sequence[str], changes: Sequence[str]) -> str:
    """P(tumble) by level and change `[worlds, 3, 3]`: mean and standard deviation over worlds, with plenty at the top."""

    def draw(ax: "Axes") -> None:
        from matplotlib.patches import Rectangle

        for level in range(len(levels)):
            for change in range(len(changes)):
                known = worlds[:, level, change]
                known = known[np.isfinite(known)]
                if not len(known):
                    ax.text(change, level, "nobody", ha="center", va="center", color=MUTED)
                    continue
                mean = float(known.mean())
                corner = (change - 0.48, level - 0.47)
                ax.add_patch(
                    Rectangle(corner, 0.96, 0.94, color=ACCENT, alpha=0.06 + 0.62 * mean, linewidth=0)
                )
                ax.text(change, level + 0.08, f"{mean:.2f}", ha="center", va="center", fontsize=13, color=INK)
                if len(known) > 1:
                    spread = f"± {known.std(ddof=1):.2f}"
                    ax.text(change, level - 0.24, spread, ha="center", va="center", fontsize=8.5, color=INK)
        ax.set_xticks(range(len(changes)), list(changes))
        ax.set_yticks(range(len(levels)), list(levels))
        ax.tick_params(length=0)
        ax.grid(False)
        ax.spines["bottom"].set_visible(False)
        ax.set_xlim(-0.5, len(changes) - 0.5)
        ax.set_ylim(-0.5, len(levels) - 0.5)
        ax.set_xlabel("food, compared with memory, is")
        ax.set_title(title)

    return svg(key, draw, (5.0, 3.5))


def forest(
    key: str,
    title: str,
    xlabel: str,
    rows: Sequence[tuple[str, np.ndarray, Interval | Mapping[str, Any] | None]],
    *,
    muted: Sequence[str] = (),
    line: float = 0.0,
) -> str:
    """Quantities one below the other: a dot for each world, and the mean with its interval.

    Args:
        key: of the figure.
        title, xlabel: of the figure.
        rows: name, values `[worlds]`, and the mean with its interval.
        muted: names of rows that show a null.
        line: the value under the null.
    """

    def draw(ax: "Axes") -> None:
        ax.axvline(line, color=INK, linewidth=0.9)
        for i, (name, values, mean) in enumerate(rows):
            colour, at = MUTED if name in muted else ACCENT, len(rows) - 1 - i
            known = np.sort(values[np.isfinite(values)])
            ax.plot(
                known, at + 0.1 + _spread(known, 0.035), "o", color=colour, markersize=3.6, alpha=0.55,
                markeredgewidth=0,
            )  # fmt: skip
            _mean(ax, at - 0.28 if len(known) else at, mean, colour if name in muted else WARM, across=True)
        ax.set_yticks(range(len(rows)), [fill(name, 24) for name, _, _ in reversed(rows)])
        ax.set_ylim(-0.6, len(rows) - 0.4)
        ax.tick_params(axis="y", length=0, labelcolor=INK)
        ax.grid(axis="y", color=RULE, linewidth=0.6)
        ax.grid(axis="x", color=RULE, linewidth=0.6)
        ax.set_xlabel(xlabel)
        ax.set_title(title)

    return svg(key, draw, (5.4, 1.1 + 0.42 * len(rows)))


def matrix(key: str, title: str, names: Sequence[str], values: np.ndarray, sure: np.ndarray) -> str:
    """Mean share of the population of a row in jars with that of a column, `[n, n]`.

    Args:
        key: of the figure.
        title: of the figure.
        names: of the populations.
        values: in [0, 1]; NaN if there is none.
        sure: bool `[n, n]`, cells to be framed.
    """

    def draw(ax: "Axes") -> None:
        from matplotlib.patches import Rectangle

        small = 11 if len(names) < 8 else 8
        for i in range(len(names)):
            for j in range(len(names)):
                if not np.isfinite(values[i, j]):
                    ax.text(j, i, "–", ha="center", va="center", color=MUTED)
                    continue
                share = float(values[i, j])
                colour = ACCENT if share >= 0.5 else WARM
                ax.add_patch(
                    Rectangle((j - 0.46, i - 0.46), 0.92, 0.92, facecolor="none" if share == 0.5 else colour,
                              alpha=0.06 + 1.1 * abs(share - 0.5), linewidth=0)
                )  # fmt: skip
                if sure[i, j]:
                    corner = (j - 0.46, i - 0.46)
                    ax.add_patch(
                        Rectangle(corner, 0.92, 0.92, facecolor="none", edgecolor=INK, linewidth=1.6)
                    )
                ax.text(j, i, f"{share:.2f}", ha="center", va="center", color=INK, fontsize=small)
        ax.set_xticks(range(len(names)), list(names))
        ax.set_yticks(range(len(names)), list(names))
        ax.tick_params(length=0, labelcolor=INK)
        ax.grid(False)
        ax.spines["bottom"].set_visible(False)
        ax.set_xlim(-0.5, len(names) - 0.5)
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.set_xlabel("in jars with")
        ax.set_title(title)

    return svg(key, draw, (5.0, 4.2))


def shares(key: str, title: str, xlabel: str, rows: Sequence[tuple[str, float, float | None]]) -> str:
    """Shares in [0, 1], one below the other, each with its mean under the null."""

    def draw(ax: "Axes") -> None:
        for i, (_, value, null) in enumerate(reversed(rows)):
            if null is not None:
                ax.plot([null, value], [i, i], color=RULE, linewidth=2.2)
                ax.plot([null], [i], "|", color=MUTED, markersize=14, markeredgewidth=2.2)
            ax.plot([value], [i], "o", color=WARM, markersize=8, markeredgewidth=0)
        ax.set_yticks(range(len(rows)), [name for name, _, _ in reversed(rows)])
        ax.set_ylim(-0.6, len(rows) - 0.4)
        ax.set_xlim(-0.02, 1.02)
        ax.tick_params(axis="y", length=0, labelcolor=INK)
        ax.grid(axis="x", color=RULE, linewidth=0.6)
        ax.grid(axis="y", visible=False)
        ax.set_xlabel(xlabel)
        ax.set_title(title)

    return svg(key, draw, (5.4, 1.1 + 0.42 * len(rows)))


def field(
    key: str, title: str, x: np.ndarray, y: np.ndarray, gradients: np.ndarray, names: tuple[str, str]
) -> str:
    """A vector `[n, m, 2]` at each point of a grid, `x` `[n]` by `y` `[m]`."""

    def draw(ax: "Axes") -> None:
        across, up = np.meshgrid(x, y, indexing="ij")
        ax.plot(across, up, "o", color=MUTED, markersize=4, markeredgewidth=0)
        longest = float(np.linalg.norm(gradients, axis=2).max()) or 1.0
        reach = 0.75 * min(float(np.diff(x).min()), float(np.diff(y).min())) / longest
        ax.quiver(
            across, up, gradients[..., 0] * reach, gradients[..., 1] * reach, color=ACCENT, angles="xy",
            scale_units="xy", scale=1, width=0.008,
        )  # fmt: skip
        ax.set_aspect("equal")
        ax.margins(0.25)
        ax.grid(axis="both", color=RULE, linewidth=0.6)
        ax.set_xlabel(names[0])
        ax.set_ylabel(names[1])
        ax.set_title(title)

    return svg(key, draw, (5.0, 4.0))


def _mean(
    ax: "Axes",
    at: float,
    interval: Interval | Mapping[str, Any] | None,
    colour: str,
    *,
    across: bool = False,
) -> None:
    """A mean with its interval, vertical or horizontal (`across`); without the interval if there are too few worlds."""
    if interval is None:
        return
    values: Mapping[str, Any] = interval if isinstance(interval, Mapping) else vars(interval)
    mean, low, high = (
        np.nan if values[name] is None else float(values[name]) for name in ("estimate", "low", "high")
    )
    if np.isfinite([low, high]).all():
        ends = np.array([low, high]), np.array([at, at])
        ax.plot(*(ends if across else ends[::-1]), color=colour, linewidth=2.2)
    x, y = (mean, at) if across else (at, mean)
    ax.plot([x], [y], "o", color=PAPER, markeredgecolor=colour, markeredgewidth=2, markersize=6.5)


def _spread(ordered: np.ndarray, step: float = 0.07) -> np.ndarray:
    """Sideways offsets for ordered values, so that close ones do not hide each other."""
    if not len(ordered):
        return ordered
    near = (float(ordered[-1] - ordered[0]) or 1.0) / 25
    aside, turn = np.zeros(len(ordered)), 0
    for i in range(1, len(ordered)):
        turn = turn + 1 if ordered[i] - ordered[i - 1] < near else 0
        aside[i] = (1 if turn % 2 else -1) * ((turn + 1) // 2 % 4) * step
    return aside
