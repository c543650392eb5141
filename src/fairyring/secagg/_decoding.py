"""Recovering a secret when some shares are wrong: shares form a Reed-Solomon code, whose errors can be located.

Gao, "A new algorithm for decoding Reed-Solomon codes" (2003). Polynomials are lists of coefficients, lowest first,
without trailing zeros. Timing may depend on the secret: only the server runs this, on secrets it is about to know.
"""

from collections.abc import Mapping
from typing import NamedTuple

from fairyring.secagg.shamir import PRIME, SECRET_BYTES, is_share

Polynomial = list[int]


class Decoded(NamedTuple):
    """A secret, and the places whose shares do not belong to it."""

    secret: bytes
    wrong: frozenset[int]


def decode(shares: Mapping[int, bytes], threshold: int) -> Decoded | None:
    """The secret that all but a few shares agree on.

    It is found if at most `(len(shares) - threshold) // 2` shares are wrong. A share that is not an element of the field
    counts as half a wrong one.

    Args:
        shares: the shares by place.
        threshold: number of shares that determine the secret.

    Returns:
        None if no secret is close enough. Whether it is the right secret must be checked against a commitment.
    """
    points = {
        place: int.from_bytes(share, "little") for place, share in sorted(shares.items()) if is_share(share)
    }
    if len(points) < threshold:
        return None
    vanishing: Polynomial = [1]
    for x in points:
        vanishing = _times_root(vanishing, x)
    # The extended Euclidean algorithm on the polynomial that vanishes at all points and the one through all of them,
    # stopped half way.
    above, here = vanishing, _through(points)
    factor_above, factor = [], [1]
    while 2 * (len(here) - 1) >= len(points) + threshold:
        quotient, remainder = _divided(above, here)
        above, here = here, remainder
        factor_above, factor = factor, _less(factor_above, _product(quotient, factor))
    polynomial, rest = _divided(here, factor)
    if rest or len(polynomial) > threshold:
        return None
    secret = polynomial[0] if polynomial else 0
    if secret >> (8 * SECRET_BYTES):
        return None
    right = {x for x, y in points.items() if _value(polynomial, x) == y}
    return Decoded(secret.to_bytes(SECRET_BYTES, "little"), frozenset(shares.keys() - right))


def _through(points: Mapping[int, int]) -> Polynomial:
    """The polynomial of lowest degree through all points, by Newton's divided differences."""
    places, values = list(points), list(points.values())
    inverse = {d: pow(d, -1, PRIME) for d in range(1, places[-1] - places[0] + 1)}
    for order in range(1, len(places)):
        for i in range(len(places) - 1, order - 1, -1):
            values[i] = (values[i] - values[i - 1]) * inverse[places[i] - places[i - order]] % PRIME
    polynomial: Polynomial = []
    for place, value in zip(reversed(places), reversed(values), strict=True):
        polynomial = _times_root(polynomial, place)
        polynomial[:1] = [(polynomial[0] + value) % PRIME] if polynomial else [value]
    return _trimmed(polynomial)


def _times_root(polynomial: Polynomial, root: int) -> Polynomial:
    """A polynomial times `x - root`."""
    if not polynomial:
        return []
    shifted = [0, *polynomial]
    return [(a - root * b) % PRIME for a, b in zip(shifted, [*polynomial, 0], strict=True)]


def _divided(a: Polynomial, b: Polynomial) -> tuple[Polynomial, Polynomial]:
    """Quotient and remainder."""
    rest, scale = list(a), pow(b[-1], -1, PRIME)
    quotient = [0] * max(len(a) - len(b) + 1, 0)
    for at in range(len(quotient) - 1, -1, -1):
        quotient[at] = times = rest[at + len(b) - 1] * scale % PRIME
        for i, coefficient in enumerate(b):
            rest[at + i] = (rest[at + i] - times * coefficient) % PRIME
    return _trimmed(quotient), _trimmed(rest)


def _product(a: Polynomial, b: Polynomial) -> Polynomial:
    product = [0] * (len(a) + len(b) - 1) if a and b else []
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            product[i + j] += x * y
    return _trimmed([value % PRIME for value in product])


def _less(a: Polynomial, b: Polynomial) -> Polynomial:
    size = max(len(a), len(b))
    padded = ([*one, *[0] * (size - len(one))] for one in (a, b))
    return _trimmed([(x - y) % PRIME for x, y in zip(*padded, strict=True)])


def _trimmed(polynomial: Polynomial) -> Polynomial:
    while polynomial and not polynomial[-1]:
        polynomial.pop()
    return polynomial


def _value(polynomial: Polynomial, x: int) -> int:
    value = 0
    for coefficient in reversed(polynomial):
        value = value * x + coefficient
    return value % PRIME
