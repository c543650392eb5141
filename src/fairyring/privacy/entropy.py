"""Randomness that protects people: from the operating system, expanded with SHA-256 and AES.

A root of 32 bytes comes from the operating system. The keys of a run are derived from it, one per address, and a key is
expanded to words with AES-256-CTR. A key is used for one vector only: two releases with the same noise would reveal their
difference.

The generators of NumPy and JAX are not used here: they are designed to pass statistical tests, not to hide their state from
an attacker.
"""

import hmac
import os

import numpy as np

from fairyring.core.errors import PrivacyError
from fairyring.secagg.keystream import random_bytes

KEY_BYTES = 32


def fresh() -> bytes:
    """32 bytes from the operating system."""
    return os.urandom(KEY_BYTES)


def derive(root: bytes, *address: int | str) -> bytes:
    """The 32-byte key that belongs to an address under a root.

    HMAC-SHA256 of the address, a pseudorandom function: to anyone who does not know the root, keys of different addresses
    are independent, and no key reveals anything about the root or another key. Each part of the address is encoded with its
    type and length, so `(1, 23)`, `(12, 3)` and `("1", 23)` have different keys.

    Args:
        root: 32 bytes.
        address: what the key is for, such as `("noise", round)`.

    Raises:
        PrivacyError: `root` does not have 32 bytes.
    """
    pieces: list[bytes] = []
    for part in address:
        if isinstance(part, str):
            kind, data = b"s", part.encode()
        else:
            kind, data = b"i", part.to_bytes(part.bit_length() // 8 + 1, "little", signed=True)
        pieces += (kind, len(data).to_bytes(8, "little"), data)
    return hmac.digest(require_key(root), b"".join(pieces), "sha256")


def words(key: bytes, count: int) -> np.ndarray:
    """The first `count` 64-bit words of a key's keystream: uint64 `[count]`, read-only.

    Raises:
        PrivacyError: `key` does not have 32 bytes.
    """
    return np.frombuffer(random_bytes(require_key(key), 8 * count), "<u8").astype(np.uint64, copy=False)


def require_key(key: bytes) -> bytes:
    """`key`, if it has 32 bytes.

    Raises:
        PrivacyError: it does not.
    """
    if not isinstance(key, bytes) or len(key) != KEY_BYTES:
        # Only the size is reported: the value may be most of a secret.
        given = f"{len(key)} bytes" if isinstance(key, bytes) else f"an object of type {type(key).__name__}"
        raise PrivacyError(
            "key",
            given=given,
            expected=f"{KEY_BYTES} bytes",
            do="Take one from fairyring.privacy.entropy.fresh() or derive(root, ...).",
        )
    return key
