"""Where the noise of a run comes from: whole numbers from one secret, addressed by the ledger's reservation.

The numbers are made here, outside of any compiled program, and are the same in a simulation and on a device. An address
is used for one release, ever: a round that is run again has a reservation of its own.
"""

import math
from collections.abc import Mapping

import numpy as np

from fairyring.core.noise import Noise
from fairyring.privacy.correlated import coefficients
from fairyring.privacy.entropy import derive, words
from fairyring.privacy.sampling import LARGEST_SIGMA, discrete_gaussian, rounded_gaussian, skellam

SERVER, SHARE, IDEAL = "server", "share", "ideal"
STEP, BATCH = "step", "batch"
# Correlated noise is made of numbers on a finer grid than the sum's, and rounded to it at the end.
_FINER = 256.0


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
        finer = min(_FINER, LARGEST_SIGMA / noise.sigma)
        oldest = max(1, round - noise.bands + 1)
        # Kept by reservation: a round that is run again has another number, and other noise.
        wanted = {numbers[t] for t in range(oldest, round + 1)}
        self._history = {number: z for number, z in self._history.items() if number in wanted}
        mixed = np.zeros(noise.coordinates, np.float64)
        weights = coefficients(noise.bands)
        for t in range(oldest, round + 1):
            number = numbers[t]
            if number not in self._history:
                key = derive(self._root, SERVER, number)
                drawn = rounded_gaussian(noise.sigma * finer, noise.coordinates, key)
                self._history[number] = drawn.astype(np.int32)  # twelve times 2^22 is the most there can be
            mixed += (weights[round - t] / finer) * self._history[number]
        return np.rint(mixed).astype(np.int64)

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
