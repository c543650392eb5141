"""Restarts: a population is taken out of its world and settled in new ones, to see whether it persists.

A restart is closed: there is no immigration, and by default no mutation. So it tests the population as it was, and not what
might still evolve.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from fairyring.ecology.history import Evolution, WorldRun, advance, world_key
from fairyring.ecology.world import World, settled

RESTART = 0x52455354  # part of the address of all random numbers of restarts

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def closed(settings: World, **changes: Any) -> World:
    """Settings without immigration, mutation, conjugation and control, and with `changes`."""
    return dataclasses.replace(
        settings, **{"minimum": 0, "mutation_rate": 0.0, "conjugation": 0.0, "control": "none"} | changes
    )


def colonies(
    run: Evolution,
    settings: World,
    *,
    seed: int,
    replicates: int = 1,
    change: Change | None = None,
    naive: bool = False,
) -> list[WorldRun]:
    """New worlds settled from each world of a run, `replicates` of each, world by world.

    Args:
        run: whose worlds to settle from, in their present state; an extinct world gives empty worlds.
        settings: of the new worlds; they may differ from the run's in numbers.
        seed: of all randomness; positions and sources are equal for equal seed, world and replicate.
        replicates: of each world.
        change: applied to the founders' genomes, `(genomes [founders, genes], generator) -> genomes`.
        naive: whether founders are untrained, without what the originals have learned.
    """
    new = []
    for number, world in zip(run.numbers, run.worlds, strict=True):
        for replicate in range(replicates):
            address = [seed, RESTART, number, replicate]
            draw = np.random.default_rng(address)
            living = len(world.living())
            pick = (
                draw.choice(living, settings.founders, replace=living < settings.founders) if living else []
            )
            genomes = world.genomes()[pick].astype(np.float32)
            minds = jax.tree.map(lambda rows, pick=pick: rows[pick], world.minds())
            if change is not None:
                genomes = change(genomes, draw)
            key = jax.random.fold_in(jax.random.fold_in(world_key(seed, RESTART), number), replicate)
            new.append(WorldRun.new(settings, key, settled(settings, key, genomes, None if naive else minds)))
    return new


def persisted(
    run: Evolution, *, seed: int, replicates: int = 10, generations: float = 10, watch: Any = None
) -> list[list[bool]]:
    """Whether closed restarts of each world persist for some generations, `[worlds][replicates]`.

    They count as not persisting if nobody was born in the second half of the world's history, where there is no generation
    length.

    Args:
        run: whose worlds to restart, in their present state.
        seed: of the restarts.
        replicates: of each world.
        generations: for which a restart has to persist; their length is that of the world so far.
        watch: as in `advance`.
    """
    settings = closed(run.settings)
    new = colonies(run, settings, seed=seed, replicates=replicates)
    persisting = []
    for i, world in enumerate(run.worlds):
        length = world.lineage.generation_length(after=world.steps // 2)
        steps = int(np.ceil(generations * length)) if np.isfinite(length) else 0
        after, _ = advance(settings, new[i * replicates : (i + 1) * replicates], steps, watch=watch)
        persisting.append([bool(steps and len(colony.living())) for colony in after])
    return persisting


def sizes(worlds: Sequence[WorldRun], last: int) -> np.ndarray:
    """Mean population over the last steps of each world, `[worlds]`."""
    return np.array([world.numbers[-last:, 0].mean() for world in worlds])
