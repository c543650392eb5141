"""Assays: how well individuals find food, and by what rule.

The chemotactic index of an individual is the mean food at its positions over the mean food of the arena. An individual that
senses nothing has an index of 1 on average, however it moves.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

import jax
import numpy as np

from fairyring.core.cores import available_cores
from fairyring.core.errors import EcologyError
from fairyring.ecology.history import Evolution, WorldRun
from fairyring.ecology.lab.arenas import Arena, Tracks, watch
from fairyring.ecology.results import Row
from fairyring.ecology.world import World

INDIVIDUALS, STEPS, SETTLING = 512, 1200, 400
SLOPE = (5.0, 50.0)  # distance from the crest of the ridge, cells, between which drift is measured


@dataclass(frozen=True)
class Assay:
    """The assay of a population. Arrays are `[individuals]`; NaN for an individual that was never in the situation.

    Attributes:
        index: chemotactic index on a ridge of food.
        index_on_patch: on a patch of food.
        index_without_sensor: on the ridge, for the same individuals without senses.
        contrast: P(tumble | food falling) - P(tumble | food rising).
        level_contrast: P(tumble | plenty) - P(tumble | less).
        drift: mean speed up the ridge's slope, over the speed of a run.
        run_up, run_down: mean length of runs up and down the slope, steps.
        tumbling: P(tumble).
        emitting: P(emit) on the ridge of food; zeros in a world without a signal.
        emitting_on_food: P(emit | plenty) - P(emit | less).
        index_of_signal: chemotactic index on a ridge of signal with flat food; NaN in a world without a signal.
        probabilities: P(tumble) in each state of level and change `[3, 3]`, over all individuals.
    """

    index: np.ndarray
    index_on_patch: np.ndarray
    index_without_sensor: np.ndarray
    contrast: np.ndarray
    level_contrast: np.ndarray
    drift: np.ndarray
    run_up: np.ndarray
    run_down: np.ndarray
    tumbling: np.ndarray
    emitting: np.ndarray
    emitting_on_food: np.ndarray
    index_of_signal: np.ndarray
    probabilities: np.ndarray

    def table(self) -> list[Row]:
        """A row for each individual, for data frames and `write_csv`."""
        columns = {name: getattr(self, name).tolist() for name in MEASURES}
        return [
            {"individual": i} | {name: values[i] for name, values in columns.items()}
            for i in range(len(self.index))
        ]

    def means(self) -> dict[str, float]:
        """Means over the individuals that were in the situation; NaN if none was."""
        return {name: _mean(getattr(self, name)) for name in MEASURES}


MEASURES = tuple(field.name for field in dataclasses.fields(Assay) if field.name != "probabilities")


class Assays(list[Assay | None]):
    """The assays of the worlds of a run, in their order; None for an extinct one.

    Args:
        numbers: of the worlds.
        each: their assays.
    """

    def __init__(self, numbers: Sequence[int], each: Iterable[Assay | None]) -> None:
        super().__init__(each)
        self.numbers = tuple(numbers)

    def table(self, *, individuals: bool = False) -> list[Row]:
        """A row for each world, with means over its individuals, for data frames and `write_csv`.

        Args:
            individuals: a row for each individual of each world instead.

        Returns:
            The rows. An extinct world has a row without values, and no individuals.
        """
        rows: list[Row] = []
        for number, lab in zip(self.numbers, self, strict=True):
            if individuals:
                rows += [{"world": number} | row for row in (() if lab is None else lab.table())]
            else:
                rows.append({"world": number} | (dict.fromkeys(MEASURES) if lab is None else lab.means()))
        return rows


def assay(
    run: Evolution,
    *,
    individuals: int | None = None,
    steps: int = STEPS,
    settling: int = SETTLING,
    seed: int = 0,
    cores: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Assays:
    """Assay the worlds of a run in their present state.

    Args:
        run: whose worlds to assay.
        individuals: how many are drawn from each world, with replacement if fewer live; 512 by default, or the capacity if
            that is less.
        steps: in each arena.
        settling: steps at the start that do not count for indices.
        seed: of the lab's randomness.
        cores: how many to use; all by default.
        progress: called with the number of worlds done and their total.

    Returns:
        One assay for each world; None for an extinct world. It is a list with a `table`.

    Raises:
        EcologyError: no individuals, or no steps left after settling.
    """
    individuals = min(INDIVIDUALS, run.settings.capacity) if individuals is None else individuals
    if individuals < 1 or individuals > run.settings.capacity or not 0 <= settling < steps:
        raise EcologyError(
            "assay",
            given=f"{individuals} individuals, {steps} steps of which {settling} are for settling",
            expected=f"1 to {run.settings.capacity} individuals, and more steps than those for settling",
            do="Correct them.",
        )
    room = run.settings.capacity // individuals
    living = [world for world in run.worlds if len(world.living())]
    batches = [living[i : i + room] for i in range(0, len(living), room)]
    cores = min(cores or available_cores(), max(1, len(batches)))
    free, lock, done = list(range(cores)), Lock(), 0

    def one(item: tuple[int, list[WorldRun]]) -> list[Assay]:
        nonlocal done
        number, worlds = item
        with lock:
            core = free.pop()
        try:
            return _together(run.settings, worlds, individuals, steps, settling, [seed, number], core)
        finally:
            with lock:
                free.append(core)
                done += len(worlds)
                if progress is not None:
                    progress(done, len(living))

    with ThreadPoolExecutor(cores) as pool:
        assays = iter([each for batch in pool.map(one, enumerate(batches)) for each in batch])
    return Assays(run.numbers, [next(assays) if len(world.living()) else None for world in run.worlds])


def _together(
    settings: World,
    worlds: Sequence[WorldRun],
    individuals: int,
    steps: int,
    settling: int,
    address: list[int],
    core: int,
) -> list[Assay]:
    """Several worlds in one arena, where individuals do not affect each other."""
    key = jax.random.key(address[0])
    key = jax.random.fold_in(key, address[1])
    draw = np.random.default_rng(address)
    picks = [
        draw.choice(len(world.living()), individuals, replace=len(world.living()) < individuals)
        for world in worlds
    ]
    genomes = np.concatenate([world.genomes()[pick] for world, pick in zip(worlds, picks, strict=True)])
    minds = jax.tree.map(
        lambda *rows: np.concatenate([of[pick] for of, pick in zip(rows, picks, strict=True)]),
        *(world.minds() for world in worlds),
    )

    def tracks_in(arena: Arena, part: int) -> list[Tracks]:
        key_of = jax.random.fold_in(key, part)
        together = watch(settings, genomes, minds, arena, key=key_of, steps=steps, core=core)
        return [together.of(slice(i * individuals, (i + 1) * individuals)) for i in range(len(worlds))]

    ridges, patches = tracks_in(Arena(), 0), tracks_in(Arena("patch"), 1)
    without, signals = tracks_in(Arena(sensing=False), 2), [None] * len(worlds)
    if "signal" in settings.chemicals():
        signals = tracks_in(Arena("flat", "ridge"), 3)
    return [
        _measured(settings, *tracks, settling)
        for tracks in zip(ridges, patches, without, signals, strict=True)
    ]


def _measured(
    settings: World, ridge: Tracks, patch: Tracks, without: Tracks, of_signal: Tracks | None, settling: int
) -> Assay:
    up, down = run_lengths(ridge)
    return Assay(
        index=index(ridge.food, ridge, settling),
        index_on_patch=index(patch.food, patch, settling),
        index_without_sensor=index(without.food, without, settling),
        contrast=share(ridge.tumbled, ridge.change == 0) - share(ridge.tumbled, ridge.change == 2),
        level_contrast=share(ridge.tumbled, ridge.level == 2) - share(ridge.tumbled, ridge.level < 2),
        drift=drift(ridge, settings),
        run_up=up,
        run_down=down,
        tumbling=ridge.tumbled.mean(0),
        emitting=ridge.emitted.mean(0),
        emitting_on_food=share(ridge.emitted, ridge.level == 2) - share(ridge.emitted, ridge.level < 2),
        index_of_signal=np.full(ridge.x.shape[1], np.nan)
        if of_signal is None or of_signal.signal is None
        else index(of_signal.signal, of_signal, settling),
        probabilities=table([ridge, patch]),
    )


def index(shown: np.ndarray, tracks: Tracks, settling: int) -> np.ndarray:
    """Mean of a field at the positions of each individual, over the mean of the field; `[individuals]`."""
    x, y = tracks.x[settling:].astype(int), tracks.y[settling:].astype(int)
    return shown[x, y].mean(0) / shown.mean()


def share(did: np.ndarray, when: np.ndarray) -> np.ndarray:
    """Share of the steps with `when` in which each individual `did`; NaN without such steps. `[individuals]`"""
    times = when.sum(0)
    return np.where(times > 0, (did & when).sum(0) / np.maximum(times, 1), np.nan)


def drift(tracks: Tracks, settings: World) -> np.ndarray:
    """Mean speed towards the ridge's crest while on its slope, over the speed of a run; `[individuals]`."""
    towards, slope = _slope(tracks)
    return (towards * slope).sum(0) / np.maximum(slope.sum(0), 1) / max(settings.speed, 1e-9)


def run_lengths(tracks: Tracks) -> tuple[np.ndarray, np.ndarray]:
    """Mean length of runs up and down the slope, in steps; a run lasts until the next tumble. `[individuals]` each."""
    towards, slope = _slope(tracks)
    runs = ~tracks.tumbled & slope
    ends = np.roll(tracks.tumbled, -1, 0) & runs
    ends[-1] = False
    means = []
    for way in (towards > 0, towards < 0):
        count = (ends & way).sum(0)
        means.append(np.where(count > 0, (runs & way).sum(0) / np.maximum(count, 1), np.nan))
    return means[0], means[1]


def table(watched: Sequence[Tracks]) -> np.ndarray:
    """P(tumble) in each state of level and change, over all individuals, `[3, 3]`; NaN for states that did not occur."""
    probabilities = np.full((3, 3), np.nan)
    for level in range(3):
        for change in range(3):
            did = when = 0
            for tracks in watched:
                there = (tracks.level == level) & (tracks.change == change)
                did, when = did + int((tracks.tumbled & there).sum()), when + int(there.sum())
            if when:
                probabilities[level, change] = did / when
    return probabilities


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _slope(tracks: Tracks) -> tuple[np.ndarray, np.ndarray]:
    """Displacement towards the crest in each step, and whether the step was on the slope."""
    middle = len(tracks.food) / 2
    away = tracks.x - middle
    return -np.sign(away) * tracks.dx, (np.abs(away) > SLOPE[0]) & (np.abs(away) < SLOPE[1])
