"""`ledger`: what a run promised, and how much of it is spent."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fairyring.cli._result import Result
from fairyring.cli._screen import say, show_table
from fairyring.core.errors import FairyringError, LedgerDamaged, PlanError, PrivacyError
from fairyring.core.reading import NotJson, read_json
from fairyring.core.rounding import at_most
from fairyring.privacy.ledger import Head, History, Ledger, Reservation
from fairyring.privacy.participation import relation_in, sampling_in
from fairyring.records.layout import AUDIT, LEDGER, RUN
from fairyring.report import units

_ROWS = 20
_SHORT = 12  # hexadecimal digits of a hash that are shown


def ledger(run: Path, head: str | None = None) -> Result:
    """Verify the ledger of a run folder, and say what it contains.

    Args:
        run: the folder; the ledger is `ledger.sqlite` in it.
        head: a head noted earlier, `NUMBER:HASH`, to search for; the first 12 digits of the hash are enough.

    Raises:
        LedgerDamaged: the chain of hashes is broken, or does not have `head`.
        RunError: there is no ledger.
        PrivacyError: `head` is malformed.
    """
    history = Ledger.read(run / LEDGER)
    noted = None if head is None else _find_head(history, head)
    why, spent = _why_nothing(run), _spent(history)
    reservations = list(history.reservations.values())

    def show() -> None:
        if why:
            say(f"Nothing is promised: {why}. What follows was counted as if the promise held.")
        say(*_promise(history, spent), "")
        if reservations:
            shown = _sampled(reservations)
            epsilons, failure = _epsilons(history, shown)
            _show_reservations(shown, epsilons)
            say("", *([failure] if failure else []))
        say(*_state(history))
        if noted is not None:
            say(
                f"The noted head {_short(noted)} is in it: everything up to entry {noted.number} is unchanged since then."
            )

    return Result({"run": run, **_found(history, why, spent, noted)}, show)


def total(runs: Sequence[Path], head: str | None = None) -> Result:
    """What several runs have spent in total.

    Raises:
        LedgerDamaged, RunError: see `ledger`.
        PlanError: `head` is given, which refers to a single run.
    """
    from fairyring.privacy.together import together

    if head is not None:
        raise PlanError("--head", given="several runs", expected="one", do="Give one run at a time.")
    each = []
    for run in runs:
        history = Ledger.read(run / LEDGER)
        released = sum(one.digest is not None for one in history.reservations.values())
        each.append({"run": run, "released": released, "head": history.head, "void": _why_nothing(run)})
    spent = together(runs)

    def show() -> None:
        for one in each:
            void = f"; nothing is promised: {one['void']}" if one["void"] else ""
            say(f"{one['run']}: {units.count(one['released'], 'release')}, head {_short(one['head'])}{void}")
        say("", f"Together they spend {spent}")

    found = {
        "runs": [one | {"head": str(one["head"])} for one in each],
        "together": {
            "epsilon": spent.epsilon,
            "delta": spent.delta,
            "unit": spent.unit,
            "statement": str(spent),
        },
    }
    return Result(found, show)


def _found(history: History, why: str | None, spent: float | None, noted: Head | None) -> dict[str, Any]:
    """A ledger as plain values, with every release."""
    promise, reservations = history.promise, list(history.reservations.values())
    return {
        "promise": {
            "epsilon": promise.epsilon,
            "delta": promise.delta,
            "unit": promise.unit,
            "neighbours": relation_in(promise.participation, promise.unit),
            "plan": promise.plan,
        },
        "void": why,
        "spent": spent,
        "releases": [
            {
                "round": one.round,
                "mechanism": one.release.mechanism,
                "multiplier": one.release.multiplier,
                "bands": one.release.bands,
                "steps": one.release.steps,
                "state": _status(one),
            }
            for one in reservations
        ],
        "released": sum(one.digest is not None for one in reservations),
        "entries": len(history.entries),
        "last_entry": datetime.fromtimestamp(history.entries[-1].time, UTC).isoformat(timespec="seconds"),
        "head": str(history.head),
        "noted": noted.number if noted is not None else None,
    }


def _why_nothing(run: Path) -> str | None:
    """Why the promise is void, according to the run's record or to a later audit; None if it is not.

    The ledger itself does not know.
    """
    privacy = _record(run / RUN).get("privacy")
    why = privacy.get("why_nothing") if isinstance(privacy, dict) else None
    if isinstance(why, str):
        return why
    audits = _record(run / AUDIT).values()
    refuted = any(isinstance(audit, dict) and audit.get("holds") is False for audit in audits)
    return "the audit contradicts what was claimed" if refuted else None


def _record(path: Path) -> dict[str, Any]:
    """A JSON file of the run folder; empty if there is only a ledger."""
    try:
        return read_json(path.read_bytes(), dict[str, Any])
    except (OSError, NotJson):
        return {}


def _promise(history: History, spent: float | None) -> list[str]:
    promise = history.promise
    participation = promise.participation
    bound = (
        f"No budget: what is spent at delta {promise.delta:.3g} is recorded, and no release is refused"
        if math.isinf(promise.epsilon)
        else f"Promised: all releases together spend at most epsilon {promise.epsilon:.6g} at delta {promise.delta:.3g}"
    )
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
    """The epsilon that all reservations have spent; None if this machine cannot compute it."""
    from fairyring.privacy.accounting import Accountant

    promise, tally = history.promise, history.spent()
    if not tally.counts:
        return 0.0
    try:
        return Accountant(promise.participation, promise.delta).spent(tally.counts, tally.rounds).epsilon
    except FairyringError:
        return None  # the reason is printed below the table


def _sampled(reservations: Sequence[Reservation]) -> list[Reservation]:
    """The first, the last, and evenly spaced reservations between them."""
    last = len(reservations) - 1
    if last < _ROWS:
        return list(reservations)
    return [reservations[round(i * last / (_ROWS - 1))] for i in range(_ROWS)]


def _epsilons(history: History, shown: Sequence[Reservation]) -> tuple[list[str], str | None]:
    """The epsilon spent up to each reservation, or why it is not shown."""
    from fairyring.privacy.accounting import Accountant

    promise = history.promise
    try:
        accountant = Accountant(promise.participation, promise.delta)
        tallies = [history.spent(upto=one.number) for one in shown]
        spent = [accountant.spent(tally.counts, tally.rounds).epsilon for tally in tallies]
    except FairyringError as error:
        # The ledger is intact even if this machine cannot compute its epsilon.
        return [], f"Epsilon is not shown: {error.what}: {error.given}. {error.do}"
    return [at_most(epsilon) for epsilon in spent], None


def _show_reservations(reservations: Sequence[Reservation], epsilons: Sequence[str]) -> None:
    rows = []
    for i, one in enumerate(reservations):
        release = one.release
        mechanism = release.mechanism.replace("_", " ")
        if release.bands:
            mechanism += f", {units.count(release.bands, 'band')}"
        if release.steps:
            mechanism += f", {units.count(release.steps, 'step')}"
        numbers = [units.count(one.round), units.number(release.multiplier), *epsilons[i : i + 1]]
        rows.append([*numbers, mechanism, _status(one)])
    names = ["round", "noise multiplier", *(["epsilon so far"] if epsilons else []), "mechanism", "state"]
    show_table(names, rows, words=("mechanism", "state"))


def _status(one: Reservation) -> str:
    status = (
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
    return f"{status}, amended" if one.amended else status


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
        words.append(f"{units.count(left)} not released, but spent")
    if withheld:
        words.append(f"{units.count(withheld)} of them withheld")
    lines = [f"{', '.join(words)}."]
    last, now = history.entries[-1], history.head
    when = datetime.fromtimestamp(last.time, UTC).strftime("%Y-%m-%d %H:%M:%S")
    lines.append(
        f"The chain of hashes is intact: {units.count(len(history.entries), 'entry', 'entries')}, the last at {when} UTC."
    )
    lines.append(f"Head {_short(now)}, in full:")
    lines.append(f"  {now}")
    lines.append(
        "Note it outside this folder: an older copy of the whole folder cannot be recognised otherwise."
    )
    return lines


def _find_head(history: History, text: str) -> Head:
    number, _, digits = text.strip().lower().partition(":")
    usable = number.isascii() and number.isdecimal() and set(digits) <= set("0123456789abcdef")
    if not usable or not _SHORT <= len(digits) <= 64:
        raise PrivacyError(
            "a head noted earlier",
            given=repr(text),
            expected=f"NUMBER:HASH, with at least the first {_SHORT} digits of the hash",
            do="Give it as this command printed it.",
        )
    at = int(number)
    entry = history.entries[at] if at < len(history.entries) else None
    if entry is None or not entry.hash.startswith(digits):
        entries = f"{units.count(len(history.entries), 'entry', 'entries')}"
        raise LedgerDamaged(
            history.name,
            given=f"{entries}, the last {_short(history.head)}" if entry is None else f"another entry {at}",
            expected=f"{text.strip()}, as noted earlier",
            do="This is an older copy, or another ledger. Do not release anything that relies on it.",
        )
    return Head(at, entry.hash)


def _short(head: Head) -> str:
    return f"{head.number}:{head.hash[:_SHORT]}"
