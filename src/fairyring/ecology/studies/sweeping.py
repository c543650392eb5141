"""A sweep: every setting of a grid of worlds with every seed, each a run of its own, compared by what lives in them."""

import itertools
import operator
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from fairyring._version import __version__
from fairyring.core.errors import EcologyError, FairyringError, RunError, RunMismatch
from fairyring.core.files import ANYBODY, own_name
from fairyring.core.lock import Lock
from fairyring.ecology.history import (
    LATE,
    Evolution,
    addressed,
    evolve,
    load,
    make_folder,
    summaries,
    whole_number,
)
from fairyring.ecology.lab import MEASURES, assay
from fairyring.ecology.results import (
    SWEEP,
    SWEEP_FORM,
    Sweep,
    SweepRun,
    plain,
    read_sweep,
    write_sweep,
)
from fairyring.ecology.world import FOUNDING, World, kind_of, override

_LOCK = "lock"
_OF_SIGNAL = ("emitting", "emitting_on_food", "index_of_signal")  # measures of worlds with a signal
# Those that say whether and how food is found; `assay` of a run's file gives the others.
_ASSAYED = ("index", "contrast", "level_contrast", "tumbling", *_OF_SIGNAL)


class _Setting(NamedTuple):
    name: str
    labels: dict[str, str]
    world: World


class _Planned(NamedTuple):
    place: int
    setting: _Setting
    seed: int


def sweep(
    settings: World,
    grid: Mapping[str, Sequence[Any]],
    *,
    worlds: int = 4,
    steps: int = 8000,
    seeds: int | Sequence[int] = 3,
    assayed: bool = True,
    folder: str | os.PathLike[str] | None = None,
    resume: bool = False,
    cores: int | None = None,
    on_run: Callable[[SweepRun], object] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Sweep:
    """Let worlds evolve with every setting of a grid and every seed, and compare what lives in them.

    A run that fails is noted, with its error, and the others go on. Settings that differ only in numbers share one compiled program.
    A run is a row of measures, each a mean over its worlds late in the run: `population`; `immigrants` in a step; `by_itself`, the share
    of worlds that took no immigrants then; `generations`; and means of the worlds' assays: `index`, `contrast`, `level_contrast`,
    `tumbling`, and in worlds with a signal `emitting`, `emitting_on_food` and `index_of_signal`. Worlds in which nobody lives have no
    assay. An interval is over seeds, whose worlds have nothing in common.

    Args:
        settings: a `World1` or a `World2`.
        grid: field -> its values, such as ``{"food_influx": [15, 30]}``; text stands for a value as on the command line.
        worlds: of each run.
        steps: of each world.
        seeds: how many, from 0 on, or which.
        assayed: whether the worlds are assayed.
        folder: a new folder to keep the runs in, with `ecology-sweep.json`, `settings.csv` and `runs.csv`; by default nothing is written.
        resume: continue the sweep in `folder`: runs that have ended are kept; others go on where they stopped, and those that failed are
            tried again. The grid, the seeds and the steps may be more than before.
        cores: how many to use; all by default. The result does not depend on it.
        on_run: called with each run when it has ended.
        progress: called with what is being done, how much of it is done, and how much there is.

    Returns:
        The sweep; print it for its table.

    Raises:
        EcologyError: the grid, a setting or an option is invalid.
        RunError: the folder cannot be used, or another process writes it.
        RunMismatch: the sweep in the folder is of other worlds.
    """
    each, numbers = _settings(settings, grid), _seeds(seeds)
    worlds, steps = whole_number("worlds", worlds, 1, FOUNDING), whole_number("steps", steps, 1, FOUNDING)
    base = plain({name: value for name, value in settings.described().items() if name not in grid})
    path = None if folder is None else _opened(Path(folder), resume=resume)
    with _alone(path, resume=resume) if path is not None else nullcontext():
        before = _earlier(path, base, kind_of(settings), worlds) if path is not None and resume else None
        found = Sweep(
            form=SWEEP_FORM,
            fairyring=__version__,
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            world=kind_of(settings),
            base=base,
            names=[setting.name for setting in each],
            labels=[setting.labels for setting in each],
            seeds=numbers,
            worlds=worlds,
            steps=steps,
            assayed=assayed,
            runs=[] if before is None else _kept(before, each, numbers),
        )
        if path is not None:
            write_sweep(path, found)
        done = {
            (run.setting, run.seed)
            for run in found.runs
            if before is not None and run.finished and run.steps >= steps and before.assayed >= assayed
        }
        # The first seed of every setting comes first: a sweep that is stopped has compared them all.
        for planned in [_Planned(place, one, seed) for seed in numbers for place, one in enumerate(each)]:
            if (planned.place, planned.seed) in done:
                continue
            file = None if path is None else _run_file(path, planned)
            ended = _ended(planned, worlds, steps, assayed, path, file, cores, progress)
            found.runs[:] = [
                one for one in found.runs if (one.setting, one.seed) != (ended.setting, ended.seed)
            ]
            found.runs.append(ended)
            if path is not None:
                write_sweep(path, found)
            if on_run is not None:
                on_run(ended)
        return found


def _ended(
    planned: _Planned,
    worlds: int,
    steps: int,
    assayed: bool,
    path: Path | None,
    file: Path | None,
    cores: int | None,
    progress: Callable[[str, int, int], None] | None,
) -> SweepRun:
    """Make or continue a run, and measure it."""
    name = None if path is None or file is None else file.relative_to(path).as_posix()
    began = time.perf_counter()

    def report(what: str) -> Callable[[int, int], None] | None:
        if progress is None:
            return None
        return partial(progress, f"{planned.setting.name}, seed {planned.seed}, {what}")

    try:
        run = _evolved(planned, worlds, steps, file, cores, report("steps"))
        measures = _measured(run, assayed, planned.seed, cores, report("worlds in the lab"))
    except Exception as error:
        words = str(error) if isinstance(error, FairyringError) else f"{type(error).__name__}: {error}"
        return SweepRun(setting=planned.place, seed=planned.seed, file=name, error=words)
    return SweepRun(
        setting=planned.place,
        seed=planned.seed,
        file=name,
        finished=True,
        steps=run.steps,
        seconds=round(time.perf_counter() - began, 3),
        measures=measures,
    )


def _evolved(
    planned: _Planned,
    worlds: int,
    steps: int,
    file: Path | None,
    cores: int | None,
    report: Callable[[int, int], None] | None,
) -> Evolution:
    settings = planned.setting.world
    if file is None or not file.exists():
        if file is not None:
            make_folder(file.parent)
        return evolve(settings, worlds, steps, planned.seed, out=file, cores=cores, progress=report)
    run = load(file, settings)
    if run.seed != planned.seed or run.numbers != tuple(range(worlds)):
        raise RunMismatch(
            str(file),
            given=f"a run of seed {run.seed} with {len(run.numbers)} worlds",
            expected=f"seed {planned.seed} and {worlds} worlds",
            do="Choose another folder, or remove that file.",
        )
    return run if run.steps >= steps else run.until(steps, out=file, cores=cores, progress=report)


def _measured(
    run: Evolution,
    assayed: bool,
    seed: int,
    cores: int | None,
    report: Callable[[int, int], None] | None,
) -> dict[str, float | None]:
    """The measures of a run, see `sweep`."""
    rows = summaries(run)
    measures = {
        "population": _mean([row.population for row in rows]),
        "immigrants": _mean([row.immigrants / min(LATE, run.steps) for row in rows]),
        "by_itself": _mean([float(row.state == "by itself") for row in rows]),
        "generations": _mean([row.generations for row in rows]),
    }
    if not assayed:
        return measures
    labs = assay(run, seed=seed, cores=cores, progress=report)
    signal = "signal" in run.settings.chemicals()
    names = [name for name in MEASURES if name in _ASSAYED and (signal or name not in _OF_SIGNAL)]
    means = [lab.means() for lab in labs if lab is not None]
    return measures | {name: _mean([row[name] for row in means]) for name in names}


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean of what is known; None if nothing is."""
    known = [value for value in values if value is not None and np.isfinite(value)]
    return float(np.mean(known)) if known else None


def _settings(settings: World, grid: Mapping[str, Sequence[Any]]) -> list[_Setting]:
    """All settings of a grid, the last field varying fastest; each is checked before anything is run."""
    values = {}
    for field, some in grid.items():
        some = some.tolist() if isinstance(some, np.ndarray) else some
        if isinstance(some, str) or not isinstance(some, Sequence):
            raise EcologyError(
                f"grid, {field}",
                given=repr(some),
                expected="a list of values",
                do="Put the values into a list.",
            )
        values[field] = list(some)
    if not values or not all(values.values()):
        raise EcologyError(
            "grid",
            given=dict(grid),
            expected="at least one field, each with at least one value",
            do='Give {"food_influx": [15, 30]}, for example.',
        )
    each = []
    for chosen in itertools.product(*values.values()):
        changes = dict(zip(values, chosen, strict=True))
        labels = {field: _label(value) for field, value in changes.items()}
        name = ",".join(f"{field}={label}" for field, label in labels.items())
        try:
            each.append(_Setting(name, labels, override(settings, changes)))
        except EcologyError as error:
            error.add_note(f"in the setting {name}")
            raise
    twice = {one.name for one in each if [other.world for other in each].count(one.world) > 1}
    if twice:
        raise EcologyError(
            "grid",
            given=f"the same worlds twice: {', '.join(sorted(twice))}",
            expected="settings that differ",
            do="Leave out values that are there already.",
        )
    return each


def _label(value: Any) -> str:
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _seeds(seeds: int | Sequence[int]) -> list[int]:
    try:
        numbers = list(range(operator.index(seeds))) if np.ndim(seeds) == 0 else [*map(operator.index, seeds)]  # pyright: ignore[reportArgumentType]
    except TypeError:
        numbers = []
    if not numbers or len(set(numbers)) < len(numbers):
        raise EcologyError(
            "seeds",
            given=repr(seeds),
            expected="a whole number from 1, or different ones",
            do="Set seeds=3.",
        )
    return [addressed("seed", seed) for seed in numbers]


@contextmanager
def _alone(path: Path, *, resume: bool) -> Iterator[None]:
    """A sweep's folder is locked, and nobody else has written it since it was found to be empty."""
    lock = Lock(
        path / _LOCK, mode=ANYBODY, what=f"sweep folder {path}", why="two would write over each other's runs"
    )
    try:
        _opened(path, resume=resume)
        yield
    finally:
        lock.release()


def _opened(path: Path, *, resume: bool) -> Path:
    if resume:
        read_sweep(path)
    elif path.exists() and (not path.is_dir() or {entry.name for entry in path.iterdir()} - {_LOCK}):
        raise RunError(
            f"sweep folder {path}",
            given="a path that is in use",
            expected="a new or empty folder",
            do="Choose another folder, or continue that sweep (resume=True, --resume)."
            if (path / SWEEP).is_file()
            else "Choose another folder.",
        )
    return make_folder(path)


def _earlier(path: Path, base: dict[str, Any], world: str, worlds: int) -> Sweep:
    """The sweep in a folder, if it is of the same worlds."""
    before = read_sweep(path)
    now = msgspec.json.decode(msgspec.json.encode(base))
    others = sorted(name for name in now.keys() & before.base.keys() if now[name] != before.base[name])
    if before.world != world or before.worlds != worlds or others:
        raise RunMismatch(
            f"sweep folder {path}",
            given=f"a sweep of {before.worlds} worlds {before.world}"
            + (f" with {', '.join(f'{name}={before.base[name]}' for name in others)}" if others else ""),
            expected=f"one of {worlds} worlds {world}"
            + (f" with {', '.join(f'{name}={now[name]}' for name in others)}" if others else ""),
            do="Choose another folder, or ask for the sweep that was begun in this one.",
        )
    return before


def _kept(before: Sweep, each: Sequence[_Setting], seeds: Sequence[int]) -> list[SweepRun]:
    """The runs of an earlier part of the sweep that are still in it."""
    places = {setting.name: place for place, setting in enumerate(each)}
    return [
        msgspec.structs.replace(run, setting=places[before.names[run.setting]])
        for run in before.runs
        if before.names[run.setting] in places and run.seed in seeds
    ]


def _run_file(path: Path, planned: _Planned) -> Path:
    return path / own_name(planned.setting.name) / f"seed-{planned.seed}.eco"
