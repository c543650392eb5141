"""Shamir's secret sharing (1979) of 32-byte secrets, over the prime field of 2^256 + 297 elements.

Any 32 bytes are an element. A share is an element too, and takes 33 bytes. Arithmetic uses Python's integers, whose timing
depends on their values: do this only where nobody else can measure the time.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

PRIME = (1 << 256) + 297
SECRET_BYTES = 32
SHARE_BYTES = 33
# Random bytes per coefficient: modulo the prime they are uniform to within 2^-128.
COEFFICIENT_BYTES = 48


def share(secret: bytes, places: Sequence[int], threshold: int, randomness: bytes) -> list[bytes]:
    """Shares of a secret for the holders at `places`; any `threshold` of them recover it.

    Args:
        secret: 32 bytes.
        places: distinct integers above 0, one per holder.
        threshold: number of shares needed, 1 to `len(places)`.
        randomness: `(threshold - 1) * COEFFICIENT_BYTES` uniform bytes, used for nothing else.
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
            # Reduced once at the end: places are small, so the integer stays short.
            value = value * place + coefficient
        shares.append((value % PRIME).to_bytes(SHARE_BYTES, "little"))
    return shares


def is_share(data: bytes) -> bool:
    """Whether bytes encode an element of the field, as every share does."""
    return len(data) == SHARE_BYTES and int.from_bytes(data, "little") < PRIME


def reconstruct(shares: Mapping[int, bytes]) -> bytes | None:
    """The secret of the given shares, by place; there must be at least a threshold of them.

    Returns:
        32 bytes, or None if the result does not fit in 32 bytes or a share is not below the prime. Whether it is the right
        secret must be checked against a commitment.
    """
    places = tuple(sorted(shares))
    values = [int.from_bytes(shares[place], "little") for place in places]
    if any(value >= PRIME for value in values):
        return None
    secret = sum(b * v for b, v in zip(_basis(places), values, strict=True)) % PRIME
    return secret.to_bytes(SECRET_BYTES, "little") if secret >> 256 == 0 else None


@lru_cache(maxsize=4096)
def _basis(places: tuple[int, ...]) -> tuple[int, ...]:
    """The Lagrange basis at 0: for each place, the product of `x / (x - place)` over the other places `x`."""
    lower = []
    for place in places:
        product = place
        for other in places:
            if other != place:
                product *= other - place
        lower.append(product % PRIME)
    # One inversion for all: the inverse of the product, and partial products from both ends.
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
