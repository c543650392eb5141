"""Transforming noise into numbers that are independent and standard normal if the noise has the claimed law.

Integer noise goes through its distribution function, at a random place within the step of the number drawn, and back
through the normal quantile function: exact for any law. Noise correlated over rounds is dithered and whitened by the
covariance that follows from its coefficients, also if rounds are missing.
"""

import math
from functools import lru_cache

import numpy as np

from fairyring.privacy.correlated import coefficients

LARGEST = 38.0  # beyond it, float64 cannot distinguish probabilities
# From here on, a dithered law on integers differs from a Gaussian by less than any run can show.
_SMOOTH = 300.0
_STEP = 1 / 12  # variance of the rounding error, and of a dither of the same width


def scores(noise: np.ndarray, mechanism: str, sigma: float, dice: np.random.Generator) -> np.ndarray:
    """Scores that are standard normal if `noise` is independent and has the law: float64 `[d]`.

    Scores of `"correlated"` noise are in units of `sigma` and not yet white: see `whitening`.

    Args:
        noise: integers `[d]`.
        mechanism: mechanism of the plan's noise.
        sigma: standard deviation; for rounded and correlated noise, before rounding.
        dice: generator of the dither.
    """
    from scipy.special import ndtri

    uniform = dice.random(len(noise))
    if mechanism == "correlated":
        return (noise + (uniform - 0.5)) / sigma
    if sigma >= _SMOOTH:
        rounded = _STEP if mechanism == "gaussian" else 0.0
        return (noise + (uniform - 0.5)) / math.sqrt(sigma**2 + rounded + _STEP)
    beyond = _beyond(mechanism, sigma)
    size = np.minimum(np.abs(noise), len(beyond) - 2)
    place = beyond[size + 1] + uniform * (beyond[size] - beyond[size + 1])
    with np.errstate(divide="ignore"):
        drawn = np.minimum(-ndtri(place), LARGEST)
    far = np.abs(noise) > len(beyond) - 2
    return np.where(noise < 0, -1.0, 1.0) * np.where(far, LARGEST, drawn)


def chance_of_zero(mechanism: str, sigma: float, bands: int = 0) -> float:
    """Probability that one coordinate has no noise by chance."""
    if mechanism == "correlated":
        sigma *= float(np.linalg.norm(coefficients(bands)))
    elif sigma < _SMOOTH:
        beyond = _beyond(mechanism, sigma)
        return float(beyond[0] - beyond[1])
    return math.erf(0.5 / (math.sqrt(2) * sigma))


def whitening(rounds: list[int], bands: int, sigma: float) -> np.ndarray:
    """The lower triangular matrix `[T, T]` that whitens the scores `[T, d]` of correlated noise.

    If no round is missing, this is the inverse of the matrix of coefficients, up to rounding.

    Args:
        rounds: the released rounds, counted from 1, ascending.
        bands: number of coefficients of the noise.
        sigma: standard deviation of the independent noise it is made from.
    """
    weights = coefficients(bands)
    number = np.asarray(rounds)
    covariance = np.zeros((len(number), len(number)))
    for j in range(bands):
        # Noise z_(t-j), which exists from round 1 on, is in round t and in every later round less than `bands` after it.
        other = number[None, :] - number[:, None] + j
        shared = (other >= 0) & (other < bands) & (number[:, None] - j >= 1)
        covariance += np.where(shared, weights[j] * weights[np.clip(other, 0, bands - 1)], 0.0)
    covariance += 2 * _STEP / sigma**2 * np.eye(len(number))  # rounding, and the dither
    return np.linalg.inv(np.linalg.cholesky(covariance))


@lru_cache(maxsize=64)
def _beyond(mechanism: str, sigma: float) -> np.ndarray:
    """`P(X >= n)` for n = 0, 1, ... of a law on integers: float64, the last of them 0."""
    from scipy.special import ive, ndtr

    n = np.arange(math.ceil(30 * sigma) + 40)
    if mechanism == "gaussian":
        at_least = ndtr(-(n - 0.5) / sigma)
        at_least[-1] = 0.0
        return at_least
    masses = ive(n, sigma**2) if mechanism == "skellam" else np.exp(-(n**2) / (2 * sigma**2))
    masses = masses / (2 * masses.sum() - masses[0])
    masses[-1] = 0.0
    return np.cumsum(masses[::-1])[::-1]
