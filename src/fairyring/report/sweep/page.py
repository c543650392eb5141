"""The page of a sweep: which setting was chosen and how it does on the test clients, all settings, and curves with bands."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairyring.core.reading import NotJson
from fairyring.records.layout import LEDGER, METRICS, RUN
from fairyring.records.round_record import read_record
from fairyring.report.kit import (
    STYLES,
    Document,
    Figure,
    Section,
    absent,
    curves,
    escaped,
    folded,
    grid,
    mapping,
    mean_text,
    number,
    pair,
    paragraph,
    stat,
    table,
    units,
    value_text,
    when,
    width_text,
)
from fairyring.report.sweep import figures
from fairyring.statistics import Interval
from fairyring.sweeps import SWEEP, Sweep, read_sweep


def document(folder: str | Path) -> Document:
    """The report of a sweep as a document.

    Raises:
        RunError: there is no sweep in `folder`.
        RunDamaged: `sweep.json` is not what a sweep writes.
    """
    path, sweep = Path(folder), read_sweep(folder)
    planned, done = len(sweep.names) * len(sweep.seeds), sum(run.finished for run in sweep.runs)
    notes = [sweep.privacy] if sweep.privacy else []
    if len(sweep.runs) < planned:
        notes.insert(0, f"This sweep has not ended: {done} of {units.count(planned, 'run')} have finished.")
    if sweep.failed:
        notes.insert(0, f"{units.count(len(sweep.failed), 'run')} failed: see below.")
    best = sweep.names[sweep.best] if sweep.best is not None else None
    return Document(
        kind="run",
        tab=f"Sweep {path.resolve().name}",
        kicker=f"Sweep over {', '.join(sweep.labels[0] if sweep.labels else ())}{when(sweep.started)}",
        title=f"Chosen: {best.replace(',', ', ')}" if best else "No setting is chosen yet",
        lead=_lead(sweep),
        stats=_stats(sweep, done, planned),
        sections=[
            Section("settings", "Settings", _settings(sweep)),
            Section("curves", "By round", _curves(sweep, path)),
            Section("about", "What was run", _about(sweep, path)),
        ],
        made_of=f"<code>{SWEEP}</code> and the runs of the sweep\n<code>{escaped(path.resolve().name)}</code>",
        version=sweep.fairyring,
        notes=notes,
    )


def is_private(folder: str | Path) -> bool:
    """Whether the sweep has private runs, whose report is their owner's alone."""
    for header in Path(folder).glob(f"*/*/{RUN}"):
        try:
            if json.loads(header.read_text("utf-8")).get("privacy") is not None:
                return True
        except (OSError, ValueError, AttributeError):
            return True  # who knows
    return any(Path(folder).glob(f"*/*/{LEDGER}"))


def _stats(sweep: Sweep, done: int, planned: int) -> list[str]:
    column, best = sweep.column, sweep.best
    judged, chosen = sweep.test(), sweep.validation(best) if best is not None else None
    return [
        stat(f"Test {units.label(column)}", value_text(column, judged), _width(column, judged)),
        stat(f"Validation {units.label(column)}", value_text(column, chosen), _width(column, chosen)),
        stat("Settings", units.count(len(sweep.names)), f"chosen by {sweep.choose_by}"),
        stat("Runs", f"{done} of {planned}", f"{units.count(len(sweep.seeds), 'seed')} each"),
        stat("Time", units.duration(sum(run.seconds for run in sweep.runs)), "of all runs together"),
    ]


def _settings(sweep: Sweep) -> str:
    head = [*(sweep.labels[0] if sweep.labels else ()), "runs", *map(units.label, sweep.columns), ""]
    rows = []
    for setting, labels in enumerate(sweep.labels):
        finished = sum(run.finished for run in sweep.of(setting))
        cells = [escaped(label) for label in labels.values()]
        cells.append(f"{finished} of {len(sweep.seeds)}")
        cells += [escaped(mean_text(column, sweep.validation(setting, column))) for column in sweep.columns]
        cells.append("<strong>chosen</strong>" if setting == sweep.best else "")
        rows.append(cells)
    body = paragraph(
        "Means over seeds of the last models, on the validation clients, with the 95 % interval by Student's t: ± half of it, or "
        "both its ends where it is cut at 0 or 100 %. "
        "The chosen setting alone is judged on the test clients, which took no part in the choice."
    )
    body += grid(head, rows)
    body += _responses(sweep)
    if sweep.failed:
        failed = grid(
            ["setting", "seed", "error"],
            [[escaped(sweep.names[r.setting]), str(r.seed), escaped(r.error)] for r in sweep.failed],
        )
        body += folded(f"{units.count(len(sweep.failed), 'run')} failed", failed)
    return body


def _responses(sweep: Sweep) -> str:
    """A measure by the value of each field that is a number, where at most two fields vary."""
    fields = (
        [f for f in sweep.labels[0] if len({labels[f] for labels in sweep.labels}) > 1]
        if sweep.labels
        else []
    )
    drawn = []
    for field in fields if len(fields) <= 2 else ():
        lines: dict[str, list[tuple[float, Interval]]] = {}
        for setting, labels in enumerate(sweep.labels):
            value, interval = _number(labels[field]), sweep.validation(setting)
            if value is not None and interval is not None:
                others = ", ".join(f"{f.rpartition('.')[2]}={labels[f]}" for f in fields if f != field)
                lines.setdefault(others, []).append((value, interval))
        if sum(map(len, lines.values())) > 1 and len(lines) <= len(STYLES):
            lines = {name: sorted(points, key=lambda point: point[0]) for name, points in lines.items()}
            caption = f"Means of {units.label(sweep.column)} on the validation clients, with their intervals over seeds."
            shown = figures.response(sweep.column, field, lines)
            drawn.append(Figure(shown, caption, f"{units.label(sweep.column)} by {field}"))
    return pair(drawn)


def _curves(sweep: Sweep, path: Path) -> str:
    """The measure that is chosen by, and the loss, by round: of the best settings, as many as lines can be told apart."""
    order = sorted(range(len(sweep.names)), key=lambda setting: _rank(sweep, setting))
    shown = sorted(order[: len(STYLES)])
    columns = list(dict.fromkeys([sweep.column, "loss"]))
    tested = {
        sweep.names[setting]: [_evaluations(path, run.folder) for run in sweep.of(setting)]
        for setting in shown
    }
    if not any(any(runs) for runs in tested.values()):
        return absent("No run has recorded an evaluation.")
    best = sweep.names[sweep.best] if sweep.best is not None else None
    drawn = []
    for column in columns:
        runs = {
            name: [[(at, values[column]) for at, values in run if column in values] for run in all_]
            for name, all_ in tested.items()
        }
        caption = "Lines are means over seeds, bands reach from the lowest seed to the highest."
        drawn.append(
            Figure(
                curves(column, runs, where="on the validation clients", best=best),
                caption,
                f"{units.label(column)} by round",
            )
        )
    left = [name for setting, name in enumerate(sweep.names) if setting not in shown]
    note = ""
    if left:
        note = paragraph(
            f"The {len(shown)} best settings are drawn. {len(left)} others are not: {'; '.join(left)}."
        )
    return note + pair(drawn)


def _rank(sweep: Sweep, setting: int) -> float:
    interval = sweep.validation(setting)
    if interval is None:
        return math.inf
    return sweep.sign * interval.estimate


def _about(sweep: Sweep, path: Path) -> str:
    header = next((found for run in sweep.runs if (found := _header(path, run.folder))), {})
    machine, versions = mapping(header.get("machine")), mapping(header.get("versions"))
    rows: list[tuple[str, Any]] = [
        ("rounds of a run", units.count(sweep.rounds)),
        ("seeds", ", ".join(map(str, sweep.seeds))),
        ("fields", "; ".join(f"{f}: {', '.join(dict.fromkeys(one[f] for one in sweep.labels))}" for f in sweep.labels[0])
            if sweep.labels else "none"),
        ("processor", machine.get("cpu")),
        ("cores", machine.get("cores")),
        ("memory", f"{units.number(memory)} GiB" if (memory := number(machine.get("memory_gib"))) else None),
        ("system", machine.get("system")),
        *((name, value) for name, value in versions.items()),
    ]  # fmt: skip
    return table((name, value) for name, value in rows if value is not None)


def _evaluations(path: Path, folder: str | None) -> list[tuple[int, dict[str, float]]]:
    """`(round, means by column)` of every evaluation that a run has recorded; none if its folder is gone."""
    file = path / folder / METRICS if folder is not None else path
    if not file.is_file():
        return []
    found = {}
    for line in file.read_bytes().splitlines():
        try:
            record = read_record(line)
        except NotJson:
            continue  # cut short
        if record.test is not None:
            found[record.round] = record.test.columns()
    return sorted(found.items())


def _header(path: Path, folder: str | None) -> Mapping[str, Any]:
    try:
        return mapping(json.loads((path / str(folder) / RUN).read_text("utf-8")))
    except (OSError, ValueError):
        return {}


def _lead(sweep: Sweep) -> str:
    """The sweep's verdict, with numbers as on the rest of the page."""
    if sweep.best is None:
        return sweep.verdict
    tested = ", ".join(
        f"{units.label(column)} {mean_text(column, sweep.test(column))}" for column in sweep.columns
    )
    return f"Of {units.count(len(sweep.names), 'setting')} the best by {units.label(sweep.column)} on the validation clients. On the test clients, which took no part in the choice: {tested}."


def _width(column: str, interval: Interval | None) -> str:
    if interval is None:
        return "not known yet"
    return width_text(column, interval) or "of one seed"


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
