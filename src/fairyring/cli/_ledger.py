"""`ledger`: what a run promised, and what it has spent of that."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from fairyring.cli._terminal import screen
from fairyring.core.errors import FairyringError, LedgerDamaged, PlanError, PrivacyError
from fairyring.core.reading import NotJson, read_json
from fairyring.core.rounding import at_most
from fairyring.privacy.ledger import Head, History, Ledger, Reservation
from fairyring.privacy.participation import relation_in, sampling_in
from fairyring.records.layout import AUDIT, LEDGER, RUN
from fairyring.report import units

_ROWS = 20
_SHORT = 12  # hexadecimal digits: enough to tell heads apart by eye


def ledger(run: Path, head: str | None = None) -> None:
    """Verify the ledger of a run folder and say what is in it.

    Args:
        run: the folder; the ledger is `ledger.sqlite` in it.
        head: one that was noted earlier, `NUMBER:HASH`, to look for; the hash may be its first 12 digits or more.

    Raises:
        LedgerDamaged: the chain does not hold, or what was noted is not in it.
        RunError: there is no ledger.
        PrivacyError: `head` is none.
    """
    history = Ledger.read(run / LEDGER)
    found = None if head is None else _noted(history, head)
    why = _why_nothing(run)
    if why:
        _print(f"Nothing is promised: {why}. What follows was counted as if it were.")
    _print(*_promise(history), "")
    reservations = list(history.reservations.values())
    if reservations:
        columns, why = _epsilons(history, reservations := _few(reservations))
        screen().print(_table(reservations, columns))
        _print("", *why)
    _print(*_state(history))
    if found is not None:
        _print(
            f"The head that was noted, {_short(found)}, is in it: all up to entry {found.number} is as it was then."
        )


def several(runs: Sequence[Path], head: str | None = None) -> None:
    """Say what several runs have spent together.

    Raises:
        LedgerDamaged, RunError: as `ledger`.
        PlanError: `head` is given, which is of one run.
    """
    from fairyring.privacy.together import together

    if head is not None:
        raise PlanError("--head", given="several runs", expected="one", do="Ask for one run at a time.")
    for run in runs:
        history = Ledger.read(run / LEDGER)
        released = sum(one.digest is not None for one in history.reservations.values())
        why = _why_nothing(run)
        void = f"; nothing is promised: {why}" if why else ""
        _print(f"{run}: {units.count(released, 'release')}, head {_short(history.head)}{void}")
    _print("", f"Together they spend {together(runs)}")


def _why_nothing(run: Path) -> str | None:
    """Why a run's own record, or an audit made afterwards, takes its promise back, of which a ledger knows nothing; None where
    neither does."""
    privacy = _record(run / RUN).get("privacy")
    why = privacy.get("why_nothing") if isinstance(privacy, dict) else None
    if isinstance(why, str):
        return why
    audits = _record(run / AUDIT).values()
    refuted = any(isinstance(found, dict) and found.get("holds") is False for found in audits)
    return "the audit contradicts what was claimed" if refuted else None


def _record(path: Path) -> dict[str, Any]:
    """What lies beside a ledger, which may be looked at by itself."""
    try:
        return read_json(path.read_bytes(), dict[str, Any])
    except (OSError, NotJson):
        return {}


def _promise(history: History) -> list[str]:
    promise = history.promise
    participation = promise.participation
    bound = (
        f"No budget: what is spent at delta {promise.delta:.3g} is recorded, and nothing refused"
        if math.isinf(promise.epsilon)
        else f"Promised: all releases together spend at most epsilon {promise.epsilon:.6g} at delta {promise.delta:.3g}"
    )
    spent = _spent(history)
    bound += "." if spent is None else f"; spent so far: {at_most(spent)}."
    each = promise.unit == "example"
    sampling = sampling_in(participation, 1, promise.unit) if each else participation.sampling
    return [
        bound,
        f"Unit: one {promise.unit}; neighbours: {relation_in(participation, promise.unit)}.",
        f"Assumed: {sampling}.",
        f"Plan: {promise.plan}",
    ]


def _spent(history: History) -> float | None:
    """What all reservations have spent, as the accountant says; None where this machine can't add it up."""
    from fairyring.privacy.accounting import Accountant

    promise, tally = history.promise, history.spent()
    if not tally.counts:
        return 0.0
    try:
        return Accountant(promise.participation, promise.delta).spent(tally.counts, tally.rounds).epsilon
    except FairyringError:
        return None  # why not is said below the table


def _few(reservations: Sequence[Reservation]) -> list[Reservation]:
    """The first, the last, and evenly spaced ones between."""
    last = len(reservations) - 1
    if last < _ROWS:
        return list(reservations)
    return [reservations[round(i * last / (_ROWS - 1))] for i in range(_ROWS)]


def _epsilons(history: History, shown: Sequence[Reservation]) -> tuple[list[str], list[str]]:
    """What was spent up to each of them, or why that is not told."""
    from fairyring.privacy.accounting import Accountant

    promise = history.promise
    try:
        accountant = Accountant(promise.participation, promise.delta)
        tallies = [history.spent(upto=one.number) for one in shown]
        spent = [accountant.spent(tally.counts, tally.rounds).epsilon for tally in tallies]
    except FairyringError as error:
        # The ledger is whole whether or not this machine can add it up.
        return [], [f"Epsilon is not shown: {error.what}: {error.given}. {error.do}"]
    return [at_most(epsilon) for epsilon in spent], []


def _table(reservations: Sequence[Reservation], epsilons: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False)
    for name in ("round", "noise multiplier", *(["epsilon so far"] if epsilons else [])):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("mechanism", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for i, one in enumerate(reservations):
        release = one.release
        mechanism = release.mechanism.replace("_", " ")
        if release.bands:
            mechanism += f", {units.count(release.bands, 'band')}"
        if release.steps:
            mechanism += f", {units.count(release.steps, 'step')}"
        numbers = [units.count(one.round), units.number(release.multiplier), *epsilons[i : i + 1]]
        table.add_row(*numbers, Text(mechanism), Text(_fate(one)))
    return table


def _fate(one: Reservation) -> str:
    fate = (
        "released"
        if one.digest
        else "cancelled, not spent"
        if one.cancelled
        else "spent, withheld"
        if one.withheld
        else "spent, without a result"
        if one.lost
        else "spent, not released"
    )
    return f"{fate}, amended" if one.amended else fate


def _state(history: History) -> list[str]:
    all_ = history.reservations.values()
    released = sum(one.digest is not None for one in all_)
    withheld = sum(one.withheld for one in all_)
    words = [f"{units.count(len(all_), 'release')} reserved, {units.count(released)} released"]
    cancelled = sum(one.cancelled for one in all_)
    if cancelled:
        words.append(f"{units.count(cancelled)} cancelled, which spent nothing")
    if len(all_) > released + cancelled:
        left = len(all_) - released - cancelled
        words.append(f"{units.count(left)} never released, but spent all the same")
    if withheld:
        words.append(f"{units.count(withheld)} of them withheld")
    lines = [f"{', '.join(words)}."]
    last, now = history.entries[-1], history.head
    when = datetime.fromtimestamp(last.time, UTC).strftime("%Y-%m-%d %H:%M:%S")
    lines.append(
        f"The chain holds: {units.count(len(history.entries), 'entry', 'entries')}, the last of {when} UTC."
    )
    lines.append(f"Head {_short(now)}, in full:")
    lines.append(f"  {now}")
    lines.append("Note it outside this folder: only so is an older copy of the whole folder known as one.")
    return lines


def _noted(history: History, text: str) -> Head:
    number, _, digits = text.strip().lower().partition(":")
    usable = number.isascii() and number.isdecimal() and set(digits) <= set("0123456789abcdef")
    if not usable or not _SHORT <= len(digits) <= 64:
        raise PrivacyError(
            "a head noted earlier",
            given=repr(text),
            expected=f"NUMBER:HASH, of the hash at least the first {_SHORT} digits",
            do="Give it as this command printed it then.",
        )
    at = int(number)
    found = history.entries[at] if at < len(history.entries) else None
    if found is None or not found.hash.startswith(digits):
        there = f"{units.count(len(history.entries), 'entry', 'entries')}"
        raise LedgerDamaged(
            history.name,
            given=f"{there}, the last {_short(history.head)}" if found is None else f"another entry {at}",
            expected=f"{text.strip()}, as noted earlier",
            do="It was put back to an older copy, or is another ledger. Release nothing on its word.",
        )
    return Head(at, found.hash)


def _short(head: Head) -> str:
    return f"{head.number}:{head.hash[:_SHORT]}"


def _print(*lines: str) -> None:
    for line in lines:
        screen().print(line, highlight=False, markup=False, soft_wrap=True)
