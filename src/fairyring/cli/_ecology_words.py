"""What the commands of `ecology` have in common: options, and progress in a terminal."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from fairyring.cli._screen import say, screen
from fairyring.core.errors import EcologyError
from fairyring.ecology.history import Evolution, WorldRun, load, whole_number
from fairyring.ecology.world import FOUNDING
from fairyring.report import units

_QUARTERS = 4  # lines of progress for each task, if the output is not a terminal


def number(value: float | None) -> str:
    """Three digits, or a dash."""
    return "–" if value is None or value != value else f"{value:.3g}"


def changes(words: Sequence[str]) -> dict[str, str]:
    """``["width=64"]`` as ``{"width": "64"}``.

    Raises:
        EcologyError: a word has no name or no ``=``.
    """
    parsed = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name.strip() or not equals:
            raise EcologyError(
                "--set", given=repr(word), expected="NAME=VALUE", do="Write it as --set food_influx=20."
            )
        parsed[name.strip()] = value.strip()
    return parsed


def table_file(path: Path | None) -> None:
    """Check where a table is to be written, before anything is run for it.

    Raises:
        EcologyError: the folder is not there.
    """
    if path is not None and not path.parent.is_dir():
        raise EcologyError(
            "--csv", given=str(path), expected="a file in a folder that is there", do="Make the folder first."
        )


def show_written(table: Path | None) -> None:
    """Print where a table was written, if one was asked for."""
    if table is not None:
        say(f"Table: {table}")


def at_least_one(name: str, value: int | None) -> None:
    """Check the value of an option, if it was given.

    Raises:
        EcologyError: it is below 1, or more than a world can count.
    """
    if value is not None:
        whole_number(name, value, 1, FOUNDING)


def one_world(path: Path, world: int | None) -> tuple[Evolution, int, WorldRun]:
    """A run, the number of one of its worlds (the first if None), and that world.

    Raises:
        EcologyError: the run has no such world.
        RunError: as `load`.
    """
    run = load(path)
    world = run.numbers[0] if world is None else world
    if world not in run.numbers:
        raise EcologyError(
            f"world {world}",
            given=f"a run with worlds {', '.join(map(str, run.numbers))}",
            expected="one of them",
            do=f"Ask for another: --world {run.numbers[0]}, or {path}:{run.numbers[0]} in a jar.",
        )
    return run, world, run.worlds[run.numbers.index(world)]


def agent_steps(worlds: Sequence[WorldRun]) -> int:
    """Steps of all individuals in these worlds together."""
    return sum(int(world.numbers[:, 0].sum()) for world in worlds)


class Doing(AbstractContextManager["Doing"]):
    """Progress of named tasks: a bar for each in a terminal, otherwise a line at every quarter.

    Args:
        console: where to write; standard output if None.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or screen()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None, complete_style="cyan", finished_style="cyan"),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            expand=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._printed: dict[str, int] = {}

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self._bar.stop()

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        """Report that `done` of `total` of a task is done; a total of 0 is unknown."""
        if self.console.is_terminal:
            if what not in self._tasks:
                self._tasks[what] = self._bar.add_task(what, total=total or None, note="")
            of = f" of {units.count(total)}" if total else ""
            self._bar.update(self._tasks[what], completed=done, note=note or f"{units.count(done)}{of}")
            return
        quarter = _QUARTERS * done // total if total else 0
        if self._printed.get(what, -1) < quarter:
            self._printed[what] = quarter
            of = f"  {units.count(done)} of {units.count(total)}" if total else ""
            self.console.print(
                f"{what}{of}{'  ' if note else ''}{note}", highlight=False, markup=False, soft_wrap=True
            )


class Speed:
    """Agent-steps per second since the first call; compiling and whatever else came before does not count."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None

    def __call__(self, worlds: Sequence[WorldRun]) -> str:
        """The speed so far, in words."""
        now, done = time.perf_counter(), agent_steps(worlds)
        if self._first is None:
            self._first = now, done
        return per_second(done - self._first[1], now - self._first[0])


def per_second(steps: int, seconds: float) -> str:
    """Agent-steps per second, in words; empty if there were no steps."""
    if not steps or seconds <= 0:
        return ""
    rate = steps / seconds
    return (
        f"{rate / 1e6:.1f} million live agent-steps/s"
        if rate >= 1e6
        else f"{units.count(rate)} live agent-steps/s"
    )
