"""Noise correlated over rounds by a banded inverse square root: its coefficients, sensitivity and error.

The noise of round t is `sum_{j<bands} r_j z_{t-j}`, with independent `z`: a matrix mechanism whose strategy `C` is the
inverse of the lower triangular Toeplitz matrix of `r`. Later noise partly cancels earlier noise, so a sum over rounds,
such as a model, has less of it. Kalinin, McKenna, Upadhyay, Lampert: "Back to square roots" (2025), for
the strategy; Kalinin, Lampert: "Banded square root matrix factorization for differentially private model training"
(2024), for its sensitivity.
"""

import math
from functools import lru_cache

import numpy as np

from fairyring.core.errors import PlanError

MAXIMUM_BANDS = 1024  # largest number that `choose_bands` considers: each band is a vector of the model's size, stored or recomputed every round


def coefficients(bands: int) -> np.ndarray:
    """The first coefficients of `sqrt(1 - x)`: `r_0 = 1`, `r_k = r_{k-1} (k - 1.5) / k`.

    Returns:
        float64 `[bands]`; all after the first are negative and sum to above -1.

    Raises:
        PlanError: `bands` is below 1.
    """
    _at_least_one("bands", bands)
    k = np.arange(1, bands)
    return np.concatenate([[1.0], np.cumprod((k - 1.5) / k)])


@lru_cache(maxsize=1024)
def sensitivity(rounds: int, bands: int, times: int, separation: int) -> float:
    """L2 sensitivity of the strategy: how far one device can move `C x` over the first `rounds` rounds.

    The device sends at most a unit vector in each of at most `times` rounds, at least `separation` apart. The
    coefficients of `C`, the inverse series of `r`, are positive and do not increase, so the worst a device can do
    is to send the same vector as early and as often as it may, in rounds 0, separation, 2 separation and so on
    (Kalinin and Lampert 2024, Theorem 2).

    Raises:
        PlanError: an argument is below 1.
    """
    for name, value in (("rounds", rounds), ("times", times), ("separation", separation)):
        _at_least_one(name, value)
    blocks = math.ceil(rounds / separation)
    column = np.zeros(blocks * separation)
    column[:rounds] = _inverse(rounds, bands)
    # Row i: contributions to the i-th stretch of `separation` rounds from all participations so far.
    summed = np.cumsum(column.reshape(blocks, separation), axis=0)
    if times < blocks:
        summed[times:] -= summed[:-times].copy()
    return float(np.linalg.norm(summed.reshape(-1)[:rounds]))


def peak(rounds: int, bands: int, times: int, separation: int) -> float:
    """The largest entry of `C x`: the sensitivity of a second release of one round, under fresh noise.

    Coefficients do not increase, so it is largest if a device takes part as often and as late as it may.

    Raises:
        PlanError: an argument is below 1.
    """
    for name, value in (("rounds", rounds), ("times", times), ("separation", separation)):
        _at_least_one(name, value)
    return float(_inverse(rounds, bands)[::separation][:times].sum())


def noise_error(rounds: int, bands: int) -> float:
    """Root mean square of the noise in the sum of the first t releases, over t = 1 to `rounds`.

    In standard deviations of `z`; independent noise has `bands=1` and `sqrt((rounds + 1) / 2)`. At equal privacy the
    standard deviation of `z` is proportional to `sensitivity`, so strategies are compared by the product of both.

    Raises:
        PlanError: an argument is below 1.
    """
    _at_least_one("rounds", rounds)
    summed = np.cumsum(coefficients(min(bands, rounds)))
    squares = np.full(rounds, summed[-1] ** 2)
    squares[: len(summed)] = summed**2
    # Coefficient j is in the sums of rounds j and later: rounds - j of them.
    return math.sqrt(float(squares @ np.arange(rounds, 0, -1)) / rounds)


@lru_cache(maxsize=256)
def choose_bands(rounds: int, times: int, separation: int) -> int:
    """The number of bands with the smallest error of the sums at equal privacy, at most `MAXIMUM_BANDS`.

    The error falls and then rises with the number of bands. It is computed for numbers in steps of a tenth, then for those
    around the best.

    Raises:
        PlanError: an argument is below 1.
    """

    def error(bands: int) -> float:
        return noise_error(rounds, bands) * sensitivity(rounds, bands, times, separation)

    tried: dict[int, float] = {}
    _at_least_one("rounds", rounds)
    maximum = min(rounds, MAXIMUM_BANDS)
    grid = sorted({min(maximum, math.ceil(1.1**i)) for i in range(1 + math.ceil(math.log(maximum, 1.1)))})
    for bands in grid:
        tried[bands] = error(bands)
    best = grid.index(min(tried, key=lambda bands: tried[bands]))
    low, high = grid[max(0, best - 1)], grid[min(len(grid) - 1, best + 1)]
    while high - low > 2:
        # Golden-section search would save a few evaluations; ternary search is enough between two grid points.
        left, right = low + (high - low) // 3, high - (high - low) // 3
        if error(left) <= error(right):
            high = right
        else:
            low = left
        tried[left], tried[right] = error(left), error(right)
    for bands in range(low, high + 1):
        tried[bands] = error(bands)
    return min(tried, key=lambda bands: (tried[bands], bands))


def _inverse(rounds: int, bands: int) -> np.ndarray:
    """Coefficients of `1 / r(x)`, the first column of `C`: float64 `[rounds]`."""
    from scipy.signal import lfilter

    impulse = np.zeros(rounds)
    impulse[0] = 1.0
    return np.asarray(lfilter([1.0], coefficients(min(bands, rounds)), impulse), np.float64)


def _at_least_one(name: str, value: int) -> None:
    if not float(value).is_integer() or value < 1:
        raise PlanError(name, given=value, expected="a whole number from 1", do=f"Give {name} of at least 1.")
