"""A server that does as it likes: one run of it against watched devices, chosen by a seed."""

import random
from collections import Counter
from functools import cache

import numpy as np

from fairyring.secagg import Session, Terms
from fairyring.secagg._suite import bitmap, digest
from fairyring.secagg.graph import Ring
from fairyring.secagg.messages import (
    PAIR_BYTES,
    SEALED_BYTES,
    Accusation,
    Advertise,
    Complaint,
    Consistency,
    Disclosure,
    Mailbox,
    Roster,
    Settlement,
    Shares,
    Signatures,
    Survivors,
    complaint_payload,
    decode_kept,
    disclosure_payload,
    encode,
)
from tests.secagg.driving import identity, small_terms
from tests.secagg.watching import Broken, Watched, check_together

# Devices, how many of them the adversary holds, threat, adversarial rate, dropout rate.
SETTINGS = [
    (3, 0, "semi_malicious", 0.0, 0.0),
    (3, 0, "semi_malicious", 0.0, 0.0),
    (4, 0, "semi_malicious", 0.0, 0.0),
    (4, 1, "semi_malicious", 0.25, 0.0),
    (5, 1, "semi_malicious", 0.2, 0.0),
    (4, 1, "semi_honest", 0.25, 0.25),
]
EVENTS = ("roster", "mailbox", "accusation", "settlement", "vector", "survivors", "signatures")
SYBIL = 90
LOW_ORDER = bytes(32)


@cache
def terms_of(devices: int, threat: str, adversarial: float, dropout: float) -> Terms:
    return small_terms(
        devices + 1, length=2, threat=threat, adversarial=adversarial, dropout=dropout, minimum_cohort=3
    )


@cache
def elsewhere(tag: str) -> bytes:
    """A well-formed message of another session."""
    root = b"\7" * 32
    return {
        "mailbox": lambda: encode(Mailbox(root, (bytes(82),) * 3)),
        "accusation": lambda: encode(Accusation(root, (bytes(64),) * 3)),
        "settlement": lambda: encode(Settlement(root, b"\x01", (b"",) * 3)),
        "survivors": lambda: encode(Survivors(root, b"\x07")),
        "signatures": lambda: encode(Signatures(root, b"\x07", (bytes(64),) * 3)),
    }[tag]()


class View:
    """A roster the adversary tells some devices of."""

    def __init__(self, session: Session, adverts: list[Advertise], beacon: bytes = b"") -> None:
        context = session.context
        self.adverts = sorted(adverts, key=lambda advert: advert.hash(context))
        self.hashes = [advert.hash(context) for advert in self.adverts]
        self.beacon = beacon
        named = session.terms.sparse
        self.entries = [advert.entry(context, named=named) for advert in self.adverts]
        self.root = digest("roster", context, beacon, *self.entries)
        self.graph = session.terms.graph(len(adverts))
        self.ring = Ring(self.root, beacon, self.hashes, self.graph.degree)
        self.committee = self.ring.committee(session.terms.committee(len(adverts)).size)
        self.index = {advert.identity: index for index, advert in enumerate(self.adverts)}

    def roster(self, identity: bytes) -> Roster:
        index = self.index.get(identity, 0)
        others = (*self.ring.neighbours(index), *self.committee)
        return Roster(b"".join(self.entries), self.beacon, tuple(self.adverts[other] for other in others))


class Run:
    """One run: `play()` drives devices through a session that the adversary spoils wherever its dice say so.

    Attributes:
        seen: what happened, by name: answers, refusals, and the adversary's moves.
    """

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        devices, held, threat, adversarial, dropout = SETTINGS[seed % len(SETTINGS)]
        self.terms = terms_of(devices, threat, adversarial, dropout)
        self.threat, self.adversarial = threat, adversarial
        self.session = Session(self.terms, seed & 0xFFFF, bytes(32))
        given = [self.session] * devices
        self.seen: Counter[str] = Counter()
        if self.dice.random() < 0.06:  # one is told of another model
            self.seen["two models"] += 1
            given[self.dice.randrange(devices)] = Session(self.terms, seed & 0xFFFF, b"\1" * 32)
        self.all = [Watched(number, session, seed) for number, session in enumerate(given)]
        self.corrupt, self.honest = self.all[:held], self.all[held:]
        # How often it deviates, and at which event most.
        self.heat = self.dice.choice((0.0, 0.03, 0.1, 0.3))
        self.focus = self.dice.choice(EVENTS)
        # What the adversary's devices seal does not open for anyone; and they complain of everyone.
        self.garbage = bool(self.corrupt) and self.dice.random() < 0.3
        self.liars = bool(self.corrupt) and self.dice.random() < 0.3
        self.two_stories = self.dice.random() < 0.5
        self.messages: list[tuple[int, bytes]] = []  # device, what it was given
        self.views: list[View] = []
        self.view: dict[int, View] = {}
        self.silent: set[int] = set()
        self.together = False

    def play(self) -> "Run":
        adverts = [decode_kept(one.start(), Advertise) for one in self.all]
        self._make_views(adverts)
        for one in self.all:
            self.view[one.number] = self.dice.choice(self.views)
        for event in EVENTS:
            order = list(self.all)
            self.dice.shuffle(order)
            if self.dice.random() < 0.05:
                self.silent.add(self.dice.randrange(len(self.all)))
            for one in order:
                if one.number not in self.silent:
                    self._noise(one)
                    self._event(event, one)
            for one in self.honest:
                self._noise(one)
        return self

    # -- the roster -----------------------------------------------------------------------------------------

    def _make_views(self, adverts: list[Advertise]) -> None:
        dice = self.dice
        if self.corrupt and dice.random() < 0.1:
            adverts[0] = self._false_advert(adverts)
        self.views = [View(self.session, adverts)]
        if dice.random() < 0.15:
            self.seen["two rosters"] += 1
            kind = dice.randrange(3)
            if kind == 0 and len(adverts) > 3:
                self.views.append(View(self.session, adverts[:-1]))
            elif kind == 1:
                self.views.append(View(self.session, [*adverts, self._sybil()]))
            else:
                self.views.append(View(self.session, adverts, b"beacon"))

    def _sybil(self) -> Advertise:
        sybil = Watched(SYBIL, self.session, 0)
        return decode_kept(sybil.start(), Advertise)

    def _false_advert(self, adverts: list[Advertise]) -> Advertise:
        """An advert of a device of the adversary's, wrong in one way, but signed."""
        self.seen["false advert"] += 1
        mine, other = adverts[0], adverts[1]
        keys = {
            0: (other.encryption_key, mine.masking_key),
            1: (mine.encryption_key, other.masking_key),
            2: (LOW_ORDER, mine.masking_key),
            3: (mine.encryption_key, LOW_ORDER),
        }[self.dice.randrange(4)]
        unsigned = Advertise(mine.identity, *keys, mine.nonce, mine.commitment, bytes(64))
        signature = self.all[0].identity.sign(unsigned.payload(self.session.context))
        if self.dice.random() < 0.3:
            signature = bytes(64)
        return Advertise(mine.identity, *keys, mine.nonce, mine.commitment, signature)

    # -- one event at one device ----------------------------------------------------------------------------

    def _deviates(self, event: str) -> bool:
        return self.dice.random() < (self.heat * 2 if event == self.focus else self.heat / 4)

    def _event(self, event: str, one: Watched) -> None:
        view = self.view[one.number]
        if event == "vector":
            if one.device.phase == "ready" or self._deviates(event):
                self._contribute(one)
            return
        message = getattr(self, f"_{event}")(one, view)
        if message is None:
            return
        data = encode(message)
        if self._deviates(event):
            self.seen[f"changed {event}"] += 1
            data = self._changed(event, message, data)
        self._deliver(one, data)

    def _deliver(self, one: Watched, data: bytes) -> None:
        self.messages.append((one.number, data))
        one.receive(data, self.seen)
        if one in self.honest and (one.disclosed_to & {other.identity.public for other in self.honest}):
            raise Broken(f"device {one.number} disclosed shares of an honest one")
        if one.unmasked and self.threat == "semi_malicious":
            self.together |= check_together(self.honest, self._allowed)

    def _contribute(self, one: Watched) -> None:
        # Another vector whenever it is asked: two under the same masks would tell their difference.
        vector = np.array([self.dice.randrange(1 << 16) for _ in range(2)], np.uint16)
        one.contribute(vector, self.seen)

    def _allowed(self, root: bytes) -> int | None:
        """How many of a roster's devices are the adversary's, if no more than the terms allow."""
        view = next(view for view in self.views if view.root == root)
        ours = len(view.adverts) - sum(one.identity.public in view.index for one in self.honest)
        return ours if ours <= int(self.adversarial * len(view.adverts)) else None

    def _roster(self, one: Watched, view: View) -> Roster:
        return view.roster(one.identity.public)

    def _mailbox(self, one: Watched, view: View) -> Mailbox:
        own = view.index.get(one.identity.public, 0)
        entries = []
        for other in view.ring.neighbours(own):
            shares = self._shares(view.adverts[other].identity, view)
            entry = shares.sealed[view.ring.place(own, other) - 1] if shares else b""
            theirs = any(o.identity.public == view.adverts[other].identity for o in self.corrupt)
            if entry and theirs and self.garbage:
                entry = bytes([other]) * SEALED_BYTES
            entries.append(entry)
        return Mailbox(view.root, tuple(entries))

    def _accusation(self, one: Watched, view: View) -> Accusation | None:
        """The complaints there are of a device's shares, and those its dishonest neighbours make."""
        own = view.index.get(one.identity.public, 0)
        sealed = self._shares(one.identity.public, view)
        entries = []
        for place, other in enumerate(view.ring.neighbours(own)):
            public, entry = view.adverts[other].identity, b""
            for o in self.all:
                if o.identity.public != public:
                    continue
                for answer in o.answers.get("complaint", ()):
                    complaint = decode_kept(answer, Complaint)
                    if complaint.root == view.root:
                        entry = complaint.complaints[view.ring.place(own, other) - 1]
                if o in self.corrupt and self.liars and sealed is not None:
                    payload = complaint_payload(
                        self.session.context, view.root, other, own, sealed.sealed[place]
                    )
                    entry = o.identity.sign(payload)
            entries.append(entry)
        if not any(entries) and not self._deviates("accusation"):
            return None
        return Accusation(view.root, tuple(entries))

    def _settlement(self, one: Watched, view: View) -> Settlement | None:
        """What was disclosed for a device; of whom nothing was disclosed that it complained of is barred."""
        own = view.index.get(one.identity.public, 0)
        near = view.ring.neighbours(own)
        waits = one.device._memory.complaints if one.device.phase == "complaining" else frozenset()
        entries, barred = [b""] * len(near), set()
        for place in waits:
            other = view.adverts[near[place]].identity
            sealer = next((o for o in self.all if o.identity.public == other), None)
            if sealer in self.corrupt and self.dice.random() < 0.5:
                pair = self.dice.randbytes(32) + b"\0" + self.dice.randbytes(32) + b"\0"
                assert len(pair) == PAIR_BYTES
                payload = disclosure_payload(self.session.context, view.root, near[place], own, pair)
                entries[place] = pair + sealer.identity.sign(payload)  # type: ignore[union-attr]
                continue
            given = b""
            for answer in sealer.answers.get("disclosure", ()) if sealer else ():
                given = decode_kept(answer, Disclosure).disclosed[view.ring.place(own, near[place]) - 1]
            entries[place] = given
            if not given:
                barred.add(place)
        if self._deviates("settlement"):
            barred.add(self.dice.randrange(len(near)))
        if not waits and not barred:
            return None
        return Settlement(view.root, bitmap(barred, len(near)), tuple(entries))

    def _shares(self, sender: bytes, view: View) -> Shares | None:
        for one in self.all:
            if one.identity.public == sender:
                for answer in one.answers.get("shares", ()):
                    shares = decode_kept(answer, Shares)
                    if shares.root == view.root:
                        return shares
        return None

    def _stories(self, view: View) -> list[bytes]:
        """Sets of survivors to choose from: the true one, and others."""
        count = len(view.adverts)
        sent = {o.identity.public for o in self.all if o.answers.get("masked_input")}
        came = {index for key, index in view.index.items() if key in sent}
        stories = [came]
        if self.two_stories:
            stories.append(came - {self.dice.randrange(count)})
            if self.dice.random() < 0.3:
                stories.append(came | {self.dice.randrange(count)})
        return [bitmap(story, count) for story in stories]

    def _survivors(self, one: Watched, view: View) -> Survivors:
        known = [s for s in self._told(view) if self.dice.random() < 0.7]
        if known:
            return Survivors(view.root, self.dice.choice(known))
        return Survivors(view.root, self.dice.choice(self._stories(view)))

    def _told(self, view: View) -> list[bytes]:
        return sorted({s for o in self.honest for s in o.signed if self.view[o.number] is view})

    def _signatures(self, one: Watched, view: View) -> Signatures:
        own = view.index.get(one.identity.public, 0)
        survivors = next(iter(one.signed), b"")
        payload = Survivors(view.root, survivors).payload(self.session.context)
        entries = []
        for other in view.ring.neighbours(own):
            signer = next((o for o in self.all if o.identity.public == view.adverts[other].identity), None)
            signature = b""
            if signer in self.corrupt:  # it signs whatever is wanted
                signature = signer.identity.sign(payload)  # type: ignore[union-attr]
            elif signer is None:
                signature = identity(SYBIL).sign(payload)
            elif survivors in signer.signed:
                signature = decode_kept(next(iter(signer.answers["consistency"])), Consistency).signature
            entries.append(signature)
        return Signatures(view.root, survivors, tuple(entries))

    # -- deviations -----------------------------------------------------------------------------------------

    def _changed(self, event: str, message: object, data: bytes) -> bytes:
        """A message for an event, wrong in some way."""
        dice = self.dice
        if dice.random() < 0.25:
            return self._garbled(data)
        if isinstance(message, Roster):
            return encode(self._changed_roster(message))
        field = {Mailbox: "sealed", Accusation: "complaints", Settlement: "disclosed"}.get(
            type(message), "signatures"
        )
        if isinstance(message, Survivors):
            other = bytes(dice.randrange(256) for _ in range(dice.choice((0, 1, 1, 2))))
            return dice.choice([encode(Survivors(message.root, other)), elsewhere(event)])
        entries = list(getattr(message, field))
        at, to = dice.randrange(len(entries)), dice.randrange(len(entries))
        kind = dice.randrange(6)
        if kind == 0:
            entries[at], entries[to] = entries[to], entries[at]
        elif kind == 1:
            entries[at] = b""
        elif kind == 2:
            entries[at] = bytes(len(entries[at]))
        elif kind == 3:
            entries = [entries[at]] * len(entries)
        elif kind == 4:
            entries = entries[:-1]
        else:
            return elsewhere(event)
        if isinstance(message, Mailbox | Accusation):
            return encode(type(message)(message.root, tuple(entries)))
        if isinstance(message, Settlement):
            barred = message.barred
            if dice.random() < 0.3:
                barred = bytes(b ^ (1 << dice.randrange(4)) for b in barred)
            return encode(Settlement(message.root, barred, tuple(entries)))
        assert isinstance(message, Signatures)
        survivors = message.survivors
        if dice.random() < 0.3:
            survivors = bytes(b ^ (1 << dice.randrange(4)) for b in survivors)
        return encode(Signatures(message.root, survivors, tuple(entries)))

    def _changed_roster(self, message: Roster) -> Roster:
        dice, near = self.dice, list(message.neighbours)
        hashes = [message.entries[i : i + 32] for i in range(0, len(message.entries), 32)]
        kind = dice.randrange(7)
        if kind == 0:
            dice.shuffle(hashes)
        elif kind == 1:
            hashes.append(hashes[-1])  # a device listed twice
        elif kind == 2:
            hashes.pop(dice.randrange(len(hashes)))
        elif kind == 3:
            near.reverse()
        elif kind == 4:
            near[0] = near[-1]
        elif kind == 5:
            near.append(near[0])
        else:
            return Roster(message.entries, b"another", message.neighbours)
        return Roster(b"".join(hashes), message.beacon, tuple(near))

    def _garbled(self, data: bytes) -> bytes:
        dice, kind = self.dice, self.dice.randrange(3)
        if kind == 0:
            return data[: dice.randrange(len(data))]
        if kind == 1:
            return data + bytes(dice.randrange(1, 9))
        at = dice.randrange(len(data))
        return data[:at] + bytes([data[at] ^ (1 << dice.randrange(8))]) + data[at + 1 :]

    def _noise(self, one: Watched) -> None:
        """What may come at any time: old messages, others' messages, nonsense, the end of the process."""
        dice = self.dice
        while dice.random() < 0.08 + self.heat / 2:
            kind = dice.randrange(4)
            if kind == 0:
                self.seen["restart"] += 1
                one.restart()
            elif kind == 1 and self.messages:
                self.seen["replay"] += 1
                mine = [data for to, data in self.messages if to == one.number]
                others = [data for _, data in self.messages[-12:]]
                self._deliver(one, dice.choice(mine if mine and dice.random() < 0.6 else others))
            elif kind == 2:
                self.seen["contribute again"] += 1
                self._contribute(one)
            else:
                self.seen["nonsense"] += 1
                self._deliver(one, dice.randbytes(dice.randrange(40)))
