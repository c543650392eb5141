"""The figures on privacy: what is spent, what canaries showed, what attacks reconstructed."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fairyring.report.kit import ACCENT, MUTED, SOFT, WARM, svg, units
from fairyring.report.run.figures import round_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 6  # targets in the figure of reconstructions
KINDS = {
    "truth": "truth",
    "bare": "one bare update",
    "protected": "this plan's release",
    "nearest": "nearest in release",
    "blind": "blind guess",
}


def budget(rounds: np.ndarray, epsilons: np.ndarray, limit: float | None) -> str:
    """Epsilon spent after each round, `[rounds]` each, against the limit; None for no limit."""

    def draw(ax: "Axes") -> None:
        style = ".-" if len(rounds) < 3 else "-"
        ax.plot(rounds, epsilons, style, color=ACCENT, linewidth=2, label="spent")
        finite = epsilons[np.isfinite(epsilons)]
        top = float(finite.max(initial=0.0))
        if limit is not None:
            label = f"promised: at most {units.number(limit)}"
            ax.axhline(limit, color=WARM, linewidth=1.3, linestyle=(0, (5, 3)), label=label)
            top = max(top, limit)
        ax.set_title("Privacy spent")
        ax.set_xlabel("round")
        ax.set_ylabel("epsilon")
        round_axis(ax, int(rounds[-1]))
        ax.set_ylim(0, 1.1 * top if top > 0 else 1.0)
        _legend_above(ax)

    return svg("privacy-budget", draw)


def canary_scores(scores: np.ndarray, allowed: float | None = None) -> str:
    """How canaries `[n]` score, beside chance; `allowed` is the mean score that the claim allows at most."""

    def draw(ax: "Axes") -> None:
        means = [0.0] if allowed is None else [0.0, allowed]
        low = min(float(scores.min(initial=0.0)), -3.5)
        high = max(float(scores.max(initial=0.0)), max(means) + 3.5)
        edges = np.linspace(low, high, min(60, max(20, len(scores) // 15)) + 1)
        counts = np.histogram(scores, edges)[0] / max(1, len(scores)) / (edges[1] - edges[0])
        ax.stairs(counts, edges, fill=True, color=ACCENT, alpha=0.75, label="canaries")
        x = np.linspace(low, high, 801)
        looks = [(MUTED, "-", "chance"), (WARM, (0, (5, 3)), "the claim, at most")]
        peak = float(counts.max(initial=0.0))
        for mean, (colour, style, label) in zip(means, looks, strict=False):
            density = np.exp(-((x - mean) ** 2) / 2) / np.sqrt(2 * np.pi)
            ax.plot(x, density, color=colour, linewidth=1.8, linestyle=style, label=label)
            peak = max(peak, float(density.max()))
        ax.set_title("What canaries showed")
        ax.set_xlabel("score: 0 for no trace, in standard deviations of chance")
        ax.set_yticks([])
        ax.grid(False)
        ax.set_xlim(low, high)
        ax.set_ylim(0, 1.3 * peak)
        ax.legend(loc="upper left", ncols=3, handlelength=1.6, columnspacing=1.4, borderaxespad=0.2)

    return svg("privacy-canaries", draw)


def membership(false: np.ndarray, true: np.ndarray, claimed: float | None, delta: float) -> str:
    """True against false positive rates `[n]` each of membership inference, both on logarithmic axes, and what a claim allows."""

    def draw(ax: "Axes") -> None:
        low = max(1e-4, float(false.min()))
        chance = np.geomspace(low, 1.0, 100)
        ax.plot(chance, chance, color=MUTED, linewidth=1.3, linestyle=(0, (2, 2)), label="chance")
        if claimed is not None and claimed < 700:
            allowed = np.minimum(
                np.exp(claimed) * chance + delta, 1 - np.exp(-claimed) * (1 - delta - chance).clip(0)
            )
            ax.plot(
                chance,
                allowed.clip(max=1.0),
                color=WARM,
                linewidth=1.3,
                linestyle=(0, (5, 3)),
                label="promised",
            )
        shown = true > 0
        ax.plot(false[shown], true[shown], color=ACCENT, linewidth=2, label="attack")
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlim(low, 1.0)
        ax.set_ylim(low, 1.1)
        ax.set_title("Members recognised")
        ax.set_xlabel("false positive rate")
        ax.set_ylabel("true positive rate")
        ax.legend(loc="lower right", handlelength=1.8, borderaxespad=0.3)

    return svg("privacy-membership", draw)


def reconstructions(targets: Sequence[Sequence[np.ndarray]], kinds: Sequence[str]) -> str:
    """Images of targets: the truth, then what each attack made of it.

    Args:
        targets: of each its images `[height, width]` or `[height, width, 3]` within [0, 1], one a kind. Six targets at
            most are shown.
        kinds: what each image of a target is.
    """
    shown = targets[:SHOWN]
    wide = (
        len(shown) < 3
    )  # a target a row while they are few; a kind a row is the shape of the figure for more
    pitch = 1.12  # of an image and the gap to the next

    def draw(ax: "Axes") -> None:
        for number, images in enumerate(shown):
            for kind, image in enumerate(images):
                left, top = (kind * pitch, number * pitch) if wide else (number * pitch, kind * pitch)
                ax.imshow(
                    np.clip(np.asarray(image, np.float64), 0.0, 1.0),
                    cmap="gray",
                    vmin=0.0,
                    vmax=1.0,
                    extent=(left, left + 1.0, top + 1.0, top),
                    interpolation="none",
                )
        for kind, name in enumerate(kinds):
            words = name.replace(" ", "\n", 1) if len(name) > 10 else name
            if wide:
                ax.text(kind * pitch + 0.5, -0.08, words, ha="center", va="bottom", color=MUTED)
            else:
                ax.text(-0.15, kind * pitch + 0.5, words, ha="right", va="center", color=MUTED)
        across, down = (len(kinds), len(shown)) if wide else (len(shown), len(kinds))
        ax.set_xlim(-0.05 if wide else -1.7, across * pitch - pitch + 1.05)
        ax.set_ylim(down * pitch - pitch + 1.05, -0.6 if wide else -0.05)
        ax.set_aspect("equal")
        ax.set_axis_off()

    return svg("privacy-reconstructions", draw, (5.4, 3.1) if wide else (5.4, 0.8 * len(kinds)))


def signal(rounds: np.ndarray, ratios: np.ndarray) -> str:
    """Length of the mean update over that of the noise in it, by round, `[rounds]` each."""

    def draw(ax: "Axes") -> None:
        style = ".-" if len(rounds) < 3 else "-"
        ax.axhspan(0, 1, color=SOFT, linewidth=0)
        ax.axhline(1.0, color=WARM, linewidth=1.3, linestyle=(0, (5, 3)), label="noise")
        ax.plot(rounds, ratios, style, color=ACCENT, linewidth=2, label="mean update")
        ax.set_title("Signal in the noise")
        ax.set_xlabel("round")
        ax.set_ylabel("length over the noise's")
        round_axis(ax, int(rounds[-1]))
        finite = ratios[np.isfinite(ratios)]
        ax.set_ylim(0, 1.1 * max(1.0, float(finite.max(initial=0.0))))
        _legend_above(ax)

    return svg("privacy-signal", draw)


def _legend_above(ax: "Axes") -> None:
    """The legend beside the title, where no curve runs through it."""
    ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, handlelength=1.8, borderaxespad=0.3)
