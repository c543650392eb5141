"""Rényi divergences of one release at a fixed set of orders, and their amplification by sampling."""

from functools import lru_cache
from typing import Any

import numpy as np

from fairyring.core.errors import MissingExtra, PlanError
from fairyring.privacy.discrete import rdp_discrete_gaussian, rdp_skellam
from fairyring.privacy.participation import FixedSize
from fairyring.privacy.release import Release

# Integers, for which the bounds for Skellam noise and for sampling hold. Consecutive orders differ by at most a third,
# which costs at most one per cent of epsilon.
ORDERS = (
    *range(2, 33),
    *range(36, 65, 4),
    *range(72, 129, 8),
    160,
    192,
    224,
    256,
    320,
    384,
    512,
    768,
    1024,
    2048,
    4096,
)
# dp-accounting's bound for sampling without replacement takes quadratic time in an order up to 256, and a looser formula
# above.
FIXED_SIZE_ORDERS = (*range(2, 33), 36, 40, 48, 56, 64, 80, 96, 128, 257, 512, 1024)


def dp_accounting() -> Any:
    """The package dp-accounting, imported on first use: that takes more than a second."""
    try:
        import dp_accounting
    except ImportError as error:
        raise MissingExtra("dp_accounting", extra="privacy", purpose="privacy accounting") from error
    return dp_accounting


@lru_cache(maxsize=4096)
def plain(release: Release) -> np.ndarray:
    """Divergences of a release without sampling: float64 `[len(ORDERS)]`, in nats."""
    return _of(release, np.asarray(ORDERS))


@lru_cache(maxsize=1024)
def poisson(releases: tuple[Release, ...], rate: float) -> np.ndarray:
    """Divergences of the releases of one round, in which the device is with probability `rate`, unseen by anyone."""
    exponents = np.arange(ORDERS[-1] + 1, dtype=np.float64) - 1
    exponents[0] = 0.0  # the moment of order 0 is 1, whatever the release
    moments = np.zeros(ORDERS[-1] + 1)
    orders = np.arange(2, ORDERS[-1] + 1)
    moments[2:] = exponents[2:] * sum(_of(release, orders) for release in releases)
    unsampled = sum(plain(release) for release in releases)
    return np.minimum([amplified(rate, order, moments) for order in ORDERS], unsampled)


def amplified(rate: float, order: int, moments: np.ndarray) -> float:
    """Rényi divergence of integer order `a` of a Poisson sampled release, from that of the release.

    `log(sum_l C(a, l) (1 - rate)^(a - l) rate^l exp(moments[l])) / (a - 1)`, where `moments[l]` bounds
    `(l - 1) RDP(l)` and is 0 for `l` of 0 and 1: Zhu and Wang 2019, "Poisson subsampled Rényi differential privacy",
    Theorem 6. For "with the device" against "without" this is the binomial expansion, and exact. For the other
    direction they need a condition on the mechanism (without it: Theorem 5, with a factor of 3). Here symmetry is enough:
    all our noise is a shift of a symmetric distribution, so a reflection exchanges the outputs of two neighbours, and then
    the other direction is never larger (Mironov, Talwar, Zhang 2019, Theorem 5). The other devices' inputs and the rounding
    of this one's vector are mixed over in the same way for both neighbours, which can only lower a divergence.

    Args:
        rate: sampling rate, in `(0, 1]`.
        order: an integer, at least 2.
        moments: float64 `[more than order]`, in nats.
    """
    from scipy.special import gammaln, logsumexp

    if rate == 1:
        return float(moments[order]) / (order - 1)
    k = np.arange(2, order + 1)
    ways = gammaln(order + 1) - gammaln(k + 1) - gammaln(order - k + 1)
    weights = ways + (order - k) * np.log1p(-rate) + k * np.log(rate)
    # The weights, with those for l = 0 and 1, sum to 1. Summing the excess of each term over its weight leaves no
    # difference of nearly equal numbers, which a lot of noise would round down to a divergence of nothing.
    with np.errstate(divide="ignore"):
        excess = moments[2 : order + 1] + np.log(-np.expm1(-moments[2 : order + 1]))
    return float(np.logaddexp(0.0, np.asarray(logsumexp(weights + excess)))) / (order - 1)


@lru_cache(maxsize=1024)
def fixed_size(multiplier: float, participation: FixedSize) -> np.ndarray:
    """Divergences of a Gaussian sum over a set drawn without replacement, one device replaced by another.

    Float64 `[len(FIXED_SIZE_ORDERS)]`: Wang, Balle, Kasiviswanathan 2019, Theorem 27, as dp-accounting computes it.
    """
    dp = dp_accounting()
    accountant = dp.rdp.RdpAccountant(list(FIXED_SIZE_ORDERS), dp.NeighboringRelation.REPLACE_ONE)
    # dp-accounting takes the multiplier relative to the sensitivity of the sum *under its relation*: with everybody
    # drawn it gives order / (2 multiplier^2). Ours is relative to the clip norm, and replacing a device moves a sum by twice that.
    gaussian = dp.GaussianDpEvent(multiplier / 2)
    accountant.compose(
        dp.SampledWithoutReplacementDpEvent(participation.population, participation.size, gaussian)
    )
    return np.asarray(accountant.rdp, np.float64)


def to_epsilon(orders: tuple[int, ...], rdp: np.ndarray, delta: float) -> float:
    """The smallest epsilon over the orders (Canonne, Kamath, Steinke 2020, Proposition 12, by dp-accounting)."""
    with np.errstate(over="ignore"):
        return float(dp_accounting().rdp.compute_epsilon(orders, rdp, delta)[0])


def refused(mechanism: str, participation: str, instead: str) -> PlanError:
    """The error for a mechanism that cannot be accounted for under a participation."""
    return PlanError(
        f"a {mechanism} release",
        given=f"participation {participation}",
        expected=f"participation {instead}",
        do="Change the participation, or the mechanism.",
    )


def _of(release: Release, orders: np.ndarray) -> np.ndarray:
    if release.mechanism == "gaussian":
        return orders / (2 * release.multiplier**2)
    if release.mechanism == "skellam":
        variance = release.shares * release.sigma**2
        return rdp_skellam(orders.tolist(), l2=release.l2, l1=release.l1, variance=variance)
    return rdp_discrete_gaussian(
        orders.tolist(),
        l2=release.l2,
        l1=release.l1,
        sigma=release.sigma,
        shares=release.shares,
        dimension=release.dimension,
    )
