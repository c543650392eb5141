"""The secure sum of a round, run as real devices and a real server would: every message is made, sent and checked."""

import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from fairyring.core.errors import SessionAborted
from fairyring.core.packing import unpack_words
from fairyring.rounds.cohorts import DropoutPoint, RoundCohort
from fairyring.rounds.history import Signatures
from fairyring.rounds.server_program import Sums
from fairyring.rounds.total import Exhibit, SecureSumResult, Total
from fairyring.rounds.watching import Watch
from fairyring.rounds.worker import Work, Worker
from fairyring.secagg import (
    Device,
    FileLog,
    Identity,
    Log,
    MemoryLog,
    Outgoing,
    Server,
    Session,
    Terms,
    Traffic,
)
from fairyring.secagg.history import attest, survivors_of
from fairyring.secagg.keystream import word_of
from fairyring.secagg.messages import MaskedInput, decode_kept

# Masked vectors of a round are held in memory up to this size; more go to a temporary file until they are summed.
HELD_BYTES = 256 << 20


class MaskedSums:
    """Runs the masked protocol for simulated clients, round after round.

    Every client has its own identity for the run. Identities, secrets of sessions and masks come from the operating
    system's entropy. They differ from run to run; the sums do not.

    Args:
        terms: of the plan's secure sums.
    """

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self._identities: dict[int, Identity] = {}
        self._last: tuple[Session, dict[int, Identity]] | None = None

    def run(
        self,
        cohort: RoundCohort,
        dropout_points: Mapping[int, DropoutPoint],
        model: bytes,
        vectors: Iterable[tuple[int, np.ndarray]],
        previous: bytes | None = None,
    ) -> SecureSumResult:
        """Run one session.

        Args:
            cohort: the clients that were sampled, and those that stay.
            dropout_points: for each client that vanishes, the point before which it does.
            model: digest of the model that was sent out.
            vectors: `(client, vector)` of the clients that stay, in any order: uint32 `[length]`. They are asked for once
                all shares have been sent.
            previous: head of the run's history before this round; None if no history is kept.
        """
        session = Session(self.terms, cohort.round, model, previous)
        with ExitStack() as stack:
            log = self._log(len(cohort.sampled) + len(cohort.canaries), stack)
            running = _Round(self, session, cohort, dropout_points, log)
            summed = running.run(vectors)
        if summed.transcript is not None:
            survivors = survivors_of(summed.transcript).items()
            self._last = session, {i: self.identity(running.clients[public]) for i, public in survivors}
        return summed

    def attest(self, head: bytes) -> Signatures:
        """Signatures of a head by all clients whose vectors are in the last sum; none before the first sum."""
        return attest(self._last[0], head, self._last[1]) if self._last else ()

    def identity(self, client: int) -> Identity:
        """The identity of a client, generated on first use."""
        if client not in self._identities:
            self._identities[client] = Identity.generate()
        return self._identities[client]

    def _log(self, devices: int, stack: ExitStack) -> Log:
        if devices * self.terms.vector_bytes <= HELD_BYTES:
            return MemoryLog()
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fairyring-"))
        log = FileLog(Path(folder) / "server.sqlite", durable=False)
        stack.callback(log.close)
        return log


class _DeviceLog(MemoryLog):
    """The log of a device that is never restarted. It does not keep the masked input, which the server's log holds."""

    def append(self, kind: str, data: bytes) -> int:
        return super().append(kind, b"" if kind == "vector" else data)


class _Round:
    """A session that is running."""

    def __init__(
        self,
        sums: MaskedSums,
        session: Session,
        cohort: RoundCohort,
        dropout_points: Mapping[int, DropoutPoint],
        log: Log,
    ) -> None:
        self.terms, self.dropout_points = sums.terms, dropout_points
        self.server = Server(session, log)
        self.clients: dict[bytes, int] = {}
        self.devices: dict[int, Device] = {}
        for client in [*cohort.sampled.tolist(), *cohort.canaries.tolist()]:
            identity = sums.identity(client)
            self.clients[identity.public] = client
            self.devices[client] = Device(session, identity, _DeviceLog())
        self.up = self.down = 0
        self.exhibit: Exhibit | None = None

    def run(self, vectors: Iterable[tuple[int, np.ndarray]]) -> SecureSumResult:
        try:
            for client, device in self.devices.items():
                if self._present(client, DropoutPoint.BEFORE_ADVERT):
                    self._send(device.start())
            self._step(self.server.close(), DropoutPoint.BEFORE_SHARES)
            self._step(
                self.server.close(), DropoutPoint.BEFORE_INPUT
            )  # mailboxes; an answer to one is a complaint
            self._step(self.server.close(), DropoutPoint.BEFORE_INPUT)
            if self.server.phase == "disclosing":
                self._step(self.server.close(), DropoutPoint.BEFORE_INPUT)
            for client, vector in vectors:
                ready = self.devices[client].phase == "ready"
                if ready and self._present(client, DropoutPoint.BEFORE_INPUT):
                    self._contribute(client, vector)
            self._step(self.server.close(), DropoutPoint.BEFORE_SIGNATURE)
            self._step(self.server.close(), DropoutPoint.BEFORE_UNMASKING)
            list(self.server.close())
        except SessionAborted as error:
            for _ in vectors:  # clients train even so
                pass
            phase = error.phase, f"{error.given}; expected {error.expected}"
            return SecureSumResult(None, 0, Traffic(self.up, self.down), phase, None, self.exhibit)
        result = self.server.result
        assert result is not None
        vector = result.sum.astype(np.uint32)
        return SecureSumResult(
            vector, result.count, Traffic(self.up, self.down), None, result.transcript, self.exhibit
        )

    def _step(self, announced: Iterable[Outgoing], point: DropoutPoint) -> None:
        """Deliver the server's messages, and send it the answers."""
        for to, data in announced:
            client = self.clients[to]
            if self._present(client, point):
                answer = self._deliver(client, data)
                if answer is not None:
                    self._send(answer)

    def _deliver(self, client: int, data: bytes) -> bytes | None:
        self.down += len(data)
        try:
            return self.devices[client].receive(data)
        except SessionAborted:
            return None  # it has left the session, like a client that vanished

    def _send(self, data: bytes) -> None:
        self.up += len(data)
        self.server.receive(data)

    def _contribute(self, client: int, vector: np.ndarray) -> None:
        data = self.devices[client].contribute(vector)
        self._send(data)
        if self.exhibit is None:
            terms = self.terms
            packed = decode_kept(data, MaskedInput).vector
            words = unpack_words(packed, terms.modulus_bits, terms.words, word_of(terms.modulus_bits))
            self.exhibit = Exhibit(vector.copy(), words[: terms.length].astype(np.uint32))

    def _present(self, client: int, point: DropoutPoint) -> bool:
        """Whether a client has not vanished before a point."""
        gone = self.dropout_points.get(client)
        return gone is None or point < gone


def total_of(
    masks: MaskedSums,
    worker: Worker,
    sums: Callable[[np.ndarray | None, int], Sums],
    work: Work,
    model: bytes,
    dropout_points: Mapping[int, DropoutPoint],
    watch: Watch | None = None,
) -> Total:
    """The total of a round, by the masked protocol.

    Args:
        masks: runs the protocol.
        worker: computes the clients' vectors.
        sums: moves a sum, and the number of clients in it, to the server's processor.
        work: what the round computes.
        model: digest of the model that was sent out.
        dropout_points: for each client that vanishes, the point before which it does.
        watch: sees every client's vector before noise is added.
    """
    faulty = [np.zeros(0, np.int64)]
    vectors = worker.encoded(work, faulty)
    noise = work.noise
    if noise is not None:
        if watch is not None:
            vectors = watch.passing(vectors)
        bits = masks.terms.modulus_bits
        vectors = ((c, noise.share(c, bits, v)) for c, v in vectors)
    summed = masks.run(work.cohort, dropout_points, model, vectors, work.previous)
    vector, count = (None, 0) if summed.vector is None else (summed.vector, summed.count)
    return Total((sums(vector, count),), np.concatenate(faulty), summed)
