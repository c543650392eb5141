"""Evolution in several worlds at once: the experiment of this room."""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from fairyring.core.errors import EcologyError, RunError, RunMismatch
from fairyring.ecology.history.run_file import StoredRun, read_run, refuse_existing, refuse_other, save
from fairyring.ecology.history.running import (
    ADDRESSES,
    Pace,
    WorldRun,
    addressed,
    advance,
    whole_number,
    world_key,
)
from fairyring.ecology.results import Row
from fairyring.ecology.world import AMOUNTS, FOUNDING, NUMBERS, World, kind_of, override

SAVED = 20.0  # seconds between two versions of a run's file


@dataclass(frozen=True)
class Evolution(StoredRun):
    """A run: some worlds and what happened in them.

    Attributes:
        settings: of each world.
        seed: of all worlds.
        numbers: of the worlds. Seed and number identify a world, whatever other worlds the run has.
        worlds: in their present state, with their histories.
        seconds: spent running, without compilation, over all sittings.
        compiling: seconds spent compiling.
    """

    @property
    def metrics(self) -> dict[str, np.ndarray]:
        """By name `[worlds, steps]`: counts as int32, energies and flows as float32. See `NUMBERS` and `AMOUNTS`."""
        named = {}
        for names, field in ((NUMBERS, "numbers"), (AMOUNTS, "amounts")):
            rows = np.stack([getattr(world, field)[: self.steps] for world in self.worlds])
            named |= {name: rows[:, :, i] for i, name in enumerate(names) if name != "short"}
        return named

    def table(self, every: int = 1) -> list[Row]:
        """`metrics` as rows, one for each world and step, for data frames and `write_csv`.

        Args:
            every: steps between two rows of a world; the first row is of step 1.

        Raises:
            EcologyError: `every` is not a whole number from 1.
        """
        every, metrics = whole_number("every", every, 1, FOUNDING), self.metrics
        columns = {name: rows[:, ::every].tolist() for name, rows in metrics.items()}
        return [
            {"world": number, "step": step + 1} | {name: rows[place][row] for name, rows in columns.items()}
            for place, number in enumerate(self.numbers)
            for row, step in enumerate(range(0, self.steps, every))
        ]

    @property
    def agent_steps(self) -> int:
        """Steps of all individuals together."""
        return sum(int(world.numbers[:, 0].sum()) for world in self.worlds)

    def world(self, number: int) -> WorldRun:
        """The world of a number.

        Raises:
            EcologyError: the run has no such world.
        """
        if number not in self.numbers:
            raise EcologyError(
                "world", given=number, expected=f"one of {list(self.numbers)}", do="Choose one of the run's."
            )
        return self.worlds[self.numbers.index(number)]

    def until(
        self,
        steps: int,
        *,
        out: str | os.PathLike[str] | None = None,
        cores: int | None = None,
        progress: Callable[[int, int], None] | None = None,
        watch: Callable[["Evolution"], None] | None = None,
    ) -> "Evolution":
        """Continue until each world has made `steps` steps. The bits are those of a run that never stopped.

        If it is interrupted (Ctrl-C), the steps made so far are saved to `out` first.

        Args:
            steps: of each world, from its start.
            out: a file to store the run in; it may be a file of this run, which is then replaced.
            cores: how many to use; all by default. The result does not depend on it.
            progress: called now and then with steps done and steps to do, over all worlds.
            watch: called now and then with the run so far.

        Raises:
            EcologyError: `steps` is not a possible number of steps.
            RunError: `out` exists and is not this run, or has more steps.
            StorageError: `out` cannot be written.
        """
        steps = _steps(steps)
        if out is not None:
            refuse_other(self, Path(out))
        todo = sum(max(0, steps - world.steps) for world in self.worlds)
        saved, pace, latest = monotonic(), Pace(), self

        def report(worlds: Sequence[WorldRun], done: int) -> None:
            nonlocal saved, latest
            latest = self.reached(worlds, pace)
            if progress is not None:
                progress(done, todo)
            if watch is not None:
                watch(latest)
            if out is not None and monotonic() - saved > SAVED:
                save(latest, out)
                saved = monotonic()

        reporting = progress is not None or watch is not None or out is not None
        try:
            worlds = self.worlds
            if todo:
                worlds, _ = advance(
                    self.settings,
                    self.worlds,
                    steps,
                    cores=cores,
                    watch=report if reporting else None,
                    pace=pace,
                )
        except KeyboardInterrupt:
            if out is not None and latest is not self:
                save(latest, out)
            raise
        after = self.reached(worlds, pace)
        if out is not None:
            save(after, out)
        return after

    def reached(self, worlds: Sequence[WorldRun], pace: Pace) -> "Evolution":
        """This run with its worlds as they are during or after a sitting that took `pace` so far."""
        return dataclasses.replace(
            self,
            worlds=tuple(worlds),
            seconds=self.seconds + pace.running,
            compiling=self.compiling + pace.compiling,
        )


def evolve(
    settings: World,
    worlds: int | Sequence[int] = 16,
    steps: int = 8000,
    seed: int = 0,
    *,
    out: str | os.PathLike[str] | None = None,
    cores: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evolution:
    """Let worlds evolve, each by itself.

    The unit of replication is a world, because individuals of one world are relatives and neighbours.

    Args:
        settings: a `World1` or a `World2`.
        worlds: how many, or their numbers. World 7 of a seed is the same to the bit, alone or among others.
        steps: of each world.
        seed: of all randomness.
        out: a file to store the run in. It is saved now and then, and can be continued (`load`, `Evolution.until`).
        cores: how many to use; all by default. The result does not depend on it.
        progress: called now and then with steps done and steps to do, over all worlds.

    Raises:
        EcologyError: no worlds; or steps, a seed or the number of a world that is not a whole number from 0 or is too large.
        RunError: `out` exists already.
        StorageError: `out` cannot be written.
    """
    numbers, steps, seed = _numbers(worlds), _steps(steps), addressed("seed", seed)
    if out is not None:
        refuse_existing(Path(out))
    start = tuple(WorldRun.new(settings, world_key(seed, number)) for number in numbers)
    return Evolution(settings, seed, numbers, start).until(steps, out=out, cores=cores, progress=progress)


def load(path: str | os.PathLike[str], settings: World | None = None) -> Evolution:
    """Read a run.

    Args:
        path: of its file.
        settings: required if the run has custom senses, events or a custom policy.

    Raises:
        RunError: there is no such file.
        RunDamaged: the file is truncated, was changed, or is not a run.
        RunMismatch: another version made it; its settings differ from those given; or it needs them.
    """
    return Evolution(**vars(read_run(path, settings)))


def resume(
    path: str | os.PathLike[str],
    *,
    kind: str | None = None,
    worlds: int | None = None,
    seed: int | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Evolution:
    """Read a run in order to continue it, and refuse it if it is not the run that was asked for.

    Args:
        path: of its file.
        kind: "v1" or "v2".
        worlds: how many.
        seed: of the run.
        changes: settings that the run must have, each a value or text for one, as `override` takes them.

    None stands for whatever the run has.

    Raises:
        RunError: there is no such file.
        RunDamaged: as `load`.
        RunMismatch: as `load`, or the run differs from what was asked for.
    """
    path = Path(path)
    if not path.exists():
        raise RunError(
            str(path),
            given="no such file",
            expected="a run to continue",
            do="Name its file, or begin it without resuming.",
        )
    run = load(path)
    if changes:
        load(path, override(run.settings, changes))
    for name, asked, actual in (
        ("world", kind, kind_of(run.settings)),
        ("worlds", worlds, len(run.numbers)),
        ("seed", seed, run.seed),
    ):
        if asked is not None and asked != actual:
            raise RunMismatch(
                str(path),
                given=f"{name} {asked}",
                expected=f"{actual}, as the run has it",
                do="Choose another file, or ask for what is in this one.",
            )
    return run


def _numbers(worlds: Any) -> tuple[int, ...]:
    """The numbers of the worlds, given how many there are or which."""
    many = isinstance(worlds, Sequence | np.ndarray) and not isinstance(worlds, str | bytes)
    if not many:
        return tuple(range(whole_number("worlds", worlds, 1, ADDRESSES)))
    numbers = tuple(addressed("world", number) for number in worlds)
    if not numbers or len(set(numbers)) < len(numbers):
        raise EcologyError(
            "worlds", given=worlds, expected="one or more different numbers", do="Ask for at least one."
        )
    return numbers


def _steps(steps: Any) -> int:
    return whole_number("steps", steps, 0, FOUNDING)
