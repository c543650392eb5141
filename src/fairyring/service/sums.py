"""A sum of reports while it is made: what every kind of session can do, and the kind without masks.

A sum knows no clock, no socket and no database: reports come in, in batches, and it says when it has all that can come. `hosting` gives it
those.
"""

import hashlib
from typing import NamedTuple, Protocol

import numpy as np

from fairyring.aggregation.wire import unpack
from fairyring.core.errors import FairyringError, MessageRefused, SessionAborted
from fairyring.messages.manifest import Manifest
from fairyring.secagg.log import Log
from fairyring.service.facts import SessionFacts, SumOfReports

REPORTING, DONE, ABORTED = "reporting", "done", "aborted"


class Received(NamedTuple):
    """A message as it came: from which device, and its bytes."""

    device: bytes
    data: bytes


class Summed(NamedTuple):
    """How a session ended with a sum: the devices in it, and the sum."""

    devices: tuple[bytes, ...]
    total: SumOfReports


class ReportLog(Log, Protocol):
    """A log that also notes which devices' reports were accepted."""

    def report(self, device: bytes, digest: bytes) -> None:
        """Note a report as accepted, together with the records around it."""
        ...


class Sum(Protocol):
    """A session, to whoever carries its messages.

    Attributes:
        phase: what it waits for.
        offenders: devices that sent what no device should, or broke the protocol.
        named: how many devices wrong shares are attributed to, of whom any one may be innocent.
    """

    offenders: set[bytes]
    named: int

    @property
    def phase(self) -> str: ...

    @property
    def complete(self) -> bool:
        """Whether all that can come in this phase has come."""
        ...

    @property
    def counts(self) -> tuple[int, int]:
        """How many messages this phase has, and how many can come."""
        ...

    def take(self, message: Received) -> None:
        """Take a message; it counts once the log's batch has been stored.

        Raises:
            MessageRefused: it does not count. The session goes on.
        """
        ...

    def ready(self, device: bytes) -> None:
        """A device has nothing to say in this phase."""
        ...

    def leave(self, device: bytes) -> None:
        """A device has left, and sends nothing any more."""
        ...

    def advance(self) -> None:
        """End the phase: only what has come by now counts.

        Raises:
            SessionAborted: there will be no sum.
        """
        ...

    def messages(self, device: bytes) -> tuple[bytes, ...]:
        """What a device is told in this phase."""
        ...

    def takes(self, device: bytes) -> bool:
        """Whether a device is still part of the session."""
        ...

    @property
    def summed(self) -> Summed | None:
        """The sum, once there is one."""
        ...


class PlainSum:
    """Reports that are sent in the clear, and added in the order of the devices' places.

    Args:
        facts: of the session.
        manifest: of its plan.
        log: what is in it was accepted before.
    """

    def __init__(self, facts: SessionFacts, manifest: Manifest, log: ReportLog) -> None:
        self.facts, self.spec, self._log = facts, manifest.message, log
        self.phase = REPORTING
        self.offenders: set[bytes] = set()
        self.named = 0
        self.summed: Summed | None = None
        self._places = facts.places
        self._reports: dict[bytes, int] = {}  # device -> number of its record
        self._left: set[bytes] = set()
        for number, (kind, data) in enumerate(log):
            if kind == "report":
                self._reports[data[:32]] = number

    @property
    def counts(self) -> tuple[int, int]:
        return len(self._reports), min(len(self._places), self.facts.maximum)

    @property
    def complete(self) -> bool:
        waiting = self._places.keys() - self._reports.keys() - self._left
        return not waiting or len(self._reports) >= self.facts.maximum

    def take(self, message: Received) -> None:
        device, data = message
        if device in self._reports:
            before = self._log.read(self._reports[device]).data[32:]
            if before == data:
                return
            raise _refused(
                "another report than before", "one in a session", "Send the first one again, or nothing."
            )
        if self.phase != REPORTING or len(self._reports) >= self.facts.maximum:
            raise _refused("a report that came too late", "one in time", "Wait for another session.")
        try:
            report = unpack(data, self.spec)
            if not (np.isfinite(report.auxiliary).all() and np.isfinite(report.vector).all()):
                raise _refused(
                    "a report that is not finite", "finite numbers", "Send zeros, as the program does."
                )
        except FairyringError as error:
            self.offenders.add(device)
            if isinstance(error, MessageRefused):
                raise
            raise _refused(f"{error.given}", error.expected, error.do) from None
        self._reports[device] = self._log.append("report", device + data)
        self._log.report(device, hashlib.sha256(data).digest())

    def ready(self, device: bytes) -> None:
        """There is always something to say."""

    def leave(self, device: bytes) -> None:
        self._left.add(device)

    def takes(self, device: bytes) -> bool:
        return device in self._places and device not in self._left

    def messages(self, device: bytes) -> tuple[bytes, ...]:
        return ()

    def advance(self) -> None:
        if self.phase != REPORTING:
            return
        if len(self._reports) < self.facts.minimum:
            self.phase = ABORTED
            raise SessionAborted(
                REPORTING,
                given=f"{len(self._reports)} reports",
                expected=f"at least {self.facts.minimum}",
                do="Start a new session.",
            )
        devices = sorted(self._reports, key=lambda device: self._places[device])
        vector: np.ndarray | None = None
        auxiliary: np.ndarray | None = None
        up = 0
        for device in devices:
            data = self._log.read(self._reports[device]).data[32:]
            up += len(data)
            report = unpack(data, self.spec)
            if vector is None or auxiliary is None:
                vector, auxiliary = np.array(report.vector), np.array(report.auxiliary)
            else:
                vector += report.vector
                auxiliary += report.auxiliary
        assert vector is not None
        assert auxiliary is not None
        little = vector.astype(vector.dtype.newbyteorder("<")).tobytes()
        total = SumOfReports(little, auxiliary.astype("<f4").tobytes(), b"", up, 0)
        self.phase, self.summed = DONE, Summed(tuple(devices), total)


def _refused(given: str, expected: str, do: str) -> MessageRefused:
    return MessageRefused(REPORTING, given=given, expected=expected, do=do)
