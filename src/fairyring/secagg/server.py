"""The server's machine: it freezes who takes part, carries messages, and learns one sum.

Its state is a fold of its log: what is accepted is in the log before it is acknowledged, and a set is there before
anyone hears of it. So a server that is killed at any point ends in the same sum or a clean end, and never tells a
second story. Masked vectors stay in the log until the sum is made; memory does not grow with their number.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from fairyring.core.errors import MessageRefused, PlanError, RunDamaged, RunMismatch, SessionAborted
from fairyring.core.packing import check_packed
from fairyring.secagg import shamir
from fairyring.secagg._disputes import Disputes
from fairyring.secagg._suite import bitmap, digest, low_order, verified
from fairyring.secagg._transition import Transition
from fairyring.secagg._unmasking import Known, Unrecovered, total
from fairyring.secagg.graph import GraphParameters, Ring
from fairyring.secagg.identity import Anyone, Policy
from fairyring.secagg.keystream import word_of
from fairyring.secagg.log import Log
from fairyring.secagg.messages import (
    HASH_BYTES,
    Advertise,
    Complaint,
    Consistency,
    Disclosure,
    FromDevice,
    Mailbox,
    MaskedInput,
    Roster,
    Shares,
    Signatures,
    Survivors,
    Unmask,
    decode,
    decode_kept,
    encode,
    maximum_bytes,
)
from fairyring.secagg.terms import Session
from fairyring.secagg.transcript import Transcript, result_hash


class Phase(StrEnum):
    """What the server is waiting for."""

    ADVERTISING = "advertising"
    SHARING = "sharing"
    OPENING = "opening"
    DISCLOSING = "disclosing"
    MASKING = "masking"
    CONFIRMING = "confirming"
    UNMASKING = "unmasking"
    DONE = "done"
    ABORTED = "aborted"


# The only place that says what may follow what. "close" ends a stage: what has come by then is all that counts.
TRANSITIONS: Mapping[tuple[Phase, str], Transition] = MappingProxyType(
    {
        (Phase.ADVERTISING, "advertise"): Transition("_advertised", Phase.ADVERTISING),
        (Phase.ADVERTISING, "close"): Transition("_freeze_roster", Phase.SHARING, "roster"),
        (Phase.SHARING, "shares"): Transition("_shared", Phase.SHARING),
        (Phase.SHARING, "close"): Transition("_freeze_holders", Phase.OPENING, "mailbox"),
        (Phase.OPENING, "complaint"): Transition("_complained", Phase.OPENING),
        (Phase.OPENING, "close"): Transition(
            "_freeze_complaints", Phase.MASKING, "accusation", detour=Phase.DISCLOSING
        ),
        (Phase.DISCLOSING, "disclosure"): Transition("_disclosed", Phase.DISCLOSING),
        (Phase.DISCLOSING, "close"): Transition("_freeze_barred", Phase.MASKING, "settlement"),
        (Phase.MASKING, "masked_input"): Transition("_masked", Phase.MASKING),
        (Phase.MASKING, "close"): Transition("_freeze_survivors", Phase.CONFIRMING, "survivors"),
        (Phase.CONFIRMING, "consistency"): Transition("_confirmed", Phase.CONFIRMING),
        (Phase.CONFIRMING, "close"): Transition("_freeze_signers", Phase.UNMASKING, "signatures"),
        (Phase.UNMASKING, "unmask"): Transition("_unmasked", Phase.UNMASKING),
        (Phase.UNMASKING, "close"): Transition("_finish", Phase.DONE),
    }
)

_KINDS = {
    Advertise: "advertise",
    Shares: "shares",
    Complaint: "complaint",
    Disclosure: "disclosure",
    MaskedInput: "masked_input",
    Consistency: "consistency",
    Unmask: "unmask",
}

# What is announced when a stage begins, and with which of their messages devices ask for it again.
_ANNOUNCED = {
    Phase.SHARING: "roster",
    Phase.OPENING: "mailbox",
    Phase.DISCLOSING: "accusation",
    Phase.MASKING: "settlement",
    Phase.CONFIRMING: "survivors",
    Phase.UNMASKING: "signatures",
}
_ASKED = {
    "advertise": ("roster",),
    "shares": ("mailbox", "accusation", "settlement"),
    "complaint": ("accusation", "settlement"),
    "disclosure": ("settlement",),
    "masked_input": ("survivors",),
    "consistency": ("signatures",),
}


class Outgoing(NamedTuple):
    """A message for a device."""

    to: bytes  # its identity
    data: bytes


@dataclass(frozen=True)
class Result:
    """What a session ends in.

    Attributes:
        sum: of the survivors' vectors modulo `2**modulus_bits`: unsigned `[terms.length]`.
        count: how many were summed.
        transcript: what anyone may check afterwards.
    """

    sum: np.ndarray
    count: int
    transcript: Transcript


class Server:
    """The server of one session.

    Args:
        session: what is summed.
        log: of this session; what it holds is taken up again.
        policy: who may take part.

    Attributes:
        stage: what it waits for.
        result: the result, once it is done; None before.

    Raises:
        RunMismatch, RunDamaged: the log is of another session, or is not one it wrote.
    """

    def __init__(self, session: Session, log: Log, *, policy: Policy | None = None) -> None:
        self.session, self._log, self._policy = session, log, policy or Anyone()
        self.phase, self.result = Phase.ADVERTISING, None
        self._seen: dict[str, dict[bytes, bytes]] = {kind: {} for kind in _KINDS.values()}
        self._barred: dict[str, set[bytes]] = {kind: set() for kind in _KINDS.values()}
        self._adverts: dict[bytes, Advertise] = {}
        self._keys: set[bytes] = set()  # of all adverts
        self._roster: list[Advertise] = []
        self._index: dict[bytes, int] = {}
        self._entries: list[bytes] = []
        self._beacon = self._root = b""
        self._graph = GraphParameters(0, 0)
        self._ring: Ring | None = None
        self._sealed: dict[int, tuple[bytes, ...]] = {}
        self._holders: set[int] = set()
        self._disputes = Disputes(b"", b"", (), self._neighbours)
        self._inputs: dict[int, int] = {}  # device -> number of its record
        self._survivors: list[int] = []
        self._agreed = b""  # what devices sign of that set
        self._signed: dict[int, bytes] = {}
        self._askable: list[int] = []
        self._shares: dict[int, tuple[bytes, ...]] = {}
        self._liars: set[int] = set()
        if len(log) == 0:
            log.append("begin", session.context)
        for number, (kind, data) in enumerate(log):
            self._again(number, kind, data)

    def receive(self, data: bytes) -> list[Outgoing]:
        """Take a message from a device; it is accepted when this returns.

        The same bytes again get the same answer: whatever the server has announced to that device since, or nothing
        yet. A second message of a kind with other content bars its sender from the stage: both are refused.

        Raises:
            MessageRefused: malformed, forged, out of turn, or in conflict with one before. The session goes on.
            SessionAborted: the session has ended without a sum.
        """
        self._check_alive()
        devices = len(self._roster) or self.session.terms.maximum_cohort
        degree = self._graph.degree or self.session.terms.maximum_cohort - 1
        message = decode(
            data, FromDevice, maximum_bytes(self.session.terms.vector_bytes, devices, degree), self.phase
        )
        kind = _KINDS[type(message)]
        sender, payload = self._verify(message)
        seen = self._seen[kind].get(sender)
        mark = payload + message.signature  # as good as the bytes, and hashed already
        if seen == mark and sender not in self._barred[kind]:
            return self._answer(kind, sender)
        if (self.phase, kind) not in TRANSITIONS:
            raise self._refusal(f"{message!r}", self._awaited(), "It came too late, or too early.")
        if sender in self._barred[kind]:
            raise self._refusal(
                f"{message!r} of a device that contradicted itself", "one story", "It is barred."
            )
        conflict = seen is not None
        if not conflict:
            self._check(kind, message, sender)
        self._take(kind, message, sender, mark, self._log.append(kind, data))
        if conflict:
            raise self._refusal(
                f"another {message!r} than before",
                "one a session",
                "Both are refused: it cannot be told which counts.",
            )
        return []

    def close(self, beacon: bytes = b"") -> Iterator[Outgoing]:
        """End the stage: what has come is all that counts. Returns what is announced.

        Args:
            beacon: public randomness that nobody could know when the adverts came, up to 64 bytes; only where the
                stage is `ADVERTISING`.

        Raises:
            SessionAborted: too few are left, or what is left does not make a sum.
        """
        self._check_alive()
        if (self.phase, "close") not in TRANSITIONS:
            raise self._refusal("the end of a stage", self._awaited(), "The session is over.")
        if len(beacon) > 64 or (beacon and self.phase != Phase.ADVERTISING):
            raise self._refusal("a beacon", "at most 64 bytes, for the roster", "Leave it out.")
        self._close(beacon, keep=True)
        return self.announcements()

    def announcements(self) -> Iterator[Outgoing]:
        """What was announced at the end of the last stage, once more: for a server that was restarted."""
        name = _ANNOUNCED.get(self.phase)
        if name is not None:
            make = self._announcement(name)
            for index in self._receivers(name):
                yield Outgoing(self._roster[index].identity, make(index))

    @property
    def barred(self) -> tuple[bytes, ...]:
        """Identities of the devices whose sealed shares did not open, and that did not make up for it."""
        return tuple(self._roster[index].identity for index in sorted(self._disputes.barred))

    @property
    def liars(self) -> tuple[bytes, ...]:
        """Identities of devices that wrong shares of secrets are laid to, without which the sum was made: all that were found,
        which need not be all there are.

        A share that its sealer has disclosed, signed, is the sealer's. Any other is laid to the device that gave it, and
        **the fault may be another's**: one device sealed it for the other, and nobody else has seen what. A device that
        seals wrong shares has honest neighbours named, as many as it likes. So do not leave a device out for being named
        once; over sessions, one that lies is among the named, or next to them, again and again."""
        return tuple(self._roster[index].identity for index in sorted(self._liars))

    @property
    def waiting_for(self) -> int:
        """How many more messages may still come in this stage. While it is `OPENING` none need come: a device that
        can open all of its mailbox says nothing."""
        expected = {
            Phase.ADVERTISING: self.session.terms.maximum_cohort,
            Phase.SHARING: len(self._roster),
            Phase.OPENING: len(self._holders),
            Phase.DISCLOSING: len(self._disputes.accused),
            Phase.MASKING: len(self._holders),
            Phase.CONFIRMING: len(self._survivors),
            Phase.UNMASKING: len(self._askable),
        }.get(self.phase, 0)
        kind = next((kind for phase, kind in TRANSITIONS if phase == self.phase), None)
        return expected - (len(self._seen[kind]) if kind is not None else 0)

    # -- the fold -------------------------------------------------------------------------------------------

    def _again(self, number: int, kind: str, data: bytes) -> None:
        """Take in an event of the log."""
        if (kind == "begin") != (number == 0):
            raise _damaged(f"{kind!r} as its record {number}", "'begin' first, and once")
        if kind == "begin":
            if data != self.session.context:
                raise RunMismatch(
                    "a server's log",
                    given="one of another session",
                    expected="one of this plan, round and model",
                    do="Begin a new log for a new session.",
                )
        elif kind == "aborted":
            self.phase = Phase.ABORTED
        elif (self.phase, kind) not in TRANSITIONS:
            raise _damaged(f"{kind!r} while {self.phase}", "what may come in that stage")
        elif kind == "close":
            size = data[0] if data else 0
            try:
                self._close(data[1 : 1 + size], keep=False, frozen=data[1 + size :])
            except SessionAborted as error:
                raise _damaged("a set its records do not give", "the set its own records give") from error
        else:
            message = decode_kept(data, FromDevice)
            advert = isinstance(message, Advertise)
            if _KINDS[type(message)] != kind or not (advert or message.sender < len(self._roster)):
                raise _damaged(f"{message!r} as {kind!r}", "a member's message under its own name")
            sender = message.identity if advert else self._roster[message.sender].identity
            payload = self._payload(message)
            # What lay on a disk may have changed: a wrong bit of a vector would be a wrong number in the sum.
            if not verified(sender, message.signature, payload):
                raise _damaged(f"{message!r} that its sender did not sign", "what was accepted")
            self._take(kind, message, sender, payload + message.signature, number)

    def _take(self, kind: str, message: Any, sender: bytes, mark: bytes, number: int) -> None:
        """Take in a message that is in the log."""
        if sender in self._seen[kind]:
            if self._seen[kind][sender] != mark:
                self._barred[kind].add(sender)
        else:
            self._seen[kind][sender] = mark
        getattr(self, TRANSITIONS[self.phase, kind].handler)(message, number, sender in self._barred[kind])

    def _close(self, beacon: bytes, *, keep: bool, frozen: bytes = b"") -> None:
        transition = TRANSITIONS[self.phase, "close"]
        try:
            if transition.target == Phase.SHARING:
                self._beacon = beacon
            settled = getattr(self, transition.handler)()
        except (SessionAborted, PlanError) as error:
            if keep:
                self._log.append("aborted", str(error).encode())
            phase, self.phase = self.phase, Phase.ABORTED
            if isinstance(error, SessionAborted):
                raise
            raise SessionAborted(phase, given=error.given, expected=error.expected, do=error.do) from error
        if keep:
            self._log.append("close", bytes([len(beacon)]) + beacon + settled)
        elif settled != frozen:
            raise _damaged(f"another set at the end of {self.phase}", "the set its own records give")
        # Complaints are the one thing that leads aside.
        self.phase = Phase(
            transition.detour if transition.detour and self._disputes.accused else transition.target
        )

    def _check_alive(self) -> None:
        if self.phase == Phase.ABORTED:
            raise SessionAborted(
                self.phase,
                given="a session that has ended without a sum",
                expected="one that goes on",
                do="Begin a new session.",
            )

    def _awaited(self) -> str:
        kinds = [kind for phase, kind in TRANSITIONS if phase == self.phase and kind != "close"]
        return kinds[0] if kinds else "nothing more"

    def _refusal(self, given: str, expected: str, do: str) -> MessageRefused:
        return MessageRefused(self.phase, given=given, expected=expected, do=do)

    def _give_up(self, given: str, expected: str) -> SessionAborted:
        return SessionAborted(
            self.phase, given=given, expected=expected, do="No sum is released. Begin a new session."
        )

    # -- messages from devices -------------------------------------------------------------------------------

    def _payload(self, message: Any) -> bytes:
        """What a message's signature is of."""
        if isinstance(message, Consistency):
            return self._agreed
        if isinstance(message, MaskedInput):
            return message.payload(self.session.context, self._disputes.barred_near(message.sender))
        return message.payload(self.session.context)

    def _verify(self, message: Any) -> tuple[bytes, bytes]:
        """The identity a message is signed by, and what was signed; raises unless it is a member's."""
        if isinstance(message, Advertise):
            identity = message.identity
        else:
            if not self._roster or message.sender >= len(self._roster) or message.root != self._root:
                raise self._refusal(
                    f"{message!r} of another session", "one of this roster", "Send it where it belongs."
                )
            identity = self._roster[message.sender].identity
            if isinstance(message, Consistency) and not self._survivors:
                raise self._refusal(f"{message!r}", self._awaited(), "It came too early.")
        payload = self._payload(message)
        if not verified(identity, message.signature, payload):
            if isinstance(message, MaskedInput) and self._disputes.barred_near(message.sender):
                raise self._refusal(
                    f"{message!r} with a forged signature, or under masks with a barred device",
                    "one by its sender, which was told who is barred",
                    "It cannot be sent again: wait for another session.",
                )
            raise self._refusal(
                f"{message!r} with a forged signature", "one by its sender", "Do not send it again."
            )
        return identity, payload

    def _check(self, kind: str, message: Any, sender: bytes) -> None:
        """What else must hold of a message before it is accepted."""
        if isinstance(message, Advertise):
            if not self._policy.admits(sender):
                raise self._refusal(
                    "a device that may not take part", "one the policy admits", "Enrol it first."
                )
            if not self._keys.isdisjoint((message.encryption_key, message.masking_key)):
                raise self._refusal("a device with another's key", "keys of its own", "It is not let in.")
            if len(self._adverts) >= self.session.terms.maximum_cohort:
                raise self._refusal(
                    "one device more",
                    f"at most {self.session.terms.maximum_cohort}",
                    "Wait for another session.",
                )
            if low_order(message.encryption_key) or low_order(message.masking_key):
                raise self._refusal("a key of low order", "a key that keeps a secret", "Make another.")
            return
        if kind == "masked_input" and message.sender not in self._holders:
            raise self._refusal(
                "the input of a device that sent no shares", "one that did", "Wait for another session."
            )
        if kind == "consistency" and message.sender not in self._inputs:
            raise self._refusal(
                "a signature by no survivor", "one by a survivor", "Wait for another session."
            )
        if kind == "unmask" and message.sender not in self._askable:
            raise self._refusal(
                "shares nobody asked for", "those of a device that was asked", "Send nothing."
            )
        if kind == "complaint" and not (
            message.sender in self._holders
            and self._disputes.may_complain(message, lambda other: self._entry(message.sender, other))
        ):
            raise self._refusal(
                "a complaint of what its sender was not given", "its signature of that", "Complain of that."
            )
        if kind == "disclosure" and not self._disputes.may_disclose(message):
            raise self._refusal(
                "other shares than those complained of", "those, each signed", "Send them, and no others."
            )
        sizes = {
            "shares": lambda: (
                [len(s) for s in message.sealed] == [2 * shamir.SHARE_BYTES + 16] * self._graph.degree
            ),
            "masked_input": lambda: len(message.vector) == self.session.terms.vector_bytes,
            "unmask": lambda: [len(s) for s in message.shares] == self._share_sizes(message.sender),
        }
        if kind in sizes and not sizes[kind]():
            raise self._refusal(
                f"{message!r} of another size", "what the session's numbers give", "Send it whole."
            )
        if kind == "masked_input":
            terms = self.session.terms
            try:
                check_packed(message.vector, terms.modulus_bits, terms.words)
            except ValueError as error:
                raise self._refusal(f"{message!r}: {error}", "a packed vector", "Send it whole.") from None

    def _advertised(self, advert: Advertise, number: int, barred: bool) -> None:
        known = self._adverts.pop(advert.identity, None)
        if known is not None:
            self._keys -= {known.encryption_key, known.masking_key}
        if not barred:
            self._adverts[advert.identity] = advert
            self._keys |= {advert.encryption_key, advert.masking_key}

    def _shared(self, message: Shares, number: int, barred: bool) -> None:
        self._sealed.pop(message.sender, None)
        if not barred:
            self._sealed[message.sender] = message.sealed

    def _complained(self, message: Complaint, number: int, barred: bool) -> None:
        self._disputes.complain(message, counts=not barred)

    def _disclosed(self, message: Disclosure, number: int, barred: bool) -> None:
        self._disputes.disclose(message, counts=not barred)

    def _masked(self, message: MaskedInput, number: int, barred: bool) -> None:
        self._inputs.pop(message.sender, None)
        if not barred:
            self._inputs[message.sender] = number

    def _confirmed(self, message: Consistency, number: int, barred: bool) -> None:
        self._signed.pop(message.sender, None)
        if not barred:
            self._signed[message.sender] = message.signature

    def _unmasked(self, message: Unmask, number: int, barred: bool) -> None:
        self._shares.pop(message.sender, None)
        if not barred:
            self._shares[message.sender] = message.shares

    # -- the end of each stage: what is settled, as bytes for the log ----------------------------------------

    def _freeze_roster(self) -> bytes:
        context, adverts = self.session.context, self._adverts.values()
        devices = len(adverts)
        self._enough(devices, "devices")
        self._roster = sorted(adverts, key=lambda advert: advert.hash(context))
        named = self.session.terms.sparse
        self._entries = [advert.entry(context, named=named) for advert in self._roster]
        self._index = {advert.identity: index for index, advert in enumerate(self._roster)}
        self._graph = self.session.terms.graph(devices)
        self._root = digest("roster", context, self._beacon, *self._entries)
        hashes = [entry[:HASH_BYTES] for entry in self._entries]
        self._ring = Ring(self._root, self._beacon, hashes, self._graph.degree)
        identities = [advert.identity for advert in self._roster]
        self._disputes = Disputes(context, self._root, identities, self._neighbours)
        return self._root

    def _freeze_holders(self) -> bytes:
        self._holders = set(self._sealed)
        self._enough(len(self._holders), "devices that sent shares")
        return bitmap(self._holders, len(self._roster))

    def _freeze_complaints(self) -> bytes:
        self._disputes.close_complaints()
        return bitmap(self._disputes.accused, len(self._roster))

    def _freeze_barred(self) -> bytes:
        self._disputes.close_disclosures()
        self._holders -= self._disputes.barred
        self._enough(len(self._holders), "devices whose shares opened")
        return bitmap(self._disputes.barred, len(self._roster))

    def _freeze_survivors(self) -> bytes:
        self._survivors = sorted(self._inputs)
        self._agreed = self._survivors_message().payload(self.session.context)
        self._sealed.clear()  # all mailboxes are out
        self._enough(len(self._survivors), "devices whose input came")
        return bitmap(self._survivors, len(self._roster))

    def _freeze_signers(self) -> bytes:
        threshold = self._graph.threshold
        self._askable = [
            index
            for index in self._survivors
            if index in self._signed
            and sum(neighbour in self._signed for neighbour in self._neighbours(index)) >= threshold
        ]
        agreeing = sum(1 for signature in self._vouched() if signature)
        enough = self.session.terms.committee(len(self._roster)).threshold
        if agreeing < enough:
            raise self._give_up(f"{agreeing} members of the committee that agree", f"at least {enough}")
        if len(self._askable) < threshold:
            raise self._give_up(
                f"{len(self._askable)} devices that can tell others agree", f"at least {threshold}"
            )
        return bitmap(self._askable, len(self._roster))

    def _finish(self) -> bytes:
        summed = self._total()
        terms = self.session.terms
        count = len(self._survivors)
        word = word_of(terms.modulus_bits)
        expected = (self.session.check * word(count % (1 << terms.modulus_bits))) & self.session.mask
        if not np.array_equal(summed[terms.length :], expected):
            raise self._give_up(
                "a sum whose check numbers are wrong: some device trained from another model, or lied",
                "masks that cancel",
            )
        vector = summed[: terms.length].copy()
        sets = bitmap(self._holders, len(self._roster)), bitmap(self._survivors, len(self._roster))
        transcript = Transcript(
            terms,
            self.session.round,
            self.session.model,
            self._beacon,
            tuple(encode(advert) for advert in self._roster),
            *sets,
            tuple(sorted(self._signed.items())),
            count,
            result_hash(self.session, self._root, *sets, vector),
            self.session.previous,
        )
        self.result = Result(vector, count, transcript)
        return transcript.result

    def _enough(self, devices: int, what: str) -> None:
        if devices < self.session.terms.minimum_cohort:
            raise self._give_up(f"{devices} {what}", f"at least {self.session.terms.minimum_cohort}")

    def _total(self) -> np.ndarray:
        """The sum of the survivors' inputs with all masks taken out, check numbers and all."""
        assert self._ring is not None
        known = Known(
            self.session,
            self._root,
            self._graph.threshold,
            self._ring,
            self._roster,
            self._holders,
            self._survivors,
            self._shares,
            self._disputes.disclosed,
        )
        try:
            summed, liars = total(
                known, (self._log.read(self._inputs[index]).data for index in self._survivors)
            )
        except Unrecovered as error:
            raise self._give_up(error.given, error.expected) from None
        self._liars = liars
        return summed

    # -- what is announced -----------------------------------------------------------------------------------

    def _answer(self, kind: str, sender: bytes) -> list[Outgoing]:
        """What has been announced to a device since it sent a message of this kind."""
        index = self._index.get(sender)
        now = _ANNOUNCED.get(self.phase)
        out = []
        for name in _ASKED.get(kind, ()):
            # Whoever comes late may still open its mailbox, and then give its input.
            late = name == "mailbox" and now in ("accusation", "settlement")
            if index is not None and (late or name == now) and index in self._receivers(name):
                out.append(Outgoing(sender, self._announcement(name)(index)))
        return out

    def _receivers(self, name: str | None) -> Sequence[int]:
        """Whom a message is for."""
        disputes = self._disputes
        return {
            "roster": lambda: range(len(self._roster)),
            "mailbox": lambda: sorted(self._sealed),
            "accusation": lambda: sorted(disputes.accused),
            "settlement": lambda: [index for index in sorted(self._holders) if disputes.concerns(index)],
            "survivors": lambda: self._survivors,
            "signatures": lambda: self._askable,
        }.get(name or "", lambda: ())()

    def _announcement(self, name: str) -> Callable[[int], bytes]:
        """The function that makes a message for a device."""

        def roster(index: int) -> bytes:
            others = (*self._neighbours(index), *self._committee)
            return encode(Roster(joined, self._beacon, tuple(self._roster[other] for other in others)))

        def mailbox(index: int) -> bytes:
            entries = tuple(self._entry(index, other) for other in self._neighbours(index))
            return encode(Mailbox(self._root, entries))

        def accusation(index: int) -> bytes:
            return encode(self._disputes.accusation(index))

        def settlement(index: int) -> bytes:
            return encode(self._disputes.settlement(index))

        def survivors(index: int) -> bytes:
            return same

        def signatures(index: int) -> bytes:
            near = tuple(self._signed.get(other, b"") for other in self._neighbours(index))
            return encode(Signatures(self._root, stayed, near + self._vouched()))

        joined = b"".join(self._entries)
        same, stayed = b"", b""
        if self.phase in (Phase.CONFIRMING, Phase.UNMASKING):
            same = encode(self._survivors_message())
            stayed = bitmap(self._survivors, len(self._roster))
        made = (roster, mailbox, accusation, settlement, survivors, signatures)
        return {make.__name__: make for make in made}[name]

    def _entry(self, index: int, other: int) -> bytes:
        """What a device is given of another's sealed shares; nothing where there are none."""
        sealed = self._sealed.get(other)
        return sealed[self._place(index, other) - 1] if sealed else b""

    def _survivors_message(self) -> Survivors:
        return Survivors(self._root, bitmap(self._survivors, len(self._roster)))

    def _neighbours(self, index: int) -> list[int]:
        assert self._ring is not None
        return self._ring.neighbours(index)

    @property
    def _committee(self) -> list[int]:
        assert self._ring is not None
        return self._ring.committee(self.session.terms.committee(len(self._roster)).size)

    def _vouched(self) -> tuple[bytes, ...]:
        """The committee's signatures of the set, no more than a device checks; empty for the others."""
        committee = self._committee
        signed = [index for index in committee if index in self._signed]
        asked = set(signed[: self.session.terms.committee(len(self._roster)).threshold])
        return tuple(self._signed[index] if index in asked else b"" for index in committee)

    def _place(self, holder: int, owner: int) -> int:
        assert self._ring is not None
        return self._ring.place(holder, owner)

    def _share_sizes(self, sender: int) -> list[int]:
        """Lengths of the shares a device owes, by place."""
        return [shamir.SHARE_BYTES if index in self._holders else 0 for index in self._neighbours(sender)]

    def __repr__(self) -> str:
        return f"Server({self.phase}, {len(self._roster) or len(self._adverts)} devices)"


def _damaged(given: str, expected: str) -> RunDamaged:
    return RunDamaged(
        "a server's log", given=given, expected=expected, do="Begin a new session: this log was changed."
    )
