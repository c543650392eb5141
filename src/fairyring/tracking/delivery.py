"""A run's records on their way to a tracker, in a thread of its own, so that a slow or failing tracker neither slows nor stops a run."""

import re
import threading
import time
import warnings
from collections import deque
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from fairyring.core.errors import TrackerWarning
from fairyring.core.interrupts import POLL
from fairyring.records.round_record import RoundRecord
from fairyring.tracking.tracker import Numbers, Session, Track, TrackedRun, Tracker
from fairyring.tracking.words import trackers_from

# Seconds. Rounds that end within a pause are sent together; a tracker that failed is tried again after 1, 2, 4, ... seconds.
PAUSE, LONGEST_PAUSE = 0.5, 60.0
# How long the end of a run waits for a tracker that is behind, and for one after a run that was interrupted.
PATIENCE, HASTE = 30.0, 3.0
# Of an address, which an error may repeat: a name and a password before its host, and values that are secrets by their names.
_CREDENTIALS = re.compile(r"//\S*@")
_SECRET = re.compile(
    r"((?:token|key|secret|pass(?:word)?|pwd|auth(?:orization)?|credentials?)\w*['\"]?\s*[=:]\s*)[^\s&,;]+",
    re.IGNORECASE,
)


class Delivery(AbstractContextManager["Delivery"]):
    """Sends the records of a run to a tracker. Call it with each of them.

    The records wait in memory, where the run keeps them anyway, until the tracker takes them. Where it fails, they are sent again later.

    Args:
        tracker: where to.
        run: whose records.
        patience: seconds that the end of the run waits for the tracker.

    Warns:
        TrackerWarning: the tracker fails and will be tried again; or at the end, it has not taken all rounds.
    """

    def __init__(self, tracker: Tracker, run: TrackedRun, *, patience: float = PATIENCE) -> None:
        self._tracker, self._run, self._patience = tracker, run, patience
        self._records: deque[RoundRecord] = deque()
        self._ending = threading.Event()
        self._abandoned = self._finished = self._closed = self._warned = False
        self._delivered = run.after
        self._last = run.after
        self._failure: BaseException | None = None
        # A daemon: a tracker that hangs must not keep the process from its end.
        self._thread = threading.Thread(target=self._deliver, name=f"tracker {tracker.name}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __call__(self, record: RoundRecord) -> None:
        self._records.append(record)
        self._last = record.round
        failure = self._failure
        if failure is not None and not self._warned:
            self._warned = True
            self._warn(
                f"does not take the run's numbers ({_words(failure)}). It is tried again while the run goes on."
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._finished = kind is None
        self._ending.set()
        stopped = kind is not None and not issubclass(kind, Exception)
        interrupted = self._wait(HASTE if stopped else self._patience)
        self._abandoned = True
        if self._closed:
            return
        why = f": {_words(self._failure)}" if self._failure is not None else ", and did not answer in time"
        why = ", when it was no longer waited for" if interrupted else why
        missing = self._last - self._delivered
        lost = (
            f"did not take the last {missing} of {self._last} rounds"
            if missing > 0
            else "took all rounds, but not the end of the run"
        )
        self._warn(
            f"{lost}{why}. The run itself is whole. One that is in a folder can be sent again: fairyring track RUN --to ..."
        )

    @property
    def complete(self) -> bool:
        """Whether the tracker has taken everything. Known at the end."""
        return self._closed

    def _warn(self, words: str) -> None:
        # At the call of `simulate`, as far as that is known from here.
        warnings.warn(f"The tracker {self._tracker.name} {words}", TrackerWarning, stacklevel=4)

    def _wait(self, seconds: float) -> bool:
        """Wait for the tracker. Whether Ctrl-C has ended that: the run is over, so only the wait is interrupted."""
        end = time.monotonic() + seconds
        try:
            while self._thread.is_alive() and (left := end - time.monotonic()) > 0:
                self._thread.join(min(left, POLL))
        except KeyboardInterrupt:
            return True
        return False

    def _deliver(self) -> None:
        """The thread: take what has come since, send it, and wait."""
        session: Session | None = None
        waiting: list[Numbers] = []
        pause = PAUSE
        while not self._abandoned:
            ended = self._ending.is_set()  # before the records are taken: none comes after it
            while self._records:
                waiting.append(Numbers.of(self._records.popleft()))
            try:
                if session is None:
                    session = self._tracker.open(self._run)
                if waiting:
                    session.log(waiting)
                    self._delivered = waiting[-1].round
                    waiting = []
                if ended:
                    session.close(self._finished)
                    self._closed = True
                    return
                pause = PAUSE
            except BaseException as failure:  # whatever a tracker does, the run goes on
                self._failure = failure
                pause = min(2 * pause, LONGEST_PAUSE)
                if ended:
                    threading.Event().wait(PAUSE)
                    continue
            self._ending.wait(pause)


class _Run(Protocol):
    """A run in memory, or loaded."""

    records: list[RoundRecord]
    header: dict[str, Any]

    @property
    def folder(self) -> Path | None: ...


def deliver(run: _Run, track: Track, *, patience: float = PATIENCE) -> bool:
    """Send the numbers of all rounds of a run to trackers: one that was not tracked, or whose tracker was away.

    Args:
        run: in memory, or loaded with `fr.load_run`.
        track: a tracker, its words, such as ``"mlflow:sqlite:///mlflow.db"``, or several.
        patience: seconds to wait for each tracker.

    Returns:
        Whether all trackers have taken all rounds.

    Raises:
        PlanError, MissingExtra: there is no such tracker.

    Warns:
        TrackerWarning: a tracker has not taken all rounds.
    """
    plan: Mapping[str, Any] = getattr(run, "plan_document", None) or run.plan.describe()  # type: ignore[attr-defined]
    known, complete = TrackedRun.of(run.header, plan, run.folder), True
    for tracker in trackers_from(track):
        delivery = Delivery(tracker, known, patience=patience)
        with delivery:
            for record in run.records:
                delivery(record)
        complete = complete and delivery.complete
    return complete


def _words(error: BaseException) -> str:
    words = " ".join(f"{type(error).__name__}: {error}".split())
    words = _SECRET.sub(r"\1…", _CREDENTIALS.sub("//…@", words))
    return words if len(words) <= 300 else f"{words[:297]}..."
