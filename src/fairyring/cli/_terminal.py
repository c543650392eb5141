"""Output to the terminal: errors, progress, the final summary. If it is not a terminal, output is plain lines."""

import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from fairyring.core.errors import FairyringError, PrivacyWarning
from fairyring.records.round_record import RoundRecord
from fairyring.report import units

_LINES = 20  # of progress, if the output is not a terminal


def screen() -> Console:
    """Standard output."""
    return Console()


def show_error(error: FairyringError) -> None:
    """Print an error to standard error as a short panel: what, given, expected, what to do."""
    body = Table.grid(padding=(0, 2))
    body.add_column(style="dim", no_wrap=True)
    body.add_column(overflow="fold")
    for label, words in (("given", error.given), ("expected", error.expected), ("do", error.do)):
        body.add_row(label, Text(str(words)))
    for note in getattr(error, "__notes__", ()):
        body.add_row("where", Text(note))
    title = Text(f" {error.what} ", style="bold red", overflow="fold")
    Console(stderr=True).print(Panel(body, title=title, title_align="left", border_style="red"))


@contextmanager
def without_warnings() -> Iterator[None]:
    """Suppress Python's privacy warnings, which the command prints itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PrivacyWarning)
        yield


def show_warning(console: Console, caution: str) -> None:
    """Print a warning before the run starts."""
    console.print(Text.assemble(("Warning. ", "bold yellow"), caution), soft_wrap=True)


def show_cautions(console: Console, plan: Any, population: Any, rounds: int) -> None:
    """Print what weakens a plan's promise, before its run starts."""
    from fairyring.population import Population
    from fairyring.rounds.cautions import warnings_of

    if isinstance(population, Population):  # anything else is refused by the run
        sizes = population.sizes
        for caution in warnings_of(plan, sum(size > 0 for size in sizes), rounds, sum(sizes)):
            show_warning(console, caution)


class LiveProgress(AbstractContextManager["LiveProgress"]):
    """Shows the progress of a run. Call it with the record of each round when the round ends.

    Args:
        console: where to write.
        rounds: the planned number of rounds.
    """

    def __init__(self, console: Console, rounds: int) -> None:
        self.console, self.rounds = console, rounds
        self.seen = self.clients = self.last = 0
        self.training = 0.0
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
        if self.console.is_terminal:
            self.live.start()
        else:
            self._print(f"Training {units.count(self.rounds, 'round')}; compiling first.")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
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
        due = self.last % max(1, self.rounds // _LINES) == 0 or self.last == self.rounds or self.seen == 1
        if not self.console.is_terminal and due:
            self._print(f"round {self.last}/{self.rounds}  {state}{'  ' if left else ''}{left}")

    def _state(self, record: RoundRecord) -> list[str]:
        if record.aborted is not None:
            return ["too few clients stayed: no sum, and nothing changed"]
        parts = [f"{units.label(name)} {units.mean(record, name)}" for name in trained(record)]
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

    def _print(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)


def trained(record: RoundRecord) -> list[str]:
    """Columns of what was measured in training: the loss, and the accuracy if there is one."""
    return [name for name in ("loss", "metrics.accuracy") if name in units.training(record)]


def summarise(
    console: Console,
    records: Sequence[RoundRecord],
    facts: Mapping[str, Any],
    folder: Path,
    page: Path | None,
) -> None:
    """Print the final summary of a run.

    Args:
        console: where to write.
        records: of the run's rounds.
        facts: the run's `run.json`.
        folder: the run folder.
        page: its report, if one was written.
    """
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, words in _facts(records, facts):
        table.add_row(label, Text(words))
    table.add_row("run", Text(str(folder)))
    if facts.get("secure_sum") == "protocol":
        from fairyring.rounds.history import end_of

        table.add_row("head", Text(f"{end_of(folder)}; note it elsewhere, for fairyring verify --head"))
    if page:
        table.add_row("report", Text(str(page), style="bold"))
    console.print()
    console.print(table, soft_wrap=not console.is_terminal)
    exposed = [a for a in facts.get("assumptions", ()) if a.get("kind") == "not_private"]
    console.print()
    console.print(Text("What is not private about this run", style="bold yellow"))
    if not exposed:
        console.print(Text("  The run makes no statement. Assume that nothing about it is private."))
    for entry in exposed:
        console.print(Text.assemble("  ", (f"{entry['title']}. ", "bold"), entry["text"]), soft_wrap=True)


def _facts(records: Sequence[RoundRecord], facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [("rounds", units.count(len(records)))]
    if not records:
        return rows
    last = next((record for record in reversed(records) if record.aborted is None), None)
    if last is None:
        rows.append(("training", "no round had a sum; the model is the initial one"))
    elif names := trained(last):
        means = (f"{units.label(name)} {units.mean(last, name, noise=True)}" for name in names)
        rows.append(("training", ", ".join(means)))
    tested = next(((r.round, r.test.columns()) for r in reversed(records) if r.test is not None), None)
    if tested:
        values = ", ".join(f"{units.label(n)} {units.metric(n, v)}" for n, v in tested[1].items())
        rows.append(("held-out", f"{values} (round {tested[0]})"))
    seconds, clients = facts.get("seconds"), sum(record.clients for record in records)
    if seconds:
        rows.append(("time", f"{units.duration(seconds)}, {units.count(clients / seconds)} clients/s"))
    up, down = sum(record.bytes_up for record in records), sum(record.bytes_down for record in records)
    rows.append(("travelled", f"{units.size(up)} up, {units.size(down)} down"))
    promise = facts.get("privacy")
    if promise and promise.get("spent") is not None:
        limit = f" of {promise['epsilon']:g}" if promise["epsilon"] is not None else ", without a limit,"
        counted = f"epsilon {promise['spent']:.3g}{limit} spent at delta {promise['delta']:g}, for every {promise.get('unit', 'device')}"
        why = promise.get("why_nothing")
        rows.append(("privacy", f"nothing is promised: {why} (counted: {counted})" if why else counted))
        if promise.get("statement") and not why:
            rows.append(("statement", promise["statement"]))
        rows += [("warning", caution) for caution in promise.get("warnings", ())]
        if facts.get("stopped_by") == "budget":
            rows.append(("stopped", "the next round would have exceeded the budget"))
    if facts.get("secure_sum") == "protocol":
        summed = [record.clients for record in records if record.aborted is None]
        rows.append(("secure sum", _secure(summed, len(records) - len(summed))))
    bad = sum(record.nonfinite for record in records)
    if bad:
        rows.append(("not finite", units.not_finite(bad, facts)))
    return rows


def _secure(summed: Sequence[int], aborted: int) -> str:
    """The outcome of a run's secure sums."""
    words = f"{units.count(len(summed), 'masked sum')}"
    if summed:
        words += f", the smallest of {units.count(min(summed), 'client')}"
    if aborted:
        words += f"; {units.count(aborted, 'round')} without a sum"
    return f"{words}; check with fairyring verify"
