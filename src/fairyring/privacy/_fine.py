"""A Gaussian with 57 binary digits per standard deviation, within 2^-110 of its law.

Correlated noise is a sum of Gaussians with real weights. No sum of integers on the released grid has its law, and a
slightly finer grid is not enough: if one integer comes from five points of the finer grid and its neighbour from six, the
noise prefers the neighbour in every coordinate, and this reveals something about the sum.

A number is drawn in two parts: the nearest integer on a coarse grid with 2^21 or more steps per standard deviation
(`sampling.rounded_gaussian`), and 36 binary digits of its place within that step. The density is nearly constant within a
step, but not exactly. So a place is drawn uniformly and accepted with probability proportional to its density, otherwise
drawn again. The probability of acceptance is above `1 - 15 / 2^21`, so all but seven in a million are accepted without
computing it. The others are decided with decimals of 100 digits and a coin of 156 bits.

**Distance from the law.** If AES-256-CTR is taken as random, the total variation distance per number is below 2^-110. It
is dominated by the coarse part (see `sampling`): with 2^57 places per standard deviation or more, the density at the middle
of a place is its mass to one part in 2^118 on average. The numbers are the same on every machine, and the first numbers of
a key do not depend on how many are drawn.
"""

import math
from fractions import Fraction

import numpy as np

from fairyring.privacy._laws import FRACTION, fixed_exp
from fairyring.privacy.entropy import derive, words
from fairyring.privacy.sampling import LARGEST_SIGMA, rounded_gaussian

# Thirteen standard deviations, plus as much earlier noise, are below 2^63.
_DIGITS, _PLACE = 58, 36
_BLOCK = 1 << 15


def digits(sigma: float) -> int:
    """Number of binary digits after the point in numbers of `fine_gaussian`: `sigma 2^digits` is in `[2^57, 2^58)`."""
    return _DIGITS - math.frexp(sigma)[1]


def fine_gaussian(sigma: float, count: int, key: bytes) -> np.ndarray:
    """A continuous Gaussian, cut off after `digits(sigma)` binary digits: `floor(2^digits z)`.

    Args:
        sigma: standard deviation of `z`, 0.3 to 2^22.
        count: how many numbers.
        key: 32 bytes, never used for anything else.

    Returns:
        int64 `[count]`, of magnitude below 12.95 times 2^58.

    Raises:
        PlanError: `count` is not a whole number from 0.
        PrivacyError: `key` does not have 32 bytes.
    """
    coarse = math.ldexp(math.frexp(sigma)[0], int(math.log2(LARGEST_SIGMA)))
    return floored_gaussian(coarse, _PLACE, count, key)


def floored_gaussian(coarse: float, bits: int, count: int, key: bytes) -> np.ndarray:
    """`floor(z)` of a continuous Gaussian `z` of standard deviation `coarse 2^bits`: int64 `[count]`.

    Args:
        coarse: standard deviation in steps of the coarse grid, 0.3 to 2^22.
        bits: binary digits of a place within a step.
        count: how many numbers.
        key: 32 bytes.
    """
    out = rounded_gaussian(coarse, count, derive(key, "step"))
    # No number is beyond 14 standard deviations and 1, so within a step the exponent falls by less than this; and
    # exp(-x) is at least 1 - x.
    sure = int(max(0.0, 1 - 15 / coarse) * 2.0 ** (64 - bits)) if coarse >= 1 else 0
    place, half = np.uint64((1 << bits) - 1), 1 << (bits - 1)
    for number, start in enumerate(range(0, count, _BLOCK)):
        steps = out[start : start + _BLOCK]
        block = derive(key, "place", number)
        drawn = words(derive(block, "word"), len(steps))
        unsure = np.flatnonzero(drawn >= np.uint64(sure << bits))
        settled = [
            _settled(coarse, bits, int(steps[i]), int(drawn[i]), derive(block, int(i))) for i in unsure
        ]
        steps <<= bits
        steps += (drawn & place).view(np.int64)
        steps -= half
        steps[unsure] = settled
    return out


def _settled(coarse: float, bits: int, step: int, word: int, key: bytes) -> int:
    """A number within a step, by the exact probability.

    The low bits of a word are a place, the rest a coin. The number is that of the first word that is accepted.
    """
    half = 1 << (bits - 1)
    low = (step << bits) - half
    # Twice the middle of the place nearest zero.
    likeliest = 1 if step == 0 else 2 * low + 1 if step > 0 else 2 * (low + 2 * half - 1) + 1
    scale = 8 * (Fraction(coarse) * (1 << bits)) ** 2
    attempt = 0
    while True:
        again, high, rest = (int(each) for each in words(derive(key, attempt), 3))
        word = again if attempt else word
        candidate = low + (word & (2 * half - 1))
        coin = ((word >> bits) << 128) + (high << 64) + rest
        chance = fixed_exp(((2 * candidate + 1) ** 2 - likeliest**2) / scale)
        if coin << (FRACTION - 192 + bits) < chance:
            return candidate
        attempt += 1
