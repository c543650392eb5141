"""Whole sessions driven from outside: devices, a server, and a network that does what the test says."""

import hashlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fairyring.core.errors import SessionAborted
from fairyring.secagg import (
    Device,
    GraphParameters,
    Identity,
    Log,
    MemoryLog,
    Outgoing,
    Record,
    Server,
    Session,
    Terms,
)
from fairyring.secagg.keystream import word_of

# The events of a device after it has advertised: what one that vanishes "at" an event never acts on.
EVENTS = ("roster", "mailbox", "vector", "survivors", "signatures")
# A device that is there for its mailbox and not for its input is there, or not, for what comes of complaints.
WHILE_OPENING = {"accusation": "mailbox", "settlement": "mailbox"}


class Stopped(BaseException):
    """The process of a party ended here. No code may catch it: it is not an `Exception`."""


class StoppingLog(MemoryLog):
    """A log whose process ends just after a record is safe.

    Args:
        records: what it begins with.
        after: called with each append's number, counted over the whole run; true where the process ends.
    """

    def __init__(self, records: list[Record], after: Callable[[], bool]) -> None:
        super().__init__(records)
        self._after = after

    def append(self, kind: str, data: bytes) -> int:
        number = super().append(kind, data)
        if self._after():
            raise Stopped
        return number

    def copy(self) -> "StoppingLog":
        """What is on the disk when the next process starts."""
        return StoppingLog([Record(str(kind), bytes(bytearray(data))) for kind, data in self], self._after)


def fixed(name: str, number: int = 0) -> bytes:
    """32 bytes that are the same in every run."""
    return hashlib.sha256(f"{name} {number}".encode()).digest()


def identity(number: int) -> Identity:
    return Identity(fixed("identity", number))


def root_secret(number: int, seed: int = 0) -> bytes:
    """What the fixed entropy of device `number` makes."""
    return fixed(f"entropy {seed}", number)


def small_terms(
    maximum_cohort: int,
    *,
    length: int = 2,
    bits: int = 16,
    threat: str = "semi_honest",
    adversarial: float = 0.0,
    dropout: float = 0.0,
    minimum_cohort: int = 3,
) -> Terms:
    """Terms whose plan is 32 zero bytes."""
    return Terms(bytes(32), length, bits, minimum_cohort, maximum_cohort, threat, adversarial, dropout)  # type: ignore[arg-type]


def vectors_of(count: int, terms: Terms, seed: int = 0) -> list[np.ndarray]:
    """Uniform vectors `[terms.length]` modulo `2**terms.modulus_bits`."""
    generator = np.random.default_rng(seed)
    words = generator.integers(0, 1 << 64, (count, terms.length), dtype=np.uint64)
    words >>= np.uint64(64 - terms.modulus_bits)
    return list(words.astype(word_of(terms.modulus_bits)))


def plain_sum(vectors: Sequence[np.ndarray], terms: Terms) -> list[int]:
    """The sum modulo `2**terms.modulus_bits` on Python's integers."""
    columns = zip(*(v.tolist() for v in vectors), strict=True)
    return [sum(column) % (1 << terms.modulus_bits) for column in columns]


class Play:
    """One session from its first message to its sum.

    Args:
        terms: of the session.
        vectors: one a device.
        vanish: device -> the event it never acts on.
        models: device -> the model it was given, where that is not the server's.
        previous: head of the history before it.
        seed: of the devices' fixed entropy.
        log: makes each party's log; a party is `"server"` or a device's number.
    """

    def __init__(
        self,
        terms: Terms,
        vectors: Sequence[np.ndarray],
        vanish: Mapping[int, str] | None = None,
        *,
        models: Mapping[int, bytes] | None = None,
        previous: bytes | None = None,
        seed: int = 0,
        log: Callable[[str | int], Log] | None = None,
    ) -> None:
        self.session = Session(terms, 1, bytes(32), previous)
        self.vectors, self.vanish, self.seed = vectors, dict(vanish or {}), seed
        make = log or (lambda party: MemoryLog())
        self.logs: dict[str | int, Log] = {i: make(i) for i in range(len(vectors))}
        self.identities = [identity(i) for i in range(len(vectors))]
        self.number = {one.public: i for i, one in enumerate(self.identities)}
        self.sessions = [
            Session(terms, 1, models[i], previous) if models and i in models else self.session
            for i in range(len(vectors))
        ]
        self.restarts = 0
        self.left: dict[int, SessionAborted] = {}
        self.sent: dict[tuple[int, str], bytes] = {}  # (device, event) -> what it answered, ever
        self.delivered: dict[
            tuple[int, str], bytes
        ] = {}  # (device, phase) -> what the server announced, ever
        self.devices: dict[int, Device] = {}
        for i in range(len(vectors)):
            self._start_device(i)
        self.logs["server"] = make("server")
        self._start_server()

    # -- processes that end and start again --------------------------------------------------------------

    def _start_device(self, i: int) -> None:
        self.devices[i] = Device(
            self.sessions[i],
            self.identities[i],
            self.logs[i],
            entropy=lambda size: root_secret(i, self.seed)[:size],
        )

    def _start_server(self) -> None:
        while True:
            try:
                self.server = Server(self.session, self.logs["server"])
                return
            except Stopped:
                self._restore("server")

    def _restore(self, party: str | int) -> None:
        log = self.logs[party]
        assert isinstance(log, StoppingLog)
        self.logs[party] = log.copy()
        self.restarts += 1

    def _device(self, i: int, event: str, act: Callable[[Device], bytes | None]) -> bytes | None:
        """What a device answers, however often its process ends meanwhile."""
        while True:
            try:
                answer = act(self.devices[i])
                break
            except Stopped:
                self._restore(i)
                self._start_device(i)
            except SessionAborted as error:
                self.left[i] = error
                return None
        if answer is not None:
            assert self.sent.setdefault((i, event), answer) == answer, "another answer than before"
        return answer

    def _give(self, data: bytes | None) -> None:
        """Hand a message to the server until it is accepted."""
        while data is not None:
            try:
                self.server.receive(data)
                return
            except Stopped:
                self._restore("server")
                self._start_server()

    def _close(self) -> list[Outgoing]:
        phase = self.server.phase
        try:
            out = list(self.server.close())
        except Stopped:
            self._restore("server")
            self._start_server()
            # What the log says was settled is announced again; what it does not is settled now.
            again = self.server.phase in (phase, "aborted")
            out = self._close() if again else list(self.server.announcements())
        for to, data in out:
            delivered = self.delivered.setdefault((self.number[to], self.server.phase), data)
            assert delivered == data, "a second story"
        return out

    # -- the session -------------------------------------------------------------------------------------

    def acts(self, i: int, event: str) -> bool:
        """Whether a device is still there when an event comes."""
        gone, event = self.vanish.get(i), WHILE_OPENING.get(event, event)
        return i not in self.left and (gone is None or EVENTS.index(event) < EVENTS.index(gone))

    def advertise(self) -> None:
        for i in self.devices:
            self._give(self._device(i, "start", lambda device: device.start()))

    def deliver(self, event: str) -> None:
        """Close the server's phase and hand what it announces to the devices that are there. After their mailboxes what
        they complain of is settled, too."""
        self.hand_out(event)
        if event == "mailbox":
            self.hand_out("accusation")
            if self.server.phase == "disclosing":
                self.hand_out("settlement")

    def hand_out(self, event: str) -> None:
        """One message to everyone it is for, and their answers."""
        for to, data in self._close():
            i = self.number[to]
            if self.acts(i, event):
                answer = self._device(i, event, lambda device, data=data: device.receive(data))
                self._give(self.changed(i, event, answer))

    def changed(self, i: int, event: str, answer: bytes | None) -> bytes | None:
        """What a device sends instead of what its machine answers: for devices that do not keep to the protocol."""
        return answer

    def contribute(self) -> None:
        for i in self.devices:
            if self.acts(i, "vector") and self.devices[i].phase == "ready":
                vector = self.vectors[i]
                self._give(self._device(i, "vector", lambda device, v=vector: device.contribute(v)))

    def run(self) -> "Play":
        """The whole session.

        Raises:
            SessionAborted: by the server.
        """
        self.advertise()
        self.deliver("roster")
        self.deliver("mailbox")
        self.contribute()
        self.deliver("survivors")
        self.deliver("signatures")
        self._close()
        return self

    @property
    def survivors(self) -> list[int]:
        """Numbers of the devices in the sum."""
        return [self.number[self.server._state.roster[i].identity] for i in self.server._state.survivors]

    def plain(self) -> list[int]:
        """What the sum must be."""
        return plain_sum([self.vectors[i] for i in self.survivors], self.session.terms)


def foretold(play: Play, graph: GraphParameters) -> str | None:
    """The phase of the server in which a session must end without a sum, or None: from who vanishes when.

    Read off the protocol, device by device, and not off the code under test: only the ring is the server's.
    """
    threshold, minimum_cohort = graph.threshold, play.session.terms.minimum_cohort
    index = play.server._state.index
    near = {
        i: {
            play.number[play.server._state.roster[j].identity]
            for j in play.server._state.neighbours(index[key])
        }
        for key, i in play.number.items()
        if key in index
    }

    def there(i: int, event: str) -> bool:
        gone = play.vanish.get(i)
        return gone is None or EVENTS.index(event) < EVENTS.index(gone)

    holders = {i for i in near if there(i, "roster")}
    if len(holders) < minimum_cohort:
        return "sharing"
    ready = {i for i in holders if there(i, "mailbox") and len(near[i] & holders) >= threshold}
    stayed = {i for i in ready if there(i, "vector")}
    if len(stayed) < minimum_cohort:
        return "masking"
    signed = {i for i in stayed if there(i, "survivors") and len(near[i] & stayed) >= threshold}
    asked = {i for i in signed if len(near[i] & signed) >= threshold}
    committee = {play.number[play.server._state.roster[j].identity] for j in play.server._state.committee}
    if len(asked) < threshold or len(committee & signed) < play.session.terms.committee(len(near)).threshold:
        return "confirming"
    answered = {i for i in asked if there(i, "signatures")}
    owners = stayed | {i for i in holders - stayed if near[i] & stayed}
    if any(len(near[i] & answered) < threshold for i in owners):
        return "unmasking"
    return None
