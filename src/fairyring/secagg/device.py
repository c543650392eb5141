"""The device's machine: what one device does in a secure sum.

Its state is a fold of its log, and all its randomness derives from the root secret the log begins with, so that a device
that is killed at any point goes on with the same bytes. Nothing is sent before it is in the log.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import pairwise
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from fairyring.core.errors import MessageRefused, PlanError, RunDamaged, RunMismatch, SessionAborted
from fairyring.core.packing import pack_words
from fairyring.secagg import shamir
from fairyring.secagg._rule import Rule
from fairyring.secagg._suite import KeyPair, derive, digest, low_order, members, seal, unseal, verified
from fairyring.secagg.graph import GraphParameters, Ring
from fairyring.secagg.identity import Anyone, Identity, Policy
from fairyring.secagg.keystream import apply_masks, random_bytes, word_of
from fairyring.secagg.log import Log
from fairyring.secagg.messages import (
    Advertise,
    Consistency,
    FromServer,
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
    most_bytes,
)
from fairyring.secagg.terms import Session


class Stage(StrEnum):
    """Where a device is in a session."""

    NEW = "new"
    ADVERTISED = "advertised"
    SHARED = "shared"
    READY = "ready"
    MASKED = "masked"
    SIGNED = "signed"
    DONE = "done"
    ABORTED = "aborted"


# The only place that says what may follow what. Any check that fails leads to ABORTED.
TRANSITIONS: Mapping[tuple[Stage, str], Rule] = MappingProxyType(
    {
        (Stage.NEW, "start"): Rule("_advertise", Stage.ADVERTISED, "advertise"),
        (Stage.ADVERTISED, "roster"): Rule("_share", Stage.SHARED, "shares"),
        (Stage.SHARED, "mailbox"): Rule("_open", Stage.READY),
        (Stage.READY, "vector"): Rule("_mask", Stage.MASKED, "masked_input"),
        (Stage.MASKED, "survivors"): Rule("_sign", Stage.SIGNED, "consistency"),
        (Stage.SIGNED, "signatures"): Rule("_unmask", Stage.DONE, "unmask"),
    }
)


class _Keys(NamedTuple):
    """A device's secrets of one session, all from its root secret."""

    encryption: KeyPair
    masking: KeyPair
    masking_secret: bytes
    seed: bytes
    nonce: bytes
    root: bytes

    @classmethod
    def of(cls, root: bytes) -> "_Keys":
        names = b"encryption", b"masking", b"seed", b"nonce"
        encryption, masking, seed, nonce = (derive(root, b"", name) for name in names)
        return cls(KeyPair(encryption), KeyPair(masking), masking, seed, nonce, root)

    def coefficients(self, of: bytes, threshold: int) -> bytes:
        return random_bytes(derive(self.root, b"", b"shares", of), (threshold - 1) * shamir.COEFFICIENT_BYTES)

    def __repr__(self) -> str:
        return "_Keys"


@dataclass(frozen=True, repr=False)
class _Roll:
    """What a device has learned from the roster."""

    root: bytes
    index: int
    devices: int
    graph: GraphParameters
    indices: tuple[int, ...]  # of the neighbours, by place
    adverts: tuple[Advertise, ...]


@dataclass(frozen=True, repr=False)
class _Memory:
    """A device's state between events."""

    stage: Stage = Stage.NEW
    keys: _Keys | None = None
    advert: Advertise | None = None
    roll: _Roll | None = None
    held: Mapping[int, tuple[bytes, bytes]] = field(
        default_factory=dict
    )  # place -> shares of seed, masking key
    survivors: bytes = b""


class Device:
    """One device in one session.

    Args:
        session: what is summed; a device takes it from its signed plan and the model it trained from, not from the
            server's word.
        identity: its long-term key.
        log: of this session on this device; what it holds is taken up again.
        policy: whom it accepts as neighbours.
        floor: the fewest devices it takes part with, should that be more than the terms'.
        entropy: `entropy(32)` makes its root secret; for tests.

    Raises:
        RunMismatch: the log is of another session.
        RunDamaged: it is not one a device wrote.
    """

    def __init__(
        self,
        session: Session,
        identity: Identity,
        log: Log,
        *,
        policy: Policy | None = None,
        floor: int = 0,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.session, self.identity, self._log, self._entropy = session, identity, log, entropy
        self._policy = policy or Anyone()
        self._fewest = max(session.terms.fewest, floor)
        self._memory = _Memory()
        self._answers: dict[str, tuple[bytes, bytes | None]] = {}  # event -> digest of it, the answer
        self._input: int | None = None  # number of the record that is the masked input: it is not held twice
        # A neighbour's key -> the secret agreed with it, which serves both directions.
        self._envelopes: dict[bytes, bytes] = {}
        for number, (kind, data) in enumerate(log):
            self._again(number, kind, data)

    @property
    def stage(self) -> Stage:
        """Where the device is."""
        return self._memory.stage

    def start(self) -> bytes:
        """The first message; the same when asked again."""
        if "start" not in self._answers:
            return self._accept("start", self.session.context + self._entropy(32), None) or b""
        return self._answers["start"][1] or b""

    def receive(self, data: bytes) -> bytes | None:
        """Take a message from the server; returns the answer, if there is one. The same bytes get the same answer.

        Raises:
            MessageRefused: it may not come now, is malformed, or differs from one like it that came before. Nothing
                has changed.
            SessionAborted: it is not as it should be, and the device has left the session; or had left it before.
        """
        self._check_alive()
        terms = self.session.terms
        roll = self._memory.roll
        devices = roll.devices if roll else terms.most
        degree = roll.graph.degree if roll else terms.most - 1
        message = decode(data, FromServer, most_bytes(0, devices, degree), self.stage)
        kind = type(message).__name__.lower()
        seen = self._answers.get(kind)
        if seen is not None:
            if seen[0] != digest("seen", data):
                raise MessageRefused(
                    self.stage,
                    given=f"another {message!r} than before",
                    expected="one a session",
                    do="A second story is refused for ever.",
                )
            return seen[1]
        return self._accept(kind, data, message)

    def contribute(self, vector: np.ndarray) -> bytes:
        """The masked input: the last private thing a device gives, once its neighbours' shares are safe.

        Asked again it answers the same, whatever the vector: two vectors under the same masks would tell their
        difference.

        Args:
            vector: unsigned, `[terms.length]`, each below `2**terms.modulus_bits`.

        Raises:
            MessageRefused: it is too early, or the vector has not this form.
            SessionAborted: the device had left the session.
        """
        self._check_alive()
        if self._input is not None:
            return self._log.read(self._input).data
        terms = self.session.terms
        word = word_of(terms.modulus_bits)
        given = np.asarray(vector)
        fits = given.shape == (terms.length,) and given.dtype.kind == "u"
        if not fits or (given.size and int(given.max()) >> terms.modulus_bits):
            raise MessageRefused(
                self.stage,
                given=f"a vector {given.dtype} {list(given.shape)}",
                expected=f"unsigned numbers below 2^{terms.modulus_bits}, [{terms.length}]",
                do="Contribute what the plan's stages encode.",
            )
        return self._accept("vector", b"", given.astype(word)) or b""

    # -- the fold -------------------------------------------------------------------------------------------

    def _accept(self, kind: str, data: bytes, event: Any) -> bytes | None:
        """Check an event, keep it, then take it in."""
        rule = TRANSITIONS.get((self.stage, kind))
        if rule is None:
            raise MessageRefused(
                self.stage, given=f"{kind}", expected=self._awaited(), do="Send each message in its turn."
            )
        try:
            memory, answer = getattr(self, rule.handler)(self._memory, event if event is not None else data)
        except (SessionAborted, PlanError) as error:
            stage = self.stage
            self._log.append("aborted", str(error).encode())
            self._memory = replace(self._memory, stage=Stage.ABORTED, keys=None, held={})
            if isinstance(error, SessionAborted):
                raise
            raise SessionAborted(stage, given=error.given, expected=error.expected, do=error.do) from error
        # A masked input is kept, and not what it was made of.
        number = self._log.append(kind, answer if kind == "vector" else data)
        self._take(number, kind, data, replace(memory, stage=rule.then), answer)
        return answer

    def _again(self, number: int, kind: str, data: bytes) -> None:
        """Take in an event of the log."""
        if kind == "aborted":
            self._memory = replace(self._memory, stage=Stage.ABORTED, keys=None, held={})
            return
        rule = TRANSITIONS.get((self.stage, kind))
        if rule is None or (kind == "start" and len(data) != 64):
            raise _damaged(f"{kind!r} where a device is {self.stage}")
        if kind == "vector":
            decode_kept(data, MaskedInput)
            self._take(number, kind, b"", replace(self._memory, stage=rule.then), None)
        else:
            event = data
            if kind == "start":
                if data[:32] != self.session.context:
                    raise RunMismatch(
                        "a device's log",
                        given="one of another session",
                        expected="one of this plan, round and model",
                        do="Begin a new log for a new session.",
                    )
            else:
                event = decode_kept(data, FromServer)
                if type(event).__name__.lower() != kind:
                    raise _damaged(f"{event!r} under the name {kind!r}")
            try:
                memory, answer = getattr(self, rule.handler)(self._memory, event)
            except (SessionAborted, PlanError) as error:
                raise _damaged(f"a {kind} it would not have accepted") from error
            self._take(number, kind, data, replace(memory, stage=rule.then), answer)

    def _take(self, number: int, kind: str, data: bytes, memory: _Memory, answer: bytes | None) -> None:
        self._memory = memory
        if kind == "vector":
            self._input = number
        else:
            self._answers[kind] = (digest("seen", data), answer)

    def _check_alive(self) -> None:
        if self.stage == Stage.ABORTED:
            raise SessionAborted(
                self.stage,
                given="a message to a device that has left",
                expected="a session that goes on",
                do="Begin a new session.",
            )

    def _awaited(self) -> str:
        kinds = [kind for stage, kind in TRANSITIONS if stage == self.stage]
        return kinds[0] if kinds else "nothing more"

    def _require(self, holds: object, given: str, expected: str) -> None:
        if not holds:
            raise SessionAborted(
                self.stage,
                given=given,
                expected=expected,
                do="The device has left: the server or a neighbour does not keep to the protocol, or too many vanished.",
            )

    # -- what follows from each event ------------------------------------------------------------------------

    def _advertise(self, memory: _Memory, start: bytes) -> tuple[_Memory, bytes]:
        keys = _Keys.of(start[32:])
        unsigned = Advertise(
            self.identity.public,
            keys.encryption.public,
            keys.masking.public,
            keys.nonce,
            digest("commitment", keys.seed),
            bytes(64),
        )
        advert = _signed(unsigned, self.identity, unsigned.payload(self.session.context))
        return replace(memory, keys=keys, advert=advert), encode(advert)

    def _share(self, memory: _Memory, roster: Roster) -> tuple[_Memory, bytes]:
        keys = _known(memory.keys)
        roll = self._roll(memory, roster)
        places = range(1, roll.graph.degree + 1)
        shares = zip(
            *(
                shamir.share(
                    secret, places, roll.graph.threshold, keys.coefficients(name, roll.graph.threshold)
                )
                for secret, name in ((keys.seed, b"seed"), (keys.masking_secret, b"masking"))
            ),
            strict=True,
        )
        sealed = tuple(
            seal(self._envelope(keys, roll, advert.encryption_key, roll.index, to), b"".join(pair), roll.root)
            for to, advert, pair in zip(roll.indices, roll.adverts, shares, strict=True)
        )
        unsigned = Shares(roll.root, roll.index, sealed, bytes(64))
        answer = _signed(unsigned, self.identity, unsigned.payload(self.session.context))
        return replace(memory, roll=roll), encode(answer)

    def _roll(self, memory: _Memory, roster: Roster) -> _Roll:
        """What the roster says, once it is all checked."""
        context, own = self.session.context, _known(memory.advert)
        self._require(len(roster.hashes) % 32 == 0, "a roster of broken hashes", "hashes of 32 bytes")
        hashes = [roster.hashes[i : i + 32] for i in range(0, len(roster.hashes), 32)]
        devices = len(hashes)
        self._require(
            self._fewest <= devices <= self.session.terms.most,
            f"a roster of {devices}",
            f"{self._fewest} to {self.session.terms.most} devices",
        )
        self._require(
            all(a < b for a, b in pairwise(hashes)),
            "a roster out of order or with repeats",
            "hashes that ascend",
        )
        mine = own.hash(context)
        self._require(mine in hashes, "a roster without this device", "its own advert, once")
        graph = self.session.terms.graph(devices)
        root = digest("roster", context, roster.beacon, *hashes)
        index = hashes.index(mine)
        indices = tuple(Ring(root, roster.beacon, hashes, graph.degree).neighbours(index))
        self._require(
            len(roster.neighbours) == graph.degree,
            f"{len(roster.neighbours)} neighbours",
            f"{graph.degree}, as the terms ask of {devices} devices",
        )
        for place, advert in zip(indices, roster.neighbours, strict=True):
            self._require(
                advert.hash(context) == hashes[place],
                "a neighbour off the ring",
                "the neighbours the root gives",
            )
            self._require(
                verified(advert.identity, advert.signature, advert.payload(context)),
                "a neighbour's advert with a forged signature",
                "one signed by its identity, for this session",
            )
            self._require(
                self._policy.admits(advert.identity),
                "a neighbour that may not take part",
                "one the policy admits",
            )
            self._require(
                not (low_order(advert.encryption_key) or low_order(advert.masking_key)),
                "a key of low order",
                "a key that keeps a secret",
            )
        everyone = (own, *roster.neighbours)
        for name in ("identity", "encryption_key", "masking_key"):
            self._require(
                len({getattr(advert, name) for advert in everyone}) == len(everyone),
                f"the same {name} twice",
                "devices that differ",
            )
        return _Roll(root, index, devices, graph, indices, roster.neighbours)

    def _open(self, memory: _Memory, mailbox: Mailbox) -> tuple[_Memory, None]:
        keys, roll = _known(memory.keys), _known(memory.roll)
        self._require(mailbox.root == roll.root, "a mailbox of another roster", "one of this session")
        self._require(
            len(mailbox.sealed) == roll.graph.degree, "a mailbox of another size", "an entry a neighbour"
        )
        held: dict[int, tuple[bytes, bytes]] = {}
        for place, sealed in enumerate(mailbox.sealed):
            if not sealed:
                continue
            advert, sender = roll.adverts[place], roll.indices[place]
            envelope = self._envelope(keys, roll, advert.encryption_key, sender, roll.index)
            opened = unseal(envelope, sealed, roll.root)
            # All are opened before anything private is sent: leaving later would tell which one could not be.
            self._require(
                opened is not None and len(opened) == 2 * shamir.SHARE_BYTES,
                "shares that were changed on their way",
                "what the neighbour sealed",
            )
            held[place] = (_known(opened)[: shamir.SHARE_BYTES], _known(opened)[shamir.SHARE_BYTES :])
        self._envelopes.clear()
        self._require(
            len(held) >= roll.graph.threshold,
            f"shares of {len(held)} neighbours",
            f"at least {roll.graph.threshold}",
        )
        return replace(memory, held=MappingProxyType(held)), None

    def _mask(self, memory: _Memory, vector: np.ndarray) -> tuple[_Memory, bytes]:
        keys, roll, session = _known(memory.keys), _known(memory.roll), self.session
        masked = np.concatenate([vector, session.check])
        masks = [(self_mask(keys.seed, roll.root, session.context), 1)]
        for place in memory.held:
            other, advert = roll.indices[place], roll.adverts[place]
            key = pair_mask(self._agreed(keys.masking, advert.masking_key), roll.root, session.context)
            masks.append((key, 1 if roll.index < other else -1))
        apply_masks(masked, masks)
        unsigned = MaskedInput(
            roll.root, roll.index, memoryview(pack_words(masked, session.terms.modulus_bits)), bytes(64)
        )
        return memory, encode(_signed(unsigned, self.identity, unsigned.payload(session.context)))

    def _sign(self, memory: _Memory, survivors: Survivors) -> tuple[_Memory, bytes]:
        roll = _known(memory.roll)
        self._require(survivors.root == roll.root, "survivors of another roster", "those of this session")
        stayed = members(survivors.survivors, roll.devices)
        self._require(stayed is not None, "a malformed set of survivors", "a bit a device")
        alive = set(_known(stayed))
        self._require(
            roll.index in alive, "survivors without this device", "a set that holds it: its input was sent"
        )
        self._require(
            len(alive) >= self._fewest, f"{len(alive)} survivors", f"at least {self._fewest} in a sum"
        )
        near = [place for place, index in enumerate(roll.indices) if index in alive]
        self._require(
            all(place in memory.held for place in near),
            "a survivor that never sent its shares",
            "only devices that did",
        )
        self._require(
            len(near) >= roll.graph.threshold,
            f"{len(near)} surviving neighbours",
            f"at least {roll.graph.threshold}",
        )
        signature = self.identity.sign(survivors.payload(self.session.context))
        answer = Consistency(roll.root, roll.index, signature)
        return replace(memory, survivors=survivors.survivors), encode(answer)

    def _unmask(self, memory: _Memory, given: Signatures) -> tuple[_Memory, bytes]:
        roll, session = _known(memory.roll), self.session
        self._require(
            given.root == roll.root and given.survivors == memory.survivors,
            "signatures of another set of survivors",
            "the set this device signed",
        )
        self._require(
            len(given.signatures) == roll.graph.degree, "signatures of another number", "a place a neighbour"
        )
        alive = set(members(memory.survivors, roll.devices) or ())
        payload = Survivors(roll.root, memory.survivors).payload(session.context)
        agreed = 0
        for index, advert, signature in zip(roll.indices, roll.adverts, given.signatures, strict=True):
            if not signature or index not in alive:
                continue
            self._require(
                verified(advert.identity, signature, payload),
                "a forged signature of the survivors",
                "signatures by the neighbours",
            )
            agreed += 1
            if agreed == roll.graph.threshold:
                break
        self._require(
            agreed >= roll.graph.threshold,
            f"{agreed} neighbours that signed the same set",
            f"at least {roll.graph.threshold}",
        )
        # Of each neighbour one share, of one kind, once.
        shares = tuple(
            memory.held[place][0 if index in alive else 1] if place in memory.held else b""
            for place, index in enumerate(roll.indices)
        )
        unsigned = Unmask(roll.root, roll.index, shares, bytes(64))
        answer = _signed(unsigned, self.identity, unsigned.payload(session.context))
        # Nothing secret is needed any more.
        return replace(memory, keys=None, held={}), encode(answer)

    def _envelope(self, keys: _Keys, roll: _Roll, other: bytes, sender: int, receiver: int) -> bytes:
        """The key of the one message from `sender` to `receiver`."""
        ends = sender.to_bytes(8, "little"), receiver.to_bytes(8, "little")
        if other not in self._envelopes:
            self._envelopes[other] = self._agreed(keys.encryption, other)
        return derive(self._envelopes[other], roll.root, b"envelope", self.session.context, *ends)

    def _agreed(self, keys: KeyPair, public: bytes) -> bytes:
        try:
            return keys.agree(public)
        except ValueError:
            self._require(False, "a key of low order", "a key that keeps a secret")
            raise

    def __repr__(self) -> str:
        return f"Device({self.identity!r}, {self.stage})"


def self_mask(seed: bytes, root: bytes, context: bytes) -> bytes:
    """The key of a device's own mask."""
    return derive(seed, root, b"self", context)


def pair_mask(agreed: bytes, root: bytes, context: bytes) -> bytes:
    """The key of the mask two neighbours share."""
    return derive(agreed, root, b"mask", context)


def _signed(message: Any, identity: Identity, payload: bytes) -> Any:
    fields = {name: getattr(message, name) for name in message.__struct_fields__}
    return type(message)(**fields | {"signature": identity.sign(payload)})


def _damaged(given: str) -> RunDamaged:
    return RunDamaged(
        "a device's log",
        given=given,
        expected="what its own records, and its policy, lead to",
        do="Begin a new session: this log was changed.",
    )


def _known(value: Any) -> Any:
    assert value is not None
    return value
