"""The section on privacy: the guarantee, what was spent of the budget, and what attacks achieved."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fairyring.core.errors import FairyringError
from fairyring.core.rounding import at_most
from fairyring.privacy.ledger import Ledger
from fairyring.records.layout import LEDGER
from fairyring.report.kit import (
    Figure,
    Section,
    absent,
    escaped,
    mapping,
    number,
    pair,
    paragraph,
    table,
    units,
)
from fairyring.report.run import privacy_figures as figures
from fairyring.report.run.reported_run import ReportedRun

_TITLE = "What the model may tell about one {}"
_MECHANISMS = {
    "gaussian": "Gaussian noise, added by the server",
    "correlated": "Gaussian noise correlated over rounds, added by the server",
    "skellam": "Skellam noise, a share added by every client",
    "discrete_gaussian": "discrete Gaussian noise, a share added by every client",
}
_STEPS = "Gaussian noise, added by every client in each local step; counted for {} steps a round"


def privacy(folder: ReportedRun) -> Section | None:
    """The section; None for a plan without a privacy guarantee that was not audited either."""
    promise, audit = mapping(folder.run.get("privacy")), audit_of(folder)
    if not promise and not audit:
        return None
    body = ""
    if promise:
        body += _promise(folder, promise) + _spent(folder, promise) + _ledger(folder)
    body += _mechanism(audit) + _canaries(folder, audit) + _membership(folder, audit)
    body += _reconstruction(folder, audit)
    return Section("privacy", _TITLE.format(_unit(promise)), body)


def audit_of(folder: ReportedRun) -> Mapping[str, Any]:
    """The results of audits during the run or afterwards; where there are both, the one that contradicts the guarantee."""
    result, during = dict(mapping(folder.audit)), dict(mapping(folder.run.get("audit")))
    mechanism = during.pop("mechanism", None)
    for name, part in (("mechanism", mechanism), ("canaries", during)):
        if part and mapping(result.get(name)).get("holds") is not False:
            result[name] = part
    return result


def why_nothing(folder: ReportedRun) -> str | None:
    """Why there is no guarantee: the run's own reason, or that an audit made afterwards contradicts it; None where there is one."""
    why = mapping(folder.run.get("privacy")).get("why_nothing")
    refuted = any(mapping(part).get("holds") is False for part in audit_of(folder).values())
    return str(why) if why else "the audit contradicts what was claimed" if refuted else None


def alarm(folder: ReportedRun) -> str | None:
    """The warning at the top of the report: an audit contradicts the guarantee, or there is none; None for no warning."""
    mechanism = mapping(audit_of(folder).get("mechanism"))
    if mechanism.get("holds") is False:
        return f"The mechanism is not what is claimed. {mechanism.get('statement')} Take nothing about this run as private."
    members = mapping(audit_of(folder).get("membership"))
    if members.get("holds") is False:
        return (
            f"Shadow runs contradict the promise: {units.number(float(members['claimed']))} is claimed, and who took part is "
            f"told as surely as epsilon {units.number(float(members['lower']))} allows at least. "
            "Take nothing about this run as private."
        )
    result = mapping(audit_of(folder).get("canaries"))
    why = why_nothing(folder)
    if result.get("holds") is False:
        return _refuted(result)
    return f"Nothing is promised: {why}. Take nothing about this run as private." if why else None


def _refuted(result: Mapping[str, Any]) -> str:
    """The warning where canaries contradict the guarantee."""
    return (
        f"The audit contradicts the promise: {units.number(float(result['claimed']))} is claimed, and canaries show at "
        f"least {units.number(float(result['lower']))} with {float(result['confidence']):.1%} confidence. "
        "Take nothing about this run as private."
    )


def _promise(folder: ReportedRun, promise: Mapping[str, Any]) -> str:
    limit, spent = number(promise.get("epsilon")), number(promise.get("spent"))
    clients, cohort = folder.population.get("clients"), folder.column("clients")
    by_steps, mechanism = bool(promise.get("steps")), str(promise.get("mechanism"))
    rows: list[tuple[str, str]] = [
        ("Promised", "no limit" if limit is None else f"epsilon {limit:g} at delta {promise.get('delta'):g}"),
        ("Spent", "not yet known" if spent is None else f"epsilon {at_most(spent)}"),
        (
            "To whom",
            "every example, a row of a client's data"
            if by_steps
            else f"every {_unit(promise)}, with all its data",
        ),
        ("Neighbouring", str(promise.get("relation"))),
        ("Taking part", str(promise.get("sampling"))),
        ("Accountant", str(promise.get("accountant", "not yet known"))),
        ("Noise", _STEPS.format(promise["steps"]) if by_steps else _MECHANISMS.get(mechanism, mechanism)),
        (
            "Noise multiplier",
            f"{float(promise['multiplier']):.4g} times what one {'example' if by_steps else 'client'} can change",
        ),
    ]
    if isinstance(clients, int) and np.isfinite(cohort).any():
        rows.append(
            (
                "Clients this took",
                f"{units.count(clients)}, about {units.count(float(np.nanmedian(cohort)))} a round",
            )
        )
    lead = (
        f"Seeing every model of this run changes the odds of any conclusion about one {_unit(promise)} by a factor of at most "
        f"e^{at_most(spent)} ({_factor(spent)}), but for a chance of {promise.get('delta'):g}. It is a bound for the worst case, "
        f"and holds whatever else is known{_but_for(promise)}."
        if spent is not None
        else "The promise is kept round by round; this run has not ended."
    )
    cautions = "".join(
        f'<p class="note alarm">{escaped(str(one))}</p>' for one in promise.get("warnings") or ()
    )
    why = why_nothing(folder)
    if why:
        lead = f"Nothing is promised: {why}. What follows was counted as if it were."
    if spent is not None and promise.get("statement"):
        full = str(promise["statement"])
        void = why and not promise.get("why_nothing")
        rows.insert(2, ("In full", f"Nothing is promised: {why}. Counted was {full}" if void else full))
    return paragraph(lead) + cautions + table(rows)


def _unit(promise: Mapping[str, Any]) -> str:
    return str(promise.get("unit", "device"))


def _but_for(promise: Mapping[str, Any]) -> str:
    """What must stay secret: a guarantee that counts on sampling does not hold against somebody who saw the sample."""
    if mapping(promise.get("participation")).get("kind") not in ("poisson", "fixed_size"):
        return ""
    by_steps = bool(promise.get("steps"))
    return f", but for {'which examples were in a batch' if by_steps else 'who took part in a round'}"


def _factor(epsilon: float) -> str:
    """e^epsilon, in words."""
    return f"about {units.number(math.exp(epsilon))}" if epsilon < 20 else "which bounds nothing to speak of"


def _spent(folder: ReportedRun, promise: Mapping[str, Any]) -> str:
    judged = [(one.round, one.epsilon) for one in folder.rounds if one.epsilon is not None]
    parts = []
    if judged:
        rounds, spent = (np.array(column, float) for column in zip(*judged, strict=True))
        svg = figures.budget(rounds, spent, number(promise.get("epsilon")))
        parts.append(
            Figure(svg, "What all rounds so far have spent, against the budget.", "Epsilon spent by round")
        )
    snr = folder.column("snr")
    if np.isfinite(snr).any():
        rounds = folder.column("round")[np.isfinite(snr)]
        svg = figures.signal(rounds, snr[np.isfinite(snr)])
        caption = (
            "Length of the update over length of the noise, reckoned from the noisy update alone. Far below 1 a round moves "
            "the model mostly at random, and many rounds average it out."
        )
        parts.append(Figure(svg, caption, "Signal over noise by round"))
    return pair(parts)


def _ledger(folder: ReportedRun) -> str:
    path = folder.path / LEDGER
    if not path.is_file():
        return absent("This run kept its ledger in memory only: there is no file to check it by.")
    try:
        history = Ledger.read(path)
    except FairyringError as error:
        return f'<p class="note alarm">{escaped(f"The ledger does not hold: {error}")}</p>'
    reserved = list(history.reservations.values())
    left = sum(1 for one in reserved if one.digest is not None)
    open_ = sum(1 for one in reserved if one.digest is None and not one.cancelled)
    words = f"Its ledger holds: {units.count(left, 'release')} in a chain of {units.count(len(history.entries), 'entry', 'entries')}"
    if open_:
        words += f"; {units.count(open_, 'reservation')} never released counts as spent"
    head = history.head
    return (
        f"<p>{escaped(words)}. Its head is <code>{escaped(str(head.number))}:{escaped(head.hash)}</code>: whoever notes it "
        "elsewhere can tell later whether anything before it was changed. <code>fairyring ledger</code> lists it.</p>"
    )


def _mechanism(audit: Mapping[str, Any]) -> str:
    """The result of the direct check of the noise."""
    result = mapping(audit.get("mechanism"))
    if not result:
        return ""
    statement = str(result.get("statement", ""))
    if not result.get("holds"):
        return f'<p class="note alarm">{escaped(statement)}</p>'
    return paragraph(f"{statement} {result.get('blind', '')}")


def _canaries(folder: ReportedRun, audit: Mapping[str, Any]) -> str:
    result = mapping(audit.get("canaries"))
    if not result and _unit(mapping(folder.run.get("privacy"))) == "example":
        return absent(
            "No canaries were sent into this plan: they are clients, to whom a promise to every example is not made."
        )
    if not result:
        return absent(
            "No canaries were sent into this plan. `fairyring audit` does that, in a run of its own."
        )
    scores = folder.audit_arrays.get("scores")
    lower = float(result["lower"])
    least = f"at least {lower:.3g}" if lower > 0 else "nothing"
    words = (
        f"{units.count(int(result['canaries']))} canaries pushed the model as hard as a client can, each in a random direction. "
        f"The claim is epsilon {float(result['claimed']):.3g}; what an observer of all models could tell about them shows "
        f"epsilon {float(result['empirical']):.3g}, and {least} with {float(result['confidence']):.1%} confidence."
    )
    if result.get("beside"):
        words += f" {result['beside']}"
    if result.get("holds"):
        words += " The claim stands: an audit can refute a promise, never prove one."
        text = paragraph(words)
    else:
        text = f'<p class="note alarm">{escaped(_refuted(result))}</p>' + paragraph(words)
    if scores is None or not len(scores):
        return text
    svg = figures.canary_scores(scores.astype(float))
    caption = "How far each canary stands out, beside what chance alone gives a direction nobody pushed."
    return text + pair([Figure(svg, caption, "Scores of canaries")])


def _membership(folder: ReportedRun, audit: Mapping[str, Any]) -> str:
    """How well shadow runs tell who took part."""
    result = mapping(audit.get("membership"))
    if not result:
        return absent(
            "No shadow runs were made to tell members by. `fairyring audit --shadows 64` makes them."
        )
    claimed = number(result.get("claimed"))
    words = str(result.get("statement", ""))
    if claimed is None and result.get("unit") == "example":
        words += (
            " For k rows of one client the bound is about k times the promise's, and its delta grows faster."
        )
    elif claimed is None:
        words += " Nothing that was promised bounds what a stronger attack tells of a client."
    else:
        words += " A weak attack proves nothing; the bound is the promise's."
    text = paragraph(words)
    false, true = (folder.audit_arrays.get(name) for name in ("roc_false", "roc_true"))
    if false is None or true is None or not len(false):
        return text
    svg = figures.membership(false, true, claimed, float(result.get("delta", 0.0)))
    caption = (
        "Clients that were in a shadow run and are recognised, against clients that were not and are taken for such. "
        "What counts is the left: few who are told, but surely."
    )
    return text + pair([Figure(svg, caption, "Membership inference")])


def _reconstruction(folder: ReportedRun, audit: Mapping[str, Any]) -> str:
    result = mapping(audit.get("reconstruction"))
    if not result:
        return absent(
            "No attack was tried on this run's updates. `fairyring audit` tries to read examples off them, in the clear and "
            "as this plan sends them."
        )
    text = paragraph(str(result.get("statement", "")))
    limits = [str(limit) for limit in result.get("limits", ())]
    if limits:
        items = "".join(f"<li>{escaped(limit)}.</li>" for limit in limits)
        text += (
            f"<p>By {escaped(str(result.get('attack')))}. What this attack cannot show:</p><ul>{items}</ul>"
        )
    errors, rows = mapping(result.get("error")), _reads(result)
    labels = (("bare", "one bare update"), ("protected", "what this plan releases"), ("blind", "no attack"))
    rows += [
        (f"Mean squared error, {label}", f"{float(errors[name]):.4g}")
        for name, label in labels
        if name in errors
    ]
    arrays = {name: folder.audit_arrays.get(name) for name in figures.KINDS}
    pictures = {name: _pictures(array) for name, array in arrays.items() if array is not None}
    shown = {name: column for name, column in pictures.items() if column is not None}
    if not shown.keys() >= {"truth", "bare", "protected", "blind"}:
        return text + table(rows)
    kinds = [figures.KINDS[name] for name in shown]
    count = len(shown["truth"])
    svg = figures.reconstructions(
        [tuple(column[i] for column in shown.values()) for i in range(count)], kinds
    )
    return text + pair([Figure(svg, _caption(result, count), "Reconstructed examples")]) + table(rows)


def _caption(result: Mapping[str, Any], count: int) -> str:
    """What the figure of reconstructions shows."""
    reads = mapping(result.get("reads"))
    caption = (
        f"By {result.get('attack')}. Above, one example of this simulation's population each; below it what the attack reads "
        "off one client's update of one step on it, sent in the clear; the reading that the attack ranks first of all it makes "
        "of what this plan releases of a round in which that client took part"
    )
    if reads:
        caption += (
            ", over the example of that round which it is nearest to; and the best guess without any update. "
            f"{int(reads['exact'])} of the {int(reads['targets'])} readings that are ranked first are an example of their "
            f"round, exactly; {min(count, figures.SHOWN)} are shown."
        )
    else:
        caption += "; and the mean of all examples, which one knows without any attack."
    return caption


def _reads(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Exact reads, as rows of a table."""
    rows = []
    for name, label in (("bare_reads", "one bare update"), ("reads", "what this plan releases")):
        reads = mapping(result.get(name))
        if not reads:
            continue
        exact = f"{int(reads['exact'])} of {int(reads['targets'])}"
        rows.append((f"Read exactly by the first reading, {label}", exact))
    reads = mapping(result.get("reads"))
    if reads:
        words = f"{int(reads['distinct'])} of {units.count(int(reads['examples']))}, by {units.count(int(reads['readings']))} readings"
        expected = float(reads["chance"]) * float(reads["readings"])
        rows += [
            ("Different examples read exactly, what this plan releases", words),
            ("The same by quoting as many examples of other clients", f"about {expected:.2g}"),
        ]
    return rows


def _pictures(examples: np.ndarray) -> np.ndarray | None:
    """Examples `[n, ...]` as pictures `[n, height, width]` or `[n, height, width, 3]`; None if they are not pictures."""
    shape = examples.shape[1:]
    side = math.isqrt(shape[0]) if len(shape) == 1 else 0
    if side > 1 and side * side == shape[0]:
        return examples.reshape(-1, side, side)
    if len(shape) == 3 and shape[2] == 1:
        return examples[..., 0]
    colours = len(shape) == 3 and shape[2] == 3
    return examples if (len(shape) == 2 and min(shape) > 3) or colours else None
