"""A run folder as the report reads it: whatever is there, and a sentence for what is missing.

A report can be made of runs that are finished, running, killed or damaged, so only `run.json` is required.
"""

import json
import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fairyring.core.errors import RunDamaged, RunError
from fairyring.core.reading import NotJson
from fairyring.records.form import check_form
from fairyring.records.layout import AUDIT, CLIENTS, METRICS, PLAN, POPULATION, RUN, SCORES
from fairyring.records.round_record import Means, RoundRecord, higher_is_better, read_record, table
from fairyring.report.kit import units


@dataclass(frozen=True)
class ReportedRun:
    """What a run left behind.

    Attributes:
        path: the folder.
        run: `run.json`.
        plan: `plan.json`, empty if it is missing.
        population: `population.json`, empty if it is missing.
        rounds: a record for each finished round, in order.
        clients: per-client arrays by name, empty until a run has ended.
        exhibit: one client's vector and what the server received of it, where a secure sum ran with real messages.
        audit: results of audits made afterwards, empty without one.
        audit_arrays: scores and images of audits, empty without one.
        remarks: sentences on what is missing or could not be read.
    """

    path: Path
    run: dict[str, Any]
    plan: dict[str, Any]
    population: dict[str, Any]
    rounds: list[RoundRecord]
    clients: dict[str, np.ndarray]
    exhibit: dict[str, np.ndarray]
    audit: dict[str, Any]
    audit_arrays: dict[str, np.ndarray]
    remarks: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, folder: str | Path) -> "ReportedRun":
        """Read `folder`.

        Raises:
            RunError: it is not a run folder.
            RunDamaged: its `run.json` is not readable.
            RunMismatch: it was written in a form of another version.
        """
        path = Path(folder)
        if not (path / RUN).is_file():
            raise RunError(
                f"run folder {str(path)!r}",
                given="no run.json in it" if path.is_dir() else "no such folder",
                expected="a folder written by simulate(..., run=folder)",
                do="Give the folder of a run, such as runs/demo.",
            )
        remarks: list[str] = []
        run = _json(path / RUN, remarks)
        if not run:
            raise RunDamaged(
                f"{path}/run.json",
                given="a file that is not a JSON object",
                expected="the record of a run",
                do="Resume the run to write it again, or give another folder.",
            )
        check_form(run, str(path))
        return cls(
            path,
            run,
            _json(path / PLAN, remarks),
            _json(path / POPULATION, remarks),
            _records(path / METRICS, remarks),
            _arrays(path / CLIENTS, remarks),
            _arrays(path / "exhibit.safetensors", remarks),
            _json(path / AUDIT, remarks) if (path / AUDIT).is_file() else {},
            _arrays(path / SCORES, remarks),
            remarks,
        )

    @property
    def measured(self) -> list[str]:
        """Columns of what was measured while training, the loss first: `loss`, `metrics.accuracy`."""
        return list(
            dict.fromkeys(name for one in self.rounds for name in Means(one.loss, one.metrics).columns())
        )

    @property
    def evaluations(self) -> list[tuple[int, dict[str, float]]]:
        """Each evaluation: its round, and the means by column, `loss` and `metrics.accuracy`."""
        return [(one.round, one.test.columns()) for one in self.rounds if one.test is not None]

    @property
    def tests(self) -> dict[str, list[tuple[int, dict[str, float]]]]:
        """The same on each of several test populations, by name in their order; empty where there was one without a name."""
        found: dict[str, list[tuple[int, dict[str, float]]]] = {}
        for one in self.rounds:
            for name, means in (one.tests or {}).items():
                found.setdefault(name, []).append((one.round, means.columns()))
        return found

    @property
    def evaluated(self) -> list[str]:
        """Columns of what was measured in evaluations, the loss first."""
        return list(dict.fromkeys(name for _, values in self.evaluations for name in values))

    @property
    def headline(self) -> str | None:
        """The column a run is judged by: the accuracy, else the first metric there is, else the loss."""
        return units.headline(self.evaluated or self.measured)

    def higher_is_better(self, name: str) -> bool:
        """Whether a larger value of what was measured is the better one: as `plan.json` says, else by its name."""
        known = self.plan.get("higher_is_better")
        known = known if isinstance(known, dict) else {}
        return higher_is_better(name, {k: v for k, v in known.items() if isinstance(v, bool)})

    def lost(self, name: str) -> np.ndarray:
        """In which rounds a mean of training is lost in noise: bool `[rounds]`."""
        return np.array([units.is_lost(record, name) for record in self.rounds], dtype=bool)

    def noise(self, name: str) -> np.ndarray:
        """Standard deviation of the noise in a mean of training, float64 `[rounds]`; NaN where there is none."""
        return self.column(f"noise_std.{name}")

    def column(self, name: str) -> np.ndarray:
        """A column of numbers of all records, float64 `[rounds]`; what is missing is NaN."""
        values = self._table.get(name)
        return np.full(len(self.rounds), math.nan) if values is None else values.astype(np.float64)

    @cached_property
    def _table(self) -> dict[str, np.ndarray]:
        return table(self.rounds)


def _json(path: Path, remarks: list[str]) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        remarks.append(f"There is no {path.name} in this folder.")
        return {}
    except (ValueError, RecursionError, OSError) as error:
        remarks.append(f"{path.name} could not be read ({type(error).__name__}).")
        return {}
    if not isinstance(value, dict):
        remarks.append(f"{path.name} does not hold a JSON object.")
        return {}
    return value


def _records(path: Path, remarks: list[str]) -> list[RoundRecord]:
    if not path.is_file():
        return []
    by_round: dict[int, RoundRecord] = {}
    unreadable = 0
    for line in path.read_bytes().splitlines():
        try:
            record = read_record(line)
            by_round[record.round] = record
        except NotJson:
            unreadable += 1
    if unreadable:
        lines = "One line" if unreadable == 1 else f"{unreadable} lines"
        remarks.append(f"{lines} of metrics.jsonl could not be read: the run was stopped while it wrote.")
    return [by_round[number] for number in sorted(by_round)]


def _arrays(path: Path, remarks: list[str]) -> dict[str, np.ndarray]:
    if not path.is_file():
        return {}
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        remarks.append(f"{path.name} could not be read ({type(error).__name__}).")
        return {}
