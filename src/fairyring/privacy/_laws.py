"""The distributions of integer noise: probabilities as integers, with far more digits than a float has.

Only integers and `decimal` are used, whose results are defined to the last digit. So the tables made from these numbers,
and with them the noise of a key, are the same on every machine.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from itertools import count

import numpy as np

FRACTION = 256
ONE = 1 << FRACTION
# Numbers less likely than 2^-120 times zero are left out: beyond 12.9 standard deviations for the Gaussians, further
# out for Skellam. Their total mass is below 2^-118.
CUT = 120
# Terms of a series below this do not matter to a table of 128 bits.
_NEGLIGIBLE = ONE >> 160
_DECIMAL = Context(prec=100)

Ratio = Callable[[np.ndarray, np.ndarray], np.ndarray]


def fixed_exp(exponent: Fraction) -> int:
    """`exp(-exponent)` in units of `1 / ONE`."""
    quotient = _DECIMAL.divide(Decimal(exponent.numerator), Decimal(exponent.denominator))
    return int(_DECIMAL.multiply(_DECIMAL.exp(_DECIMAL.minus(quotient)), Decimal(ONE)))


@dataclass(frozen=True)
class DiscreteGaussian:
    """`P(k)` in proportion to `exp(-k^2 / (2 sigma^2))` (Canonne, Kamath, Steinke 2020, definition 1)."""

    sigma: float

    def profile(self, stride: int) -> list[int]:
        """Weights of 0, stride, 2 stride, ...: falling, the last one below `2^-CUT` times the first."""
        ratio = fixed_exp(self._exponent(stride))
        growth = ratio * ratio >> FRACTION
        weight, weights = ONE, [ONE]
        while weight >= ONE >> CUT:
            weight = weight * ratio >> FRACTION
            ratio = ratio * growth >> FRACTION
            weights.append(weight)
        return weights

    def weight(self, k: int) -> int:
        """The weight of one integer, on the scale of `profile`."""
        return fixed_exp(self._exponent(k))

    def ratio(self) -> Ratio:
        """A function of integers `k` and `inner`: the ratio of their weights, as floats.

        Its relative error is below 2^-44 if `|inner| <= |k|` and both are within the profile.
        """
        scale = -0.5 / self.sigma**2

        def ratio(k: np.ndarray, inner: np.ndarray) -> np.ndarray:
            # The difference of squares is exact in integers; in floats it would cancel.
            return np.exp((k * k - inner * inner) * scale)

        return ratio

    def _exponent(self, k: int) -> Fraction:
        return Fraction(k * k) / (2 * Fraction(self.sigma) ** 2)


@dataclass(frozen=True)
class RoundedGaussian:
    """`P(k) = Phi((k + 1/2) / sigma) - Phi((k - 1/2) / sigma)`.

    With `x = k / sigma` and `h = 1 / (2 sigma)`, this is `exp(-x^2/2)` times the mean of `exp(x t - t^2/2)` over t in
    `[-h, h]`. That mean is the sum over even n of `He_n(x) h^n / (n! (n + 1))`, with Hermite polynomials `He_n`.
    """

    sigma: float

    def profile(self, stride: int) -> list[int]:
        """Weights of 0, stride, 2 stride, ...: falling, the last one below `2^-CUT` times the first."""
        square = self._square()
        weights: list[int] = []
        for place, weight in enumerate(DiscreteGaussian(self.sigma).profile(stride)):
            weights.append(weight * _spread(place * stride, square) >> FRACTION)
        # A cell extends half a step towards zero, so its mass falls later than the density at its middle.
        for place in count(len(weights)):
            if weights[-1] < weights[0] >> CUT:
                return weights
            weights.append(self.weight(place * stride))
        raise AssertionError  # pragma: no cover

    def weight(self, k: int) -> int:
        """The weight of one integer, on the scale of `profile`."""
        return DiscreteGaussian(self.sigma).weight(k) * _spread(abs(k), self._square()) >> FRACTION

    def ratio(self) -> Ratio:
        """As `DiscreteGaussian.ratio`, for sigma of at least 500: the omitted terms are below 2^-49."""
        density, sigma = DiscreteGaussian(self.sigma).ratio(), self.sigma
        square = 0.25 / sigma**2

        def spread(k: np.ndarray) -> np.ndarray:
            x2 = (k / sigma) ** 2
            return 1 + (x2 - 1) * square / 6 + (x2 * x2 - 6 * x2 + 3) * square**2 / 120

        def ratio(k: np.ndarray, inner: np.ndarray) -> np.ndarray:
            return density(k, inner) * spread(k) / spread(inner)

        return ratio

    def _square(self) -> int:
        """`h^2`, in units of `1 / ONE`."""
        four = 4 * Fraction(self.sigma) ** 2
        return ONE * four.denominator // four.numerator


def _spread(k: int, square: int) -> int:
    """The series of `RoundedGaussian` at `k >= 0`, in units of `1 / ONE`."""
    slope = 2 * k * square
    before, term, total = ONE, slope, ONE
    for n in count(2):
        # He_n(x) = x He_{n-1}(x) - (n - 1) He_{n-2}(x), each with its h^n / n!.
        before, term = term, ((slope * term - square * before) >> FRACTION) // n
        if n % 2 == 0:
            total += term // (n + 1)
        # From here on, every term is less than half of the larger of the two before it.
        if abs(term) + abs(before) < _NEGLIGIBLE and 2 * (slope + square) < n * ONE:
            return total
    raise AssertionError  # pragma: no cover


@dataclass(frozen=True)
class Skellam:
    """The difference of two Poisson variables of mean `variance / 2` each (Agarwal, Kairouz, Liu 2021, definition 2).

    `P(k) = exp(-variance) I_k(variance)` with modified Bessel functions `I_k`, computed by Miller's downward recurrence. It
    damps the arbitrary start, which is at 16 standard deviations plus 80, where the weight is below 2^-170.
    """

    variance: float

    @property
    def sigma(self) -> float:
        """Standard deviation."""
        return math.sqrt(self.variance)

    def profile(self, stride: int) -> list[int]:
        """Weights of 0, stride, 2 stride, ...: falling, the last one below `2^-CUT` times the first."""
        weights = self._weights()[::stride]
        floor = weights[0] >> CUT
        return weights[: 1 + next(place for place, weight in enumerate(weights) if weight < floor)]

    def weight(self, k: int) -> int:
        """The weight of one integer, on the scale of `profile`."""
        return self._weights()[abs(k)]

    def ratio(self) -> Ratio:
        """As `DiscreteGaussian.ratio`."""
        weights = self._weights()
        floats = np.array([weight / weights[0] for weight in weights])
        return lambda k, inner: floats[np.abs(k)] / floats[np.abs(inner)]

    def _weights(self) -> list[int]:
        exact = Fraction(self.variance)
        above, current = 0, ONE
        weights: list[int] = []
        for k in range(80 + math.ceil(16 * self.sigma), 0, -1):
            weights.append(current)
            above, current = current, above + 2 * k * exact.denominator * current // exact.numerator
        weights.append(current)
        weights.reverse()
        return weights


Law = DiscreteGaussian | RoundedGaussian | Skellam
