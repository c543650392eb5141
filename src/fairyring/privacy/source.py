"""Where the noise of a run comes from: whole numbers from one secret, addressed by the ledger's reservation.

The numbers are made here, outside of any compiled program, and are the same in a simulation and on a device. An address
is used for one release, ever: a round that is run again has a reservation of its own.

**Correlated noise** of round t is `rint(z_t + p_t)`, where `p_t = sum_{0<j<bands} r_j z_(t-j)` is earlier noise. It is as
private as the matrix mechanism of real numbers, `x_t + sum_j r_j z_(t-j)`, but for what floating point adds:

- `z_t` is a continuous Gaussian, cut off after 57 binary digits of its standard deviation (`_fine`), and `p_t` is
  computed in float64 and rounded to the same digits, so that sum and rounding are exact in integers. Cutting off and
  rounding then are one rounding of the real `z_t` plus whole numbers: what is released is a function of `x_t + z_t + p_t`,
  and each whole number is had from exactly as many digits of `z_t` as any other.
- `p_t` is a function of earlier `z` alone. It is off from the real sum by e, at most `(bands + 2) 2^-49 sigma`: no number
  is beyond 13 standard deviations, the sizes of the weights sum to below 1, and each product and addition errs by one part
  in 2^53. The same releases of neighbouring inputs belong to `z` and `z + C (x - x' + e - e')`, with C the inverse of
  `r`; a shift that depends on earlier numbers tells no more than a fixed one of the largest norm it can have (Smith and
  Thakurta 2022, "Fully adaptive composition for Gaussian differential privacy").
- C multiplies a norm by at most `sqrt(pi bands)`, the reciprocal of the sum of r. So the shift of d coordinates in T
  rounds, in standard deviations, is longer than what is accounted by at most `sqrt(pi bands) (bands + 2) 2^-48 sqrt(d T)`:
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
# Numbers that are mixed at a time: in a core's cache together.
_BLOCK = 1 << 15


class NoiseSource:
    """Draws the noise of a plan.

    Args:
        noise: what the plan's noise stage is.
        root: 32 secret bytes. Who knows them can take the noise off.

    Never shown: its repr tells the mechanism alone.
    """

    def __init__(self, noise: Noise, root: bytes) -> None:
        self.noise, self._root = noise, root
        self._history: dict[int, np.ndarray] = {}

    def of_server(self, round: int, numbers: Mapping[int, int]) -> np.ndarray:
        """What the server adds to the sum of a round: int64 `[coordinates]`.

        Args:
            round: from 1.
            numbers: the reservation of this round and, for correlated noise, of those before it, by round.
        """
        noise = self.noise
        if noise.mechanism == "gaussian":
            return rounded_gaussian(
                noise.sigma, noise.coordinates, derive(self._root, SERVER, numbers[round])
            )
        oldest = max(1, round - noise.bands + 1)
        # Kept by reservation: a round that is run again has another number, and other noise.
        wanted = [numbers[t] for t in range(oldest, round + 1)]
        self._history = {number: z for number, z in self._history.items() if number in wanted}
        for number in wanted:
            if number not in self._history:
                key = derive(self._root, SERVER, number)
                self._history[number] = fine_gaussian(noise.sigma, noise.coordinates, key)
        return _mixed([self._history[number] for number in wanted], noise.bands, digits(noise.sigma))

    def of_client(self, number: int, client: int) -> np.ndarray:
        """One client's share of distributed noise in the release of a reservation: int64 `[coordinates]`."""
        return self._shares(1, derive(self._root, SHARE, number, client))

    def of_clients(self, number: int, clients: int) -> np.ndarray:
        """The sum of so many clients' shares, drawn at once: int64 `[coordinates]`.

        Exact for Skellam noise. The sum of discrete Gaussians is one only nearly (Kairouz et al. 2021, theorem 3);
        here it stands for that sum where no share needs to be told from another.
        """
        return self._shares(clients, derive(self._root, IDEAL, number))

    def missing(self, number: int, shares: int) -> np.ndarray:
        """What the server adds where so many shares are missing: int64 `[coordinates]`."""
        return self._shares(shares, derive(self._root, SERVER, number))

    def of_step(self, number: int, client: int, step: int) -> np.ndarray:
        """What a client adds to the sum of a local step, in the release of a reservation: int64 `[coordinates]`."""
        key = derive(self._root, STEP, number, client, step)
        return rounded_gaussian(self.noise.sigma, self.noise.coordinates, key)

    def batch_of(self, number: int, client: int, step: int, examples: int, rate: float) -> np.ndarray:
        """The places of those examples of a client that are in a step's batch, each by its own coin: int64, ascending.

        A coin is a word of 64 bits; its probability is `rate` rounded down to such bits, so never more than is accounted for.
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
    """The newest of these vectors plus what is left of the older, rounded to whole numbers: int64 `[coordinates]`.

    Args:
        white: int64 `[coordinates]` each, numbers of `_fine`, the newest last.
        bands: of the noise.
        behind: binary digits they have behind the point.
    """
    *older, newest = white
    weights = coefficients(bands)
    out = np.empty_like(newest)
    for start in range(0, len(newest), _BLOCK):
        part = slice(start, start + _BLOCK)
        past = np.zeros(len(newest[part]), np.float64)
        for place, z in enumerate(older):
            past += weights[len(older) - place] * z[part]
        # The newest number in integers: a float would give some whole numbers more of its digits than others.
        whole = np.rint(past, out=past).astype(np.int64)
        whole += newest[part]
        whole += 1 << (behind - 1)
        np.right_shift(whole, behind, out=out[part])
    return out
