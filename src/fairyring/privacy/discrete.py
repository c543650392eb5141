"""Integer noise that clients add in shares: norms of rounded vectors and Rényi divergences.

Kairouz, Liu, Steinke: "The distributed discrete Gaussian mechanism for federated learning with secure aggregation"
(2021), and Agarwal, Kairouz, Liu: "The Skellam mechanism for differentially private federated learning" (2021).
Everything but the arguments of `rounded_norms` is in steps of the grid, as in `Release`.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fairyring.core.errors import PlanError

# In `closeness`, so many terms are added; the rest are bounded by the last of them.
_TERMS = 100_000


class RoundedNorms(NamedTuple):
    """Bounds on the norms of one client's rounded vector, in steps of the grid."""

    l2: float
    l1: float


def rounded_norms(clip: float, scale: float, dimension: int, beta: float = math.exp(-0.5)) -> RoundedNorms:
    """Norms of a vector of L2 norm `clip`, times `scale`, stochastically rounded until its L2 norm is within bound.

    Kairouz et al. 2021, Theorem 1: one attempt is within bound with probability at least `1 - beta`. For integers
    the L1 norm is at most the squared L2 norm, and always at most sqrt(dimension) times the L2 norm.

    Args:
        clip: L2 norm before scaling.
        scale: steps of the grid per unit of the vector.
        dimension: number of coordinates, including padding.
        beta: probability that one attempt at rounding is not within bound, in `[0, 1)`; with 0 every rounding is.

    Raises:
        PlanError: an argument is out of range.
    """
    _positive("clip", clip)
    _positive("scale", scale)
    _count("dimension", dimension)
    if not 0 <= beta < 1:
        raise PlanError(
            "beta", given=beta, expected="a probability in [0, 1)", do="Leave it out: it is exp(-1/2)."
        )
    norm, root = clip * scale, math.sqrt(dimension)
    squared = (norm + root) ** 2
    if beta > 0:
        tail = math.sqrt(2 * math.log(1 / beta)) * (norm + root / 2)
        squared = min(squared, norm**2 + dimension / 4 + tail)
    l2 = math.sqrt(squared)
    return RoundedNorms(l2, l2 * min(root, l2))


def closeness(shares: int, sigma: float) -> float:
    """tau: the distance per coordinate between a sum of `shares` discrete Gaussians and one discrete Gaussian.

    Kairouz et al. 2021, Theorem 1: `10 sum_{k=1}^{shares-1} exp(-2 pi^2 sigma^2 k/(k+1))`, `sigma` in steps of the
    grid. One share is a discrete Gaussian: 0.
    """
    # Terms decrease in k, so the last one added bounds all later ones.
    k = np.arange(1, min(shares, _TERMS + 1))
    terms = np.exp(-2 * math.pi**2 * sigma**2 * (k / (k + 1)))
    rest = max(0, shares - 1 - _TERMS) * float(terms[-1]) if len(terms) else 0.0
    return 10 * (float(terms.sum()) + rest)


def rdp_discrete_gaussian(
    orders: Sequence[int], *, l2: float, l1: float, sigma: float, shares: int, dimension: int
) -> np.ndarray:
    """Rényi divergence between a sum of discrete Gaussian shares and the same sum shifted by one client's vector.

    Kairouz et al. 2021, the smallest of their three bounds for sums of discrete Gaussians; the variance of the sum is
    `shares sigma^2`.

    Args:
        orders: orders of the divergence, each above 1.
        l2: L2 norm of the client's integer vector, in steps of the grid.
        l1: its L1 norm.
        sigma: standard deviation of one share.
        shares: number of shares in the sum.
        dimension: number of coordinates.

    Returns:
        float64 `[len(orders)]`, in nats.

    Raises:
        PlanError: an argument is out of range.
    """
    alpha = _orders(orders)
    _fields(l2, l1, sigma, shares, dimension)
    tau, central = closeness(shares, sigma), math.sqrt(shares) * sigma
    d2, d1 = l2 / central, l1 / central
    return np.minimum.reduce(
        [
            alpha / 2 * d2**2 + tau * dimension,
            alpha / 2 * (d2**2 + 2 * d1 * tau + tau**2 * dimension),
            alpha / 2 * (d2 + math.sqrt(dimension) * tau) ** 2,
        ]
    )


def rdp_skellam(orders: Sequence[int], *, l2: float, l1: float, variance: float) -> np.ndarray:
    """Rényi divergence between Skellam noise and the same noise shifted by one client's vector.

    Agarwal et al. 2021, Theorem 3.5, for integer orders: with `D2`, `D1` the norms and `mu` the variance, all in steps
    of the grid, `a D2^2 / (2 mu) + min{((2a - 1) D2^2 + 6 D1) / (4 mu^2), 3 D1 / (2 mu)}`. Skellam shares add up to
    Skellam noise of the summed variance, so their number does not matter.

    Args:
        orders: orders of the divergence, integers above 1.
        l2: L2 norm of the client's integer vector, in steps of the grid.
        l1: its L1 norm.
        variance: variance of the sum's noise per coordinate: shares times the variance of one.

    Returns:
        float64 `[len(orders)]`, in nats.

    Raises:
        PlanError: an argument is out of range, or an order is not an integer.
    """
    alpha = _orders(orders)
    if (alpha != np.floor(alpha)).any():
        raise PlanError("orders", given="a fraction", expected="whole orders", do="Round them up.")
    _positive("l2", l2)
    _positive("l1", l1)
    _positive("variance", variance)
    surcharge = np.minimum(((2 * alpha - 1) * l2**2 + 6 * l1) / (4 * variance**2), 3 * l1 / (2 * variance))
    return alpha * l2**2 / (2 * variance) + surcharge


def _orders(orders: Sequence[int]) -> np.ndarray:
    alpha = np.asarray(orders, np.float64)
    if alpha.size and not (alpha > 1).all():
        raise PlanError(
            "orders", given=float(alpha.min()), expected="orders above 1", do="Leave the others out."
        )
    return alpha


def _fields(l2: float, l1: float, sigma: float, shares: int, dimension: int) -> None:
    for name, value in (("l2", l2), ("l1", l1), ("sigma", sigma)):
        _positive(name, value)
    _count("shares", shares)
    _count("dimension", dimension)


def _positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise PlanError(name, given=value, expected="a number above 0", do=f"Give a positive {name}.")


def _count(name: str, value: int) -> None:
    if not float(value).is_integer() or value < 1:
        raise PlanError(name, given=value, expected="a whole number from 1", do=f"Give a positive {name}.")
