"""What the commands of `ecology` have in common: settings, worlds and progress, as a terminal shows and takes them."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

from fairyring.cli._terminal import screen
from fairyring.core.errors import EcologyError, StorageError
from fairyring.ecology.evolution import Evolution
from fairyring.ecology.run_file import load
from fairyring.ecology.running import Inhabited
from fairyring.report import units

_QUARTERS = 4  # lines about one thing that is done, where there is no terminal to redraw


def say(line: str = "") -> None:
    """A plain line."""
    screen().print(line, highlight=False, markup=False, soft_wrap=True)


def columns(names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table: the first column is what a row is about, the others are numbers."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for i, name in enumerate(names):
        table.add_column(name, justify="right" if i else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    screen().print(table, highlight=False, markup=False)


def number(value: float | None) -> str:
    """Three digits, or a dash."""
    return "–" if value is None or value != value else f"{value:.3g}"


def changes(words: Sequence[str]) -> dict[str, str]:
    """``["width=64"]`` as ``{"width": "64"}``.

    Raises:
        EcologyError: a word has no name or no ``=``.
    """
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name.strip() or not equals:
            raise EcologyError(
                "--set", given=repr(word), expected="NAME=VALUE", do="Write it as --set food_influx=20."
            )
        found[name.strip()] = value.strip()
    return found


def one_world(path: Path, world: int | None) -> tuple[Evolution, int, Inhabited]:
    """A run, and the world of that number in it; None: its first. With the number.

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
            do=f"Ask for --world {run.numbers[0]}.",
        )
    return run, world, run.worlds[run.numbers.index(world)]


def folder_for(path: Path) -> None:
    """Make the folder that `path` is to be in.

    Raises:
        StorageError: it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            str(path.parent),
            given=error.strerror or type(error).__name__,
            expected="a folder that can be made",
            do="Choose another place.",
        ) from error


def agent_steps(worlds: Sequence[Inhabited]) -> int:
    """Steps of everybody in these worlds, together."""
    return sum(int(world.numbers[:, 0].sum()) for world in worlds)


class Doing(AbstractContextManager["Doing"]):
    """What is being done and how far it is: a bar a thing in a terminal, else a line at every quarter.

    Args:
        console: where to write; standard output if None.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or screen()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None, complete_style="cyan", finished_style="cyan"),
            TextColumn("{task.fields[told]}"),
            console=self.console,
            expand=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._said: dict[str, int] = {}

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self._bar.stop()

    def __call__(self, what: str, made: int, whole: int, told: str = "") -> None:
        """`made` of `whole` of something is done; 0 for a whole that is not known."""
        if self.console.is_terminal:
            if what not in self._tasks:
                self._tasks[what] = self._bar.add_task(what, total=whole or None, told="")
            of = f" of {units.count(whole)}" if whole else ""
            self._bar.update(self._tasks[what], completed=made, told=told or f"{units.count(made)}{of}")
            return
        quarter = _QUARTERS * made // whole if whole else 0
        if self._said.get(what, -1) < quarter:
            self._said[what] = quarter
            of = f"  {units.count(made)} of {units.count(whole)}" if whole else ""
            self.console.print(
                f"{what}{of}{'  ' if told else ''}{told}", highlight=False, markup=False, soft_wrap=True
            )


class Speed:
    """Steps of living ones a second, from when it is first asked: what came before, such as compiling, is no running."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None

    def __call__(self, worlds: Sequence[Inhabited]) -> str:
        """So far, in words."""
        now, made = time.perf_counter(), agent_steps(worlds)
        if self._first is None:
            self._first = now, made
        return per_second(made - self._first[1], now - self._first[0])


def per_second(steps: int, seconds: float) -> str:
    """How fast that is, in words; nothing where nothing was made."""
    if not steps or seconds <= 0:
        return ""
    rate = steps / seconds
    return (
        f"{rate / 1e6:.1f} million live agent-steps/s"
        if rate >= 1e6
        else f"{units.count(rate)} live agent-steps/s"
    )
