"""What every study is: arms that are run or gone on with, what is decided of them, and one file that says it.

A study's folder holds a run for each arm, `evolved.eco` and so on, and `study.json`: what was found and what was decided of it, in
plain values. A run that is in the folder already is not made again, but gone on with where it stopped.
"""

import dataclasses
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jax
import msgspec
import numpy as np

from fairyring._version import __version__
from fairyring.core.cores import available_cores
from fairyring.core.errors import RunMismatch, StorageError
from fairyring.core.files import replace_file
from fairyring.ecology.history import Evolution, evolve, load
from fairyring.ecology.studies.verdicts import decided
from fairyring.ecology.world import World

FILE = "study.json"
Told = Callable[
    [str, int, int], None
]  # what is being done, how much of it, of how much; 0: of nobody knows how much


@dataclass(frozen=True)
class Arm:
    """Worlds that a study runs.

    Attributes:
        name: of them; their run is `name.eco` in the study's folder.
        settings: of each.
        numbers: of the worlds. Arms share no world.
        steps: of each.
        label: what is being run, in words.
    """

    name: str
    settings: World
    numbers: range
    steps: int
    label: str


class Study(Protocol):
    """An experiment: `conduct` runs its arms and keeps what it decides."""

    @property
    def kind(self) -> str:
        """Its name in `study.json`."""
        ...

    @property
    def seed(self) -> int:
        """Of all chance."""
        ...

    @property
    def settings(self) -> World:
        """Of the worlds that it is about."""
        ...

    def arms(self) -> tuple[Arm, ...]:
        """What is run, in order.

        Raises:
            EcologyError: too few worlds.
        """
        ...

    def decide(self, runs: Mapping[str, Evolution], say: Told, cores: int | None) -> dict[str, Any]:
        """What was found of the runs, by arm, and what is decided of it: the parts of `study.json` that are its own.

        Raises:
            EcologyError: runs of which nothing can be said.
        """
        ...


def conduct(
    study: Study,
    out: str | os.PathLike[str] | None = None,
    *,
    runs: Mapping[str, Evolution] | None = None,
    cores: int | None = None,
    progress: Told | None = None,
) -> dict[str, Any]:
    """Run a study's arms or go on with them, decide, and write `study.json`.

    Args:
        study: what to do.
        out: folder of the study; None keeps nothing.
        runs: arms to take as they are, by name.
        cores: how many to use; all by default. It changes nothing but the time.
        progress: called with what is being done, how much of it is done and how much there is.

    Returns:
        What was found, as the study has it; `plain` of it is in the file.

    Raises:
        EcologyError: as `Study.arms` and `Study.decide`.
        RunMismatch: the folder holds runs of other settings or another seed, or longer ones.
        StorageError: the folder cannot be made, or not be written to.
    """
    begun, say = time.perf_counter(), progress or (lambda what, made, whole: None)
    arms = study.arms()
    folder = None if out is None else _folder(Path(out))
    made = dict(runs or {})
    for arm in arms:
        if arm.name not in made:
            made[arm.name] = _run(arm, study.seed, folder, cores, say)
    made = {arm.name: made[arm.name] for arm in arms}
    found: dict[str, Any] = {
        "study": study.kind,
        "settings": study.settings.described(),
        "rho": study.settings.rho,
        "seed": study.seed,
        **study.decide(made, say, cores),
        "versions": {"fairyring": __version__, "jax": jax.__version__, "numpy": np.__version__},
        "machine": {"cores": available_cores(), "processor": platform.machine()},
        "seconds": {name: run.seconds for name, run in made.items()},
    }
    found["seconds"]["study"] = time.perf_counter() - begun
    found["verdicts"] = decided(plain(found))
    if folder is not None:
        replace_file(folder / FILE, msgspec.json.format(msgspec.json.encode(plain(found)), indent=1))
    return found


def plain(value: Any) -> Any:
    """A result as JSON has it: dataclasses as objects with their properties `met`, `verdict` and `why`, arrays as lists, what is
    not finite as null."""
    if dataclasses.is_dataclass(value):
        named = {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        told = {name: getattr(value, name) for name in ("met", "verdict", "why") if hasattr(value, name)}
        return named | plain(told)
    if isinstance(value, dict):
        return {key: plain(of) for key, of in value.items()}
    if isinstance(value, list | tuple):
        return [plain(of) for of in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def part(say: Told, what: str) -> Callable[[int, int], None]:
    """Progress of one part of a study."""
    return lambda made, whole: say(what, made, whole)


def _folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            str(path),
            given=error.strerror or type(error).__name__,
            expected="a folder that can be made",
            do="Choose another place.",
        ) from error
    return path


def _run(arm: Arm, seed: int, folder: Path | None, cores: int | None, say: Told) -> Evolution:
    """An arm's run: read, gone on with, or made."""
    progress = part(say, f"{arm.label}, steps")
    path = None if folder is None else folder / f"{arm.name}.eco"
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
