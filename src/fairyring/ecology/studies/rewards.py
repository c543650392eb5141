"""What evolved rewards are worth: learned again from nothing, beside the same rewards on other events, and each left out."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairyring import statistics
from fairyring.ecology.history import Evolution, advance
from fairyring.ecology.lab import Assay, closed, colonies, sizes
from fairyring.ecology.world import q_learning

LIVING = 800  # steps of relearning: about two lives
LASTING, LAST = 2000, 1000  # steps of a knock-out, and how many of them count


@dataclass(frozen=True)
class Paired:
    """A difference between two arms, world by world.

    Attributes:
        name: what differs.
        ours, theirs: of each world, `[worlds]`.
        mean: of the differences, with its BCa interval.
        p: of the sign-flip test of the differences, two-sided.
        p_holm: adjusted for all differences asked at once.
    """

    name: str
    ours: list[float]
    theirs: list[float]
    mean: statistics.Interval
    p: float
    p_holm: float


def paired(name: str, ours: np.ndarray, theirs: np.ndarray, seed: int = 0) -> Paired:
    """Compare two arms whose worlds belong together; a world without a value in one of them is left out. Where none is left there
    is no mean, and p is 1."""
    both = np.isfinite(ours) & np.isfinite(theirs)
    if not both.any():
        nothing = statistics.Interval(np.nan, -np.inf, np.inf, 0.95, 0, "too few")
        return Paired(name, [], [], nothing, 1.0, 1.0)
    apart = (ours - theirs)[both]
    p = statistics.sign_flip_p(apart, seed)
    return Paired(name, ours[both].tolist(), theirs[both].tolist(), statistics.bca_interval(apart), p, p)


def adjusted(rows: Sequence[Paired]) -> tuple[Paired, ...]:
    """The same comparisons, asked at once (Holm 1979)."""
    return tuple(
        dataclasses.replace(row, p_holm=float(p))
        for row, p in zip(rows, statistics.holm([row.p for row in rows]), strict=True)
    )


def relearning(
    run: Evolution, lab: Callable[..., list[Assay | None]], *, seed: int, watch: Any = None
) -> tuple[Paired, ...]:
    """Individuals that know nothing, with their evolved rewards and with the same numbers on other events.

    Both arms live `LIVING` steps in closed worlds in which children know nothing either, whatever their heredity was; then
    they go to the lab. Each world has its own permutation, without a fixed event.
    """
    events = len(run.settings.events)

    def kept(genomes: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        return genomes[:, :events]

    def moved(genomes: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        order = np.arange(events)
        while (order == np.arange(events)).any():
            order = draw.permutation(events)
        return genomes[:, :events][:, order]

    settings = closed(run.settings, policy=q_learning(), retention=0.0)
    arms = []
    for change in (kept, moved):
        worlds, _ = advance(
            settings, colonies(run, settings, seed=seed, change=change, naive=True), LIVING, watch=watch
        )
        arms.append((worlds, lab(Evolution(settings, seed, run.numbers, tuple(worlds)))))
    (own, seen), (other, other_seen) = arms
    rows = []
    for name, field in (("chemotactic index", "index"), ("tumble contrast", "contrast")):
        ours, theirs = (
            np.array([np.nan if each is None else np.nanmean(getattr(each, field)) for each in of])
            for of in (seen, other_seen)
        )
        rows.append(paired(name, ours, theirs))
    rows.append(paired("population, log", np.log1p(sizes(own, 100)), np.log1p(sizes(other, 100))))
    return adjusted(rows)


def knock_outs(run: Evolution, *, seed: int, watch: Any = None) -> tuple[Paired, ...]:
    """The population without each reward over the population with all of them, as logarithms, world by world.

    Closed worlds of `LASTING` steps whose founders know nothing; what they then learn is kept as in their world.
    """
    settings = closed(run.settings)

    def arm(event: int | None) -> np.ndarray:
        def without(genomes: np.ndarray, draw: np.random.Generator) -> np.ndarray:
            genomes = genomes.copy()
            if event is not None:
                genomes[:, event] = 0
            return genomes

        start = colonies(run, settings, seed=seed, change=without, naive=True)
        return np.log1p(sizes(advance(settings, start, LASTING, watch=watch)[0], LAST))

    whole = arm(None)
    rows = [paired(event.name, arm(i), whole) for i, event in enumerate(run.settings.events)]
    return adjusted(rows)
