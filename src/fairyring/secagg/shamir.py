"""Shamir's secret sharing (1979) of 32-byte secrets, over the prime field of 2^256 + 297 elements.

Any 32 bytes are an element; a share is one too, and takes 33 bytes. Arithmetic is on Python's integers, whose time
depends on the numbers: shares are made and joined where nobody else measures.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

PRIME = (1 << 256) + 297
SECRET_BYTES = 32
SHARE_BYTES = 33
# Random bytes for a coefficient: reduced modulo the prime, they are uniform to within 2^-128.
COEFFICIENT_BYTES = 48


def share(secret: bytes, places: Sequence[int], threshold: int, randomness: bytes) -> list[bytes]:
    """Shares of a secret for the holders at `places`, any `threshold` of which give it back.

    Args:
        secret: 32 bytes.
        places: distinct numbers above 0, one a holder.
        threshold: how many shares are needed, 1 to `len(places)`.
        randomness: `(threshold - 1) * COEFFICIENT_BYTES` uniform bytes, never used for anything else.
    """
    size = COEFFICIENT_BYTES
    coefficients = [
        int.from_bytes(randomness[i * size : (i + 1) * size], "little") % PRIME for i in range(threshold - 1)
    ]
    descending = [*reversed(coefficients), int.from_bytes(secret, "little")]
    shares = []
    for place in places:
        value = 0
        for coefficient in descending:
            # Reduced once at the end: places are small, so the number stays short.
            value = value * place + coefficient
        shares.append((value % PRIME).to_bytes(SHARE_BYTES, "little"))
    return shares


def is_share(data: bytes) -> bool:
    """Whether bytes are an element of the field, as every share is."""
    return len(data) == SHARE_BYTES and int.from_bytes(data, "little") < PRIME


def reconstruct(shares: Mapping[int, bytes]) -> bytes | None:
    """The secret of shares by their places, of which there must be at least as many as the threshold.

    Returns:
        The 32 bytes, or None where the shares are not of one secret: what comes out is no secret, or a share is not
        below the prime. That what comes out is the right secret is for a commitment to tell.
    """
    places = tuple(sorted(shares))
    values = [int.from_bytes(shares[place], "little") for place in places]
    if any(value >= PRIME for value in values):
        return None
    secret = sum(b * v for b, v in zip(_basis(places), values, strict=True)) % PRIME
    return secret.to_bytes(SECRET_BYTES, "little") if secret >> 256 == 0 else None


@lru_cache(maxsize=4096)
def _basis(places: tuple[int, ...]) -> tuple[int, ...]:
    """Lagrange's basis at 0: for each place the product of `x / (x - place)` over the others."""
    lower = []
    for place in places:
        product = place
        for other in places:
            if other != place:
                product *= other - place
        lower.append(product % PRIME)
    # One inversion for all: the inverse of the product, and partial products from either end.
    before = [1]
    for value in lower:
        before.append(before[-1] * value % PRIME)
    inverse = pow(before[-1], -1, PRIME)
    inverses = []
    for value, partial in zip(reversed(lower), reversed(before[:-1]), strict=True):
        inverses.append(inverse * partial % PRIME)
        inverse = inverse * value % PRIME
    upper = 1
    for place in places:
        upper = upper * place % PRIME
    return tuple(upper * value % PRIME for value in reversed(inverses))
