"""What rewards evolved in world 2 and what they are worth: their table, learned again from nothing, beside the same rewards on other events, and each left out."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairyring import statistics
from fairyring.ecology import analysis
from fairyring.ecology.analysis import QUIET_GENERATIONS
from fairyring.ecology.history import Evolution, WorldRun, advance
from fairyring.ecology.lab import Assay, closed, colonies, persisted, sizes
from fairyring.ecology.studies.study import Told
from fairyring.ecology.world import NUMBERS, q_learning

Lab = Callable[..., list[Assay | None]]
LATE = 2000  # steps at the end over which populations are averaged
# The signs of evolved rewards as the lecture shows them (Agüera y Arcas 2020): with large error bars, all populations viable.
LECTURE = {"eat": 1, "encounter": 1, "hungry": -1, "near death": -1, "emitted": -1}
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


def worth(
    runs: Mapping[str, Evolution], assays: Mapping[str, list[Assay | None]], lab: Lab, seed: int, say: Told
) -> dict[str, Any]:
    """What there is to say of world 2's rewards."""
    run = runs["evolved"]
    events = [event.name for event in run.settings.events]

    def watch(what: str) -> Callable[[Any, int], None]:
        return lambda worlds, made: say(what, made, 0)

    lasted = persisted(run, seed=seed, watch=watch("closed restarts, steps"))
    classes = [_class(world, restarts, run.steps) for world, restarts in zip(run.worlds, lasted, strict=True)]
    viable = [i for i, of in enumerate(classes) if of == "viable"]
    found: dict[str, Any] = {
        "viability": {"classes": classes, "restarts_that_lasted": [sum(of) for of in lasted]}
    }
    rewards = {
        arm: np.stack([_means(world.genomes()[:, : len(events)]) for world in of.worlds])
        for arm, of in runs.items()
    }
    dummy = "dummy" if "dummy" in events else events[-1]
    if len(viable) >= 3:
        found["rewards"] = {
            "events": events,
            "worlds": rewards["evolved"][viable],
            "table": analysis.reward_table(rewards["evolved"][viable], events, dummy, expected_sign=LECTURE),
            "controls": {
                arm: _without_heredity(rewards["evolved"][viable], rewards[arm], events, dummy)
                for arm in ("scrambled", "unrelated")
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
    found["against_controls"] = {
        name: {arm: _apart(late["evolved"][i], late[arm][i]) for arm in runs if arm != "evolved"}
        for i, name in enumerate(("population", "emission"))
    }
    found["relearning"] = relearning(run, lab, seed=seed, watch=watch("relearning, steps"))
    found["knock_outs"] = knock_outs(run, seed=seed, watch=watch("knock-outs, steps"))
    found["learned_in_life"] = _inherited(run, assays["evolved"], lab, seed)
    return found


def _class(world: WorldRun, restarts: list[bool], steps: int) -> str:
    """A world's viability; "too short" where it was not run for long enough to say."""
    length = world.lineage.generation_length(after=steps // 2)
    newcomers, waiting = (world.numbers[:, NUMBERS.index(name)] for name in ("newcomers", "waiting"))
    if not np.isfinite(length):  # nobody was born in the second half of the run
        length = steps / QUIET_GENERATIONS
        restarts = [False] * len(restarts)
    if len(world.living()) and length * QUIET_GENERATIONS > steps and not newcomers.any():
        return "too short"
    return analysis.viability(
        newcomers,
        length,
        restarts,
        overflow=int(waiting[-LATE:].sum()),
        extinct=not len(world.living()),
    )


def _inherited(run: Evolution, labs: list[Assay | None], lab: Lab, seed: int) -> Any:
    """How much of what the lab sees is learned: the same individuals beside the same that know nothing."""
    settings = closed(run.settings)
    naive = Evolution(settings, seed, run.numbers, tuple(colonies(run, settings, seed=seed, naive=True)))
    with_it, without = (
        np.array([np.nan if each is None else mean_of(each.index) for each in of])
        for of in (labs, lab(naive))
    )
    return adjusted([paired("chemotactic index, with and without what was learned", with_it, without)])


def _without_heredity(ours: np.ndarray, theirs: np.ndarray, events: list[str], dummy: str) -> dict[str, Any]:
    """The rewards of worlds in which none is inherited, `[worlds, events]`, and how far ours are from them, each a vector of
    length 1: signs tell who is alive, which selects in either; what heredity adds is the distance between the two."""
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
    """Mean over individuals; NaN where there are none."""
    return rows.mean(0) if len(rows) else np.full(rows.shape[1], np.nan)


def _apart(ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    """Whether two arms differ, whichever is the larger."""
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
    """Mean of what is finite; NaN where nothing is."""
    known = rows[np.isfinite(rows)]
    return float(known.mean()) if len(known) else float("nan")
