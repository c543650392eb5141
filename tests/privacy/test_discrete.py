"""Whole-number noise: bounds on norms and divergences against the numbers themselves, summed out."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ive, logsumexp

from fairyring.core.errors import PlanError
from fairyring.privacy.discrete import (
    closeness,
    rdp_discrete_gaussian,
    rdp_skellam,
    rounded_norms,
)

ORDERS = [2, 3, 4, 8, 16]


def gaussian_sum(sigma: float, shares: int) -> np.ndarray:
    """Log probabilities of a sum of discrete Gaussians, by convolution; the middle is 0."""
    reach = int(40 * sigma) + 30
    x = np.arange(-reach, reach + 1)
    one = np.exp(-(x**2) / (2 * sigma**2))
    one /= one.sum()
    total = one
    for _ in range(shares - 1):
        total = np.convolve(total, one)
    return logs(total)


def skellam(variance: float) -> np.ndarray:
    """Log probabilities of Skellam noise: `exp(-mu) I_k(mu)`; the middle is 0."""
    reach = int(40 * math.sqrt(variance)) + 60
    return logs(ive(np.abs(np.arange(-reach, reach + 1)), variance))


def logs(probabilities: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(probabilities)


def divergence(log_p: np.ndarray, shift: int, order: int) -> float:
    """Rényi divergence of the moved distribution from the one that was not; NaN where floats do not hold its tail."""
    moved, still = log_p[shift:], log_p[:-shift]
    seen = (moved > -650) & (still > -650)
    terms = order * moved[seen] + (1 - order) * still[seen]
    if max(terms[0], terms[-1]) > terms.max() - 35:
        return math.nan
    return float(logsumexp(terms)) / (order - 1)


def divergences(log_p: np.ndarray, shift: int) -> np.ndarray:
    exact = np.array([divergence(log_p, shift, order) for order in ORDERS])
    assert shift > 1 or not np.isnan(exact[:3]).any()  # something is compared
    return exact


@pytest.mark.parametrize("shares", [1, 2, 3, 5])
@pytest.mark.parametrize("sigma", [0.3, 0.5, 0.7, 1.0, 3.0])
def test_no_sum_of_discrete_gaussians_diverges_more_than_its_bound(shares: int, sigma: float) -> None:
    log_p = gaussian_sum(sigma, shares)
    for shift in (1, 2, 4):
        exact = divergences(log_p, shift)
        delivered = ~np.isnan(exact)
        for l2, l1, dimension in ((shift, shift, 1), (shift * math.sqrt(2), 2 * shift, 2)):
            bound = rdp_discrete_gaussian(
                ORDERS, l2=l2, l1=l1, sigma=sigma, shares=shares, dimension=dimension
            )
            assert (dimension * exact <= bound * (1 + 1e-9))[delivered].all()
            if sigma >= 1:  # the sum is nearly one discrete Gaussian, and the bound all but exact
                assert (dimension * exact >= bound * 0.99)[delivered].all()


@pytest.mark.parametrize("variance", [0.5, 2.0, 10.0, 100.0, 1000.0])
def test_no_skellam_noise_diverges_more_than_its_bound(variance: float) -> None:
    log_p = skellam(variance)
    for shift in (1, 2, 4):
        exact = divergences(log_p, shift)
        delivered = ~np.isnan(exact)
        for l2, l1, dimension in ((shift, shift, 1), (shift * math.sqrt(2), 2 * shift, 2)):
            bound = rdp_skellam(ORDERS, l2=l2, l1=l1, variance=variance)
            assert (dimension * exact <= bound * (1 + 1e-9))[delivered].all()
            if variance == 1000.0:
                assert (dimension * exact >= bound * 0.99)[delivered].all()


def test_the_exact_divergence_tells_a_bound_that_is_too_small() -> None:
    """What the two tests above would see of a variance off by a few per cent, or a vector moved one step further."""
    exact = divergence(gaussian_sum(3.0, 3), 2, 8)
    assert exact > rdp_discrete_gaussian([8], l2=2, l1=2, sigma=3.05, shares=3, dimension=1)[0]
    assert exact > rdp_discrete_gaussian([8], l2=1, l1=1, sigma=3.0, shares=3, dimension=1)[0]
    assert divergence(skellam(1000.0), 2, 8) > rdp_skellam([8], l2=2, l1=2, variance=1020.0)[0]


@pytest.mark.parametrize("scale", [1.0, 7.0, 300.0])
@pytest.mark.parametrize("variance", [0.01, 4.0])
def test_the_skellam_bound_is_the_published_one(scale: float, variance: float) -> None:
    """Written out in the units of the vector, as published: there the grid's scale is in the surcharge."""
    l2, l1 = 1.5, 4.0
    published = [
        a * l2**2 / (2 * variance)
        + min(
            ((2 * a - 1) * scale * l2**2 + 6 * l1) / (4 * scale**3 * variance**2),
            3 * l1 / (2 * scale * variance),
        )
        for a in ORDERS
    ]
    ours = rdp_skellam(ORDERS, l2=scale * l2, l1=scale * l1, variance=scale**2 * variance)
    assert ours == pytest.approx(published, rel=1e-12)


def test_the_discrete_gaussian_bound_is_the_published_one() -> None:
    """Each of the three is the smallest somewhere; by hand, for two shares, where tau has one term.

    The third only where the L1 norm is known less well than sqrt(dimension) times the L2 norm.
    """
    tau = 10 * math.exp(-(math.pi**2) * 0.36)
    seen = set()
    for l2, l1, dimension in (
        (1.0, 1.0, 1),
        (1.0, 1.0, 400),
        (20.0, 20.0, 1),
        (20.0, 400.0, 400),
        (0.1, 5.0, 1),
    ):
        d2, d1 = l2 / (math.sqrt(2) * 0.6), l1 / (math.sqrt(2) * 0.6)
        for a in ORDERS:
            three = (
                a * d2**2 / 2 + tau * dimension,
                a / 2 * (d2**2 + 2 * d1 * tau + tau**2 * dimension),
                a / 2 * (d2 + math.sqrt(dimension) * tau) ** 2,
            )
            ours = rdp_discrete_gaussian([a], l2=l2, l1=l1, sigma=0.6, shares=2, dimension=dimension)
            assert ours[0] == pytest.approx(min(three), rel=1e-12)
            seen.add(three.index(min(three)))
    assert seen == {0, 1, 2}


def test_both_approach_the_gaussian_on_a_fine_grid() -> None:
    multiplier, grid = 1.3, 1e4
    gaussian = np.asarray(ORDERS) / (2 * multiplier**2)
    sigma = multiplier * grid / math.sqrt(10)
    shared = rdp_discrete_gaussian(ORDERS, l2=grid, l1=10 * grid, sigma=sigma, shares=10, dimension=100)
    assert shared == pytest.approx(gaussian, rel=1e-12)
    summed = rdp_skellam(ORDERS, l2=grid, l1=10 * grid, variance=10 * sigma**2)
    assert summed == pytest.approx(gaussian, rel=1e-6)
    assert (summed > gaussian).all()


def test_closeness_of_very_many_shares_is_bounded_from_above() -> None:
    terms = [math.exp(-2 * math.pi**2 * 0.25 * k / (k + 1)) for k in range(1, 300_000)]
    assert 10 * math.fsum(terms) <= closeness(300_000, 0.5) <= 10 * math.fsum(terms) * 1.0001
    assert closeness(1, 0.5) == 0
    assert closeness(3, 0.5) == pytest.approx(10 * (terms[0] + terms[1]))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 300), st.floats(0.05, 200))
def test_rounded_vectors_keep_within_the_norms(seed: int, dimension: int, norm: float) -> None:
    """Of no rounding with beta 0, and of most (1 - beta = 0.39 at least) with the usual one."""
    rng = np.random.default_rng(seed)
    vector = rng.normal(size=dimension)
    vector *= norm / np.linalg.norm(vector)
    rounded = np.floor(vector + rng.random((200, dimension)))
    l2, l1 = np.linalg.norm(rounded, axis=1), np.abs(rounded).sum(axis=1)
    always = rounded_norms(norm, 1.0, dimension, beta=0.0)
    assert (l2 <= always.l2 * (1 + 1e-12)).all()
    assert (l1 <= always.l1 * (1 + 1e-12)).all()
    usual = rounded_norms(norm, 1.0, dimension)
    assert usual.l2 <= always.l2
    kept = l2 <= usual.l2
    assert kept.mean() > 1 - math.exp(-0.5) - 0.15  # four standard deviations of 200 draws below
    assert (l1[kept] <= usual.l1 * (1 + 1e-12)).all()


def test_norms_are_in_steps_of_the_grid() -> None:
    assert rounded_norms(2.0, 8.0, 64) == rounded_norms(16.0, 1.0, 64)
    # By hand: 16^2 + 16 + 1 * (16 + 4) = 292, below (16 + 8)^2.
    assert rounded_norms(16.0, 1.0, 64).l2 == pytest.approx(math.sqrt(292))
    assert rounded_norms(16.0, 1.0, 64).l1 == pytest.approx(math.sqrt(292) * 8)
    assert rounded_norms(0.5, 1.0, 64, beta=0.0) == pytest.approx((8.5, 68.0))


def test_refusals() -> None:
    with pytest.raises(PlanError, match="whole orders"):
        rdp_skellam([2.5], l2=1, l1=1, variance=1)  # pyright: ignore[reportArgumentType]
    with pytest.raises(PlanError, match="orders above 1"):
        rdp_discrete_gaussian([1, 2], l2=1, l1=1, sigma=1, shares=1, dimension=1)
    with pytest.raises(PlanError, match="beta"):
        rounded_norms(1.0, 1.0, 4, beta=1.0)
    for bad in ({"clip": 0.0}, {"scale": math.inf}, {"dimension": 0}):
        with pytest.raises(PlanError, match=next(iter(bad))):
            rounded_norms(**{"clip": 1.0, "scale": 1.0, "dimension": 4, **bad})
    for bad in ({"l2": -1.0}, {"sigma": 0.0}, {"shares": 0}, {"l1": math.nan}):
        with pytest.raises(PlanError, match=next(iter(bad))):
            rdp_discrete_gaussian(
                [2], **{"l2": 1.0, "l1": 1.0, "sigma": 1.0, "shares": 1, "dimension": 1, **bad}
            )
