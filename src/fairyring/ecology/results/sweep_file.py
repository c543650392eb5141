"""What came of a sweep over settings of a world: the measures of every run, means over seeds, and the files that hold them."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from fairyring.core.errors import RunDamaged, RunError
from fairyring.core.files import replace_file
from fairyring.core.reading import NotJson, read_json
from fairyring.ecology.results.tables import Row, write_csv
from fairyring.statistics import Interval, finite_mean, interval_text

SWEEP, SETTINGS_TABLE, RUNS_TABLE = "ecology-sweep.json", "settings.csv", "runs.csv"
SWEEP_FORM = 1  # of the JSON file
_COUNT, _SHARE, _DIFFERENCE = (0.0, math.inf), (0.0, 1.0), (-1.0, 1.0)
_RANGES = {  # that measures are known to be in
    **dict.fromkeys(("population", "immigrants", "generations", "index", "index_of_signal"), _COUNT),
    **dict.fromkeys(("by_itself", "tumbling", "emitting", "emitting_on_food"), _SHARE),
    **dict.fromkeys(("contrast", "level_contrast"), _DIFFERENCE),
}


class SweepRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One run of a sweep: some worlds of one setting and one seed.

    Attributes:
        setting: place of its setting among the sweep's.
        seed: of the run.
        file: its run file, within the sweep's folder; None if nothing is kept.
        finished: whether it ran to its end.
        error: what stopped it, if it failed.
        steps: of each world.
        seconds: they took, with compiling and the lab.
        measures: by name, a mean over its worlds; None for what no world of it had. See `sweep`.
    """

    setting: int
    seed: int
    file: str | None = None
    finished: bool = False
    error: str | None = None
    steps: int = 0
    seconds: float = 0.0
    measures: dict[str, float | None] = {}


class Sweep(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A sweep over settings of a world, and its runs so far.

    `print` shows the table. A mean over seeds has the interval of Student's t for normal values, with 95 % confidence.

    Attributes:
        form: of the JSON file.
        fairyring: the version that made it.
        started: in ISO 8601.
        world: "v1" or "v2".
        base: the settings that all runs have in common, as plain values.
        names: of the settings of the grid.
        labels: of each of them, by field: its value as text.
        seeds: of the runs of each setting.
        worlds: of each run.
        steps: of each world.
        assayed: whether the worlds were assayed.
        runs: in the order in which they ended.
    """

    form: int
    fairyring: str
    started: str
    world: str
    base: dict[str, Any]
    names: list[str]
    labels: list[dict[str, str]]
    seeds: list[int]
    worlds: int
    steps: int
    assayed: bool
    runs: list[SweepRun]

    def of(self, setting: int) -> list[SweepRun]:
        """The runs of a setting, in the order of the seeds."""
        return sorted((run for run in self.runs if run.setting == setting), key=lambda run: run.seed)

    @property
    def failed(self) -> list[SweepRun]:
        """The runs that failed."""
        return [run for run in self.runs if run.error is not None]

    @property
    def columns(self) -> list[str]:
        """What was measured."""
        return list(dict.fromkeys(name for run in self.runs for name in run.measures))

    def mean(self, setting: int, column: str) -> Interval | None:
        """Mean of a measure over the seeds of a setting, with Student's interval; None if no run has it.

        The interval ends where the measure does: a count at 0, a share at 0 and at 1.
        """
        values = [run.measures.get(column) for run in self.of(setting) if run.finished]
        mean = finite_mean(values)
        return mean.within(*_RANGES.get(column, (-math.inf, math.inf))) if mean is not None else None

    def table(self) -> list[Row]:
        """A row for each setting, for data frames: `pandas.DataFrame(sweep.table())`.

        A row has the labels of its fields; how many runs have finished; and for each column of `columns` its mean over seeds, and the
        `.low` and `.high` end of its interval, NaN where there is none.
        """
        rows: list[Row] = []
        for setting, labels in enumerate(self.labels):
            row: Row = {**labels, "finished": sum(run.finished for run in self.of(setting))}
            for column in self.columns:
                interval = self.mean(setting, column)
                ends = ("", math.nan), (".low", math.nan), (".high", math.nan)
                if interval is not None:
                    ends = ("", interval.estimate), (".low", interval.low), (".high", interval.high)
                row |= {column + end: value for end, value in ends}
            rows.append(row)
        return rows

    def runs_table(self) -> list[Row]:
        """A row for each run: the labels of its setting, its seed, its measures, and its error if it failed."""
        return [
            {
                **self.labels[run.setting],
                "seed": run.seed,
                "steps": run.steps,
                **{column: run.measures.get(column) for column in self.columns},
                "error": run.error,
            }
            for run in sorted(self.runs, key=lambda run: (run.setting, run.seed))
        ]

    def __str__(self) -> str:
        """The table as text, and what failed."""
        head = [
            *(self.labels[0] if self.labels else ()),
            "runs",
            *(c.replace("_", " ") for c in self.columns),
        ]
        rows = [
            [
                *labels.values(),
                f"{sum(run.finished for run in self.of(setting))}/{len(self.seeds)}",
                *(interval_text(self.mean(setting, column)) for column in self.columns),
            ]
            for setting, labels in enumerate(self.labels)
        ]
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in (head, *rows)]
        lines += [f"failed: {self.names[run.setting]}, seed {run.seed}: {run.error}" for run in self.failed]
        return "\n".join(lines)


def write_sweep(folder: Path, sweep: Sweep) -> None:
    """Write a sweep as JSON, and as CSV its table and the table of its runs; each file atomically.

    Raises:
        StorageError: a file cannot be written.
    """
    replace_file(folder / SWEEP, msgspec.json.format(msgspec.json.encode(sweep), indent=2))
    write_csv(sweep, folder / SETTINGS_TABLE)
    if sweep.runs:
        write_csv(sweep.runs_table(), folder / RUNS_TABLE)


def read_sweep(folder: str | os.PathLike[str]) -> Sweep:
    """The sweep in a folder.

    Raises:
        RunError: there is none.
        RunDamaged: the file is not what a sweep writes.
    """
    path = Path(folder) / SWEEP
    try:
        sweep = msgspec.convert(read_json(path.read_bytes()), Sweep)
        if sweep.form != SWEEP_FORM:
            raise NotJson(f"form {sweep.form}, not {SWEEP_FORM}")
        if len(sweep.names) != len(sweep.labels) or not _fits(sweep.runs, len(sweep.names)):
            raise NotJson("settings and runs that do not fit each other")
    except OSError as error:
        raise RunError(
            f"sweep folder {str(folder)!r}",
            given=f"no {SWEEP} in it" if Path(folder).is_dir() else "no such folder",
            expected="the folder of a sweep over worlds",
            do="Give the folder that fr.ecology.sweep or fairyring ecology sweep wrote.",
        ) from error
    except (NotJson, msgspec.ValidationError) as error:
        raise RunDamaged(
            str(path),
            given=f"{error}",
            expected="what a sweep writes",
            do="Delete it and resume the sweep: its runs are measured again.",
        ) from error
    return sweep


def _fits(runs: Sequence[SweepRun], settings: int) -> bool:
    return all(0 <= run.setting < settings for run in runs)
