"""A run in a few numbers for each world: how many live there, and what they live on."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from fairyring.ecology.history.evolution import Evolution
from fairyring.ecology.history.running import WorldRun
from fairyring.ecology.world import NUMBERS

LATE = 2000  # steps at the end of a run over which populations are averaged


@dataclass(frozen=True)
class WorldSummary:
    """One world late in its run.

    Attributes:
        number: of the world.
        population: mean over the last steps; None before the first step.
        immigrants: how many came in over the last steps.
        generations: divisions from a founder to the living one furthest from it.
        state: "extinct"; "capacity-limited" if parents had to wait for a place; "propped" if immigrants came; or
            "by itself". Whether a population is viable takes closed restarts to decide.
    """

    number: int
    population: float | None
    immigrants: int
    generations: int
    state: Literal["extinct", "capacity-limited", "propped", "by itself"]


@dataclass(frozen=True)
class Overrun:
    """Events that were more than one step can process.

    Attributes:
        name: column of `NUMBERS`: "delayed" births came in a later step, "unmet" conjugations did not happen.
        count: over all worlds and steps.
        worlds: how many worlds had any.
    """

    name: Literal["delayed", "unmet"]
    count: int
    worlds: int


def summaries(run: Evolution, last: int = LATE) -> list[WorldSummary]:
    """Each world of a run, over its last `last` steps."""
    return [_summary(number, world, last) for number, world in zip(run.numbers, run.worlds, strict=True)]


def overruns(run: Evolution) -> list[Overrun]:
    """What a run put off or dropped because a step processes a few births and conjugations only; empty if nothing."""
    rows = []
    for name in ("delayed", "unmet"):
        counts = [int(_column(world.numbers, name).sum()) for world in run.worlds]
        if any(counts):
            rows.append(Overrun(name, sum(counts), sum(map(bool, counts))))
    return rows


def _summary(number: int, world: WorldRun, last: int) -> WorldSummary:
    late = world.numbers[-last:]
    immigrants = int(_column(late, "immigrants").sum())
    if not len(world.living()):
        state = "extinct"
    elif _column(late, "waiting").any():
        state = "capacity-limited"
    else:
        state = "propped" if immigrants else "by itself"
    return WorldSummary(
        number,
        float(_column(late, "population").mean()) if len(late) else None,
        immigrants,
        int(world.lineage.generation()[world.uids()].max(initial=0)),
        state,
    )


def _column(numbers: np.ndarray, name: str) -> np.ndarray:
    return numbers[:, NUMBERS.index(name)].astype(np.int64)
