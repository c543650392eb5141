"""A sweep: every setting of a grid with every seed, each in a run of its own."""

import math
import operator
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from shutil import rmtree
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import jax
import msgspec
import numpy as np

from fairyring._version import __version__
from fairyring.core.cores import available_cores
from fairyring.core.errors import FairyringError, PlanError, RunError
from fairyring.core.files import make_folder, own_name, storage
from fairyring.core.interrupts import as_they_end, interruptible_pool, wait_for_work_left
from fairyring.core.lock import Lock
from fairyring.learning import Plan
from fairyring.lowering import SMALL_MODEL
from fairyring.population import Population
from fairyring.privacy import together
from fairyring.records.layout import LEDGER, RUN
from fairyring.records.round_record import RoundRecord
from fairyring.rounds import EarlyStopping
from fairyring.simulation import Elsewhere, SecureSum, simulate
from fairyring.sweeps.results import FORM, SWEEP, Sweep, SweepRun, check_chosen_by, read_sweep, write_sweep
from fairyring.sweeps.settings import Setting, Values, settings_of
from fairyring.tracking import Named, Track, Tracker, trackers_from


def sweep(
    make_plan: Plan | Callable[..., Plan],
    grid: Mapping[str, Values],
    population: Population,
    *,
    rounds: int,
    test: Population,
    validation: Population | None = None,
    seeds: int | Sequence[int] = 3,
    choose_by: str = "loss",
    folder: str | os.PathLike[str] | None = None,
    resume: bool = False,
    at_once: int | None = None,
    evaluate_every: int | None = None,
    dropout: float | str = 0.0,
    secure_sum: SecureSum = "ideal",
    stop: EarlyStopping | None = None,
    track: Track | None = None,
    engine: Literal["compiled", "debug"] | Elsewhere = "compiled",
    on_run: Callable[[SweepRun], object] | None = None,
) -> Sweep:
    """Run a plan with every setting of a grid and every seed, and choose the best setting.

    The best is chosen by its last models on the validation clients, and is judged on the test clients, which took no part in the choice.
    A run that fails is noted, with its error, and the others go on. Settings that differ only in numbers share one compiled program.

    Args:
        make_plan: a plan, or a function that returns one.
        grid: field -> its values. With a plan, fields are paths for `override`, such as ``"local.optimizer.learning_rate"``; with a
            function, its arguments. Values without a short name, such as optimisers, are given as label -> value.
        population: the clients.
        rounds: of each run.
        test: clients on which the chosen setting is judged.
        validation: clients by which it is chosen; by default half of those in `test`, and the other half judges.
        seeds: how many, from 0 on, or which.
        choose_by: `loss`, or a metric of the task. Whether more of a metric is better: see `fr.EarlyStopping`.
        folder: a new folder to keep the runs in, each in its own folder, and `sweep.json`; by default nothing is written.
        resume: continue the sweep in `folder`: runs that have ended are kept, as they are if they have more rounds; others go on where
            they stopped, and those that failed are tried again. The grid and the seeds may have more values than before.
        at_once: how many runs at once, each on one core. By default as many as there are cores for models of less than 400,000
            parameters; otherwise one after the other, each on all cores, and always so on accelerators.
        evaluate_every, dropout, secure_sum, stop: as for `simulate`. Evaluations during a run are on the validation clients.
        track: trackers of the runs, as for `simulate`; a run is called by its setting and its seed.
        engine: as for `simulate`. On a cluster small models are trained one run a core, on all nodes at once, and larger ones run after run,
            each on all nodes; a folder must then be on a file system that all nodes share.
        on_run: called with each run when it has ended.

    Returns:
        The sweep; print it for its table.

    Raises:
        PlanError: the grid, a setting or an option is invalid.
        RunError: the folder cannot be used.
    """
    wait_for_work_left()  # of a sweep that was interrupted: its runs hold their folders until their round is over
    settings = settings_of(make_plan, grid)
    trackers = trackers_from(track) if track is not None else []
    numbers = _numbers(seeds)
    if not numbers or len(set(numbers)) < len(numbers):
        raise PlanError("seeds", given=repr(seeds), expected="one or more, all different", do="Set seeds=3.")
    for setting in settings:
        check_chosen_by(choose_by, setting.plan.task.evaluated)
    if validation is None:
        validation, test = _halves(test)
    if at_once is None:
        at_once = available_cores() if _are_small(settings) else 1
        if isinstance(engine, RunsElsewhere) and _are_small(settings):
            at_once = len(settings) * len(numbers)
    elif at_once > 1 and not isinstance(engine, str | RunsElsewhere):
        raise PlanError(
            "at_once",
            given=at_once,
            expected="1 with this engine: its runs follow each other",
            do="Leave it out.",
        )
    elif at_once < 1:
        raise PlanError(
            "at_once", given=at_once, expected="1 or more", do="Leave out at_once= for the default."
        )
    # The first seed of every setting comes first: a sweep that is stopped has compared them all.
    runs = [_Planned(place, setting, seed) for seed in numbers for place, setting in enumerate(settings)]
    private = any(setting.plan.privacy is not None for setting in settings)
    path = _opened(folder, resume=resume, private=private) if folder is not None else None
    found = Sweep(
        form=FORM,
        fairyring=__version__,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        names=[setting.name for setting in settings],
        labels=[setting.labels for setting in settings],
        seeds=numbers,
        rounds=rounds,
        choose_by=choose_by,
        higher_is_better=settings[0].plan.task.higher_is_better[choose_by],
        runs=_earlier(path, settings, numbers) if path is not None and resume else [],
    )
    stopping = threading.Event()

    def on_round(record: RoundRecord) -> None:
        if stopping.is_set():
            raise _Stopped

    job = _Job(
        population,
        validation,
        test,
        path,
        {
            "rounds": rounds,
            "evaluate_every": evaluate_every,
            "dropout": dropout,
            "secure_sum": secure_sum,
            "stop": stop,
        },
        trackers,
    )

    def run(planned: _Planned, processors: list[int] | None) -> SweepRun:
        return job(planned, on_round=on_round, processors=processors, engine=engine)

    def note(ended: SweepRun) -> None:
        found.runs[:] = [one for one in found.runs if (one.setting, one.seed) != (ended.setting, ended.seed)]
        found.runs.append(_finite(ended))
        if path is not None:
            write_sweep(path, found, private=private)
        if on_run is not None:
            on_run(found.runs[-1])

    lock = Lock(path / "lock") if path is not None else None
    try:
        if path is not None:
            write_sweep(path, found, private=private)
        if isinstance(engine, RunsElsewhere) and at_once > 1:
            for ended in engine.map(job, runs):
                note(ended)
        else:
            _run_all(runs, run, note, min(at_once, len(runs)), stopping)
        found.privacy = _spent(path, settings)
        if path is not None:
            write_sweep(path, found, private=private)
    finally:
        if lock is not None:
            lock.release()
    return found


@runtime_checkable
class RunsElsewhere(Protocol):
    """An engine that can make whole runs, each on one core, wherever its machines are."""

    def map(self, job: Callable[..., SweepRun], runs: Sequence[Any]) -> Iterator[SweepRun]:
        """What the job gives for each run, in the order in which they end."""
        ...


@dataclass(frozen=True)
class _Job:
    """What all runs of a sweep have in common. It can be sent to another machine.

    Attributes:
        population: the clients.
        validation: evaluated during a run.
        test: evaluated at its end.
        path: the sweep's folder, or None.
        options: of `simulate`.
        trackers: of the runs.
    """

    population: Population
    validation: Population
    test: Population
    path: Path | None
    options: Mapping[str, Any]
    trackers: Sequence[Tracker]

    def __call__(self, planned: "_Planned", **options: Any) -> SweepRun:
        """Make a run. What goes wrong with it is in the result."""
        own = _run_folder(self.path, planned) if self.path is not None else None
        name = str(own.relative_to(self.path)) if own is not None and self.path is not None else None
        track = [Named(one, f"{planned.setting.name},seed={planned.seed}") for one in self.trackers]
        began = time.perf_counter()
        try:
            done = simulate(
                planned.setting.plan,
                self.population,
                seed=planned.seed,
                test=self.validation,
                run=own,
                resume=own is not None and own.is_dir(),
                track=track,
                **self.options,
                **options,
            )
            assert done.tested is not None
            means, judged = done.tested.means, done.evaluate(self.test).means
        except Exception as error:
            if isinstance(error, _Stopped):
                raise
            return SweepRun(setting=planned.place, seed=planned.seed, folder=name, error=_words(error))
        return SweepRun(
            setting=planned.place,
            seed=planned.seed,
            folder=name,
            finished=True,
            rounds=done.rounds,
            seconds=round(time.perf_counter() - began, 3),
            validation=means,
            test=judged,
        )


class _Stopped(Exception):
    """The sweep was interrupted, and so are its runs, after their round."""


class _Planned(NamedTuple):
    """A run to be made."""

    place: int
    setting: Setting
    seed: int


def _run_all(
    runs: Sequence[_Planned],
    run: Callable[[_Planned, list[int] | None], SweepRun],
    note: Callable[[SweepRun], None],
    at_once: int,
    stopping: threading.Event,
) -> None:
    """Make all runs, so many at once, each on a core of its own. `note` is called in this thread."""
    if at_once == 1:
        for planned in runs:
            note(run(planned, None))
        return
    cores: SimpleQueue[int] = SimpleQueue()
    for core in range(at_once):
        cores.put(core)

    def on_a_core(planned: _Planned) -> SweepRun:
        core = cores.get()
        try:
            if stopping.is_set():
                raise _Stopped
            return run(planned, [core])
        finally:
            cores.put(core)

    with interruptible_pool(at_once) as pool:
        try:
            for done in as_they_end([pool.submit(on_a_core, planned) for planned in runs]):
                note(done.result())
        except BaseException:
            stopping.set()
            raise


def _numbers(seeds: int | Sequence[int]) -> list[int]:
    """The seeds, as Python's numbers.

    Raises:
        PlanError: one is no whole number.
    """
    try:
        return list(range(operator.index(seeds))) if np.ndim(seeds) == 0 else [*map(operator.index, seeds)]  # pyright: ignore[reportArgumentType]
    except TypeError:
        raise PlanError(
            "seeds", given=repr(seeds), expected="a whole number, or a list of them", do="Set seeds=3."
        ) from None


def _are_small(settings: Sequence[Setting]) -> bool:
    """Whether a run leaves the cores idle too often to use them all: its rounds are short, on a CPU."""
    on_cpu = jax.local_devices()[0].platform == "cpu"
    return on_cpu and all(setting.plan.layout.size < SMALL_MODEL for setting in settings)


def _halves(test: Population) -> tuple[Population, Population]:
    """The clients by which a setting is chosen, and those on which it is judged."""
    if len(test) > 1:
        return test.split_clients(0.5, 0)
    return test.split_within(0.5, 0)


def _opened(folder: str | os.PathLike[str], *, resume: bool, private: bool) -> Path:
    path = Path(folder)
    if resume:
        if (path / SWEEP).exists() or not any(path.glob(f"*/seed-*/{RUN}")):
            read_sweep(path)
    elif path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RunError(
            f"sweep folder {path}",
            given="a path that is in use",
            expected="a new or empty folder",
            do="Choose another folder, or continue that sweep (resume=True, --resume)."
            if (path / SWEEP).is_file()
            else "Choose another folder.",
        )
    with storage(path):
        make_folder(path, private=private)
        if private and path.stat().st_mode & 0o077:
            path.chmod(0o700)
    return path


def _earlier(path: Path, settings: Sequence[Setting], seeds: Sequence[int]) -> list[SweepRun]:
    """What is known of the runs of an earlier part of the sweep that are still in it."""
    if not (path / SWEEP).exists():
        return []
    before = read_sweep(path)
    places = {setting.name: place for place, setting in enumerate(settings)}
    return [
        msgspec.structs.replace(run, setting=places[before.names[run.setting]])
        for run in before.runs
        if before.names[run.setting] in places and run.seed in seeds
    ]


def _run_folder(path: Path, planned: _Planned) -> Path:
    """The folder of a run; it is not there if nothing was saved in it."""
    folder = path / own_name(planned.setting.name) / f"seed-{planned.seed}"
    if folder.is_dir() and not (folder / RUN).is_file() and not (folder / LEDGER).exists():
        rmtree(folder)  # a run that was stopped before it had saved anything
    return folder


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, FairyringError) else f"{type(error).__name__}: {error}"


def _finite(ended: SweepRun) -> SweepRun:
    """A run whose last model is not finite has failed."""
    means = [one.loss for one in (ended.validation, ended.test) if one is not None]
    if all(map(math.isfinite, means)):
        return ended
    return SweepRun(
        setting=ended.setting,
        seed=ended.seed,
        folder=ended.folder,
        rounds=ended.rounds,
        seconds=ended.seconds,
        error="the loss of its last model is not finite",
    )


def _spent(path: Path | None, settings: Sequence[Setting]) -> str | None:
    """What all runs spend together: whoever sees what was chosen from them sees more than one run tells."""
    if all(setting.plan.privacy is None for setting in settings):
        return None
    if path is None:
        return "Its runs are over the same people, and add up. Nothing was kept, so what they spend together is not known."
    # Runs of an earlier part of the sweep count too, even if they are no longer in it.
    private = sorted(ledger.parent for ledger in path.glob(f"*/*/{LEDGER}"))
    if not private:
        return None
    return f"Its runs are over the same people, and so is the choice among them. Together they spend {together(private)}"
