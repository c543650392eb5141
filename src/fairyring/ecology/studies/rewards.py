"""Which rewards evolved in world 2 and what they are worth: their table, relearning, permuted rewards, and knock-outs."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairyring import statistics
from fairyring.ecology import analysis
from fairyring.ecology.analysis import QUIET_GENERATIONS
from fairyring.ecology.history import LATE, Evolution, WorldRun, advance
from fairyring.ecology.lab import Assay, closed, colonies, persisted, sizes
from fairyring.ecology.studies.study import Progress
from fairyring.ecology.world import NUMBERS, q_learning

Lab = Callable[..., list[Assay | None]]
# The signs of evolved rewards in the lecture (Agüera y Arcas 2020), where error bars are large and all populations viable.
LECTURE = {"eat": 1, "encounter": 1, "hungry": -1, "near death": -1, "emitted": -1}
RELEARNING = 800  # steps: about two lifetimes
KNOCK_OUT, COUNTED = 2000, 1000  # steps of a knock-out, and how many of them count, at its end


@dataclass(frozen=True)
class Paired:
    """A difference between two arms, paired by world.

    Attributes:
        name: of the quantity.
        ours, theirs: its values in the two arms, `[worlds]`.
        mean: of the differences, with its BCa interval.
        p: of the two-sided sign-flip test of the differences.
        p_holm: adjusted for all differences of the family.
    """

    name: str
    ours: list[float]
    theirs: list[float]
    mean: statistics.Interval
    p: float
    p_holm: float


def paired(name: str, ours: np.ndarray, theirs: np.ndarray, seed: int = 0) -> Paired:
    """Compare two arms whose worlds are paired, leaving out worlds without a value in one of them.

    If no world is left there is no mean, and p is 1.
    """
    both = np.isfinite(ours) & np.isfinite(theirs)
    if not both.any():
        unknown = statistics.Interval(np.nan, -np.inf, np.inf, 0.95, 0, "too few")
        return Paired(name, [], [], unknown, 1.0, 1.0)
    apart = (ours - theirs)[both]
    p = statistics.sign_flip_p(apart, seed)
    return Paired(name, ours[both].tolist(), theirs[both].tolist(), statistics.bca_interval(apart), p, p)


def adjusted(rows: Sequence[Paired]) -> tuple[Paired, ...]:
    """The comparisons as one family, p adjusted after Holm (1979)."""
    return tuple(
        dataclasses.replace(row, p_holm=float(p))
        for row, p in zip(rows, statistics.holm([row.p for row in rows]), strict=True)
    )


def relearning(
    run: Evolution, lab: Callable[..., list[Assay | None]], *, seed: int, watch: Any = None
) -> tuple[Paired, ...]:
    """Untrained individuals with their evolved rewards, against the same rewards assigned to other events.

    Both arms live `RELEARNING` steps in closed worlds in which children are untrained too, whatever their heredity was. Then
    they are assayed. Each world has its own permutation of events, without a fixed point.
    """
    events = len(run.settings.events)

    def original(genomes: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        return genomes[:, :events]

    def permuted(genomes: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        order = np.arange(events)
        while (order == np.arange(events)).any():
            order = draw.permutation(events)
        return genomes[:, :events][:, order]

    settings = closed(run.settings, policy=q_learning(), retention=0.0)
    arms = []
    for change in (original, permuted):
        start = colonies(run, settings, seed=seed, change=change, naive=True)
        worlds, _ = advance(settings, start, RELEARNING, watch=watch)
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
    """Log population without each reward against log population with all of them, paired by world.

    Measured in closed worlds of `KNOCK_OUT` steps whose founders are untrained; heredity is that of the run.
    """
    settings = closed(run.settings)

    def arm(event: int | None) -> np.ndarray:
        def without(genomes: np.ndarray, draw: np.random.Generator) -> np.ndarray:
            genomes = genomes.copy()
            if event is not None:
                genomes[:, event] = 0
            return genomes

        start = colonies(run, settings, seed=seed, change=without, naive=True)
        return np.log1p(sizes(advance(settings, start, KNOCK_OUT, watch=watch)[0], COUNTED))

    with_all = arm(None)
    rows = [paired(event.name, arm(i), with_all) for i, event in enumerate(run.settings.events)]
    return adjusted(rows)


def worth(
    runs: Mapping[str, Evolution],
    assays: Mapping[str, list[Assay | None]],
    lab: Lab,
    seed: int,
    progress: Progress,
) -> dict[str, Any]:
    """The parts of `study.json` about the rewards of world 2."""
    run = runs["evolved"]
    events = [event.name for event in run.settings.events]

    def watch(what: str) -> Callable[[Any, int], None]:
        return lambda worlds, done: progress(what, done, 0)

    lasted = persisted(run, seed=seed, watch=watch("closed restarts, steps"))
    classes = [_class(world, restarts, run.steps) for world, restarts in zip(run.worlds, lasted, strict=True)]
    viable = [i for i, of in enumerate(classes) if of == "viable"]
    results: dict[str, Any] = {
        "viability": {"classes": classes, "restarts_that_lasted": [sum(of) for of in lasted]}
    }
    rewards = {
        arm: np.stack([_means(world.genomes()[:, : len(events)]) for world in of.worlds])
        for arm, of in runs.items()
    }
    dummy = "dummy" if "dummy" in events else events[-1]
    if len(viable) >= 3:
        results["rewards"] = {
            "events": events,
            "worlds": rewards["evolved"][viable],
            "table": analysis.reward_table(rewards["evolved"][viable], events, dummy, expected_sign=LECTURE),
            "controls": {
                arm: _without_heredity(rewards["evolved"][viable], rewards[arm], events, dummy)
                for arm in ("scrambled", "no-inheritance")
                if arm in rewards
            },
        }
    late = {
        arm: (
            of.metrics["population"][:, -LATE:].mean(1),
            of.metrics["emitters"][:, -LATE:].sum(1)
            / np.maximum(of.metrics["population"][:, -LATE:].sum(1), 1),
        )
        for arm, of in runs.items()
    }
    results["against_controls"] = {
        name: {arm: _apart(late["evolved"][i], late[arm][i]) for arm in runs if arm != "evolved"}
        for i, name in enumerate(("population", "emission"))
    }
    results["relearning"] = relearning(run, lab, seed=seed, watch=watch("relearning, steps"))
    results["knock_outs"] = knock_outs(run, seed=seed, watch=watch("knock-outs, steps"))
    results["learned_in_life"] = _learned_in_life(run, assays["evolved"], lab, seed)
    return results


def _class(world: WorldRun, restarts: list[bool], steps: int) -> str:
    """The viability of a world; "too short" if it did not run for long enough to decide."""
    length = world.lineage.generation_length(after=steps // 2)
    immigrants, waiting = (world.numbers[:, NUMBERS.index(name)] for name in ("immigrants", "waiting"))
    if not np.isfinite(length):  # nobody was born in the second half of the run
        length = steps / QUIET_GENERATIONS
        restarts = [False] * len(restarts)
    if len(world.living()) and length * QUIET_GENERATIONS > steps and not immigrants.any():
        return "too short"
    return analysis.viability(
        immigrants,
        length,
        restarts,
        overflow=int(waiting[-LATE:].sum()),
        extinct=not len(world.living()),
    )


def _learned_in_life(run: Evolution, labs: list[Assay | None], lab: Lab, seed: int) -> Any:
    """How much of the index is learned: the same individuals as they are, and untrained."""
    settings = closed(run.settings)
    naive = Evolution(settings, seed, run.numbers, tuple(colonies(run, settings, seed=seed, naive=True)))
    trained, untrained = (
        np.array([np.nan if each is None else mean_of(each.index) for each in of])
        for of in (labs, lab(naive))
    )
    return adjusted([paired("chemotactic index, with and without what was learned", trained, untrained)])


def _without_heredity(ours: np.ndarray, theirs: np.ndarray, events: list[str], dummy: str) -> dict[str, Any]:
    """The rewards of worlds in which rewards are not inherited, `[worlds, events]`, and how far ours are from them.

    Both are vectors of length 1. Survival selects in both, so equal signs do not show heredity; the distance between the
    two is what heredity adds.
    """
    theirs = theirs[np.isfinite(theirs).all(1)]
    unit, beside = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (ours, theirs))
    apart = [_apart(unit[:, i], beside[:, i]) for i in range(len(events))]
    asked = [i for i, name in enumerate(events) if name != dummy]
    corrected = dict(zip(asked, statistics.holm([apart[i]["p_two_sided"] for i in asked]), strict=True))
    return {
        "worlds": theirs,
        "table": analysis.reward_table(theirs, events, dummy),
        "apart": [
            {"name": name, **apart[i], "p_holm": corrected.get(i, apart[i]["p_two_sided"])}
            for i, name in enumerate(events)
        ],
    }


def _means(rows: np.ndarray) -> np.ndarray:
    """Mean over individuals; NaN if there are none."""
    return rows.mean(0) if len(rows) else np.full(rows.shape[1], np.nan)


def _apart(ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    """Two-sided comparison of two arms."""
    larger = statistics.cliffs_delta(ours, theirs) >= 0
    test = statistics.mann_whitney(ours, theirs) if larger else statistics.mann_whitney(theirs, ours)
    return {
        "ours": ours,
        "theirs": theirs,
        "delta": test.delta if larger else -test.delta,
        "p_two_sided": min(1.0, 2 * test.p),
        "method": test.method,
    }


def mean_of(rows: np.ndarray) -> float:
    """Mean of the finite values; NaN if there are none."""
    known = rows[np.isfinite(rows)]
    return float(known.mean()) if len(known) else float("nan")
