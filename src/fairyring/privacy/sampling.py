"""Integer noise: independent integers of mean zero from a key, within 2^-110 of their law.

All decisions are integer comparisons. Up to a standard deviation of 1024, a number is one draw from a table of all possible
values. Above, it is a draw from a table of cells of width `2^j`, each with the weight of its likeliest number, and a
uniform place in the cell. The place is accepted with probability `weight / likeliest weight`, otherwise drawn again (one in a
thousand is). That probability is at least 0.96 everywhere, so most numbers are accepted without computing it. If it is
computed, floats decide only outside of 2^-40 around the border, so their rounding never matters.

**Distance from the law.** If AES-256-CTR is taken as random, a number's law is within 2^-110 in total variation of the
stated one: the tail cut off beyond 12.9 standard deviations has a mass below 2^-118, weights are rounded to 2^-128 over at
most 2^15 of them, and the numbers behind the weights are correct to 2^-140. So if a release of `d` numbers is
`(epsilon, delta)` with exact noise, it is `(epsilon, delta + (1 + e^epsilon) d 2^-110)` with this noise. For 10^9 numbers
and epsilon 10, that adds 2 * 10^-20 to delta.

**The same everywhere.** Tables are made with integers and decimals, so a key gives the same numbers on every machine and
with every version of NumPy. The first `n` numbers of a key do not depend on how many are drawn.

**Limits.** Time and memory access depend on the numbers drawn: somebody who can measure them on the machine may learn
something about the noise.
"""

from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise

import numpy as np

from fairyring.core.errors import PlanError
from fairyring.privacy._alias import TOTAL_BITS, Alias
from fairyring.privacy._laws import DiscreteGaussian, Law, RoundedGaussian, Skellam
from fairyring.privacy.entropy import derive, require_key, words

SMALLEST_SIGMA = 0.3
LARGEST_SIGMA = 2.0**22
LARGEST_SKELLAM_SIGMA = 2.0**14

# Numbers drawn at a time: their words, cells and borders fit a core's L2 cache, together with the table.
_BLOCK = 1 << 15
# Above, numbers are drawn by cells: this many per standard deviation, or up to twice as many.
_LARGEST_TABLE = 1024.0
_CELLS = 400
# Floats differ from the exact probability by less than 2^-43: they decide if a coin is further from it than this.
_GUARD = 2.0**-40

Words = Callable[..., np.ndarray]


def rounded_gaussian(sigma: float, count: int, key: bytes) -> np.ndarray:
    """A continuous Gaussian, rounded to the nearest integer.

    `P(k) = Phi((k + 1/2) / sigma) - Phi((k - 1/2) / sigma)`. An integer plus this noise equals that integer plus
    continuous Gaussian noise, rounded afterwards, and rounding is post-processing. So for integer vectors, everything that
    holds for the continuous Gaussian mechanism with this sigma holds for this one, also under Poisson sampling and
    composition. No floating-point noise is ever released (see Mironov 2012 for why that matters).

    Args:
        sigma: standard deviation before rounding, 0.3 to 2^22, in steps of the grid; the variance is larger
            by 1/12 for all but the smallest.
        count: how many numbers.
        key: 32 bytes, never used for anything else.

    Returns:
        int64 `[count]`.

    Raises:
        PlanError: `sigma` is out of range, or `count` is not a whole number from 0.
        PrivacyError: `key` does not have 32 bytes.
    """
    _require_sigma("rounded_gaussian sigma", sigma, sigma, LARGEST_SIGMA)
    return _draw(RoundedGaussian(float(sigma)), count, key)


def discrete_gaussian(sigma: float, count: int, key: bytes) -> np.ndarray:
    """The discrete Gaussian (Canonne, Kamath, Steinke 2020, definition 1).

    `P(k)` in proportion to `exp(-k^2 / (2 sigma^2))`. Its variance is at most sigma^2, and nearly that from
    sigma 1 on. A sum of such numbers is nearly, but not exactly, a discrete Gaussian (Kairouz, Liu, Steinke 2021,
    theorem 1).

    Args:
        sigma: the parameter above, 0.3 to 2^22, in steps of the grid.
        count: how many numbers.
        key: 32 bytes, never used for anything else.

    Returns:
        int64 `[count]`.

    Raises:
        PlanError: `sigma` is out of range, or `count` is not a whole number from 0.
        PrivacyError: `key` does not have 32 bytes.
    """
    _require_sigma("discrete_gaussian sigma", sigma, sigma, LARGEST_SIGMA)
    return _draw(DiscreteGaussian(float(sigma)), count, key)


def skellam(variance: float, count: int, key: bytes) -> np.ndarray:
    """The difference of two independent Poisson variables of mean `variance / 2` (Agarwal, Kairouz, Liu 2021,
    definition 2).

    `P(k) = exp(-variance) I_k(variance)`, I_k the modified Bessel function. A sum of such numbers has the
    same kind of law, with the summed variance.

    Args:
        variance: 0.09 to 2^28, in squared steps of the grid.
        count: how many numbers.
        key: 32 bytes, never used for anything else.

    Returns:
        int64 `[count]`.

    Raises:
        PlanError: `variance` is out of range, or `count` is not a whole number from 0.
        PrivacyError: `key` does not have 32 bytes.
    """
    real = isinstance(variance, float | int) and not isinstance(variance, bool) and variance > 0
    _require_sigma(
        "skellam variance", variance, variance**0.5 if real else 0.0, LARGEST_SKELLAM_SIGMA, power=2
    )
    return _draw(Skellam(float(variance)), count, key)


class _Table:
    """Draws from a table of all possible numbers."""

    def __init__(self, law: Law) -> None:
        weights = law.profile(1)[:-1]
        total = 2 * sum(weights) - weights[0]
        half = [(weight << TOTAL_BITS) // total for weight in weights[1:]]
        self.largest = len(half)
        self.alias = Alias([*reversed(half), (1 << TOTAL_BITS) - 2 * sum(half), *half])

    def fill(self, out: np.ndarray, stream: Words) -> None:
        """Write numbers, int64 `[n]`; `stream(count, *address)` returns the words of an address."""
        self.alias.draw(stream(len(out), "cell"), lambda count: stream(count, "more"), out)
        out -= self.largest


class _Cells:
    """Draws a cell from a table, then a place in the cell, which is accepted or drawn again.

    Cell q holds the numbers from `q 2^j` to `(q + 1) 2^j - 1`, and by another random bit `-1 - number` for
    each of them: every number is in one cell, and the weight of `q 2^j` bounds all of them.
    """

    def __init__(self, law: Law) -> None:
        self.law = law
        self.ratio = law.ratio()
        self.shift = int(law.sigma / _CELLS).bit_length() - 1
        weights = law.profile(1 << self.shift)
        total = sum(weights[:-1])
        rest = [(weight << TOTAL_BITS) // total for weight in weights[1:-1]]
        self.alias = Alias([(1 << TOTAL_BITS) - sum(rest), *rest])
        # A second word contains, from its high bits: the coin for acceptance, the place in the cell, the sign.
        self.coin_bits = 63 - self.shift
        # Every number is accepted with at least this probability: the next cell's bound, since weights fall.
        sure = min((outer << self.coin_bits) // inner for inner, outer in pairwise(weights))
        self.sure = np.uint64(sure << 64 - self.coin_bits)

    def fill(self, out: np.ndarray, stream: Words) -> None:
        """Write numbers, int64 `[n]`; `stream(count, *address)` returns the words of an address."""
        pending = self._attempt(out, stream, 0)
        attempt = 0
        while len(pending):
            attempt += 1
            again = np.empty(len(pending), np.int64)
            refused = self._attempt(again, stream, attempt)
            out[pending] = again
            pending = pending[refused]

    def _attempt(self, out: np.ndarray, stream: Words, attempt: int) -> np.ndarray:
        """Write numbers, and return the positions of those that are rejected."""
        self.alias.draw(stream(len(out), "cell", attempt), lambda count: stream(count, "more", attempt), out)
        coins = stream(len(out), "place", attempt)
        places = (coins & np.uint64((2 << self.shift) - 1)).view(np.int64)
        out <<= self.shift + 1
        out |= places
        np.bitwise_and(out, 1, out=places)
        np.negative(places, out=places)
        out >>= 1
        out ^= places
        unsure = np.flatnonzero(coins >= self.sure)
        coins = coins[unsure] >> np.uint64(64 - self.coin_bits)
        accepted = self._accept(out[unsure], coins, lambda count: stream(count, "coin", attempt))
        return unsure[~accepted]

    def _accept(
        self, numbers: np.ndarray, coins: np.ndarray, more: Callable[[int], np.ndarray]
    ) -> np.ndarray:
        """Whether each number is accepted by its coin (of `coin_bits` bits): bool `[n]`."""
        inner = (numbers ^ (numbers >> 63)) >> self.shift << self.shift
        margin = self.ratio(numbers, inner) - coins * 2.0**-self.coin_bits
        accepted = margin > 0
        close = np.flatnonzero(np.abs(margin) < _GUARD)
        for place, low in zip(close, more(len(close)) if len(close) else (), strict=True):
            coin = (int(coins[place]) << 64) + int(low)
            chance = self.law.weight(int(numbers[place])) << self.coin_bits + 64
            accepted[place] = coin * self.law.weight(int(inner[place])) < chance
        return accepted


@lru_cache(maxsize=16)
def _sampler(law: Law) -> _Table | _Cells:
    # A small law takes milliseconds, the widest Skellam half a second and up to 3 MB; a run draws from few
    # laws, often.
    return _Table(law) if law.sigma <= _LARGEST_TABLE else _Cells(law)


def _draw(law: Law, count: int, key: bytes) -> np.ndarray:
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise PlanError(
            "count", given=repr(count), expected="a whole number from 0 on", do="Give the number of draws."
        )
    require_key(key)
    sampler = _sampler(law)
    out = np.empty(count, np.int64)
    for number, start in enumerate(range(0, count, _BLOCK)):
        # Words are addressed, not taken in sequence: a number depends on its position, not on how many are asked
        # for.
        block = derive(key, type(law).__name__, number)
        sampler.fill(
            out[start : start + _BLOCK], lambda n, *address, block=block: words(derive(block, *address), n)
        )
    return out


def _require_sigma(what: str, given: float, sigma: float, largest: float, power: int = 1) -> None:
    real = isinstance(given, float | int) and not isinstance(given, bool)
    low, high = SMALLEST_SIGMA**power, largest**power
    if not real or not SMALLEST_SIGMA <= sigma <= largest:
        raise PlanError(
            what,
            given=repr(given),
            expected=f"a number from {low:g} to {high:g}, in steps of the integer grid",
            do="Choose the scale of the grid so that the noise is in that range.",
        )
