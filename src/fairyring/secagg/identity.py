"""Devices' identities, and which of them may take part."""

from collections.abc import Iterable
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


class Identity:
    """A device's long-term Ed25519 key pair.

    Args:
        private: the 32 bytes of its private key.
    """

    def __init__(self, private: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(private)
        self.public = self._key.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> "Identity":
        """A new identity, from the operating system's entropy."""
        return cls(Ed25519PrivateKey.generate().private_bytes_raw())

    def sign(self, payload: bytes) -> bytes:
        """A signature, 64 bytes; the same for the same payload."""
        return self._key.sign(payload)

    def private_bytes(self) -> bytes:
        """The private key, 32 bytes; store it where only this device can read it."""
        return self._key.private_bytes_raw()

    def __repr__(self) -> str:
        return f"Identity({self.public.hex()[:8]})"


class Policy(Protocol):
    """Which devices may take part in a session."""

    def admits(self, identity: bytes) -> bool:
        """Whether the device with this public key may take part."""
        ...


class Anyone:
    """Every key may take part: nothing stops one party from running many devices."""

    def admits(self, identity: bytes) -> bool:
        return True


class Enrolled:
    """Only keys on a list may take part."""

    def __init__(self, identities: Iterable[bytes]) -> None:
        self._identities = frozenset(identities)

    def admits(self, identity: bytes) -> bool:
        return identity in self._identities
