"""Runs in Weights & Biases."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fairyring.core.extras import require
from fairyring.tracking.tracker import Numbers, Session, TrackedRun


@dataclass(frozen=True)
class WandbTracker:
    """Send the numbers of each run to Weights & Biases, with the plan's settings as its configuration.

    Only these are sent: neither the console's output, nor code, nor what is known of the machine. Needs the extra ``wandb``.

    Args:
        project: the project's name.
        offline: write to `folder` only; `wandb sync` sends it later. By default what WANDB_MODE says.
        folder: for wandb's own files; by default the working directory.

    Raises:
        MissingExtra: wandb is not installed.
    """

    project: str = "fairyring"
    offline: bool | None = None
    folder: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        require("wandb", extra="wandb", purpose="runs in Weights & Biases")

    @property
    def name(self) -> str:
        """For messages."""
        return f"wandb:{self.project}"

    def open(self, run: TrackedRun) -> Session:
        """Begin the run, or go on with it."""
        import wandb as package

        own = package.init(
            project=self.project,
            name=run.name,
            id=run.identity,
            resume="allow",
            reinit="create_new",  # several runs of a sweep at once, and whatever run the user has
            config={name: value for name, value in run.settings.items()},
            mode=None if self.offline is None else "offline" if self.offline else "online",
            dir=None if self.folder is None else os.fspath(self.folder),
            settings=package.Settings(
                silent=True,
                console="off",
                disable_code=True,
                disable_git=True,
                disable_job_creation=True,
                save_code=False,
                x_disable_meta=True,
                x_disable_stats=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
            ),
        )
        return _History(own)


class _History:
    """A run's history."""

    def __init__(self, own: Any) -> None:
        self.own = own

    def log(self, rounds: Sequence[Numbers]) -> None:
        """Send them. Rounds that it has already stay as they are: they have the same numbers."""
        for numbers in rounds:
            self.own.log(numbers.values, step=numbers.round)

    def close(self, finished: bool) -> None:
        """Say how the run ended, and wait until all is written."""
        self.own.finish(exit_code=0 if finished else 1)
