"""What a device does at each step of a secure sum: every check it makes, and everything it sends."""

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
    """A device's secrets in one session, all derived from its root secret."""

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
    """What a device knows from the roster."""

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
    # Place of a neighbour -> its shares: of the seed and of the masking key.
    held: Mapping[int, tuple[bytes, bytes]] = field(default_factory=dict)
    # Places of neighbours whose shares did not open, until that is settled.
    complaints: frozenset[int] = frozenset()
    barred: frozenset[int] = frozenset()  # places of barred neighbours
    survivors: bytes = b""


class Broken(Exception):
    """A check failed: the device must leave the session.

    Args:
        given: what was received.
        expected: what would have been right.
    """

    def __init__(self, given: str, expected: str) -> None:
        self.given, self.expected = given, expected
        super().__init__(given)


class Steps:
    """The steps of one device in one session.

    Each step takes the device's memory and an event, and returns the new memory and the answer. Nothing is changed in
    place, except for a cache of key agreements.

    Args:
        session: the session.
        identity: the device's identity.
        policy: which devices it accepts as neighbours.
        minimum_cohort: it takes part only with at least so many devices.
    """

    def __init__(self, session: Session, identity: Identity, policy: Policy, minimum_cohort: int) -> None:
        self.session, self.identity = session, identity
        self._policy, self._minimum_cohort = policy, minimum_cohort
        # A neighbour's key -> the secret agreed with it, used in both directions.
        self._envelopes: dict[bytes, bytes] = {}

    def forget(self) -> None:
        """Drop the secrets agreed with neighbours."""
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
        keys = _present(memory.keys)
        roll = self._roll(memory, roster)
        sealed = self._sealed(keys, roll, range(roll.graph.degree)).values()
        unsigned = Shares(roll.root, roll.index, tuple(entry for _, entry in sealed), bytes(64))
        answer = _signed(unsigned, self.identity, unsigned.payload(self.session.context))
        return replace(memory, roll=roll), encode(answer)

    def _sealed(self, keys: Keys, roll: Roll, places: Sequence[int]) -> dict[int, tuple[bytes, bytes]]:
        """By neighbours' places: the two shares of this device's secrets for that neighbour, in clear and sealed."""
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
        """The contents of the roster, after all checks."""
        context, own = self.session.context, _present(memory.advert)
        named = self.session.terms.sparse
        size = entry_bytes(named=named)
        self._require(
            len(roster.entries) % size == 0, "a roster of the wrong length", f"entries of {size} bytes"
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
            "ascending hashes",
        )
        mine = own.entry(context, named=named)
        self._require(mine in entries, "a roster without this device", "its own advert, once")
        # A device does not see most adverts; the neighbours of each do, and compare it with its name here.
        if named:
            names = {entry[HASH_BYTES:] for entry in entries}
            self._require(len(names) == devices, "the same identity twice", "distinct devices")
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
                "an advert that is not a neighbour's",
                "the neighbours and the committee that follow from the root",
            )
            self._require(
                self._policy.admits(advert.identity),
                "a neighbour that may not take part",
                "one the policy admits",
            )
        # Only the identities of the committee matter here: even if its advert were forged, a member signs only one set.
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
                "distinct devices",
            )
        return Roll(root, index, devices, graph, indices, near, tuple(zip(chosen, committee, strict=True)))

    def open(self, memory: Memory, mailbox: Mailbox) -> tuple[Memory, bytes | None]:
        """Open every sealed entry before anything private is sent, and complain about those that do not open."""
        keys, roll = _present(memory.keys), _present(memory.roll)
        self._require(mailbox.root == roll.root, "a mailbox of another roster", "one of this session")
        self._require(
            len(mailbox.sealed) == roll.graph.degree, "a mailbox of another size", "one entry per neighbour"
        )
        held: dict[int, tuple[bytes, bytes]] = {}
        complaints: dict[int, bytes] = {}
        for place, sealed in enumerate(mailbox.sealed):
            if not sealed:
                continue
            self._require(
                len(sealed) == SEALED_BYTES, "sealed shares of the wrong size", f"{SEALED_BYTES} bytes"
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
        """Disclose to each complainer the shares sealed for it, readable by anyone.

        This is safe. A complaint is signed, and must be about exactly the entry that this device sealed. An honest neighbour
        can open that entry. So the complainer is an adversary, which has these shares already, and so may the server. If
        the entry was changed on its way, an honest neighbour's complaint is about other bytes, and nothing is disclosed.
        """
        keys, roll, context = _present(memory.keys), _present(memory.roll), self.session.context
        self._require(accusation.root == roll.root, "an accusation of another roster", "one of this session")
        self._require(
            len(accusation.complaints) == roll.graph.degree,
            "complaints of another number",
            "one place per neighbour",
        )
        accusers = [place for place, signature in enumerate(accusation.complaints) if signature]
        # A threshold of complainers cannot all be adversaries. Fewer shares than the threshold reveal nothing.
        self._require(
            0 < len(accusers) < roll.graph.threshold,
            f"{len(accusers)} complaints",
            f"1 to {roll.graph.threshold - 1}: fewer than recover a secret",
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
                "one signed by the neighbour, about what this device sealed",
            )
            payload = disclosure_payload(context, roll.root, roll.index, other, pair)
            given[place] = pair + self.identity.sign(payload)
        self._envelopes.clear()
        unsigned = Disclosure(roll.root, roll.index, _by_place(given, roll), bytes(64))
        return memory, encode(_signed(unsigned, self.identity, unsigned.payload(context)))

    def settle(self, memory: Memory, settlement: Settlement) -> tuple[Memory, None]:
        """Take in how disputes were settled: a neighbour is barred, as if it had sent no shares, or has disclosed them."""
        roll, degree = _present(memory.roll), _present(memory.roll).graph.degree
        self._require(settlement.root == roll.root, "a settlement of another roster", "one of this session")
        self._require(
            len(settlement.disclosed) == degree, "a settlement of another size", "one entry per neighbour"
        )
        listed = members(settlement.barred, degree)
        self._require(listed is not None, "a malformed set of barred devices", "one bit per neighbour")
        barred, held = frozenset(_present(listed)), dict(memory.held)
        self._require(
            barred <= held.keys() | memory.complaints, "a barred device that never shared", "one that did"
        )
        self._require(
            barred or memory.complaints, "a settlement of nothing", "one only where there was a dispute"
        )
        for place, entry in enumerate(settlement.disclosed):
            due = place in memory.complaints and place not in barred
            self._require(
                due == bool(entry),
                "shares that were not due, or none where they were",
                "exactly the shares that were due",
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
                "shares that it signed",
            )
            held[place] = pair[: shamir.SHARE_BYTES], pair[shamir.SHARE_BYTES :]
        held = {place: pair for place, pair in held.items() if place not in barred}
        self._enough(len(held), roll)
        return replace(memory, held=MappingProxyType(held), complaints=frozenset(), barred=barred), None

    def mask(self, memory: Memory, vector: np.ndarray) -> tuple[Memory, bytes]:
        keys, roll, session = _present(memory.keys), _present(memory.roll), self.session
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
        roll = _present(memory.roll)
        self._require(survivors.root == roll.root, "survivors of another roster", "those of this session")
        stayed = members(survivors.survivors, roll.devices)
        self._require(stayed is not None, "a malformed set of survivors", "one bit per device")
        alive = set(_present(stayed))
        self._require(
            roll.index in alive, "survivors without this device", "a set with it: it has sent its input"
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
        roll, session = _present(memory.roll), self.session
        self._require(
            given.root == roll.root and given.survivors == memory.survivors,
            "signatures of another set of survivors",
            "the set this device signed",
        )
        self._require(
            len(given.signatures) == roll.graph.degree + len(roll.committee),
            "signatures of another number",
            "one place per neighbour and committee member",
        )
        alive = set(members(memory.survivors, roll.devices) or ())
        payload = Survivors(roll.root, memory.survivors).payload(session.context)
        required = roll.graph.threshold, self.session.terms.committee(roll.devices).threshold
        near = zip(roll.indices, roll.adverts, strict=True)
        signatures = given.signatures[: roll.graph.degree], given.signatures[roll.graph.degree :]
        groups = "neighbours", "members of the committee"
        for group, received, enough, who in zip(
            (near, roll.committee), signatures, required, groups, strict=True
        ):
            agreed = 0
            for (index, advert), signature in zip(group, received, strict=True):
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
        # One share per neighbour, of one kind, once.
        shares = tuple(
            memory.held[place][0 if index in alive else 1] if place in memory.held else b""
            for place, index in enumerate(roll.indices)
        )
        unsigned = Unmask(roll.root, roll.index, shares, bytes(64))
        answer = _signed(unsigned, self.identity, unsigned.payload(session.context))
        # No secret is needed any more.
        return replace(memory, keys=None, held={}), encode(answer)

    def _enough(self, neighbours: int, roll: Roll) -> None:
        threshold = roll.graph.threshold
        self._require(neighbours >= threshold, f"shares of {neighbours} neighbours", f"at least {threshold}")

    def _envelope(self, keys: Keys, roll: Roll, other: bytes, sender: int, receiver: int) -> bytes:
        """The key for the only message from `sender` to `receiver`."""
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


def _present(value: Any) -> Any:
    assert value is not None
    return value
