"""The report of a run from its headline down to its fingerprint, in words that a non-specialist can read.

Every string that comes from a run is escaped; figures and the style sheet are ours.
"""

import math
from collections.abc import Iterable

import numpy as np

from fairyring.core.rounding import at_most
from fairyring.report.kit import Document, escaped, mapping, number, stat, units, when
from fairyring.report.run import sections
from fairyring.report.run.populations import populations
from fairyring.report.run.privacy import alarm, privacy, why_nothing
from fairyring.report.run.reported_run import ReportedRun
from fairyring.report.run.secure_sum import secure_sum

_ORDER = (
    sections.learning,
    populations,
    sections.served,
    sections.participation,
    privacy,
    secure_sum,
    sections.traffic,
    sections.pace,
    sections.plan,
    sections.assumptions,
    sections.provenance,
)


def document(folder: ReportedRun) -> Document:
    """The content of a run's report."""
    run, clients = folder.run, folder.population.get("clients")
    done, planned = len(folder.rounds), run.get("rounds")
    name, value, at = _result(folder)
    finished = run.get("status") == "finished"

    if run.get("status") == "failed":  # what it had learned by then is not what came of it
        rounds = (
            f"{units.count(done)} of {units.count(planned)} rounds"
            if isinstance(planned, int)
            else units.count(done, "round")
        )
        title = f"Failed after {rounds}: {run.get('failed_by')}"
    elif not done:
        title = "No round has finished yet"
    elif name is None or value is None:
        title = f"Trained for {units.count(done, 'round')}"
    elif not at and units.is_lost(folder.rounds[-1], name):
        title = f"After {units.count(done, 'round')} the training {units.label(name)} is lost in noise"
    elif not math.isfinite(value):
        title = f"After {units.count(done, 'round')} the {units.label(name)} is not a finite number"
    else:
        where = "on held-out data" if at else "in training"
        shown = units.metric(name, value) if at else units.mean(folder.rounds[-1], name, noise=True)
        title = f"{shown} {units.label(name)} {where} after {units.count(at or done, 'round')}"

    lead = []
    if clients:
        examples = folder.population.get("examples")
        holding = f" holding {units.count(examples, 'example')}" if examples else ""
        each = folder.column("clients")
        part = (
            f"; in a typical round {units.count(float(np.nanmedian(each)))} of them took part"
            if done and np.isfinite(each).any()
            else ""
        )
        lead.append(
            f"{units.count(clients, 'simulated client')}{holding} trained one model together{part}. "
            "Each worked on its own examples and sent back only the change to the model."
        )
    skipped = folder.population.get("skipped")
    if skipped:
        lead.append(
            f"{units.count(skipped, 'client')} without examples {'was' if skipped == 1 else 'were'} left out."
        )
    tested = folder.tests
    if len(tested) > 1 and name is not None and at:
        each = [f"{units.metric(name, values[-1][1].get(name))} on {test}" for test, values in tested.items()]
        rest = f", and on {units.count(len(each) - 4)} more" if len(each) > 4 else ""
        lead.append(
            f"On each of {len(tested)} test populations the {units.label(name)} is: {', '.join(each[:4])}{rest}."
        )
    notes = []
    wrong = alarm(folder)
    if not finished:
        state = {
            "running": "had not finished when this report was made",
            "stopped": "was stopped",
            "failed": f"failed ({run.get('failed_by')})",
        }.get(str(run.get("status")), "has an unknown status")
        of = f" of {units.count(planned)}" if isinstance(planned, int) else ""
        recorded = "is" if done == 1 else "are"
        notes.append(
            f"This run {state}: {units.count(done)}{of} {'round' if done == 1 and not of else 'rounds'} {recorded} recorded."
        )
        if run.get("failed_by") == "training diverged":
            notes.append(
                "In the next round no client's update was finite. Lower the learning rate, or clip gradients in the local optimiser."
            )
    bad = int(np.nansum(folder.column("nonfinite"))) if done else 0
    if bad:
        notes.append(f"{units.not_finite(bad, run)}.")
    cautions = run.get("cautions")
    notes += map(str, cautions) if isinstance(cautions, list) else []
    notes += folder.remarks

    what = _what(folder)
    return Document(
        kind="run",
        tab=what,
        kicker=what + when(run.get("started")),
        title=title,
        lead=" ".join(lead),
        stats=tuple(_stats(folder)),
        sections=[part for section in _ORDER if (part := section(folder)) is not None],
        made_of=f"the run folder\n<code>{escaped(folder.path.name)}</code>",
        version=str(run.get("fairyring", "")),
        alarm=wrong,
        notes=notes,
    )


def _stats(folder: ReportedRun) -> Iterable[str]:
    run = folder.run
    name, value, at = _result(folder)
    yield stat(
        f"{'Held-out' if at else 'Training'} {units.label(name)}" if name else "Result",
        *_last(folder, name, value, at),
    )
    served = sections.spread_of(folder)
    if served:
        yield stat(
            "Worst decile",
            units.metric(served.name, served.worst_mean),
            "mean over the worst tenth",
            "warm",
        )
    else:
        yield stat("Worst decile", "–", "no evaluation per client yet")
    promise = mapping(run.get("privacy"))
    spent = number(promise.get("spent"))
    if spent is not None:
        limit = number(promise.get("epsilon"))
        of = "no limit" if limit is None else f"of {limit:g}"
        of = "nothing is promised" if why_nothing(folder) else of
        yield stat("Epsilon spent", at_most(spent), f"{of}, delta {number(promise.get('delta')) or 0:g}")
    seconds = _seconds_of(folder)
    used = mapping(run.get("machine")).get("devices")
    on = "machine not recorded"
    if isinstance(used, list) and used:
        on = f"on {units.count(len(used), 'core' if set(used) == {'cpu'} else 'accelerator')}"
    yield stat("Training time", units.duration(seconds) if seconds is not None else "–", on)
    up, down = (float(np.nansum(folder.column(c))) for c in ("bytes_up", "bytes_down"))
    yield stat("Travelled", units.size(up + down), f"{units.size(up)} up, {units.size(down)} down")


def _result(folder: ReportedRun) -> tuple[str | None, float | None, int | None]:
    """The column a run is judged by, its last value, and the round of that evaluation; None for a value from training."""
    name = folder.headline
    if name is None:
        return None, None, None
    if folder.evaluations:
        at, values = folder.evaluations[-1]
        if name in values:
            return name, values[name], at
    return name, units.training(folder.rounds[-1]).get(name), None


def _last(folder: ReportedRun, name: str | None, value: float | None, at: int | None) -> tuple[str, str]:
    """The value of `_result` in words, and where it comes from."""
    if name is None:
        return units.metric("", value), "no metric was recorded"
    where = f"at round {units.count(at or len(folder.rounds))}"
    if at and len(folder.tests) > 1:
        where += f", on {next(iter(folder.tests))}"
    noise = None if at else units.noise_of(folder.rounds[-1], name)
    if noise is not None:
        where = f"its noise is ± {units.metric(name, noise)}, {where}"
    lost = not at and units.is_lost(folder.rounds[-1], name)
    return "lost in noise" if lost else units.metric(name, value), where


def _seconds_of(folder: ReportedRun) -> float | None:
    recorded = number(folder.run.get("seconds"))
    if recorded:
        return recorded
    seconds = folder.column("seconds")
    return float(np.nansum(seconds)) if np.isfinite(seconds).any() else None


def _what(folder: ReportedRun) -> str:
    """What was learned, in a few words: the task's name, and the model's if the plan tells."""
    task = folder.plan.get("task")
    if isinstance(task, dict):
        name, model = task.get("name"), task.get("model")
        model = model.get("name") if isinstance(model, dict) else model
        if name:
            return f"{name}, {model}" if isinstance(model, str) else str(name)
    return task if isinstance(task, str) and task else f"Run {folder.path.name}"
