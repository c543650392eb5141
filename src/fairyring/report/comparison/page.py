"""The page of a comparison: what each setting came to, curves with bands over seeds, and where the plans differ."""

import math

from fairyring._version import __version__
from fairyring.core.rounding import at_most
from fairyring.records.round_record import higher_is_better
from fairyring.report.kit import (
    STYLES,
    Document,
    Figure,
    Section,
    absent,
    curves,
    escaped,
    grid,
    mapping,
    mean_text,
    pair,
    paragraph,
    stat,
    units,
    value_text,
    width_text,
)
from fairyring.sweeps import ComparedSetting, Comparison


def document(comparison: Comparison) -> Document:
    """The report of a comparison as a document."""
    settings = comparison.settings
    runs = sum(len(one.runs) for one in settings)
    return Document(
        kind="run",
        tab="Comparison",
        kicker="Comparison of runs",
        title=_title(comparison),
        lead=f"{units.count(runs, 'run')} of {units.count(len(settings), 'setting')}. Runs that differ in their seed alone are one setting.{_first(comparison)}",
        stats=_stats(comparison),
        sections=[
            Section("end", "At the end", _end(comparison)),
            Section("curves", "By round", _curves(comparison)),
            Section("differences", "Where the plans differ", _differences(comparison)),
            Section("runs", "The runs", _runs(comparison)),
        ],
        made_of="the folders of these runs",
        version=__version__,
    )


def _title(comparison: Comparison) -> str:
    """The settings by name, if that is short; else how many there are."""
    names = " / ".join(one.name for one in comparison.settings)
    return names if len(names) <= 60 else f"{len(comparison.settings)} settings side by side"


def _judged_by(comparison: Comparison) -> str:
    """The column in the head of the page: the first metric of the first test population, else of training, else the loss."""
    return next(
        (c for c in comparison.columns if c.split(".")[-1] not in ("loss", "epsilon")), comparison.columns[0]
    )


def _first(comparison: Comparison) -> str:
    """Which setting is the first by that column, and how much that says."""
    if len(comparison.settings) < 2 or not comparison.columns:
        return ""
    if "test population" in comparison.fields:
        return " Not all were tested on the same population, so what was measured there is not comparable between all of them."
    column = _judged_by(comparison)
    name = _split(column)[1]
    declared = mapping(comparison.settings[0].runs[0].plan.get("higher_is_better"))
    sign = 1 if higher_is_better(name, declared) else -1
    found = [(one, one.interval(column)) for one in comparison.settings]
    known = [(one, interval.estimate) for one, interval in found if interval is not None]
    if len(known) < 2:
        return ""
    best, value = max(known, key=lambda pair: sign * pair[1])
    return (
        f" The {'highest' if sign > 0 else 'lowest'} {_label(column)} is that of {best.name}: {units.metric(name, value)}. "
        "The best of several looks better than it is: a sweep judges its choice on other clients."
    )


def _stats(comparison: Comparison) -> list[str]:
    if not comparison.columns:
        return []
    column = _judged_by(comparison)
    label, found = _label(column), []
    for one in comparison.settings[:4]:
        interval = one.interval(column)
        width = width_text(_split(column)[1], interval)
        value = value_text(_split(column)[1], interval)
        found.append(
            stat(label[:1].upper() + label[1:], value, f"{width}, {one.name}" if width else one.name)
        )
    return found


def _end(comparison: Comparison) -> str:
    several = any(len(one.runs) > 1 for one in comparison.settings)
    words = "The last evaluation on the test population, and the last round of training."
    if several:
        words += " Means over seeds, with the 95 % interval by Student's t: ± half of it, or both its ends where it is cut at 0 or 100 %."
    head = ["setting", "runs", *map(_label, comparison.columns)]
    rows = [
        [
            escaped(one.name),
            str(len(one.runs)),
            *(escaped(mean_text(_split(c)[1], one.interval(c))) for c in comparison.columns),
        ]
        for one in comparison.settings
    ]
    return paragraph(words) + grid(head, rows)


def _curves(comparison: Comparison) -> str:
    shown, left = comparison.settings[: len(STYLES)], comparison.settings[len(STYLES) :]
    drawn = []
    for column in (column for column in comparison.columns if column != "epsilon"):
        runs = {one.name: _history(one, column) for one in shown}
        if any(points for all_ in runs.values() for points in all_):
            test, name = _split(column)
            where = "in training" if test is None else "on the test population" if not test else f"on {test}"
            caption = "Lines are means over seeds, bands reach from the lowest seed to the highest."
            figure = curves(name, runs, where=where, key=f"curves-{test}")
            drawn.append(Figure(figure, caption, f"{_label(column)} by round"))
    if not drawn:
        return absent("No run has finished a round.")
    note = paragraph(f"Not drawn: {', '.join(one.name for one in left)}.") if left else ""
    return note + "".join(pair(drawn[at : at + 2]) for at in range(0, len(drawn), 2))


def _history(setting: ComparedSetting, column: str) -> list[list[tuple[int, float]]]:
    """`(round, value)` of each run, where it is finite."""
    test, name = _split(column)
    histories = []
    for run in setting.runs:
        means = [
            (
                record.round,
                record.training if test is None else (record.tests or {}).get(test) if test else record.test,
            )
            for record in run.records
        ]
        values = [(at, one.columns().get(name, math.nan)) for at, one in means if one is not None]
        histories.append([(at, value) for at, value in values if math.isfinite(value)])
    return histories


def _differences(comparison: Comparison) -> str:
    if not comparison.fields:
        return absent("The plans are the same, and so is all else but the seed.")
    rows = [
        [escaped(field), *(escaped(one.differs.get(field, "–")) for one in comparison.settings)]
        for field in comparison.fields
    ]
    codes = any(field.startswith("code of ") for field in comparison.fields)
    note = (
        "A digest of code differs where the code does, and also where its shapes do, such as the size of a batch."
        if codes
        else ""
    )
    return (paragraph(note) if note else "") + grid(
        ["field", *(one.name for one in comparison.settings)], rows
    )


def _runs(comparison: Comparison) -> str:
    rows = []
    for one in comparison.settings:
        for run in one.runs:
            spent = (run.header.get("privacy") or {}).get("spent")
            cells = [
                one.name,
                run.name,
                str(run.header["seed"]),
                str(len(run.records)),
                str(run.header["status"]),
            ]
            rows.append([*map(escaped, cells), at_most(spent) if spent is not None else "–"])
    return grid(["setting", "run", "seed", "rounds", "status", "epsilon"], rows)


def _label(column: str) -> str:
    if column == "epsilon":
        return column
    test, name = _split(column)
    return f"{'training' if test is None else 'test'} {units.label(name)}{f', {test}' if test else ''}"


def _split(column: str) -> tuple[str | None, str]:
    """Where a column was measured, and what: the name of a test population, empty for the first, None for training."""
    if column.startswith("test."):
        return "", column.removeprefix("test.")
    if column.startswith("tests."):
        given = column.removeprefix("tests.")
        end = given.rfind(".metrics.") if ".metrics." in given else given.rfind(".")
        return given[:end], given[end + 1 :]
    return None, column
