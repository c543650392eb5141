"""What is signed outside of the secure sum: who signs what, over which bytes, and for how long a request is good.

A request is signed by the device's key over the service it is meant for, method, path, the digest of its body, time and nonce. So a
request cannot be passed to another service, changed, or sent again later. What a signature is for is part of what is signed.
"""

import hashlib
import secrets
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fairyring.core.errors import WireError
from fairyring.secagg.identity import Identity

KEY_BYTES, SIGNATURE_BYTES, NONCE_BYTES = 32, 64, 16
# A request's clock may be off by so many seconds; nonces are remembered for as long.
WINDOW = 300.0
KEY, TIME, NONCE, SIGNATURE = "fairyring-key", "fairyring-time", "fairyring-nonce", "fairyring-signature"


def tagged(purpose: str, *parts: bytes) -> bytes:
    """SHA-256 of `parts` for a purpose, 32 bytes. Each part is preceded by its length."""
    state = hashlib.sha256(b"fairyring/service/" + purpose.encode() + b"\0")
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.digest()


def verified(key: bytes, signature: bytes, payload: bytes) -> bool:
    """Whether `signature` is one of `payload` by the Ed25519 key `key`."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, payload)
    except (InvalidSignature, ValueError):
        return False
    return True


class Signature(NamedTuple):
    """What the headers of a request say of who sent it.

    Attributes:
        key: public key of the device, 32 bytes.
        time: in milliseconds since 1970, on the device's clock.
        nonce: 16 random bytes.
        signature: 64 bytes.
    """

    key: bytes
    time: int
    nonce: bytes
    signature: bytes

    def headers(self) -> dict[str, str]:
        """As headers of a request."""
        return {
            KEY: self.key.hex(),
            TIME: str(self.time),
            NONCE: self.nonce.hex(),
            SIGNATURE: self.signature.hex(),
        }

    @classmethod
    def read(cls, key: str | None, time: str | None, nonce: str | None, signature: str | None) -> "Signature":
        """From the headers of a request.

        Raises:
            WireError: one is missing or malformed.
        """
        given = key, time, nonce, signature
        lengths = 2 * KEY_BYTES, 20, 2 * NONCE_BYTES, 2 * SIGNATURE_BYTES
        fits = [
            text is not None
            and text.isascii()
            and (len(text) == most or (place == 1 and 0 < len(text) <= most))
            for place, (text, most) in enumerate(zip(given, lengths, strict=True))
        ]
        try:
            if not all(fits) or time is None or not time.isdigit():
                raise ValueError
            parts = [bytes.fromhex(text or "") for text in (key, nonce, signature)]
            # `fromhex` skips spaces.
            if [len(part) for part in parts] != [KEY_BYTES, NONCE_BYTES, SIGNATURE_BYTES]:
                raise ValueError
            return cls(parts[0], int(time), parts[1], parts[2])
        except ValueError:
            raise WireError(
                "request",
                given="no signature, or a malformed one",
                expected=f"the headers {KEY}, {TIME}, {NONCE} and {SIGNATURE}",
                do="Sign every request with the key of an enrolled device.",
            ) from None

    def payload(self, service: bytes, method: str, target: str, body: bytes) -> bytes:
        """The bytes that are signed.

        Args:
            service: public key of the service that it is meant for.
            method: such as `POST`.
            target: path and query, as they are sent.
            body: of the request.
        """
        return tagged(
            "request",
            service,
            method.encode(),
            target.encode(),
            hashlib.sha256(body).digest(),
            self.time.to_bytes(8, "little"),
            self.nonce,
        )

    def check(self, service: bytes, method: str, target: str, body: bytes, now: float) -> None:
        """Check that the device signed this request, lately; arguments as for `payload`, and the service's clock in seconds.

        Raises:
            WireError: it did not.
        """
        if abs(self.time / 1000 - now) > WINDOW:
            raise WireError(
                "request",
                given=f"one signed {self.time / 1000 - now:+.0f} s from now",
                expected=f"one signed at most {WINDOW:.0f} s ago",
                do="Set the clock of this device.",
            )
        if not verified(self.key, self.signature, self.payload(service, method, target, body)):
            raise WireError(
                "request",
                given="a signature of something else, or by another key",
                expected="the device's signature of this request, for this service",
                do="Sign service, method, path, body, time and nonce; enrol again if the service has a new key.",
            )


def signed_request(
    identity: Identity, service: bytes, method: str, target: str, body: bytes, now: float
) -> Signature:
    """Sign a request; `now` is in seconds since 1970."""
    unsigned = Signature(
        identity.public, int(now * 1000), secrets.token_bytes(NONCE_BYTES), bytes(SIGNATURE_BYTES)
    )
    return unsigned._replace(signature=identity.sign(unsigned.payload(service, method, target, body)))
