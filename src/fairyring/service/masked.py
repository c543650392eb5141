"""A sum under masks while it is made: the server of the masked protocol, and who of its devices may still send something."""

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import numpy as np

from fairyring.messages.manifest import Manifest
from fairyring.secagg import Enrolled, Server, Session
from fairyring.secagg.history import survivors_of
from fairyring.secagg.server import Phase
from fairyring.service.facts import SessionFacts, SumOfReports
from fairyring.service.sums import Received, ReportLog, Summed

# In these phases a device that has nothing to object to sends nothing.
_SILENT = (Phase.OPENING,)


class _Stage(NamedTuple):
    """A phase as devices see it: what each is told, and who may answer. It changes as one, whoever looks meanwhile."""

    phase: Phase
    outgoing: Mapping[bytes, bytes]
    expected: frozenset[bytes]


class MaskedSum:
    """A session of the masked protocol.

    Args:
        facts: of the session.
        manifest: of its plan, which has terms of secure sums.
        log: what is in it was accepted before: the session goes on from there.

    Raises:
        RunMismatch, RunDamaged: the log is not that of this session.
    """

    def __init__(self, facts: SessionFacts, manifest: Manifest, log: ReportLog) -> None:
        terms = manifest.terms
        assert terms is not None, "a plan with a secure sum"
        previous = bytes.fromhex(facts.previous) if facts.previous is not None else None
        session = Session(terms, facts.round, bytes.fromhex(facts.context), previous)
        self._log, self._places = log, facts.places
        self.server = Server(session, log, policy=Enrolled(self._places))
        self.offenders: set[bytes] = set()
        self.named = 0
        self._left: set[bytes] = set()
        self._ready: set[bytes] = set()
        self._up = self._down = 0
        self._announce(dict(self.server.announcements()))

    @property
    def phase(self) -> str:
        return str(self._stage.phase)

    @property
    def counts(self) -> tuple[int, int]:
        if self.server.phase == Phase.ADVERTISING:
            most = min(len(self._places), self.server.session.terms.maximum_cohort)
            return len(self.server.heard), most
        if self.server.phase in _SILENT:
            return len(self._ready | self.server.heard), len(self._stage.expected)
        return len(self.server.heard), len(self._stage.expected)

    @property
    def complete(self) -> bool:
        if self.server.phase == Phase.ADVERTISING:
            full = len(self.server.heard) >= self.server.session.terms.maximum_cohort
            return full or not self._places.keys() - self.server.heard - self._left
        quiet = self._ready if self.server.phase in _SILENT else set()
        return not self._stage.expected - self.server.heard - self._left - quiet

    def take(self, message: Received) -> None:
        if self.server.phase != Phase.MASKING:
            self.server.receive(message.data)
        else:
            before = self.server.heard
            self.server.receive(message.data)
            # By who signed it, whoever brought it.
            for device in self.server.heard - before:
                self._log.report(device, hashlib.sha256(message.data).digest())
        self._up += len(message.data)

    def ready(self, device: bytes) -> None:
        if device in self._stage.expected:
            self._ready.add(device)

    def leave(self, device: bytes) -> None:
        self._left.add(device)

    def takes(self, device: bytes) -> bool:
        if device in self._left or device not in self._places:
            return False
        stage = self._stage
        return stage.phase == Phase.ADVERTISING or device in stage.expected

    def messages(self, device: bytes) -> tuple[bytes, ...]:
        message = self._stage.outgoing.get(device)
        return () if message is None else (message,)

    def advance(self) -> None:
        if self.server.phase in (Phase.DONE, Phase.ABORTED):
            return
        barred = set(self.server.barred)
        try:
            self._announce(dict(self.server.close()))
        finally:
            self.offenders |= set(self.server.barred) - barred
        # Those to whom wrong shares are attributed are no offenders: any one of them may be innocent, and the sum is right without them.
        self.named = len(self.server.liars)

    def _announce(self, outgoing: dict[bytes, bytes]) -> None:
        self._down += sum(map(len, outgoing.values()))
        self._ready = set()
        self._stage = _Stage(self.server.phase, outgoing, frozenset(self.server.expected))

    @property
    def summed(self) -> Summed | None:
        result = self.server.result
        if result is None:
            return None
        vector = result.sum.astype(np.uint32).astype("<u4").tobytes()
        devices = tuple(sorted(survivors_of(result.transcript).values()))
        transcript = msgspec.msgpack.encode(result.transcript)
        return Summed(devices, SumOfReports(vector, b"", transcript, self._up, self._down))
