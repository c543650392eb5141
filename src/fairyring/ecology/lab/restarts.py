"""A population taken out of its world and settled in new ones: does it last, and what does each of its rewards do for it?

A restart is closed: nobody comes in from outside, and unless one says so nothing mutates, so what is asked is what
was there, not what might still evolve.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from fairyring.ecology.history import Evolution, WorldRun, advance, world_key
from fairyring.ecology.world import World, settled

RESTART = 0x52455354  # part of the address of what is random here

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def closed(settings: World, **changes: Any) -> World:
    """Settings without newcomers, mutation and conjugation, but for `changes`."""
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
        run: whose worlds as they are now; one in which nobody lives gives empty worlds.
        settings: of the new worlds; they may differ from the run's in numbers.
        seed: of what is random here; places and sources are the same for the same seed, world and replicate.
        replicates: of each world.
        change: of the founders' genomes, `(genomes [founders, genes], generator) -> genomes`.
        naive: founders know nothing of what those they are copies of have learned.
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
    """Whether closed restarts of each world last some generations: `[worlds][replicates]`; False where there are none, for
    nobody was born in the second half of the world's time.

    Args:
        run: whose worlds as they are now.
        seed: of the restarts.
        replicates: of each world.
        generations: that one has to last; each of as many steps as in that world so far.
        watch: as of `advance`.
    """
    settings = closed(run.settings)
    new = colonies(run, settings, seed=seed, replicates=replicates)
    lasting = []
    for i, world in enumerate(run.worlds):
        length = world.lineage.generation_length(after=world.steps // 2)
        steps = int(np.ceil(generations * length)) if np.isfinite(length) else 0
        after, _ = advance(settings, new[i * replicates : (i + 1) * replicates], steps, watch=watch)
        lasting.append([bool(steps and len(colony.living())) for colony in after])
    return lasting


def sizes(worlds: Sequence[WorldRun], last: int) -> np.ndarray:
    """Mean population over each world's last steps, `[worlds]`."""
    return np.array([world.numbers[-last:, 0].mean() for world in worlds])
