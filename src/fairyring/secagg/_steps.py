"""What a device does in each step of a secure sum: every check it makes, and everything it sends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from fairyring.core.packing import pack_words
from fairyring.secagg import shamir
from fairyring.secagg._suite import (
    KeyPair,
    bitmap,
    derive,
    digest,
    low_order,
    members,
    pair_mask,
    seal,
    self_mask,
    unseal,
    verified,
)
from fairyring.secagg.graph import GraphParameters, Ring
from fairyring.secagg.identity import Identity, Policy
from fairyring.secagg.keystream import apply_masks, random_bytes
from fairyring.secagg.messages import (
    HASH_BYTES,
    PAIR_BYTES,
    SEALED_BYTES,
    Accusation,
    Advertise,
    Complaint,
    Consistency,
    Disclosure,
    Mailbox,
    MaskedInput,
    Roster,
    Settlement,
    Shares,
    Signatures,
    Survivors,
    Unmask,
    complaint_payload,
    disclosure_payload,
    encode,
    entry_bytes,
    is_pair,
)
from fairyring.secagg.terms import Session


class Keys(NamedTuple):
    """A device's secrets of one session, all from its root secret."""

    encryption: KeyPair
    masking: KeyPair
    masking_secret: bytes
    seed: bytes
    nonce: bytes
    root: bytes

    @classmethod
    def of(cls, root: bytes) -> "Keys":
        names = b"encryption", b"masking", b"seed", b"nonce"
        encryption, masking, seed, nonce = (derive(root, b"", name) for name in names)
        return cls(KeyPair(encryption), KeyPair(masking), masking, seed, nonce, root)

    def coefficients(self, of: bytes, threshold: int) -> bytes:
        return random_bytes(derive(self.root, b"", b"shares", of), (threshold - 1) * shamir.COEFFICIENT_BYTES)

    def __repr__(self) -> str:
        return "Keys"


@dataclass(frozen=True, repr=False)
class Roll:
    """What a device has learned from the roster."""

    root: bytes
    index: int
    devices: int
    graph: GraphParameters
    indices: tuple[int, ...]  # of the neighbours, by place
    adverts: tuple[Advertise, ...]
    committee: tuple[tuple[int, Advertise], ...] = ()  # each member's index and advert


@dataclass(frozen=True, repr=False)
class Memory:
    """A device's state between events."""

    keys: Keys | None = None
    advert: Advertise | None = None
    roll: Roll | None = None
    # Place of a neighbour -> the shares of its seed and of its masking key.
    held: Mapping[int, tuple[bytes, bytes]] = field(default_factory=dict)
    complaints: frozenset[int] = (
        frozenset()
    )  # places of neighbours whose shares did not open: not settled yet
    barred: frozenset[int] = frozenset()  # places of neighbours that are out
    survivors: bytes = b""


class Broken(Exception):
    """Something is not as it should be: a reason to leave the session.

    Args:
        given: what was found.
        expected: what would have been right.
    """

    def __init__(self, given: str, expected: str) -> None:
        self.given, self.expected = given, expected
        super().__init__(given)


class Steps:
    """What follows from each event, for one device in one session: from its memory and the event, what it remembers and
    answers. Nothing here changes anything.

    Args:
        session: what is summed.
        identity: the device's.
        policy: whom it accepts as neighbours.
        fewest: the fewest devices it takes part with.
    """

    def __init__(self, session: Session, identity: Identity, policy: Policy, minimum_cohort: int) -> None:
        self.session, self.identity, self._policy, self._minimum_cohort = (
            session,
            identity,
            policy,
            minimum_cohort,
        )
        # A neighbour's key -> the secret agreed with it, which serves both directions.
        self._envelopes: dict[bytes, bytes] = {}

    def forget(self) -> None:
        """Let go of what was agreed with neighbours."""
        self._envelopes.clear()

    def advertise(self, memory: Memory, start: bytes) -> tuple[Memory, bytes]:
        keys = Keys.of(start[32:])
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

    def share(self, memory: Memory, roster: Roster) -> tuple[Memory, bytes]:
        keys = _known(memory.keys)
        roll = self._roll(memory, roster)
        sealed = self._sealed(keys, roll, range(roll.graph.degree)).values()
        unsigned = Shares(roll.root, roll.index, tuple(entry for _, entry in sealed), bytes(64))
        answer = _signed(unsigned, self.identity, unsigned.payload(self.session.context))
        return replace(memory, roll=roll), encode(answer)

    def _sealed(self, keys: Keys, roll: Roll, places: Sequence[int]) -> dict[int, tuple[bytes, bytes]]:
        """By the neighbours' places, the two shares each holds of this device's secrets, and the same sealed."""
        threshold, numbers = roll.graph.threshold, [place + 1 for place in places]
        seeds, maskings = (
            shamir.share(secret, numbers, threshold, keys.coefficients(name, threshold))
            for secret, name in ((keys.seed, b"seed"), (keys.masking_secret, b"masking"))
        )
        entries = {}
        for place, seed, masking in zip(places, seeds, maskings, strict=True):
            pair, to = seed + masking, roll.indices[place]
            key = self._envelope(keys, roll, roll.adverts[place].encryption_key, roll.index, to)
            entries[place] = pair, seal(key, pair, roll.root)
        return entries

    def _roll(self, memory: Memory, roster: Roster) -> Roll:
        """What the roster says, once it is all checked."""
        context, own = self.session.context, _known(memory.advert)
        named = self.session.terms.sparse
        size = entry_bytes(named=named)
        self._require(
            len(roster.entries) % size == 0, "a roster of broken hashes", f"entries of {size} bytes"
        )
        entries = [roster.entries[i : i + size] for i in range(0, len(roster.entries), size)]
        hashes = [entry[:HASH_BYTES] for entry in entries]
        devices = len(entries)
        self._require(
            self._minimum_cohort <= devices <= self.session.terms.maximum_cohort,
            f"a roster of {devices}",
            f"{self._minimum_cohort} to {self.session.terms.maximum_cohort} devices",
        )
        self._require(
            all(a < b for a, b in pairwise(hashes)),
            "a roster out of order or with repeats",
            "hashes that ascend",
        )
        mine = own.entry(context, named=named)
        self._require(mine in entries, "a roster without this device", "its own advert, once")
        if named:  # of most a device sees no advert; whoever is a neighbour of theirs does, and holds it against the name
            names = {entry[HASH_BYTES:] for entry in entries}
            self._require(len(names) == devices, "the same identity twice", "devices that differ")
        graph = self.session.terms.graph(devices)
        root = digest("roster", context, roster.beacon, *entries)
        index = entries.index(mine)
        ring = Ring(root, roster.beacon, hashes, graph.degree)
        indices = tuple(ring.neighbours(index))
        chosen = ring.committee(self.session.terms.committee(devices).size)
        self._require(
            len(roster.neighbours) == graph.degree + len(chosen),
            f"adverts of {len(roster.neighbours)} devices",
            f"{graph.degree} neighbours' and the committee's {len(chosen)}, as the terms ask of {devices} devices",
        )
        near, committee = roster.neighbours[: graph.degree], roster.neighbours[graph.degree :]
        for place, advert in zip((*indices, *chosen), roster.neighbours, strict=True):
            self._require(
                advert.entry(context, named=named) == entries[place],
                "a neighbour off the ring",
                "the neighbours and the committee the root gives",
            )
            self._require(
                self._policy.admits(advert.identity),
                "a neighbour that may not take part",
                "one the policy admits",
            )
        # Of the committee only identities matter: one whose advert somebody else made still signs no second set.
        for advert in near:
            self._require(
                verified(advert.identity, advert.signature, advert.payload(context)),
                "a neighbour's advert with a forged signature",
                "one signed by its identity, for this session",
            )
            self._require(
                not (low_order(advert.encryption_key) or low_order(advert.masking_key)),
                "a key of low order",
                "a key that keeps a secret",
            )
        around = (own, *near)
        for name in ("identity", "encryption_key", "masking_key"):
            self._require(
                len({getattr(advert, name) for advert in around}) == len(around),
                f"the same {name} twice",
                "devices that differ",
            )
        return Roll(root, index, devices, graph, indices, near, tuple(zip(chosen, committee, strict=True)))

    def open(self, memory: Memory, mailbox: Mailbox) -> tuple[Memory, bytes | None]:
        """All is opened before anything private is sent: what could not be is complained of, or the device leaves."""
        keys, roll = _known(memory.keys), _known(memory.roll)
        self._require(mailbox.root == roll.root, "a mailbox of another roster", "one of this session")
        self._require(
            len(mailbox.sealed) == roll.graph.degree, "a mailbox of another size", "an entry a neighbour"
        )
        held: dict[int, tuple[bytes, bytes]] = {}
        complaints: dict[int, bytes] = {}
        for place, sealed in enumerate(mailbox.sealed):
            if not sealed:
                continue
            self._require(
                len(sealed) == SEALED_BYTES, "sealed shares of another size", "what a server passes on"
            )
            advert, sender = roll.adverts[place], roll.indices[place]
            envelope = self._envelope(keys, roll, advert.encryption_key, sender, roll.index)
            opened = unseal(envelope, sealed, roll.root)
            if opened is not None and is_pair(opened):
                held[place] = opened[: shamir.SHARE_BYTES], opened[shamir.SHARE_BYTES :]
            else:
                payload = complaint_payload(self.session.context, roll.root, roll.index, sender, sealed)
                complaints[place] = self.identity.sign(payload)
        self._envelopes.clear()
        self._enough(len(held) + len(complaints), roll)
        after = replace(memory, held=MappingProxyType(held), complaints=frozenset(complaints))
        if not complaints:
            return after, None
        unsigned = Complaint(roll.root, roll.index, _by_place(complaints, roll), bytes(64))
        return after, encode(_signed(unsigned, self.identity, unsigned.payload(self.session.context)))

    def disclose(self, memory: Memory, accusation: Accusation) -> tuple[Memory, bytes]:
        """Give whoever complained its shares where anyone can read them.

        A complaint is signed, and is of this device's own entry, bit for bit. An honest neighbour opens that entry; so who
        signs has these shares already, and who asks, the server, may have them through it. Of an entry that was changed
        on its way an honest neighbour's complaint is of another, and nothing is given.
        """
        keys, roll, context = _known(memory.keys), _known(memory.roll), self.session.context
        self._require(accusation.root == roll.root, "an accusation of another roster", "one of this session")
        self._require(
            len(accusation.complaints) == roll.graph.degree,
            "complaints of another number",
            "a place a neighbour",
        )
        accusers = [place for place, signature in enumerate(accusation.complaints) if signature]
        # As many as the threshold cannot all be adversaries. Below it nothing comes of what is disclosed, whoever has it.
        self._require(
            0 < len(accusers) < roll.graph.threshold,
            f"{len(accusers)} complaints",
            f"1 to {roll.graph.threshold - 1}: fewer than bring a secret back",
        )
        given = {}
        for place, (pair, sealed) in self._sealed(keys, roll, accusers).items():
            other = roll.indices[place]
            self._require(
                verified(
                    roll.adverts[place].identity,
                    accusation.complaints[place],
                    complaint_payload(context, roll.root, other, roll.index, sealed),
                ),
                "a complaint that is forged, or of shares this device did not seal",
                "one its neighbour signed, of what it sealed",
            )
            payload = disclosure_payload(context, roll.root, roll.index, other, pair)
            given[place] = pair + self.identity.sign(payload)
        self._envelopes.clear()
        unsigned = Disclosure(roll.root, roll.index, _by_place(given, roll), bytes(64))
        return memory, encode(_signed(unsigned, self.identity, unsigned.payload(context)))

    def settle(self, memory: Memory, settlement: Settlement) -> tuple[Memory, None]:
        """What became of all complaints: a neighbour is barred, as if it had sent no shares, or has disclosed them."""
        roll, degree = _known(memory.roll), _known(memory.roll).graph.degree
        self._require(settlement.root == roll.root, "a settlement of another roster", "one of this session")
        self._require(
            len(settlement.disclosed) == degree, "a settlement of another size", "an entry a neighbour"
        )
        listed = members(settlement.barred, degree)
        self._require(listed is not None, "a malformed set of the barred", "a bit a neighbour")
        barred, held = frozenset(_known(listed)), dict(memory.held)
        self._require(
            barred <= held.keys() | memory.complaints, "a device barred that never shared", "one that did"
        )
        self._require(barred or memory.complaints, "a settlement of nothing", "one where something was open")
        for place, entry in enumerate(settlement.disclosed):
            due = place in memory.complaints and place not in barred
            self._require(
                due == bool(entry), "shares where none were due, or none where they were", "what is due"
            )
            if not due:
                continue
            pair, signature = entry[:PAIR_BYTES], entry[PAIR_BYTES:]
            payload = disclosure_payload(
                self.session.context, roll.root, roll.indices[place], roll.index, pair
            )
            self._require(
                is_pair(pair) and verified(roll.adverts[place].identity, signature, payload),
                "shares that the neighbour did not disclose",
                "what it signed",
            )
            held[place] = pair[: shamir.SHARE_BYTES], pair[shamir.SHARE_BYTES :]
        held = {place: pair for place, pair in held.items() if place not in barred}
        self._enough(len(held), roll)
        return replace(memory, held=MappingProxyType(held), complaints=frozenset(), barred=barred), None

    def mask(self, memory: Memory, vector: np.ndarray) -> tuple[Memory, bytes]:
        keys, roll, session = _known(memory.keys), _known(memory.roll), self.session
        masked = np.concatenate([vector, session.check])
        masks = [(self_mask(keys.seed, roll.root, session.context), 1)]
        for place in memory.held:
            other, advert = roll.indices[place], roll.adverts[place]
            agreed = self._agreed(keys.masking, advert.masking_key)
            key = pair_mask(agreed, roll.root, session.context, roll.index, other)
            masks.append((key, 1 if roll.index < other else -1))
        apply_masks(masked, masks)
        unsigned = MaskedInput(
            roll.root, roll.index, memoryview(pack_words(masked, session.terms.modulus_bits)), bytes(64)
        )
        barred = bitmap(memory.barred, roll.graph.degree) if memory.barred else b""
        payload = unsigned.payload(session.context, barred)
        return memory, encode(_signed(unsigned, self.identity, payload))

    def sign(self, memory: Memory, survivors: Survivors) -> tuple[Memory, bytes]:
        roll = _known(memory.roll)
        self._require(survivors.root == roll.root, "survivors of another roster", "those of this session")
        stayed = members(survivors.survivors, roll.devices)
        self._require(stayed is not None, "a malformed set of survivors", "a bit a device")
        alive = set(_known(stayed))
        self._require(
            roll.index in alive, "survivors without this device", "a set that holds it: its input was sent"
        )
        self._require(
            len(alive) >= self._minimum_cohort,
            f"{len(alive)} survivors",
            f"at least {self._minimum_cohort} in a sum",
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

    def unmask(self, memory: Memory, given: Signatures) -> tuple[Memory, bytes]:
        roll, session = _known(memory.roll), self.session
        self._require(
            given.root == roll.root and given.survivors == memory.survivors,
            "signatures of another set of survivors",
            "the set this device signed",
        )
        self._require(
            len(given.signatures) == roll.graph.degree + len(roll.committee),
            "signatures of another number",
            "a place a neighbour and a member of the committee",
        )
        alive = set(members(memory.survivors, roll.devices) or ())
        payload = Survivors(roll.root, memory.survivors).payload(session.context)
        wanted = roll.graph.threshold, self.session.terms.committee(roll.devices).threshold
        near = zip(roll.indices, roll.adverts, strict=True)
        signatures = given.signatures[: roll.graph.degree], given.signatures[roll.graph.degree :]
        whose = "neighbours", "members of the committee"
        for group, theirs, enough, who in zip((near, roll.committee), signatures, wanted, whose, strict=True):
            agreed = 0
            for (index, advert), signature in zip(group, theirs, strict=True):
                if agreed == enough:
                    break
                if not signature or index not in alive:
                    continue
                self._require(
                    verified(advert.identity, signature, payload),
                    "a forged signature of the survivors",
                    f"signatures by the {who}",
                )
                agreed += 1
            self._require(agreed >= enough, f"{agreed} {who} that signed the same set", f"at least {enough}")
        # Of each neighbour one share, of one kind, once.
        shares = tuple(
            memory.held[place][0 if index in alive else 1] if place in memory.held else b""
            for place, index in enumerate(roll.indices)
        )
        unsigned = Unmask(roll.root, roll.index, shares, bytes(64))
        answer = _signed(unsigned, self.identity, unsigned.payload(session.context))
        # Nothing secret is needed any more.
        return replace(memory, keys=None, held={}), encode(answer)

    def _enough(self, neighbours: int, roll: Roll) -> None:
        threshold = roll.graph.threshold
        self._require(neighbours >= threshold, f"shares of {neighbours} neighbours", f"at least {threshold}")

    def _envelope(self, keys: Keys, roll: Roll, other: bytes, sender: int, receiver: int) -> bytes:
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

    def _require(self, holds: object, given: str, expected: str) -> None:
        if not holds:
            raise Broken(given, expected)


def _signed(message: Any, identity: Identity, payload: bytes) -> Any:
    fields = {name: getattr(message, name) for name in message.__struct_fields__}
    return type(message)(**fields | {"signature": identity.sign(payload)})


def _by_place(entries: Mapping[int, bytes], roll: Roll) -> tuple[bytes, ...]:
    return tuple(entries.get(place, b"") for place in range(roll.graph.degree))


def _known(value: Any) -> Any:
    assert value is not None
    return value
