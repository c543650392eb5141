"""What several commands print: errors, warnings, the summary of a run."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from fairyring.cli._screen import screen, show_pairs
from fairyring.core.errors import FairyringError, PrivacyWarning
from fairyring.core.rounding import at_most
from fairyring.records.round_record import Means, RoundRecord
from fairyring.report import units
from fairyring.rounds.progress import trained


def show_error(error: FairyringError) -> None:
    """Print an error to standard error as a short panel: what, given, expected, what to do."""
    body = Table.grid(padding=(0, 2))
    body.add_column(style="dim", no_wrap=True)
    body.add_column(overflow="fold")
    for label, words in (("given", error.given), ("expected", error.expected), ("do", error.do)):
        body.add_row(label, Text(str(words)))
    for note in getattr(error, "__notes__", ()):
        body.add_row("where", Text(note))
    console, title = screen(error=True), Text(f" {error.what} ", style="bold red")
    if len(title) + 6 <= console.width:
        console.print(Panel(body, title=title, title_align="left", border_style="red"))
    else:  # a title would be cut
        console.print(
            Panel(Group(Text(error.what, style="bold red", overflow="fold"), body), border_style="red")
        )


@contextmanager
def without_warnings(*others: type[Warning]) -> Iterator[None]:
    """Suppress Python's privacy warnings, and such others, which the command prints itself."""
    with warnings.catch_warnings():
        for kind in (PrivacyWarning, *others):
            warnings.simplefilter("ignore", kind)
        yield


def show_warning(console: Console, caution: str) -> None:
    """Print a warning."""
    console.print(Text.assemble(("Warning. ", "bold yellow"), caution), soft_wrap=not console.is_terminal)


def show_cautions(console: Console, plan: Any, population: Any, rounds: int) -> None:
    """Print what weakens a plan's promise, before its run starts."""
    for caution in cautions_of(plan, population, rounds):
        show_warning(console, caution)


def cautions_of(plan: Any, population: Any, rounds: int) -> list[str]:
    """What weakens a plan's promise."""
    from fairyring.population import Population
    from fairyring.rounds.cautions import warnings_of

    if not isinstance(population, Population):  # anything else is refused by the run
        return []
    sizes = population.sizes
    return warnings_of(plan, sum(size > 0 for size in sizes), rounds, sum(sizes))


def summary(
    records: Sequence[RoundRecord], facts: Mapping[str, Any], folder: Path, page: Path | None
) -> dict[str, Any]:
    """What `summarise` prints, as plain values: see docs/command_line.md."""
    tested = next((record for record in reversed(records) if record.test is not None), None)
    head = None
    if facts.get("secure_sum") == "protocol":
        from fairyring.rounds.history import end_of

        head = end_of(folder)
    return {
        "run": folder,
        "status": facts.get("status"),
        "stopped_by": facts.get("stopped_by"),
        "rounds": len(records),
        "last_round": records[-1] if records else None,
        "test": {"round": tested.round, **_plain(tested.test)} if tested is not None else None,
        "seconds": facts.get("seconds"),
        "clients": sum(record.clients for record in records),
        "bytes_up": sum(record.bytes_up for record in records),
        "bytes_down": sum(record.bytes_down for record in records),
        "nonfinite": sum(record.nonfinite for record in records),
        "privacy": facts.get("privacy"),
        "cautions": facts.get("cautions", []),
        "assumptions": facts.get("assumptions", []),
        "head": head,
        "report": page,
    }


def _plain(means: Means | None) -> dict[str, Any]:
    return {"loss": means.loss, "metrics": means.metrics} if means is not None else {}


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
    rows = [*_facts(records, facts), ("run", str(folder))]
    if facts.get("secure_sum") == "protocol":
        from fairyring.rounds.history import end_of

        head = end_of(folder)
        if head is not None:
            rows.append(("head", f"{head}; note it elsewhere, for fairyring verify --head"))
    if page:
        rows.append(("report", str(page)))
    console.print()
    show_pairs(rows, styles={"report": "bold"}, console=console)
    exposed = [a for a in facts.get("assumptions", ()) if a.get("kind") == "not_private"]
    console.print()
    console.print(Text("What is not private about this run", style="bold yellow"))
    if not exposed:
        console.print(Text("  The run makes no statement. Assume that nothing about it is private."))
    for entry in exposed:
        words = Text.assemble("  ", (f"{entry['title']}. ", "bold"), entry["text"])
        console.print(words, soft_wrap=not console.is_terminal)


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
        several = next((record.tests for record in reversed(records) if record.tests), {})
        for name, means in list(several.items())[1:]:  # the first is `test`
            values = ", ".join(f"{units.label(n)} {units.metric(n, v)}" for n, v in means.columns().items())
            rows.append((f"on {name}", values))
    seconds, clients = facts.get("seconds"), sum(record.clients for record in records)
    if seconds:
        rows.append(("time", f"{units.duration(seconds)}, {units.count(clients / seconds)} clients/s"))
    up, down = sum(record.bytes_up for record in records), sum(record.bytes_down for record in records)
    rows.append(("travelled", f"{units.size(up)} up, {units.size(down)} down"))
    promise = facts.get("privacy")
    if promise and promise.get("spent") is not None:
        limit = f" of {promise['epsilon']:g}" if promise["epsilon"] is not None else ", without a limit,"
        counted = f"epsilon {at_most(promise['spent'])}{limit} spent at delta {promise['delta']:g}, for every {promise.get('unit', 'device')}"
        why = promise.get("why_nothing")
        rows.append(("privacy", f"nothing is promised: {why} (counted: {counted})" if why else counted))
        if promise.get("statement") and not why:
            rows.append(("statement", promise["statement"]))
        rows += [("warning", caution) for caution in promise.get("warnings", ())]
        if facts.get("stopped_by") == "budget":
            rows.append(("stopped", "the next round would have exceeded the budget"))
    if facts.get("secure_sum") == "protocol":
        summed = [record.clients for record in records if record.aborted is None]
        rows.append(
            ("secure sum", _secure(summed, len(records) - len(summed), verifiable="history" in facts))
        )
    rows += [("warning", caution) for caution in facts.get("cautions", ())]
    bad = sum(record.nonfinite for record in records)
    if bad:
        rows.append(("not finite", units.not_finite(bad, facts)))
    return rows


def _secure(summed: Sequence[int], aborted: int, *, verifiable: bool) -> str:
    """The outcome of a run's secure sums; `verifiable`: whether its devices signed its history."""
    words = f"{units.count(len(summed), 'masked sum')}"
    if summed:
        words += f", the smallest of {units.count(min(summed), 'client')}"
    if aborted:
        words += f"; {units.count(aborted, 'round')} without a sum"
    return f"{words}; check with fairyring verify" if verifiable else words
