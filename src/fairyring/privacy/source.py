"""The noise of a run: integers derived from one secret, addressed by the ledger's reservations.

Noise is drawn here, outside of any compiled program, and is the same in a simulation and on a device. An address is used for
one release only: a round that is run again has a new reservation.

**Correlated noise** of round t is `rint(z_t + p_t)`, where `p_t = sum_{0<j<bands} r_j z_(t-j)` is earlier noise. It is as
private as the matrix mechanism on real numbers, `x_t + sum_j r_j z_(t-j)`, except for the effect of floating point:

- `z_t` is a continuous Gaussian, cut off after 57 binary digits of its standard deviation (`_fine`), and `p_t` is
  computed in float64 and rounded to the same digits, so the sum and its rounding are exact in integers. Truncation and
  rounding are then equivalent to one rounding of the real `z_t` plus integers: what is released is a function of
  `x_t + z_t + p_t`, and each integer is reached from equally many values of `z_t`.
- `p_t` depends only on earlier `z`. It differs from the real sum by e, at most `(bands + 2) 2^-49 sigma`: no number is
  beyond 13 standard deviations, the magnitudes of the weights sum to less than 1, and each product and sum has a relative
  error of 2^-53. Equal releases from neighbouring inputs correspond to `z` and `z + C (x - x' + e - e')`, with C the inverse of
  `r`; a shift that depends on earlier numbers reveals no more than a fixed shift of the largest possible norm (Smith and
  Thakurta 2022, "Fully adaptive composition for Gaussian differential privacy").
- C multiplies a norm by at most `sqrt(pi bands)`, the reciprocal of the sum of r. So the shift of d coordinates in T
  rounds, in standard deviations, exceeds the accounted one by at most `sqrt(pi bands) (bands + 2) 2^-48 sqrt(d T)`:
  with 12 bands 10^-8 for 10^6 coordinates and 10^3 rounds, and 10^-6 for 10^9 and 10^4.
"""

import math
from collections.abc import Mapping

import numpy as np

from fairyring.core.noise import Noise
from fairyring.privacy._fine import digits, fine_gaussian
from fairyring.privacy.correlated import coefficients
from fairyring.privacy.entropy import derive, words
from fairyring.privacy.sampling import discrete_gaussian, rounded_gaussian, skellam

SERVER, SHARE, IDEAL = "server", "share", "ideal"
STEP, BATCH = "step", "batch"
# Numbers mixed at a time: they fit a core's cache.
_BLOCK = 1 << 15


class NoiseSource:
    """Draws the noise of a plan.

    Args:
        noise: the plan's noise.
        root: 32 secret bytes. Anyone who knows them can remove the noise.

    Its repr shows only the mechanism.
    """

    def __init__(self, noise: Noise, root: bytes) -> None:
        self.noise, self._root = noise, root
        self._history: dict[int, np.ndarray] = {}

    def of_server(self, round: int, numbers: Mapping[int, int]) -> np.ndarray:
        """The noise that the server adds to the sum of a round: int64 `[coordinates]`.

        Args:
            round: number of the round, from 1.
            numbers: reservations by round: that of this round and, for correlated noise, of those before it.
        """
        noise = self.noise
        if noise.mechanism == "gaussian":
            return rounded_gaussian(
                noise.sigma, noise.coordinates, derive(self._root, SERVER, numbers[round])
            )
        oldest = max(1, round - noise.bands + 1)
        # Kept by reservation: a round that is run again has another number, and so other noise.
        needed = [numbers[t] for t in range(oldest, round + 1)]
        self._history = {number: z for number, z in self._history.items() if number in needed}
        for number in needed:
            if number not in self._history:
                key = derive(self._root, SERVER, number)
                self._history[number] = fine_gaussian(noise.sigma, noise.coordinates, key)
        return _mixed([self._history[number] for number in needed], noise.bands, digits(noise.sigma))

    def of_client(self, number: int, client: int) -> np.ndarray:
        """One client's share of distributed noise for a reservation: int64 `[coordinates]`."""
        return self._shares(1, derive(self._root, SHARE, number, client))

    def of_clients(self, number: int, clients: int) -> np.ndarray:
        """The sum of so many clients' shares, drawn at once: int64 `[coordinates]`.

        This is exact for Skellam noise. A sum of discrete Gaussians is only nearly one (Kairouz et al. 2021, theorem 3);
        here one draw stands for the sum if shares need not be distinguished.
        """
        return self._shares(clients, derive(self._root, IDEAL, number))

    def missing(self, number: int, shares: int) -> np.ndarray:
        """The noise that the server adds if so many shares are missing: int64 `[coordinates]`."""
        return self._shares(shares, derive(self._root, SERVER, number))

    def of_step(self, number: int, client: int, step: int) -> np.ndarray:
        """The noise that a client adds to the sum of a local step, for a reservation: int64 `[coordinates]`."""
        key = derive(self._root, STEP, number, client, step)
        return rounded_gaussian(self.noise.sigma, self.noise.coordinates, key)

    def batch_of(self, number: int, client: int, step: int, examples: int, rate: float) -> np.ndarray:
        """Indices of a client's examples in a step's batch, by Poisson sampling: int64, ascending.

        A coin is a word of 64 bits. Its probability is `rate` rounded down to a multiple of 2^-64, so never more than is
        accounted for.
        """
        drawn = words(derive(self._root, BATCH, number, client, step), examples)
        least = math.floor(rate * 2.0**64)
        return np.flatnonzero(drawn < np.uint64(least)) if least < 1 << 64 else np.arange(examples)

    def _shares(self, count: int, key: bytes) -> np.ndarray:
        noise = self.noise
        variance = noise.sigma**2 * count / noise.shares
        if noise.mechanism == "skellam":
            return skellam(variance, noise.coordinates, key)
        return discrete_gaussian(variance**0.5, noise.coordinates, key)

    def __repr__(self) -> str:
        return f"NoiseSource({self.noise.mechanism!r})"


def _mixed(white: list[np.ndarray], bands: int, behind: int) -> np.ndarray:
    """The newest vector plus the weighted older ones, rounded to integers: int64 `[coordinates]`.

    Args:
        white: vectors from `_fine`, int64 `[coordinates]` each, the newest last.
        bands: number of coefficients of the noise.
        behind: number of their binary digits after the point.
    """
    *older, newest = white
    weights = coefficients(bands)
    out = np.empty_like(newest)
    for start in range(0, len(newest), _BLOCK):
        part = slice(start, start + _BLOCK)
        past = np.zeros(len(newest[part]), np.float64)
        for place, z in enumerate(older):
            past += weights[len(older) - place] * z[part]
        # Add the newest number in integers: in floats, some results would be reached from more values than others.
        mixed = np.rint(past, out=past).astype(np.int64)
        mixed += newest[part]
        mixed += 1 << (behind - 1)
        np.right_shift(mixed, behind, out=out[part])
    return out
