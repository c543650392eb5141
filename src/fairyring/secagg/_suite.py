"""The cryptographic primitives, each use separated from all others by a name of its own.

X25519 (RFC 7748), Ed25519 (RFC 8032), HKDF-SHA256 (RFC 5869), AES-256-GCM, SHA-256, from `cryptography`. What is
hashed, signed or derived includes its purpose, so that nothing made for one purpose can pass for another.
"""

import hashlib
from collections.abc import Iterable

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

PROTOCOL = b"fairyring/masked"
KEY_BYTES = 32
SIGNATURE_BYTES = 64
TAG_BYTES = 16
# Every AES-GCM key here encrypts one message, ever, so the nonce need not differ.
_NONCE = bytes(12)
_JOINED = 4096  # longer parts are hashed without being copied
_P = 2**255 - 19
# Every encoding of the points with which any key agrees on zero: points of order 1, 2, 4 and 8, on the curve or its twist.
_LOW_ORDER = {
    0,
    1,
    0x00B8495F16056286FDB1329CEB8D09DA6AC49FF1FAE35616AEB8413B7C7AEBE0,
    0x57119FD0DD4E22D8868E1C58C45C44045BEF839C55B1D0B1248C50A3BC959C5F,
    _P - 1,
    _P,
    _P + 1,
}


def digest(purpose: str, *parts: bytes | memoryview) -> bytes:
    """SHA-256 of `parts` for a purpose, 32 bytes. Each part is preceded by its length."""
    state = hashlib.sha256()
    pieces: list[bytes | memoryview] = [PROTOCOL, b"/", purpose.encode(), b"\0"]
    for part in parts:
        pieces.append(len(part).to_bytes(8, "little"))
        if len(part) > _JOINED:
            state.update(b"".join(pieces))
            state.update(part)
            pieces = []
        else:
            pieces.append(part)
    state.update(b"".join(pieces))
    return state.digest()


def derive(secret: bytes, salt: bytes, *info: bytes) -> bytes:
    """HKDF-SHA256 of a secret, 32 bytes; each part of `info` is preceded by its length, as in `digest`."""
    joined = PROTOCOL + b"".join(len(part).to_bytes(8, "little") + part for part in info)
    return HKDF(SHA256(), KEY_BYTES, salt, joined).derive(secret)


def self_mask(seed: bytes, root: bytes, context: bytes) -> bytes:
    """The key of a device's own mask."""
    return derive(seed, root, b"self", context)


def pair_mask(agreed: bytes, root: bytes, context: bytes, one: int, other: int) -> bytes:
    """The key of the mask that the devices `one` and `other`, by their indices, share.

    The agreed secret does not say whose keys it came from: from any key, anyone can make twins with other bytes that agree
    on the same secret. Without the two indices, a device with the twin of a neighbour's key would share that neighbour's
    masks with everyone around, and could cancel them where one is added and the other subtracted.
    """
    ends = (end.to_bytes(8, "little") for end in sorted((one, other)))
    return derive(agreed, root, b"mask", context, *ends)


class KeyPair:
    """An X25519 key pair.

    Args:
        private: the 32 bytes of its private key.
    """

    def __init__(self, private: bytes) -> None:
        # Kept as an object: loading a key computes its public half, which costs as much as a key agreement.
        self._key = X25519PrivateKey.from_private_bytes(private)
        self.public = self._key.public_key().public_bytes_raw()

    def agree(self, public: bytes) -> bytes:
        """The secret shared with the owner of another public key, 32 bytes.

        Raises:
            ValueError: `public` is a point of low order, with which any key agrees on a secret that everyone knows.
        """
        return self._key.exchange(X25519PublicKey.from_public_bytes(public))

    def __repr__(self) -> str:
        return f"KeyPair({self.public.hex()[:8]})"


def low_order(public: bytes) -> bool:
    """Whether an X25519 public key is a point of low order; its highest bit is ignored."""
    return int.from_bytes(public, "little") & ((1 << 255) - 1) in _LOW_ORDER


def verified(identity: bytes, signature: bytes, payload: bytes) -> bool:
    """Whether `signature` is a signature of `payload` by the Ed25519 key `identity`."""
    try:
        Ed25519PublicKey.from_public_bytes(identity).verify(signature, payload)
    except (InvalidSignature, ValueError):
        return False
    return True


def seal(key: bytes, plaintext: bytes, bound_to: bytes) -> bytes:
    """AES-256-GCM under a key that is never used again; `bound_to` is authenticated with it."""
    return AESGCM(key).encrypt(_NONCE, plaintext, bound_to)


def unseal(key: bytes, ciphertext: bytes, bound_to: bytes) -> bytes | None:
    """The inverse of `seal`; None if the ciphertext or `bound_to` was changed."""
    try:
        return AESGCM(key).decrypt(_NONCE, ciphertext, bound_to)
    except InvalidTag:
        return None


def bitmap(members: Iterable[int], count: int) -> bytes:
    """A set of integers below `count` as bits, least significant first."""
    bits = bytearray(-(-count // 8))
    for member in members:
        bits[member >> 3] |= 1 << (member & 7)
    return bytes(bits)


def members(bits: bytes, count: int) -> list[int] | None:
    """The integers in a bitmap, ascending; None if it has the wrong length or bits past `count`."""
    if len(bits) != -(-count // 8) or (count % 8 and bits[-1] >> (count % 8)):
        return None
    return [place for place in range(count) if bits[place >> 3] >> (place & 7) & 1]
