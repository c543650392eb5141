"""What a tracker is: it opens a session for each run, and the session is sent the run's numbers."""

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from fairyring.core.files import plain_name
from fairyring.records.plan_fields import plan_fields
from fairyring.records.round_record import RoundRecord

Settings = Mapping[str, str | int | float]

# Of a run's header, what a tracker shows beside the plan.
_HEADER = ("seed", "rounds", "dropout", "secure_sum", "canaries", "started", "fairyring")


@dataclass(frozen=True)
class TrackedRun:
    """A run, as a tracker knows it.

    Attributes:
        name: for people: that of its folder, or of its setting and seed in a sweep.
        identity: 32 hexadecimal digits. A run that is resumed in its folder has the same ones again.
        settings: the plan's numbers and names by their paths, such as ``local.optimizer.sgd.learning_rate``, and the run's seed.
        after: the round that it goes on from: 0 for a new run. What a tracker has of later rounds will be sent again.
    """

    name: str
    identity: str
    settings: Settings
    after: int = 0

    @classmethod
    def of(
        cls, header: Mapping[str, Any], plan: Mapping[str, Any], folder: Path | None, after: int = 0
    ) -> "TrackedRun":
        """A run by its header, its plan's document and its folder."""
        known = {name: header[name] for name in _HEADER if header.get(name) is not None}
        # Two runs in memory may be of one plan, begun in the same second.
        own = f"{header['fingerprint']} {header['started']} {uuid.uuid4() if folder is None else folder.resolve().name}"
        return cls(
            folder.resolve().name if folder is not None else "run",
            hashlib.sha256(own.encode()).hexdigest()[:32],
            {**plan_fields(plan), **known},
            after,
        )

    @property
    def file_name(self) -> str:
        """Its name and the beginning of its identity, in characters that any file system takes."""
        return f"{plain_name(self.name)}-{self.identity[:8]}"


class Numbers(NamedTuple):
    """The numbers of one round.

    Attributes:
        round: its number.
        values: by column, as in `run.table()`: ``loss``, ``metrics.accuracy``, ``test.loss``. What was not recorded of a round is not there.
    """

    round: int
    values: dict[str, float]

    @classmethod
    def of(cls, record: RoundRecord) -> "Numbers":
        """Those of a round's record."""
        columns = record.columns()
        columns.pop("round")
        return cls(
            record.round, {name: float(v) for name, v in columns.items() if isinstance(v, int | float)}
        )


class Session(Protocol):
    """What a tracker has opened for one run. It is called from one thread, which is not that of the run."""

    def log(self, rounds: Sequence[Numbers]) -> None:
        """Take the numbers of some rounds, in order. Those of a call that failed are sent again."""
        ...

    def close(self, finished: bool) -> None:
        """The run has ended: all of its rounds were run, or it was stopped or failed."""
        ...


@runtime_checkable
class Tracker(Protocol):
    """Something that keeps or shows the numbers of runs. Any object with these two may be given as `simulate(track=)`.

    Attributes:
        name: for messages.
    """

    @property
    def name(self) -> str: ...

    def open(self, run: TrackedRun) -> Session:
        """Begin a run, or go on with the run of this identity."""
        ...


Track = str | Tracker | Sequence[str | Tracker]


@dataclass(frozen=True)
class Named:
    """A tracker that calls a run something else than its folder does.

    Attributes:
        tracker: that keeps the run.
        run: the run's name.
    """

    tracker: Tracker
    run: str

    @property
    def name(self) -> str:
        """That of the tracker."""
        return self.tracker.name

    def open(self, run: TrackedRun) -> Session:
        """Begin the run under its other name."""
        return self.tracker.open(replace(run, name=self.run))
