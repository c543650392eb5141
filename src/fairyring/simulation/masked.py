"""A round's secure sum as real devices and a real server would run it: every message made, sent and checked."""

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

# Masked vectors of a round that are held in memory; more lie in a temporary file until they are summed.
HELD_BYTES = 256 << 20


class MaskedSums:
    """Runs the masked protocol for simulated clients, round after round.

    Every client has an identity of its own for the run. Identities, sessions' secrets and masks are from the operating
    system's entropy: they differ from run to run, and the sums do not.

    Args:
        terms: the plan's.
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
        """One session.

        Args:
            cohort: who was sampled, and who stays.
            leaving: at which point a client vanishes.
            model: digest of the model sent out.
            vectors: `(client, vector)` of those that stay, in any order: uint32 `[length]`. They are asked for once
                all shares are out.
            previous: head of the run's history before it; None where none is kept.
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
        """Signatures of a head by all whose vectors are in the last sum; none before there was one."""
        return attest(self._last[0], head, self._last[1]) if self._last else ()

    def identity(self, client: int) -> Identity:
        """A client's, made when it is first asked for."""
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


class _Passing(MemoryLog):
    """The log of a device that is never restarted: it keeps no masked input, of which the server's log holds one."""

    def append(self, kind: str, data: bytes) -> int:
        return super().append(kind, b"" if kind == "vector" else data)


class _Round:
    """One session while it runs."""

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
            self.devices[client] = Device(session, identity, _Passing())
        self.up = self.down = 0
        self.exhibit: Exhibit | None = None

    def run(self, vectors: Iterable[tuple[int, np.ndarray]]) -> SecureSumResult:
        try:
            for client, device in self.devices.items():
                if self._here(client, DropoutPoint.BEFORE_ADVERT):
                    self._send(device.start())
            self._step(self.server.close(), DropoutPoint.BEFORE_SHARES)
            self._step(self.server.close(), DropoutPoint.BEFORE_INPUT)  # mailboxes; an answer is a complaint
            self._step(self.server.close(), DropoutPoint.BEFORE_INPUT)
            if self.server.phase == "disclosing":
                self._step(self.server.close(), DropoutPoint.BEFORE_INPUT)
            for client, vector in vectors:
                ready = self.devices[client].phase == "ready"
                if ready and self._here(client, DropoutPoint.BEFORE_INPUT):
                    self._contribute(client, vector)
            self._step(self.server.close(), DropoutPoint.BEFORE_SIGNATURE)
            self._step(self.server.close(), DropoutPoint.BEFORE_UNMASKING)
            list(self.server.close())
        except SessionAborted as error:
            for _ in vectors:  # clients train all the same
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
        """Hand out what the server announced, and hand in what is answered."""
        for to, data in announced:
            client = self.clients[to]
            if self._here(client, point):
                answer = self._give(client, data)
                if answer is not None:
                    self._send(answer)

    def _give(self, client: int, data: bytes) -> bytes | None:
        self.down += len(data)
        try:
            return self.devices[client].receive(data)
        except SessionAborted:
            return None  # it has left, as one that vanished

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

    def _here(self, client: int, point: DropoutPoint) -> bool:
        """Whether a client is still there at a point."""
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
    """A round's total by the masked protocol.

    Args:
        masks: runs it.
        worker: computes clients' vectors.
        sums: puts a masked sum, and how many are in it, where the server is.
        work: of the round.
        model: digest of the model sent out.
        leaving: at which point a client vanishes.
        watch: sees every client's vector before any noise.
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
