"""The page of a comparison: what each setting came to, curves with bands over seeds, and where the plans differ."""

import math

from fairyring._version import __version__
from fairyring.core.rounding import at_most
from fairyring.report.kit import (
    STYLES,
    Document,
    Figure,
    Section,
    absent,
    curves,
    escaped,
    grid,
    pair,
    paragraph,
    stat,
    units,
)
from fairyring.statistics import Interval
from fairyring.sweeps import ComparedSetting, Comparison


def document(comparison: Comparison) -> Document:
    """The report of a comparison as a document."""
    settings = comparison.settings
    runs = sum(len(one.runs) for one in settings)
    return Document(
        kind="run",
        tab="Comparison",
        kicker="Comparison of runs",
        title=" / ".join(one.name for one in settings[:4]) + (" / …" if len(settings) > 4 else ""),
        lead=f"{units.count(runs, 'run')} of {units.count(len(settings), 'setting')}. Runs that differ in their seed alone are one setting.",
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


def _stats(comparison: Comparison) -> list[str]:
    column = next((c for c in comparison.columns if c.split(".")[-1] not in ("loss", "epsilon")), "loss")
    return [
        stat(_label(column), _cell(column, one.interval(column)), one.name) for one in comparison.settings[:4]
    ]


def _end(comparison: Comparison) -> str:
    several = any(len(one.runs) > 1 for one in comparison.settings)
    words = "The last evaluation on the test population, and the last round of training."
    if several:
        words += " Means over seeds; ± is half of the 95 % interval by Student's t."
    head = ["setting", "runs", *map(_label, comparison.columns)]
    rows = [
        [
            escaped(one.name),
            str(len(one.runs)),
            *(escaped(_cell(c, one.interval(c))) for c in comparison.columns),
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
            of_test = column.startswith("test.")
            where = "on the test population" if of_test else "in training"
            caption = "Lines are means over seeds, bands reach from the lowest seed to the highest."
            figure = curves(column.removeprefix("test."), runs, where=where)
            drawn.append(Figure(figure, caption, f"{_label(column)} by round"))
    if not drawn:
        return absent("No run has finished a round.")
    note = paragraph(f"Not drawn: {', '.join(one.name for one in left)}.") if left else ""
    return note + "".join(pair(drawn[at : at + 2]) for at in range(0, len(drawn), 2))


def _history(setting: ComparedSetting, column: str) -> list[list[tuple[int, float]]]:
    """`(round, value)` of each run, where it is finite."""
    name, of_test = column.removeprefix("test."), column.startswith("test.")
    histories = []
    for run in setting.runs:
        means = [(record.round, record.test if of_test else record.training) for record in run.records]
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
    return grid(["field", *(one.name for one in comparison.settings)], rows)


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
    return (
        f"{'test' if column.startswith('test.') else 'training'} {units.label(column.removeprefix('test.'))}"
    )


def _cell(column: str, interval: Interval | None) -> str:
    name = column.removeprefix("test.")
    if interval is None:
        return "–"
    half = (interval.high - interval.low) / 2
    value = units.metric(name, interval.estimate)
    return f"{value} ± {units.metric(name, half)}" if math.isfinite(half) else value
