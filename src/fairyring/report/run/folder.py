"""A run folder as the report reads it: whatever is there, and a sentence for what is not.

The report is opened on runs that are finished, running, killed or damaged, so only `run.json` is required.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fairyring.core.errors import RunDamaged, RunError
from fairyring.records.layout import AUDIT, CLIENTS, METRICS, PLAN, POPULATION, RUN, SCORES
from fairyring.report.kit import units

_COUNTS = {
    "round",
    "clients",
    "sampled",
    "dropped",
    "nonfinite",
    "aborted",
    "examples",
    "bytes_up",
    "bytes_down",
    "seconds",
    "canaries",
    "epsilon",
    "empirical_epsilon",
    "empirical_epsilon_lower",
    "noise",
    "snr",
    "noise_std",
    "lost_in_noise",
}


@dataclass(frozen=True)
class RunFolder:
    """What a run left behind.

    Attributes:
        path: the folder.
        run: `run.json`.
        plan: `plan.json`, empty if it is missing.
        population: `population.json`, empty if it is missing.
        rounds: one record a finished round, in order.
        clients: per-client arrays by name, empty until a run has ended.
        exhibit: one client's vector and what the server received of it, where a secure sum ran with real messages.
        audit: what audits of the run found afterwards, empty without one.
        audit_arrays: scores and images of audits, empty without one.
        remarks: sentences on what is missing or could not be read.
    """

    path: Path
    run: dict[str, Any]
    plan: dict[str, Any]
    population: dict[str, Any]
    rounds: list[dict[str, Any]]
    clients: dict[str, np.ndarray]
    exhibit: dict[str, np.ndarray]
    audit: dict[str, Any]
    audit_arrays: dict[str, np.ndarray]
    remarks: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, folder: str | Path) -> "RunFolder":
        """Read `folder`.

        Raises:
            RunError: it is not a run folder.
            RunDamaged: its `run.json` is not readable.
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
        return cls(
            path,
            run,
            _json(path / PLAN, remarks),
            _json(path / POPULATION, remarks),
            _lines(path / METRICS, remarks),
            _arrays(path / CLIENTS, remarks),
            _arrays(path / "exhibit.safetensors", remarks),
            _json(path / AUDIT, remarks) if (path / AUDIT).is_file() else {},
            _arrays(path / SCORES, remarks),
            remarks,
        )

    @property
    def training_metrics(self) -> list[str]:
        """Names measured while training, the loss first."""
        return _metric_names(self.rounds)

    @property
    def evaluations(self) -> list[tuple[int, dict[str, float]]]:
        """`(round, values)` of every round with an evaluation."""
        return [(r["round"], r["test"]) for r in self.rounds if isinstance(r.get("test"), Mapping)]

    @property
    def headline_metric(self) -> str | None:
        """The metric a run is judged by: accuracy, else the first one that is not the loss, else the loss."""
        names = _metric_names([values for _, values in self.evaluations]) or self.training_metrics
        if "accuracy" in names:
            return "accuracy"
        return next((name for name in names if name != "loss"), names[0] if names else None)

    def lost(self, name: str) -> np.ndarray:
        """In which rounds a mean of training is lost in noise: bool `[rounds]`."""
        return np.array([units.is_lost(record, name) for record in self.rounds], dtype=bool)

    def noise(self, name: str) -> np.ndarray:
        """Standard deviation of the noise in a mean of training, float64 `[rounds]`; NaN where there is none."""
        return np.array([_float(units.noise_of(record, name)) for record in self.rounds], dtype=np.float64)

    def column(self, name: str) -> np.ndarray:
        """A field of every round as float64 `[rounds]`; what is missing is NaN."""
        return np.array([_float(r.get(name)) for r in self.rounds], dtype=np.float64)


def _metric_names(records: list[dict[str, Any]]) -> list[str]:
    names: dict[str, None] = {"loss": None} if any("loss" in r for r in records) else {}
    for record in records:
        for name, value in record.items():
            if name not in _COUNTS and isinstance(value, int | float | None) and name != "test":
                names.setdefault(name, None)
    return list(names)


def _float(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


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


def _lines(path: Path, remarks: list[str]) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    by_round: dict[int, dict[str, Any]] = {}
    unreadable = 0
    for line in path.read_text("utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
            by_round[int(record["round"])] = record
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
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
