"""What came of a sweep: every run's means, the setting that is chosen, and `sweep.json`, which holds them. It needs no JAX."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from fairyring.core.errors import PlanError, RunDamaged, RunError
from fairyring.core.files import ANYBODY, OWNER, replace_file
from fairyring.core.reading import NotJson, read_json
from fairyring.records import units
from fairyring.records.round_record import Means, higher_is_better
from fairyring.statistics import Interval, finite_mean, interval_text

SWEEP = "sweep.json"
FORM = 1  # of sweep.json


class SweepRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One run of a sweep.

    Attributes:
        setting: place of its setting among the sweep's.
        seed: of the run.
        folder: its run folder, within the sweep's; None if nothing is kept.
        finished: whether it ran to its end.
        error: what stopped it, if it failed.
        rounds: how many were run.
        seconds: they took, with compiling.
        validation: means of the last model on the validation clients.
        test: the same on the test clients.
    """

    setting: int
    seed: int
    folder: str | None = None
    finished: bool = False
    error: str | None = None
    rounds: int = 0
    seconds: float = 0.0
    validation: Means | None = None
    test: Means | None = None


class Sweep(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A sweep: its settings, and its runs so far.

    `print` shows the table. A mean over seeds has the interval of Student's t for normal values, with 95 % confidence.

    Attributes:
        form: of `sweep.json`.
        fairyring: the version that made it.
        started: in ISO 8601.
        names: of the settings.
        labels: of each setting, by field: what its value is called.
        seeds: of the runs of each setting.
        rounds: of each run.
        choose_by: `loss`, or the metric by which the best setting is chosen.
        runs: in the order in which they ended.
        higher_is_better: whether a larger value of `choose_by` is the better one; None in a file that does not say: its name decides.
        privacy: what all its runs spend together, in words; None if nothing is promised, or before they have ended.
    """

    form: int
    fairyring: str
    started: str
    names: list[str]
    labels: list[dict[str, str]]
    seeds: list[int]
    rounds: int
    choose_by: str
    runs: list[SweepRun]
    higher_is_better: bool | None = None
    privacy: str | None = None

    def of(self, setting: int) -> list[SweepRun]:
        """The runs of a setting, in the order of the seeds."""
        return sorted((run for run in self.runs if run.setting == setting), key=lambda run: run.seed)

    @property
    def failed(self) -> list[SweepRun]:
        """The runs that failed."""
        return [run for run in self.runs if run.error is not None]

    @property
    def column(self) -> str:
        """The column of `Means` that the best setting is chosen by."""
        return "loss" if self.choose_by == "loss" else f"metrics.{self.choose_by}"

    @property
    def sign(self) -> float:
        """1 if a smaller value of `choose_by` is the better one, else -1: a setting with a smaller product is better."""
        if self.higher_is_better is None:
            return -1.0 if higher_is_better(self.choose_by) else 1.0
        return -1.0 if self.higher_is_better else 1.0

    @property
    def best(self) -> int | None:
        """The setting with the best mean on the validation clients, of those whose every run is finished and finite; None if there is none."""
        means = {}
        for setting in range(len(self.names)):
            interval = self.validation(setting)
            if interval is not None and interval.size == len(self.seeds):
                means[setting] = self.sign * interval.estimate
        return min(means, key=lambda setting: means[setting]) if means else None

    def validation(self, setting: int, column: str | None = None) -> Interval | None:
        """Mean over seeds of a setting's last models on the validation clients, with Student's interval; None if no run has finished.

        The interval of a share, such as an accuracy, ends at 0 and at 1.

        Args:
            setting: its place among the settings.
            column: `loss` or `metrics.NAME`; by default that which the best is chosen by.
        """
        return _over_runs([run.validation for run in self.of(setting)], column or self.column)

    def test(self, column: str | None = None) -> Interval | None:
        """Mean over seeds of the best setting's last models on the test clients, which took no part in the choice.

        Args:
            column: `loss` or `metrics.NAME`; by default that which the best is chosen by.
        """
        if self.best is None:
            return None
        return _over_runs([run.test for run in self.of(self.best)], column or self.column)

    @property
    def columns(self) -> list[str]:
        """What was measured: the column that is chosen by, then the others."""
        means = next((run.validation for run in self.runs if run.validation is not None), None)
        names = list(means.columns()) if means is not None else []
        return [self.column, *(name for name in names if name != self.column)]

    def table(self) -> list[dict[str, str | int | float]]:
        """A row for each setting, for data frames: `pandas.DataFrame(sweep.table())`.

        A row has the labels of its fields; how many runs have finished; for each column of `columns` its mean over seeds on the
        validation clients, and the `.low` and `.high` end of its interval, NaN where there is none; and whether it is the best.
        """
        rows = []
        for setting, labels in enumerate(self.labels):
            row: dict[str, str | int | float] = {**labels}
            row["finished"] = sum(run.finished for run in self.of(setting))
            for column in self.columns:
                interval = self.validation(setting, column)
                ends = ("", math.nan), (".low", math.nan), (".high", math.nan)
                if interval is not None:
                    ends = ("", interval.estimate), (".low", interval.low), (".high", interval.high)
                row |= {column + end: value for end, value in ends}
            row["best"] = int(setting == self.best)
            rows.append(row)
        return rows

    def __str__(self) -> str:
        """The table as text, and what the best setting does on the test clients."""
        fields = list(self.labels[0]) if self.labels else []
        head = [*short_names(fields).values(), "runs", *(c.removeprefix("metrics.") for c in self.columns)]
        rows = []
        for setting, labels in enumerate(self.labels):
            means = [self.validation(setting, column) for column in self.columns]
            finished = sum(run.finished for run in self.of(setting))
            marked = "  <- best" if setting == self.best else ""
            rows.append([*labels.values(), f"{finished}/{len(self.seeds)}", *map(interval_text, means)])
            rows[-1][-1] += marked
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in (head, *rows)]
        lines += [self.verdict]
        lines += [f"failed: {self.names[run.setting]}, seed {run.seed}: {run.error}" for run in self.failed]
        return "\n".join(lines + ([self.privacy] if self.privacy else []))

    @property
    def verdict(self) -> str:
        """Which setting is the best, and what it does on the test clients, in a sentence."""
        if self.best is None:
            ended = any(
                sum(run.finished for run in self.of(place)) == len(self.seeds)
                for place in range(len(self.names))
            )
            what = f"a finite {self.choose_by} in all its runs" if ended else "finished all its runs"
            return f"No setting has {what}, so none is chosen."
        tested = ", ".join(
            f"{column.removeprefix('metrics.')} {interval_text(self.test(column))}" for column in self.columns
        )
        return (
            f"Chosen by {self.choose_by} on the validation clients: {self.names[self.best]}. "
            f"On the test clients: {tested}."
        )


def short_names(fields: Sequence[str]) -> dict[str, str]:
    """By field: the last part of its path where that is enough to tell it from the others, else the whole path."""
    ends = [field.rpartition(".")[2] for field in fields]
    return {f: end if ends.count(end) == 1 else f for f, end in zip(fields, ends, strict=True)}


def _over_runs(means: Sequence[Means | None], column: str) -> Interval | None:
    """The mean of a column over runs: of those that finished with a finite one."""
    mean = finite_mean([one.columns()[column] for one in means if one is not None])
    return mean.within(*units.range_of(column)) if mean is not None else None


def write_sweep(folder: Path, sweep: Sweep, *, private: bool = False) -> None:
    """Write `sweep.json`, atomically; of private runs, for its owner alone.

    Raises:
        StorageError: it cannot be written.
    """
    content = msgspec.json.format(msgspec.json.encode(sweep), indent=2)
    replace_file(folder / SWEEP, content, mode=OWNER if private else ANYBODY)


def read_sweep(folder: str | os.PathLike[str]) -> Sweep:
    """The sweep in a folder.

    Raises:
        RunError: there is none.
        RunDamaged: `sweep.json` is not what a sweep writes.
    """
    path = Path(folder) / SWEEP
    try:
        sweep = msgspec.convert(_with_nan(read_json(path.read_bytes())), Sweep)
        if sweep.form != FORM:
            raise NotJson(f"form {sweep.form}, not {FORM}")
        _check(sweep)
    except OSError as error:
        raise RunError(
            f"sweep folder {str(folder)!r}",
            given=f"no {SWEEP} in it" if Path(folder).is_dir() else "no such folder",
            expected="the folder of a sweep",
            do="Give the folder that fr.sweep or fairyring sweep wrote.",
        ) from error
    except (NotJson, msgspec.ValidationError) as error:
        raise RunDamaged(
            str(path),
            given=f"{error}",
            expected="what a sweep writes",
            do="Delete it and resume the sweep: its runs are looked at again.",
        ) from error
    return sweep


def _check(sweep: Sweep) -> None:
    """Raise `NotJson` unless the parts of a sweep fit each other."""
    fields = {tuple(labels) for labels in sweep.labels}
    if len(sweep.names) != len(sweep.labels) or len(fields) != 1:
        raise NotJson("names and labels that do not fit each other")
    for run in sweep.runs:
        if not 0 <= run.setting < len(sweep.names):
            raise NotJson(f"a run of setting {run.setting}, of {len(sweep.names)}")
        if run.folder is not None and (Path(run.folder).is_absolute() or ".." in Path(run.folder).parts):
            raise NotJson(f"a run in {run.folder}, outside of the sweep's folder")
        for means in (run.validation, run.test):
            if means is not None and sweep.column not in means.columns():
                raise NotJson(f"a run without {sweep.choose_by}")


def _with_nan(value: Any) -> Any:
    """JSON has no NaN: a metric that is not a number is written as null."""
    for run in value.get("runs", ()) if isinstance(value, dict) else ():
        for means in (run.get("validation"), run.get("test")) if isinstance(run, dict) else ():
            metrics = means.get("metrics") if isinstance(means, dict) else None
            if isinstance(metrics, dict):
                metrics |= {name: math.nan for name, number in metrics.items() if number is None}
    return value


def check_chosen_by(choose_by: str, evaluated: Sequence[str]) -> None:
    """Raise `PlanError` unless a setting can be chosen by this."""
    if choose_by not in evaluated:
        raise PlanError(
            "choose_by",
            given=repr(choose_by),
            expected=", ".join(map(repr, evaluated)),
            do="Choose by one of these.",
        )
