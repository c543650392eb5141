"""The masked protocol a second time, as plainly as it can be said; it imports nothing of the package.

Written from the protocol's description, one function a formula, for small complete graphs: Python's integers, a
hand-written HKDF, counter mode from single AES blocks, an encoder of MessagePack of its own.
"""

import hashlib
import hmac
import math
import struct
from decimal import Decimal
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import ECB

NAME = b"fairyring/masked"
P = 2**256 + 297


# -- bytes ------------------------------------------------------------------------------------------------


def uint(value: int) -> bytes:
    if value < 128:
        return bytes([value])
    for first, size in ((0xCC, 1), (0xCD, 2), (0xCE, 4), (0xCF, 8)):
        if value < 256**size:
            return bytes([first]) + value.to_bytes(size, "big")
    raise ValueError(value)


def pack(value: Any) -> bytes:
    """MessagePack in its shortest form: bytes, text, whole numbers above 0, floats, lists, dicts."""
    if isinstance(value, bytes):
        sizes = ((0xC4, 1), (0xC5, 2), (0xC6, 4))
        first, size = next((f, s) for f, s in sizes if len(value) < 256**s)
        return bytes([first]) + len(value).to_bytes(size, "big") + value
    if isinstance(value, str):
        data = value.encode()
        assert len(data) < 32
        return bytes([0xA0 | len(data)]) + data
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, int):
        return uint(value)
    if isinstance(value, dict):
        assert len(value) < 16
        return bytes([0x80 | len(value)]) + b"".join(pack(k) + pack(v) for k, v in value.items())
    head = bytes([0x90 | len(value)]) if len(value) < 16 else b"\xdc" + len(value).to_bytes(2, "big")
    return head + b"".join(pack(item) for item in value)


def bits_of(numbers: list[int], width: int) -> bytes:
    """Numbers one after the other, least significant bit first."""
    full = sum(number << (i * width) for i, number in enumerate(numbers))
    return full.to_bytes(-(-len(numbers) * width // 8), "little")


def bitmap(places: set[int], count: int) -> bytes:
    return sum(1 << place for place in places).to_bytes(-(-count // 8), "little")


# -- cryptography -----------------------------------------------------------------------------------------


def digest(purpose: str, *parts: bytes) -> bytes:
    data = NAME + b"/" + purpose.encode() + b"\0"
    for part in parts:
        data += struct.pack("<Q", len(part)) + part
    return hashlib.sha256(data).digest()


def derive(secret: bytes, salt: bytes, *info: bytes) -> bytes:
    """RFC 5869 with one block of output."""
    joined = NAME
    for part in info:
        joined += struct.pack("<Q", len(part)) + part
    extracted = hmac.new(salt or bytes(32), secret, hashlib.sha256).digest()
    return hmac.new(extracted, joined + b"\x01", hashlib.sha256).digest()


def keystream(key: bytes, count: int) -> bytes:
    """AES-256 of the counters 0, 1, .. as 16 bytes, most significant first."""
    counters = b"".join(i.to_bytes(16, "big") for i in range(-(-count // 16)))
    return Cipher(AES256(key), ECB()).encryptor().update(counters)[:count]


def word_bytes(bits: int) -> int:
    return 2 if bits == 16 else 4 if bits <= 32 else 8


def mask(key: bytes, count: int, bits: int) -> list[int]:
    """A key's mask: `count` numbers."""
    size = word_bytes(bits)
    stream = keystream(key, count * size)
    return [int.from_bytes(stream[i * size : (i + 1) * size], "little") % 2**bits for i in range(count)]


def agree(private: bytes, public: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))


def public_of(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def identity_of(private: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def sign(private: bytes, payload: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(private).sign(payload)


def shares(secret: bytes, places: list[int], threshold: int, randomness: bytes) -> list[bytes]:
    """Values of the polynomial whose constant is the secret and whose other coefficients come 48 bytes each."""
    coefficients = [int.from_bytes(secret, "little")]
    for i in range(threshold - 1):
        coefficients.append(int.from_bytes(randomness[48 * i : 48 * i + 48], "little") % P)
    return [
        (sum(c * pow(x, e, P) for e, c in enumerate(coefficients)) % P).to_bytes(33, "little") for x in places
    ]


def interpolate(points: dict[int, bytes]) -> int:
    """The value at 0 of the polynomial of least degree through the points."""
    total = 0
    for x, y in points.items():
        numerator, denominator = 1, 1
        for other in points:
            if other != x:
                numerator = numerator * -other % P
                denominator = denominator * (x - other) % P
        total += int.from_bytes(y, "little") * numerator * pow(denominator, P - 2, P)
    return total % P


def complete(devices: int, adversarial: float, threat: str) -> tuple[int, int]:
    """Degree and threshold of the complete graph."""
    degree, against = devices - 1, int(Decimal(str(adversarial)) * devices)
    if threat == "semi_malicious":
        against = math.ceil((against + degree - 1.25) / 2)
    return degree, max(against + 1, 2)


# -- a session --------------------------------------------------------------------------------------------


def context_of(case: dict[str, Any]) -> bytes:
    terms = {
        "plan": bytes.fromhex(case["plan"]),
        "length": case["length"],
        "modulus_bits": case["modulus_bits"],
        "fewest": case["fewest"],
        "most": case["most"],
        "threat": case["threat"],
        "adversarial_rate": float(case["adversarial_rate"]),
        "dropout_rate": float(case["dropout_rate"]),
    }
    model, previous = bytes.fromhex(case["model"]), bytes.fromhex(case.get("previous", ""))
    history = [previous] if previous else []
    return digest("context", digest("terms", pack(terms)), struct.pack("<Q", case["round"]), model, *history)


def history_of(case: dict[str, Any]) -> list[str]:
    """The heads of a history after each thing that happened, and the payload of the last one's signature."""
    head, heads = bytes.fromhex(case["run"]), []
    for kind, *parts in case["links"]:
        head = digest("history", head, kind.encode(), *map(bytes.fromhex, parts))
        heads.append(head.hex())
    return [*heads, digest("attested", context_of(case["session"]), head).hex()]


def session(case: dict[str, Any]) -> dict[str, Any]:
    """All that is said in a session whose devices all stay, but for one that may never send its input.

    Args:
        case: the terms, `round`, `model`, `beacon`, and of each device `identity`, `root_secret` and `vector`;
            `silent` is the number of the device that sends no input, or None. There may be a `dispute`: lists of
            numbers, `garbage` (sealer, receiver), `sorry` (sealers of garbage that disclose shares after all) and
            `liars` (complainer, sealer); who complains without a reason says nothing more.
    """
    context, bits = context_of(case), case["modulus_bits"]
    modulus, count = 2**bits, len(case["devices"])
    beacon = bytes.fromhex(case["beacon"])
    adverts, secrets = [], []
    for device in case["devices"]:
        signing, secret = bytes.fromhex(device["identity"]), bytes.fromhex(device["root_secret"])
        own = {
            name: derive(secret, b"", name.encode()) for name in ("encryption", "masking", "seed", "nonce")
        }
        own |= {"signing": signing, "root": secret}
        fields = [
            identity_of(signing),
            public_of(own["encryption"]),
            public_of(own["masking"]),
            own["nonce"],
            digest("commitment", own["seed"]),
        ]
        payload = digest("advertise", context, *fields)
        fields.append(sign(signing, payload))
        adverts.append((digest("advert", context, payload, fields[5]), ["advertise", *fields]))
        secrets.append(own)

    # Index in the roster <-> number in the case.
    numbers = sorted(range(count), key=lambda i: adverts[i][0])
    hashes = [adverts[i][0] for i in numbers]
    listed = [adverts[i][1] for i in numbers]
    who = [secrets[i] for i in numbers]
    root = digest("roster", context, beacon, *hashes)
    degree, threshold = complete(count, case["adversarial_rate"], case["threat"])
    key = derive(root + beacon, root, b"ring")
    order = sorted(range(count), key=lambda i: hashlib.sha256(key + hashes[i]).digest())
    near = [[order[(order.index(i) + step) % count] for step in range(1, count)] for i in range(count)]

    def envelope(i: int, j: int, mine: int, other: int) -> bytes:
        agreed = agree(who[mine]["encryption"], listed[other][2])
        return derive(agreed, root, b"envelope", context, struct.pack("<Q", i), struct.pack("<Q", j))

    plain, sealed = [], []
    for i in range(count):
        drawn = {}
        for name in ("seed", "masking"):
            stream = keystream(derive(who[i]["root"], b"", b"shares", name.encode()), (threshold - 1) * 48)
            drawn[name] = shares(who[i][name], list(range(1, degree + 1)), threshold, stream)
        plain.append(drawn)
        sealed.append(
            [
                AESGCM(envelope(i, j, i, j)).encrypt(
                    bytes(12), drawn["seed"][place] + drawn["masking"][place], root
                )
                for place, j in enumerate(near[i])
            ]
        )
    dispute = case.get("dispute", {"garbage": [], "sorry": [], "liars": []})
    at = [numbers.index(i) for i in range(count)]
    garbage = {(at[i], at[j]) for i, j in dispute["garbage"]}
    lies = {(at[i], at[j]) for i, j in dispute["liars"]}
    for i, j in garbage:
        sealed[i][near[i].index(j)] = bytes([i]) * 82
    check = [
        int.from_bytes(word, "little") % modulus
        for word in _cut(
            keystream(digest("check", context), -(-64 // bits) * word_bytes(bits)), word_bytes(bits)
        )
    ]
    silent = None if case["silent"] is None else numbers.index(case["silent"])
    complained = {(j, i) for i, j in garbage} | lies  # who, of whom
    accused = {j for _, j in complained}
    barred = {i for i, _ in garbage} - {at[i] for i in dispute["sorry"]}
    concerned = set(range(count)) - barred if barred else {i for i, _ in complained}
    alive = {i for i in range(count) if i != silent} - barred - {i for i, _ in lies}
    text: list[dict[str, bytes]] = [{} for _ in range(count)]
    received: list[dict[str, bytes]] = [{} for _ in range(count)]
    holders, survivors = bitmap(set(range(count)) - barred, count), bitmap(alive, count)
    agreed_on = digest("survivors", context, root, survivors)
    signatures = {i: sign(who[i]["signing"], agreed_on) for i in alive}
    number = [struct.pack("<Q", i) for i in range(count)]
    for i in range(count):
        signing, seed = who[i]["signing"], who[i]["seed"]
        text[i]["advertise"] = pack(listed[i])
        received[i]["roster"] = pack(["roster", b"".join(hashes), beacon, [listed[j] for j in near[i]]])
        payload = digest("shares", context, root, number[i], *sealed[i])
        text[i]["shares"] = pack(["shares", root, i, sealed[i], sign(signing, payload)])
        entries = [sealed[j][near[j].index(i)] for j in near[i]]
        received[i]["mailbox"] = pack(["mailbox", root, entries])

    complaints = {
        (i, j): sign(
            who[i]["signing"],
            digest("complaint", context, root, number[i], number[j], sealed[j][near[j].index(i)]),
        )
        for i, j in complained
    }
    disclosures = {}
    for i, j in complained:
        if j not in barred:
            place = near[j].index(i)
            pair = plain[j]["seed"][place] + plain[j]["masking"][place]
            payload = digest("disclosure", context, root, number[j], number[i], pair)
            disclosures[j, i] = pair + sign(who[j]["signing"], payload)
    for i in range(count):
        signing = who[i]["signing"]
        if any(one == i for one, _ in complained):
            of = [complaints.get((i, j), b"") for j in near[i]]
            payload = digest("complaints", context, root, number[i], *of)
            text[i]["complaint"] = pack(["complaint", root, i, of, sign(signing, payload)])
        if i in accused:
            received[i]["accusation"] = pack(
                ["accusation", root, [complaints.get((j, i), b"") for j in near[i]]]
            )
        if i in accused - barred:
            to = [disclosures.get((i, j), b"") for j in near[i]]
            payload = digest("disclosures", context, root, number[i], *to)
            text[i]["disclosure"] = pack(["disclosure", root, i, to, sign(signing, payload)])
        if complained and i in concerned:
            out = bitmap({place for place, j in enumerate(near[i]) if j in barred}, degree)
            delivered = [disclosures.get((j, i), b"") for j in near[i]]
            received[i]["settlement"] = pack(["settlement", root, out, delivered])

    for i in sorted(alive):
        signing, seed = who[i]["signing"], who[i]["seed"]
        total = [*case["devices"][numbers[i]]["vector"], *check]
        keys = [(derive(seed, root, b"self", context), 1)]
        for j in near[i]:
            if j in barred:
                continue
            shared = agree(who[i]["masking"], listed[j][3])
            ends = struct.pack("<QQ", min(i, j), max(i, j))
            pair = derive(shared, root, b"mask", context, ends[:8], ends[8:])
            keys.append((pair, 1 if i < j else -1))
        for mask_key, sign_of in keys:
            noise = mask(mask_key, len(total), bits)
            total = [(a + sign_of * b) % modulus for a, b in zip(total, noise, strict=True)]
        vector = bits_of(total, bits)
        out = [bitmap({place for place, j in enumerate(near[i]) if j in barred}, degree)] if barred else []
        payload = digest("masked_input", context, root, number[i], vector, *out)
        text[i]["masked_input"] = pack(["masked_input", root, i, vector, sign(signing, payload)])
        received[i]["survivors"] = pack(["survivors", root, survivors])
        text[i]["consistency"] = pack(["consistency", root, i, signatures[i]])
        received[i]["signatures"] = pack(
            ["signatures", root, survivors, [signatures.get(j, b"") for j in near[i]]]
        )
        given = [
            plain[j]["seed" if j in alive else "masking"][near[j].index(i)] if j not in barred else b""
            for j in near[i]
        ]
        payload = digest("unmask", context, root, number[i], *given)
        text[i]["unmask"] = pack(["unmask", root, i, given, sign(signing, payload)])
    columns = zip(*(case["devices"][numbers[i]]["vector"] for i in alive), strict=True)
    result = [sum(column) % modulus for column in columns]
    return {
        "context": context.hex(),
        "root": root.hex(),
        "threshold": threshold,
        "check": check,
        "sum": result,
        "result": digest("result", context, root, holders, survivors, bits_of(result, bits)).hex(),
        "said": [{k: v.hex() for k, v in text[numbers.index(i)].items()} for i in range(count)],
        "heard": [{k: v.hex() for k, v in received[numbers.index(i)].items()} for i in range(count)],
    }


def _cut(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]
