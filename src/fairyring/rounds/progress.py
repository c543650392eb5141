"""A run as it goes on, for whoever waits for it: in a terminal, in a notebook, or in plain lines."""

import math
import sys
import time
from contextlib import AbstractContextManager
from html import escape
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from fairyring.records import units
from fairyring.records.round_record import RoundRecord

_LINES = 20  # of progress, if the output is not a terminal


class LiveProgress(AbstractContextManager["LiveProgress"]):
    """Shows the progress of a run: a bar in a terminal or a notebook, and else plain lines. Call it with each round's record.

    Args:
        console: where to write; None for standard output.
        rounds: the planned number of rounds.
    """

    def __init__(self, console: Console | None, rounds: int) -> None:
        self.console = console = console or Console()
        self.rounds, self.notebook = rounds, _notebook_cell()
        self.seen = self.clients = self.last = 0
        self.training = self.shown = 0.0
        self.held_out: dict[str, float] = {}
        self.first = time.perf_counter()
        self.bar = Progress(
            TextColumn("round {task.completed:.0f}/{task.total:.0f}"),
            BarColumn(bar_width=None, complete_style="cyan", finished_style="cyan"),
            TextColumn("{task.fields[left]}"),
            console=console,
            expand=True,
        )
        self.task = self.bar.add_task("", total=rounds, left="compiling …")
        self.state = Text("", style="dim")
        self.live = Live(
            get_renderable=lambda: Group(self.bar.get_renderable(), self.state),
            console=console,
            refresh_per_second=8,
        )

    def __enter__(self) -> Self:
        if self.notebook is not None:
            self._show("compiling …", now=0.0)
        elif self.console.is_terminal:
            self.live.start()
        else:
            self._print(f"Training {units.count(self.rounds, 'round')}; compiling first.")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.notebook is None and self.console.is_terminal:
            self.live.stop()

    def __call__(self, record: RoundRecord) -> None:
        now = time.perf_counter()
        if not self.seen:
            self.first = now
        self.seen += 1
        self.last = record.round
        self.clients += record.clients
        self.training += record.seconds
        self.held_out = record.test.columns() if record.test is not None else self.held_out
        state, left = "  ".join(self._state(record)), self._left(now)
        self.bar.update(self.task, completed=self.last, left=left)
        self.state = Text(state, style="dim")
        if self.notebook is not None:
            self._show(f"{state}{'  ' if left else ''}{left}", now)
            return
        due = self.last % max(1, self.rounds // _LINES) == 0 or self.last == self.rounds or self.seen == 1
        if not self.console.is_terminal and due:
            self._print(f"round {self.last}/{self.rounds}  {state}{'  ' if left else ''}{left}")

    def _state(self, record: RoundRecord) -> list[str]:
        if record.aborted is not None:
            return ["too few clients stayed: no sum, and nothing changed"]
        parts = [f"{units.label(name)} {units.mean(record, name)}" for name in trained(record)]
        if record.at_bound is not None:
            parts.append(f"(cut to its bound: {record.at_bound})")
        if record.clipped is not None and record.clipped >= 0.9:
            parts.append(f"{units.share(record.clipped)} of updates clipped")
        name = units.headline(list(self.held_out))
        if name:
            parts.append(f"held-out {units.label(name)} {units.metric(name, self.held_out[name])}")
        if self.training:
            parts.append(f"{units.count(self.clients / self.training)} clients/s")
        return parts

    def _left(self, now: float) -> str:
        """Time left; empty until a round has ended after the one that compiled."""
        if self.seen < 2 or self.last >= self.rounds:
            return ""
        seconds = math.ceil((self.rounds - self.last) * (now - self.first) / (self.seen - 1))
        return f"{seconds} s left" if seconds < 60 else f"{units.duration(seconds)} left"

    def _show(self, words: str, now: float) -> None:
        """Show the state in the notebook's cell, not more often than it can be read."""
        if now and now - self.shown < 0.2 and self.last < self.rounds:
            return
        self.shown = now
        bar = f"<progress value={self.last} max={self.rounds}></progress>"
        text = f"round {self.last}/{self.rounds}  {words}"
        data = {"text/plain": text, "text/html": f"{bar} {escape(text)}"}
        self.notebook.update(data, raw=True)

    def _print(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)


def trained(record: RoundRecord) -> list[str]:
    """Columns of what was measured in training: the loss, and the accuracy if there is one."""
    return [name for name in ("loss", "metrics.accuracy") if name in units.training(record)]


def _notebook_cell() -> Any:
    """A place in the cell that a notebook is running, which can be shown anew; None outside of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if ipython is None or shell is None or not hasattr(shell, "kernel"):
        return None
    return ipython.display.display({"text/plain": ""}, raw=True, display_id=True)
