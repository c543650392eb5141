"""Runs in TensorBoard."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairyring.core.extras import require
from fairyring.tracking.tracker import Numbers, Session, TrackedRun


@dataclass(frozen=True)
class TensorBoardTracker:
    """Write the numbers of each run as events for TensorBoard: `tensorboard --logdir FOLDER`.

    Each run has a folder of its own, ``NAME-IDENTITY``. Numbers are tagged as in `run.table()`, with slashes: ``test/metrics/accuracy``.
    The plan is a table among the texts. Needs the extra ``tensorboard``.

    Args:
        folder: of the events of all runs.

    Raises:
        MissingExtra: tensorboardX is not installed.
    """

    folder: str | os.PathLike[str] = "tensorboard"

    def __post_init__(self) -> None:
        require("tensorboardX", extra="tensorboard", purpose="runs in TensorBoard")

    @property
    def name(self) -> str:
        """For messages."""
        return f"tensorboard:{os.fspath(self.folder)}"

    def open(self, run: TrackedRun) -> Session:
        """Begin the run's events; events of rounds that will come again are hidden."""
        from tensorboardX import SummaryWriter

        writer = SummaryWriter(
            str(Path(self.folder, run.file_name)),
            purge_step=run.after + 1 if run.after else None,
            filename_suffix=f".{run.after}",  # a run may be taken up within the second that names its file
        )
        rows = "".join(f"| {name} | {value} |\n" for name, value in run.settings.items())
        writer.add_text("plan", f"| setting | value |\n|---|---|\n{rows}", 0)
        return _Events(writer)


class _Events:
    """A run's events."""

    def __init__(self, writer: Any) -> None:
        self.writer = writer

    def log(self, rounds: Sequence[Numbers]) -> None:
        """Write an event for each number that is finite."""
        for numbers in rounds:
            for name, value in numbers.values.items():
                if math.isfinite(value):  # TensorBoard has no place for others
                    self.writer.add_scalar(name.replace(".", "/"), value, numbers.round)
        self.writer.flush()

    def close(self, finished: bool) -> None:
        """Close the file."""
        self.writer.close()
