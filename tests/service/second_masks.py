"""A second device's half of the masked protocol, written from `docs/secure_aggregation_protocol.md`; nothing of fairyring is imported.

It has every step of a device: adverts, rosters, shares, complaints, disclosures, masks and unmasking.
"""

import hashlib
import hmac
import struct
from itertools import pairwise

import msgspec
import numpy as np
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

from tests.service.second_graph import graph

NAME = b"fairyring/masked"
PRIME = 2**256 + 297
SEALED = 82  # bytes: two shares of 33, and a tag


class Broken(Exception):
    """The other side broke the protocol: the device leaves."""


class OutOfTurn(Exception):
    """A message that is malformed or does not come here: nothing has changed."""


# -- bytes --------------------------------------------------------------------------------------------------


def pack(value):
    """MessagePack in its shortest form."""
    match value:
        case None:
            return b"\xc0"
        case bool():
            return b"\xc3" if value else b"\xc2"
        case int():
            if value < 0:
                raise ValueError(value)
            if value < 128:
                return bytes([value])
            first, size = next(
                (f, s) for f, s in zip(b"\xcc\xcd\xce\xcf", (1, 2, 4, 8), strict=True) if value < 256**s
            )
            return bytes([first]) + value.to_bytes(size, "big")
        case float():
            return b"\xcb" + struct.pack(">d", value)
        case bytes():
            return _headed(value, len(value), None, b"\xc4\xc5\xc6", (1, 2, 4))
        case str():
            data = value.encode()
            return _headed(data, len(data), (0xA0, 32), b"\xd9\xda\xdb", (1, 2, 4))
        case dict():
            body = b"".join(pack(key) + pack(item) for key, item in value.items())
            return _headed(body, len(value), (0x80, 16), b"\xde\xdf", (2, 4))
    return _headed(b"".join(map(pack, value)), len(value), (0x90, 16), b"\xdc\xdd", (2, 4))


def _headed(body, count, short, firsts, sizes):
    if short is not None and count < short[1]:
        return bytes([short[0] | count]) + body
    first, size = next((f, s) for f, s in zip(firsts, sizes, strict=True) if count < 256**s)
    return bytes([first]) + count.to_bytes(size, "big") + body


def parts(*pieces):
    """Pieces, each after its length."""
    return b"".join(len(piece).to_bytes(8, "little") + piece for piece in pieces)


def digest(purpose, *pieces):
    return hashlib.sha256(NAME + b"/" + purpose.encode() + b"\0" + parts(*pieces)).digest()


def derive(secret, salt, *info):
    extracted = hmac.digest(salt or bytes(32), secret, "sha256")
    return hmac.digest(extracted, NAME + parts(*info) + b"\x01", "sha256")


def number(value):
    return value.to_bytes(8, "little")


def bitmap(places, count):
    return sum(1 << place for place in places).to_bytes(-(-count // 8), "little")


def members(bits, count):
    value = int.from_bytes(bits, "little")
    require(len(bits) == -(-count // 8) and value >> count == 0, "a bitmap of another length")
    return {place for place in range(count) if value >> place & 1}


def pack_words(words, bits):
    """The low bits of each number, one after another, least significant first."""
    octets = words.astype("<u8").view(np.uint8).reshape(-1, 8)
    return np.packbits(
        np.unpackbits(octets, axis=1, count=bits, bitorder="little"), bitorder="little"
    ).tobytes()


def keystream(key, size):
    return Cipher(AES256(key), CTR(bytes(16))).encryptor().update(bytes(size))


def words_of(stream_key, count, bits):
    """A key's mask: numbers modulo 2^bits."""
    size = 2 if bits == 16 else 4 if bits <= 32 else 8
    stream = np.frombuffer(keystream(stream_key, count * size), f"<u{size}").astype(np.uint64)
    return stream & np.uint64((1 << bits) - 1)


def require(holds, what):
    if not holds:
        raise Broken(what)


def verified(key, signature, payload):
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, payload)
    except (InvalidSignature, ValueError):
        return False
    return True


def shares(secret, places, threshold, stream):
    """Values at `places` of the polynomial with the secret at 0; its other coefficients are 48 bytes each of the stream."""
    cut = [stream[48 * i : 48 * i + 48] for i in range(threshold - 1)]
    coefficients = [int.from_bytes(piece, "little") for piece in (secret, *cut)]
    return [
        (sum(c * pow(x, e, PRIME) for e, c in enumerate(coefficients)) % PRIME).to_bytes(33, "little")
        for x in places
    ]


# -- a session ------------------------------------------------------------------------------------------------


AFTER = {  # what may come in which phase
    "roster": {"advertised"},
    "mailbox": {"shared"},
    "accusation": {"complaining", "ready"},
    "settlement": {"complaining", "ready"},
    "survivors": {"masked"},
    "signatures": {"signed"},
}
FORMS = {
    "roster": (bytes, bytes, list),
    "mailbox": (bytes, list),
    "accusation": (bytes, list),
    "settlement": (bytes, bytes, list),
    "survivors": (bytes, bytes),
    "signatures": (bytes, bytes, list),
}


def context_of(terms, round, model, previous):
    names = "plan", "length", "modulus_bits", "fewest", "most", "threat"
    said = {name: terms[name] for name in names}
    said |= {name: float(terms[name]) for name in ("adversarial_rate", "dropout_rate")}
    history = () if previous is None else (previous,)
    return digest("context", digest("terms", pack(said)), number(round), model, *history)


class Party:
    """One device in one session.

    Args:
        terms: of the plan, as its manifest has them.
        round, model, previous: what the session is bound to.
        identity: signs.
        secret: 32 random bytes, for this session only.
    """

    def __init__(self, terms, round, model, previous, identity: Ed25519PrivateKey, secret):
        self.terms, self.identity, self.secret = terms, identity, secret
        self.context = context_of(terms, round, model, previous)
        self.phase, self.answers, self.input = "new", {}, None
        self.barred, self.complaints = set(), {}
        self.named = terms["threat"] == "semi_malicious" and terms["most"] > 60
        self.drawn = {
            name: derive(secret, b"", name.encode()) for name in ("encryption", "masking", "seed", "nonce")
        }

    def start(self):
        self.encryption, self.masking = (
            X25519PrivateKey.from_private_bytes(self.drawn[name]) for name in ("encryption", "masking")
        )
        public = [
            key.public_key().public_bytes_raw() for key in (self.identity, self.encryption, self.masking)
        ]
        fields = [*public, self.drawn["nonce"], digest("commitment", self.drawn["seed"])]
        self.advert = ["advertise", *fields, self.identity.sign(digest("advertise", self.context, *fields))]
        self.phase = "advertised"
        return pack(self.advert)

    def receive(self, data):
        """The answer to a message; None if there is none."""
        try:
            kind, *fields = message = msgspec.msgpack.decode(data)
            well_formed = pack(message) == data and tuple(map(type, fields)) == FORMS[kind]
            if kind == "roster":
                adverts = all(len(a) == 7 and [len(f) for f in a] == [9, *[32] * 5, 64] for a in fields[2])
                well_formed = well_formed and adverts and len(fields[1]) <= 64
            elif kind != "survivors":
                well_formed = well_formed and all(isinstance(one, bytes) for one in fields[-1])
        except (ValueError, TypeError, KeyError, msgspec.DecodeError, RecursionError):
            raise OutOfTurn("a malformed message") from None
        if not well_formed:
            raise OutOfTurn("a malformed message")
        if kind in self.answers:
            before, answer = self.answers[kind]
            if before != data:
                raise OutOfTurn("another message than before")
            return answer
        if self.phase not in AFTER[kind]:
            raise OutOfTurn(f"{kind} while {self.phase}")
        try:
            if kind != "roster":
                require(fields[0] == self.root, "another roster")
                fields = fields[1:]
            answer = getattr(self, f"on_{kind}")(*fields)
        except Broken:
            self.phase = "aborted"
            raise
        self.answers[kind] = data, answer
        return answer

    def on_roster(self, joined, beacon, adverts):
        size = 48 if self.named else 32
        entries = [joined[at : at + size] for at in range(0, len(joined), size)]
        require(len(joined) % size == 0, "entries of another length")
        n = len(entries)
        require(self.terms["fewest"] <= n <= self.terms["most"], f"{n} devices")
        hashes = [entry[:32] for entry in entries]
        require(all(a < b for a, b in pairwise(hashes)), "entries out of order")
        require(not self.named or len({entry[32:] for entry in entries}) == n, "an identity twice")
        require(self.entry(self.advert) in entries, "a roster without this device")
        self.index, self.devices = entries.index(self.entry(self.advert)), n
        found = graph(self.terms, n)
        require(found, f"no graph for {n} devices")
        self.degree, self.threshold, council, self.enough = found
        self.root = root = digest("roster", self.context, beacon, *entries)
        key = derive(root + beacon, root, b"ring")
        ring = sorted(range(n), key=lambda i: hashlib.sha256(key + hashes[i]).digest())
        at, after = ring.index(self.index), -(-self.degree // 2)
        steps = [*range(1, after + 1), *range(n - (self.degree - after), n)]
        self.near, self.council = [ring[(at + step) % n] for step in steps], ring[:council]
        require(len(adverts) == self.degree + council, "adverts of another number")
        for place, advert in zip([*self.near, *self.council], adverts, strict=True):
            require(self.entry(advert) == entries[place], "an advert of somebody else")
        self.adverts, self.members = adverts[: self.degree], adverts[self.degree :]
        for advert in self.adverts:
            require(
                verified(advert[1], advert[6], digest("advertise", self.context, *advert[1:6])),
                "a forged advert",
            )
            self.agreed(self.encryption, advert[2])
            self.agreed(self.masking, advert[3])
        for field in (1, 2, 3):
            around = [self.advert[field], *(advert[field] for advert in self.adverts)]
            require(len(set(around)) == len(around), "a key twice")
        self.pairs = self.shared()
        sealed = [self.seal(place) for place in range(self.degree)]
        self.phase = "shared"
        return self.signed("shares", "shares", sealed)

    def entry(self, advert):
        signed = digest("advertise", self.context, *advert[1:6])
        return digest("advert", self.context, signed, advert[6]) + (advert[1][:16] if self.named else b"")

    def shared(self):
        """For each neighbour, by place, two shares in clear."""
        places, found = range(1, self.degree + 1), []
        for name in ("seed", "masking"):
            stream = keystream(derive(self.secret, b"", b"shares", name.encode()), 48 * (self.threshold - 1))
            found.append(shares(self.drawn[name], places, self.threshold, stream))
        return [one + other for one, other in zip(*found, strict=True)]

    def envelope(self, place, sender, receiver):
        agreed = self.agreed(self.encryption, self.adverts[place][2])
        return AESGCM(derive(agreed, self.root, b"envelope", self.context, number(sender), number(receiver)))

    def seal(self, place):
        return self.envelope(place, self.index, self.near[place]).encrypt(
            bytes(12), self.pairs[place], self.root
        )

    def on_mailbox(self, sealed):
        require(len(sealed) == self.degree, "entries of another number")
        self.held = {}
        for place, entry in enumerate(sealed):
            if not entry:
                continue
            require(len(entry) == SEALED, "an entry of another length")
            try:
                pair = self.envelope(place, self.near[place], self.index).decrypt(bytes(12), entry, self.root)
                halves = pair[:33], pair[33:]
                if any(int.from_bytes(half, "little") >= PRIME for half in halves):
                    raise InvalidTag
                self.held[place] = halves
            except InvalidTag:
                ends = number(self.index), number(self.near[place])
                self.complaints[place] = self.identity.sign(
                    digest("complaint", self.context, self.root, *ends, entry)
                )
        require(len(self.held) + len(self.complaints) >= self.threshold, "shares of too few")
        self.phase = "complaining" if self.complaints else "ready"
        if self.complaints:
            return self.signed("complaint", "complaints", self.by_place(self.complaints))
        return None

    def on_accusation(self, complaints):
        require(len(complaints) == self.degree, "complaints of another number")
        accusers = [place for place, complaint in enumerate(complaints) if complaint]
        require(0 < len(accusers) < self.threshold, "too many complaints, or none")
        given = {}
        for place in accusers:
            ends = number(self.near[place]), number(self.index)
            about = digest("complaint", self.context, self.root, *ends, self.seal(place))
            require(verified(self.adverts[place][1], complaints[place], about), "a false complaint")
            said = digest("disclosure", self.context, self.root, *reversed(ends), self.pairs[place])
            given[place] = self.pairs[place] + self.identity.sign(said)
        return self.signed("disclosure", "disclosures", self.by_place(given))

    def on_settlement(self, barred, disclosed):
        require(len(disclosed) == self.degree, "disclosures of another number")
        out = members(barred, self.degree)
        require(out <= self.held.keys() | self.complaints.keys(), "a barred device that sent nothing")
        require(out or self.complaints, "nothing to settle")
        for place, entry in enumerate(disclosed):
            due = place in self.complaints and place not in out
            require(due == bool(entry), "shares that were not due, or none that were")
            if due:
                pair, ends = entry[:66], (number(self.near[place]), number(self.index))
                said = digest("disclosure", self.context, self.root, *ends, pair)
                fits = (
                    len(entry) == 130
                    and max(int.from_bytes(h, "little") for h in (pair[:33], pair[33:])) < PRIME
                )
                require(fits and verified(self.adverts[place][1], entry[66:], said), "a false disclosure")
                self.held[place] = pair[:33], pair[33:]
        self.held = {place: pair for place, pair in self.held.items() if place not in out}
        require(len(self.held) >= self.threshold, "shares of too few")
        self.barred, self.phase, self.complaints = out, "ready", {}

    def contribute(self, vector):
        """The vector under masks; the same bytes if called again."""
        if self.input is not None:
            return self.input
        if self.phase != "ready":
            raise OutOfTurn(f"a vector while {self.phase}")
        bits = self.terms["modulus_bits"]
        if vector.shape != (self.terms["length"],) or int(vector.max()) >> bits:
            raise OutOfTurn("another vector")
        checks = words_of(digest("check", self.context), -(-64 // bits), bits)
        total = np.concatenate([vector.astype(np.uint64), checks])
        total += words_of(derive(self.drawn["seed"], self.root, b"self", self.context), len(total), bits)
        for place in self.held:
            other = self.near[place]
            low, high = sorted((self.index, other))
            agreed = self.agreed(self.masking, self.adverts[place][3])
            key = derive(agreed, self.root, b"mask", self.context, number(low), number(high))
            mask = words_of(key, len(total), bits)
            total = total + mask if self.index == low else total - mask
        packed = pack_words(total & np.uint64((1 << bits) - 1), bits)
        extra = [bitmap(self.barred, self.degree)] if self.barred else []
        signature = self.identity.sign(
            digest("masked_input", self.context, self.root, number(self.index), packed, *extra)
        )
        self.phase, self.input = "masked", pack(["masked_input", self.root, self.index, packed, signature])
        return self.input

    def on_survivors(self, bits):
        alive = members(bits, self.devices)
        near = {place for place, index in enumerate(self.near) if index in alive}
        require(self.index in alive and len(alive) >= self.terms["fewest"], "too few, or not this device")
        require(
            near <= self.held.keys() and len(near) >= self.threshold,
            "neighbours that did not share, or too few",
        )
        self.alive, self.agreed_set = alive, bits
        self.payload, self.phase = digest("survivors", self.context, self.root, bits), "signed"
        return pack(["consistency", self.root, self.index, self.identity.sign(self.payload)])

    def on_signatures(self, bits, signatures):
        require(bits == self.agreed_set, "another set")
        require(len(signatures) == self.degree + len(self.council), "signatures of another number")
        groups = [(self.near, self.adverts, signatures[: self.degree], self.threshold)]
        groups += [(self.council, self.members, signatures[self.degree :], self.enough)]
        for indices, adverts, given, enough in groups:
            signed = 0
            for index, advert, signature in zip(indices, adverts, given, strict=True):
                if signed < enough and signature and index in self.alive:
                    require(verified(advert[1], signature, self.payload), "a forged signature")
                    signed += 1
            require(signed >= enough, "signatures of too few")
        given = [
            self.held[place][0 if index in self.alive else 1] if place in self.held else b""
            for place, index in enumerate(self.near)
        ]
        self.phase = "done"
        return self.signed("unmask", "unmask", given)

    def agreed(self, key, public):
        try:
            return key.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError:  # a point of low order
            raise Broken("a key that keeps no secret") from None

    def by_place(self, entries):
        return [entries.get(place, b"") for place in range(self.degree)]

    def signed(self, kind, purpose, entries):
        payload = digest(purpose, self.context, self.root, number(self.index), *entries)
        return pack([kind, self.root, self.index, entries, self.identity.sign(payload)])
