"""A secret from shares of which some are wrong: they are a Reed-Solomon code, and errors in it can be found.

Gao, "A new algorithm for decoding Reed-Solomon codes" (2003). Polynomials are lists of coefficients, lowest first,
without zeros at their end. Like all of Shamir's sharing here it is for a server, which has nothing to hide from itself.
"""

from collections.abc import Mapping
from typing import NamedTuple

from fairyring.secagg.shamir import PRIME, SECRET_BYTES, is_share

Polynomial = list[int]


class Decoded(NamedTuple):
    """A secret, and the places whose shares are not of it."""

    secret: bytes
    wrong: frozenset[int]


def decode(shares: Mapping[int, bytes], threshold: int) -> Decoded | None:
    """The secret that all but a few shares are of.

    It is found if at most `(len(shares) - threshold) // 2` are wrong; a share that is no element of the field counts half.

    Args:
        shares: by their places.
        threshold: of the sharing.

    Returns:
        None where there is none so near. That it is the right secret is for a commitment to tell.
    """
    points = {
        place: int.from_bytes(share, "little") for place, share in sorted(shares.items()) if is_share(share)
    }
    if len(points) < threshold:
        return None
    vanishing: Polynomial = [1]
    for x in points:
        vanishing = _times_root(vanishing, x)
    # Euclid's algorithm on what vanishes at all points and what meets them all, half way.
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
    """The polynomial of least degree that meets all points, after Newton."""
    places, values = list(points), list(points.values())
    inverse = {d: pow(d, -1, PRIME) for d in range(1, places[-1] - places[0] + 1)}
    for order in range(1, len(places)):
        for i in range(len(places) - 1, order - 1, -1):
            values[i] = (values[i] - values[i - 1]) * inverse[places[i] - places[i - order]] % PRIME
    found: Polynomial = []
    for place, value in zip(reversed(places), reversed(values), strict=True):
        found = _times_root(found, place)
        found[:1] = [(found[0] + value) % PRIME] if found else [value]
    return _trimmed(found)


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
    found = [0] * (len(a) + len(b) - 1) if a and b else []
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            found[i + j] += x * y
    return _trimmed([value % PRIME for value in found])


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
