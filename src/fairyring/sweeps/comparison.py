"""Runs side by side: those that differ in their seed alone are one setting, and the others are told apart by what their plans say.

It needs no JAX.
"""

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fairyring.core.errors import PlanError
from fairyring.records import units
from fairyring.records.folder import RunFolder
from fairyring.records.form import check_form
from fairyring.records.layout import PLAN, RUN
from fairyring.records.plan_fields import plan_fields
from fairyring.records.round_record import RoundRecord
from fairyring.statistics import Interval, finite_mean, interval_text
from fairyring.sweeps.results import SWEEP, read_sweep

# Parts of a plan that are called by their own names.
_PARTS = ("algorithm", "cohort", "server", "local.optimizer")
# What else tells runs apart, of their headers.
_SETTINGS = ("dropout", "canaries")


class RunLike(Protocol):
    """A run in memory, or loaded: `fr.Run`, `fr.SavedRun`."""

    records: list[RoundRecord]
    header: dict[str, Any]
    folder: Path | None


@dataclass(frozen=True)
class ComparedRun:
    """One run of a comparison.

    Attributes:
        name: its folder's, or where it stands among those that were given.
        header: what run.json holds.
        plan: the plan's document.
        records: of its rounds.
        folder: the run folder, if there is one.
    """

    name: str
    header: Mapping[str, Any]
    plan: Mapping[str, Any]
    records: Sequence[RoundRecord]
    folder: Path | None

    @property
    def last(self) -> dict[str, float]:
        """By column: the last evaluation on the test population, if there is one, and the means of training in the last round."""
        tests = [record.test for record in self.records if record.test is not None]
        columns = {f"test.{name}": value for name, value in tests[-1].columns().items()} if tests else {}
        several = [record.tests for record in self.records if record.tests]
        for place, (test, means) in enumerate(several[-1].items() if several else ()):
            if place:  # the first is `test`
                columns |= {f"tests.{test}.{name}": value for name, value in means.columns().items()}
        training = self.records[-1].training.columns() if self.records else {}
        spent = (self.header.get("privacy") or {}).get("spent")
        return {**columns, **training, **({"epsilon": spent} if spent is not None else {})}

    @property
    def key(self) -> tuple[Any, ...]:
        """What runs of one setting have in common: all but the seed. Runs that have come to another round are of another setting."""
        prints = tuple(sorted((self.header.get("fingerprints") or {}).items()))
        return (
            *prints,
            self.header.get("test"),
            self.header.get("init"),
            len(self.records),
            *(self.header.get(n) for n in _SETTINGS),
        )


@dataclass(frozen=True)
class ComparedSetting:
    """Runs that differ in their seeds alone.

    Attributes:
        name: as it was given, or what tells it apart.
        runs: in the order of their seeds.
        differs: by field, what its plan says where the plans of a comparison differ.
    """

    name: str
    runs: tuple[ComparedRun, ...]
    differs: Mapping[str, str]

    def interval(self, column: str) -> Interval | None:
        """Mean over its runs of what they had at the end, with Student's interval, which of a share, such as an accuracy, ends at 0
        and at 1; None where no run has it."""
        mean = finite_mean([run.last.get(column) for run in self.runs])
        return mean.within(*units.range_of(column)) if mean is not None else None


@dataclass(frozen=True)
class Comparison:
    """Runs side by side; `print` shows the table.

    Attributes:
        settings: those that are compared.
    """

    settings: tuple[ComparedSetting, ...]

    @property
    def columns(self) -> list[str]:
        """What was measured: evaluations first, then training."""
        found = dict.fromkeys(name for one in self.settings for run in one.runs for name in run.last)
        return sorted(found, key=lambda name: not name.startswith(("test.", "tests.")))

    @property
    def fields(self) -> list[str]:
        """Where the plans differ, as paths such as `local.epochs`."""
        return list(dict.fromkeys(name for one in self.settings for name in one.differs))

    def table(self) -> list[dict[str, str | int | float]]:
        """A row for each setting, for data frames: `pandas.DataFrame(comparison.table())`.

        A row has the setting's name, the fields where plans differ, how many runs it has, and for each column the mean over them and the
        `.low` and `.high` end of its interval, NaN where there is none.
        """
        rows = []
        for one in self.settings:
            row: dict[str, str | int | float] = {"setting": one.name, **one.differs, "runs": len(one.runs)}
            for column in self.columns:
                interval = one.interval(column)
                values = (interval.estimate, interval.low, interval.high) if interval else (math.nan,) * 3
                row |= dict(zip((column, f"{column}.low", f"{column}.high"), values, strict=True))
            rows.append(row)
        return rows

    def __str__(self) -> str:
        """The table as text."""
        head = [
            "",
            "runs",
            *(_head_of(column) for column in self.columns),
        ]
        rows = [
            [one.name, str(len(one.runs)), *(interval_text(one.interval(column)) for column in self.columns)]
            for one in self.settings
        ]
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in (head, *rows)]
        named = all(
            value in one.name for one in self.settings for value in one.differs.values() if value != "–"
        )
        for field in () if named else self.fields:
            values = "; ".join(f"{one.name}: {one.differs.get(field, '–')}" for one in self.settings)
            lines.append(f"{field}  {values}")
        return "\n".join(lines)


Given = str | os.PathLike[str] | RunLike


def compare(runs: Sequence[Given] | Mapping[str, Given | Sequence[Given]]) -> Comparison:
    """Put runs side by side.

    Runs that differ in their seed alone are one setting, with a mean and an interval over seeds. Other settings are named by what their
    plans say where they differ, unless they are given with names.

    Args:
        runs: run folders, or runs; a sweep's folder stands for all its runs. With names: name -> one or several of them.

    Raises:
        PlanError: there is nothing to compare, or what was given under one name are runs of several settings.
        RunError, RunDamaged: one is not a run.
    """
    if not isinstance(runs, Mapping | Sequence) or isinstance(runs, str):
        raise PlanError(
            "compare",
            given=repr(runs)[:80],
            expected="run folders, or runs, in a list or by name",
            do="Give a list.",
        )
    if isinstance(runs, Mapping):
        named = {str(name): _once(_read(_several(given))) for name, given in runs.items()}
        groups = {name: found for name, found in named.items() if found}
        for name, found in groups.items():
            if len({run.key for run in found}) > 1:
                raise PlanError(
                    f"compare, {name!r}",
                    given=f"runs of several settings: {', '.join(run.name for run in found)}",
                    expected="runs that differ in their seed alone",
                    do="Give each setting a name of its own.",
                )
        names = list(groups)
    else:
        by_key: dict[tuple[Any, ...], list[ComparedRun]] = {}
        for run in _once(_read(list(runs))):
            by_key.setdefault(run.key, []).append(run)
        groups, names = dict(enumerate(by_key.values())), []  # type: ignore[assignment]
    if not groups:
        raise PlanError("compare", given="no runs", expected="one or more", do="Give run folders.")
    settings = [sorted(found, key=lambda run: run.header["seed"]) for found in groups.values()]
    differs = _differences([found[0] for found in settings])
    names = names or _names(settings, differs)
    return Comparison(
        tuple(
            ComparedSetting(name, tuple(found), differing)
            for name, found, differing in zip(names, settings, differs, strict=True)
        )
    )


def _head_of(column: str) -> str:
    """A column's name for people: `test accuracy` for `test.metrics.accuracy`."""
    return (
        column.replace("tests.", "", 1).replace("test.", "test ", 1).replace("metrics.", "").replace(".", " ")
    )


def _once(runs: Iterable[ComparedRun]) -> list[ComparedRun]:
    """Each run once. Public runs of one plan and one seed are one, too: they have the same numbers."""
    found: dict[Any, ComparedRun] = {}
    for run in runs:
        place = run.folder.resolve() if run.folder is not None else id(run.records)
        public = run.header.get("privacy") is None
        found.setdefault((run.key, run.header["seed"]) if public else place, run)
    return list(found.values())


def _several(given: Given | Sequence[Given]) -> list[Given]:
    return list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]  # pyright: ignore[reportReturnType]


def _read(given: Iterable[Given]) -> Iterator[ComparedRun]:
    """The runs that are meant; of a folder that is damaged or none, an error."""
    for place, one in enumerate(given):
        if not isinstance(one, str | os.PathLike) and not hasattr(one, "records"):
            raise PlanError(
                "compare",
                given=repr(one)[:80],
                expected="run folders, or runs",
                do="Give paths, or what simulate returns.",
            )
        if not isinstance(one, str | os.PathLike):
            plan = getattr(one, "plan_document", None) or one.plan.describe()  # type: ignore[attr-defined]
            name = one.folder.name if one.folder is not None else f"run {place + 1}"
            yield ComparedRun(name, one.header, plan, one.records, one.folder)
            continue
        path = Path(one)
        if (path / SWEEP).is_file():
            folders = [
                run.folder for run in read_sweep(path).runs if run.folder is not None and run.error is None
            ]
            yield from _read([path / folder for folder in sorted(folders)])
            continue
        folder = RunFolder.open(path)
        header = folder.read(RUN)
        check_form(header, str(path))
        yield ComparedRun(_name(path), header, folder.read(PLAN), folder.records(), path)


def _name(path: Path) -> str:
    return path.resolve().name


def _differences(runs: Sequence[ComparedRun]) -> list[dict[str, str]]:
    """For each run, by field: what its plan says where the plans differ, and its header where that does."""
    flat = [
        {name: _text(value) for name, value in plan_fields(run.plan).items()} | _of_header(run)
        for run in runs
    ]
    fields = dict.fromkeys(name for one in flat for name in one)
    differing = [name for name in fields if len({one.get(name, "–") for one in flat}) > 1]
    return [{name: one.get(name, "–") for name in differing} for one in flat]


def _of_header(run: ComparedRun) -> dict[str, str]:
    prints = run.header.get("fingerprints") or {}
    values = {name: run.header.get(name) for name in _SETTINGS} | {"rounds": len(run.records)}
    values |= {
        "population": str(prints.get("population"))[:8],
        "test population": str(run.header.get("test"))[:8],
    }
    values |= {"first model": str(run.header["init"])[:8] if run.header.get("init") else "the plan's own"}
    programs = (run.header.get("code") or {}).get("programs", {})
    values |= {f"code of {name}": str(print_)[:8] for name, print_ in programs.items()}
    return {name: _text(value) for name, value in values.items()}


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)


def _is_digest(field: str) -> bool:
    return field in ("population", "test population", "first model") or field.startswith("code of ")


def _word(field: str, value: str) -> str:
    return value if field in _PARTS else f"{field.rpartition('.')[2]}={value}"


def _of_folder(run: ComparedRun) -> str:
    """The name of its folder; in a sweep, which has a folder for each setting, of that one."""
    in_a_sweep = run.folder is not None and re.fullmatch(r"seed-\d+", run.name)
    return run.folder.resolve().parent.name if run.folder is not None and in_a_sweep else run.name


def _names(settings: Sequence[Sequence[ComparedRun]], differs: Sequence[Mapping[str, str]]) -> list[str]:
    """By what differs where that is short, else by folders; each once."""
    texts = [
        ", ".join(_word(f, v) for f, v in one.items() if v != "–" and not _is_digest(f)) for one in differs
    ]
    short = all(0 < len(text) <= 50 for text in texts) and len(set(texts)) == len(texts)
    names = texts if short else [_of_folder(runs[0]) for runs in settings]
    return [name if names.count(name) == 1 else f"{name} ({i + 1})" for i, name in enumerate(names)]
