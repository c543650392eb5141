"""A study as the report reads it, and the formats of its numbers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fairyring.ecology.results import read_study
from fairyring.report.kit import mapping, units
from fairyring.statistics import Interval

_HEREDITY = {
    "tables": "tables",
    "Q-learning, heredity of rewards": "rewards only",
    "Q-learning, heredity of retention": "rewards + retention",
    "Q-learning, heredity of evolved values": "rewards + evolved Q0",
    "Q-learning, heredity of lamarck": "Lamarck (rewards + all of Q)",
}


@dataclass(frozen=True)
class Study:
    """A folder with a `study.json`.

    Attributes:
        path: of the folder.
        found: what the file holds.
    """

    path: Path
    found: Mapping[str, Any]

    @classmethod
    def read(cls, folder: str | Path) -> "Study":
        """Read the study in a folder.

        Raises:
            RunError: there is none.
            RunDamaged: its file cannot be read.
        """
        path = Path(folder)
        return cls(path, read_study(path))

    @property
    def verdicts(self) -> Mapping[str, Any]:
        """The verdicts of the study; nothing is decided here."""
        return self.found["verdicts"]

    @property
    def kind(self) -> str:
        """ "v1", "v2", "jars" or "rotation"."""
        return self.found["study"]

    @property
    def arms(self) -> tuple[str, ...]:
        """The evolved worlds and their controls, by name; the evolved come first."""
        return tuple(self.found["arms"])

    def worlds(self, arm: str) -> Sequence[Mapping[str, Any]]:
        """The worlds of an arm, a row of numbers each."""
        return self.found["arms"][arm]["worlds"]

    def column(self, arm: str, name: str) -> np.ndarray:
        """A number for each world of an arm, from its assay or its run; NaN if a world has none."""
        rows = (mapping(world.get("assay")).get(name, world.get(name)) for world in self.worlds(arm))
        return np.array([np.nan if value is None else float(value) for value in rows])

    @property
    def heredity(self) -> str:
        """What is inherited, in words."""
        settings = self.found["settings"]
        name = str(settings.get("policy"))
        words = _HEREDITY.get(name, name)
        return f"{words} {settings['retention']:g}" if words == "rewards + retention" else words

    @property
    def runs(self) -> Mapping[str, str]:
        """The hash of each run of the study, by name."""
        if "arms" in self.found:
            return {arm: self.found["arms"][arm]["hash"] for arm in self.arms}
        return self.found["runs"]

    def source(self, runs: Iterable[str] | None = None) -> str:
        """The end of every caption: the heredity, and the runs from which a figure was drawn."""
        hashes = ", ".join(f"{run} {self.runs[run][:12]}" for run in runs or self.runs)
        return f"Heredity: {self.heredity}. {'Runs' if ',' in hashes else 'Run'}: {hashes}."


def interval(of: Interval | Mapping[str, Any] | None) -> str:
    """A mean and its interval: ``0.41 [0.32, 0.50]``."""
    if of is None:
        return "–"
    values = of if isinstance(of, Mapping) else vars(of)
    low, high = values.get("low"), values.get("high")
    if low is None or high is None or not np.isfinite([low, high]).all():
        return f"{three(values.get('estimate'))} (too few for an interval)"
    return f"{three(values.get('estimate'))} [{three(low)}, {three(high)}]"


def three(value: float | None) -> str:
    """Three digits with a true minus sign, or a dash if there is no number."""
    if value is None or not np.isfinite(value):
        return "–"
    if value and abs(value) < 1e-3:
        return f"{value:.1e}".replace("-", "−", 1) if value < 0 else f"{value:.1e}"
    text = units.count(value) if abs(value) >= 1000 else f"{value:.3g}"
    return text.replace("-", "−")


def p_value(p: float | None) -> str:
    """A p-value: ``0.013``, ``1.7e-09``."""
    return "–" if p is None else f"{p:.2g}"
