"""What all studies have in common: arms that are run or continued, a decision about them, and one file of results.

The folder of a study holds a run for each arm, `evolved.eco` and so on, and `study.json`: the measurements and verdicts as plain
values. A run that is in the folder already is continued from where it stopped.
"""

import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

from fairyring._version import __version__
from fairyring.core.cores import available_cores
from fairyring.core.errors import RunMismatch
from fairyring.ecology.history import Evolution, evolve, load, make_folder
from fairyring.ecology.results import decided, plain, run_path, write_study
from fairyring.ecology.world import World

# Called with what is being done, how much of it is done, and how much there is; 0 if that is unknown.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Arm:
    """Worlds that a study runs.

    Attributes:
        name: of the arm; its run is `name.eco` in the folder of the study.
        settings: of each world.
        numbers: of the worlds. Arms share no world.
        steps: of each world.
        label: what is being run, for progress.
    """

    name: str
    settings: World
    numbers: range
    steps: int
    label: str


class Study(Protocol):
    """An experiment: `conduct` runs its arms and stores what it decides."""

    @property
    def kind(self) -> str:
        """Its name in `study.json`."""
        ...

    @property
    def seed(self) -> int:
        """Of all randomness."""
        ...

    @property
    def settings(self) -> World:
        """Of the worlds under study."""
        ...

    def arms(self) -> tuple[Arm, ...]:
        """What is run, in order.

        Raises:
            EcologyError: too few worlds.
        """
        ...

    def decide(self, runs: Mapping[str, Evolution], progress: Progress, cores: int | None) -> dict[str, Any]:
        """Measure the runs, given by arm, and decide; the result is the part of `study.json` that is special to this study.

        Raises:
            EcologyError: runs that cannot be measured.
        """
        ...


def conduct(
    study: Study,
    out: str | os.PathLike[str] | None = None,
    *,
    runs: Mapping[str, Evolution] | None = None,
    cores: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run or continue the arms of a study, decide, and write `study.json`.

    Args:
        study: to be conducted.
        out: folder of the study; None stores nothing.
        runs: runs to use as they are, by the name of their arm.
        cores: how many to use; all by default. The result does not depend on it.
        progress: called with what is being done, how much of it is done, and how much there is (0: unknown).

    Returns:
        The results, as the study has them; the file holds `plain` of them.

    Raises:
        EcologyError: as `Study.arms` and `Study.decide`.
        RunMismatch: the folder holds runs of other settings or another seed, or longer ones.
        StorageError: the folder cannot be made, or not be written to.
    """
    begun, report = time.perf_counter(), progress or (lambda what, done, total: None)
    arms = study.arms()
    folder = None if out is None else make_folder(Path(out))
    of_arm = dict(runs or {})
    for arm in arms:
        if arm.name not in of_arm:
            of_arm[arm.name] = _run(arm, study.seed, folder, cores, report)
    of_arm = {arm.name: of_arm[arm.name] for arm in arms}
    results: dict[str, Any] = {
        "study": study.kind,
        "settings": study.settings.described(),
        "rho": study.settings.rho,
        "seed": study.seed,
        **study.decide(of_arm, report, cores),
        "versions": {"fairyring": __version__, "jax": jax.__version__, "numpy": np.__version__},
        "machine": {"cores": available_cores(), "processor": platform.machine()},
        "seconds": {name: run.seconds for name, run in of_arm.items()},
    }
    results["seconds"]["study"] = time.perf_counter() - begun
    results["verdicts"] = decided(plain(results))
    if folder is not None:
        write_study(folder, results)
    return results


def part(progress: Progress, what: str) -> Callable[[int, int], None]:
    """The progress of one part of a study."""
    return lambda done, total: progress(what, done, total)


def _run(arm: Arm, seed: int, folder: Path | None, cores: int | None, report: Progress) -> Evolution:
    """The run of an arm: read, continued, or made."""
    progress = part(report, f"{arm.label}, steps")
    path = None if folder is None else run_path(folder, arm.name)
    if path is None or not path.exists():
        return evolve(arm.settings, arm.numbers, arm.steps, seed, out=path, cores=cores, progress=progress)
    run = load(path, arm.settings)
    if run.seed != seed or run.numbers != tuple(arm.numbers) or run.steps > arm.steps:
        raise RunMismatch(
            str(path),
            given=f"a run of seed {run.seed} with {len(run.numbers)} worlds of {run.steps} steps",
            expected=f"seed {seed}, {len(arm.numbers)} worlds and {arm.steps} steps at most",
            do="Choose another folder, or ask for the study that was begun in this one.",
        )
    if run.steps == arm.steps:
        return run
    return run.until(arm.steps, out=path, cores=cores, progress=progress)
