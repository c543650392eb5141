"""Output to the terminal: errors, progress, the final summary. If it is not a terminal, output is plain lines."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from fairyring.core.errors import FairyringError, PrivacyWarning
from fairyring.records.round_record import RoundRecord
from fairyring.report import units
from fairyring.rounds.progress import trained


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


@contextmanager
def readable_warnings() -> Iterator[None]:
    """Print the package's own warnings as a user reads them, without the line of code that they come from."""
    before = warnings.showwarning

    def show(message: Any, category: type[Warning], *rest: Any) -> None:
        if category.__module__ == PrivacyWarning.__module__:
            show_warning(Console(stderr=True), str(message))
        else:
            before(message, category, *rest)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before


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
