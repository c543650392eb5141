"""Draws without replacement: from above against the closed profile, from below against releases worked out whole."""

import itertools
import math
import time

import dp_accounting as dp
import numpy as np
import pytest
from dp_accounting.pld import pld_pmf, privacy_loss_distribution
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from fairyring.privacy._fixed_size import loss_of
from fairyring.privacy._rdp import FIXED_SIZE_ORDERS
from fairyring.privacy.accounting import Accountant, calibrate, rough
from fairyring.privacy.participation import FixedSize, PoissonSampled
from fairyring.privacy.release import Release

DELTA = 1e-5
RATES = st.sampled_from([0.001, 0.02, 0.1, 0.5, 0.97])


def spent(size: int, population: int, counts: dict[float, int], delta: float = DELTA) -> float:
    releases = {Release("gaussian", z): n for z, n in counts.items()}
    return Accountant(FixedSize(size, population), delta).spent(releases).epsilon


def profile(multiplier: float, rate: float, epsilons: np.ndarray) -> np.ndarray:
    """Delta at each epsilon as the paper has it: the Gaussian's, further out and smaller by the share that is drawn."""
    at = np.abs(epsilons)
    further, shift = np.log1p(np.expm1(at) / rate), 2 / multiplier
    delta = ndtr(shift / 2 - further / shift) - np.exp(further) * ndtr(-shift / 2 - further / shift)
    return np.where(epsilons < 0, -np.expm1(-at) + np.exp(-at) * rate * delta, rate * delta)


def from_below(multiplier: float, rate: float, rounds: int, delta: float = DELTA) -> float:
    """Epsilon of one pair of populations: all devices send -u, but for one, which sends u or -u too. Rounded down."""
    loss = privacy_loss_distribution.from_gaussian_mechanism(
        multiplier / 2,
        pessimistic_estimate=False,
        sampling_prob=rate,
        value_discretization_interval=1e-3,
        use_connect_dots=False,
    )
    return float(loss.self_compose(rounds).get_epsilon_for_delta(delta))


@settings(max_examples=20, deadline=None)
@given(st.floats(0.4, 30), RATES)
def test_the_distribution_of_the_loss_has_the_profile_of_the_paper(multiplier: float, rate: float) -> None:
    interval = 1e-3
    probabilities, infinite = loss_of(multiplier, rate, interval)
    assert probabilities.min() >= 0
    assert probabilities.sum() + infinite == pytest.approx(1, abs=1e-12)
    half = len(probabilities) // 2
    chosen = np.unique(np.linspace(-half, half, 41).astype(int))
    losses = interval * np.arange(-half, half + 1)
    result = [
        probabilities[losses > e] @ -np.expm1(e - losses[losses > e]) + infinite for e in interval * chosen
    ]
    assert result == pytest.approx(profile(multiplier, rate, interval * chosen), rel=1e-6, abs=1e-13)
    # Between its points it is never below.
    between = interval * (np.arange(-half, half, max(1, half // 20)) + 0.5)
    result = [probabilities[losses > e] @ -np.expm1(e - losses[losses > e]) + infinite for e in between]
    assert np.all(np.asarray(result) >= profile(multiplier, rate, between) - 1e-14)


@pytest.mark.parametrize(("size", "multiplier", "rounds"), [(10, 2.0, 60), (30, 1.2, 8), (1, 1.0, 500)])
def test_dp_accounting_makes_the_same_of_the_profile(size: int, multiplier: float, rounds: int) -> None:
    half = 30_000
    profiled = profile(multiplier, size / 100, 1e-3 * np.arange(-half, half + 1))
    theirs = pld_pmf.create_pmf_pessimistic_connect_dots_fixed_gap(1e-3, -half, half, np.clip(profiled, 0, 1))
    expected = theirs.self_compose(rounds).get_epsilon_for_delta(DELTA)
    assert spent(size, 100, {multiplier: rounds}) == pytest.approx(expected, rel=1e-3)


def test_what_was_accounted_more_than_twice_is_near_what_one_pair_of_populations_spends() -> None:
    event = dp.SampledWithoutReplacementDpEvent(100, 10, dp.GaussianDpEvent(1.0))
    renyi = RdpAccountant(list(FIXED_SIZE_ORDERS), dp.NeighboringRelation.REPLACE_ONE).compose(event, 60)
    assert renyi.get_epsilon(DELTA) == pytest.approx(10.35, abs=0.01)
    assert spent(10, 100, {2.0: 60}) == pytest.approx(6.039, abs=2e-3)
    assert from_below(2.0, 0.1, 60) == pytest.approx(5.543, abs=2e-3)


@pytest.mark.parametrize("size", [1, 10, 50, 90])
@pytest.mark.parametrize(("multiplier", "rounds"), [(0.5, 1), (2.0, 60), (6.0, 300), (30.0, 1000)])
def test_never_below_what_one_pair_of_populations_spends_and_not_far_above(
    size: int, multiplier: float, rounds: int
) -> None:
    ours, below = spent(size, 100, {multiplier: rounds}), from_below(multiplier, size / 100, rounds)
    # The pair's losses were rounded down to steps of a thousandth. Of many rounds it is not the worst that can be.
    assert below - 1e-9 <= ours <= below * 1.15 + rounds * 1e-3
    if rounds == 1:  # and there the pair is the worst
        assert ours <= below + 2e-3


def mixture(places: list[float], multiplier: float, points: np.ndarray) -> np.ndarray:
    """Density of a sum over one of these sets, each as likely, with noise."""
    centred = (points[None, :] - np.asarray(places)[:, None]) / multiplier
    return np.exp(-(centred**2) / 2).mean(0) / (multiplier * math.sqrt(2 * math.pi))


def releases(devices: int, size: int, multiplier: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Densities of a release for all neighbours whose devices send -1, 0 or 1."""
    points = np.linspace(-size - 7 * multiplier, size + 7 * multiplier, 321)
    step, result = points[1] - points[0], []
    for others in itertools.combinations_with_replacement((-1, 0, 1), devices - 1):
        for sends, instead in itertools.permutations((-1, 0, 1), 2):
            pair = [
                step
                * mixture(
                    [float(sum(drawn)) for drawn in itertools.combinations((one, *others), size)],
                    multiplier,
                    points,
                )
                for one in (sends, instead)
            ]
            result.append((pair[0], pair[1]))
    return result


@pytest.mark.parametrize(("devices", "size", "multiplier"), [(2, 1, 1.0), (3, 1, 1.5), (3, 2, 2.0)])
def test_no_neighbours_spend_more_in_two_rounds(devices: int, size: int, multiplier: float) -> None:
    """All populations of so few, and others in the second round: what devices send may depend on the first."""
    delta, largest = 1e-3, 0.0
    every = releases(devices, size, multiplier)
    once = spent(size, devices, {multiplier: 1}, delta)
    twice = spent(size, devices, {multiplier: 2}, delta)
    for first, (p, q) in enumerate(every):
        assert np.maximum(0, p - math.exp(once) * q).sum() <= delta * 1.005  # of the grid
        for second in every[first:]:
            p2, q2 = np.outer(p, second[0]), np.outer(q, second[1])
            largest = max(largest, float(np.maximum(0, p2 - math.exp(twice) * q2).sum()))
    assert 0.95 * delta < largest <= delta * 1.005
    # One round's bound is reached: the next smaller epsilon does not hold.
    assert max(np.maximum(0, p - math.exp(once * 0.99) * q).sum() for p, q in every) > delta


def test_less_noise_more_rounds_and_larger_draws_never_spend_less() -> None:
    size = 40
    by_noise = [spent(size, 100, {z: 20}) for z in (0.3, 0.39, 0.41, 0.99, 1.01, 5.0, 40.0)]
    assert by_noise == sorted(by_noise, reverse=True)
    by_rounds = [spent(size, 100, {2.0: n}) for n in (1, 2, 100, 1000)]
    assert by_rounds == sorted(by_rounds)
    by_size = [spent(n, 100, {2.0: 20}) for n in (1, 2, 50, 99, 100)]
    assert by_size == sorted(by_size)
    assert spent(size, 100, {2.0: 20, 3.0: 5}) >= spent(size, 100, {2.0: 20})
    assert spent(size, 100, {2.0: 20, 3.0: 5}) <= spent(size, 100, {2.0: 25})
    # Releases that differ in what does not matter are of one kind.
    named = {Release("gaussian", 2.0, scale=scale): 10 for scale in (0.0, 64.0)}
    together = Accountant(FixedSize(size, 100), DELTA).spent(named).epsilon
    assert together == pytest.approx(spent(size, 100, {2.0: 20}), rel=1e-12)


def test_a_replacement_costs_as_twice_the_clip_and_more_than_a_coin() -> None:
    for rate, multiplier, rounds in ((10, 2.0, 60), (1, 2.0, 200)):
        coin = Accountant(PoissonSampled(rate / 100), DELTA).spent(
            {Release("gaussian", multiplier / 2): rounds}
        )
        assert coin.epsilon <= spent(rate, 100, {multiplier: rounds}) <= coin.epsilon * 1.15


@pytest.mark.parametrize(("size", "budget", "rounds"), [(1, 1.0, 3000), (50, 2.0, 10)])
def test_a_rough_multiplier_is_never_less_and_quick(size: int, budget: float, rounds: int) -> None:
    participation = FixedSize(size, 100)
    exact = calibrate(epsilon=budget, delta=DELTA, rounds=rounds, participation=participation)
    started = time.process_time()
    result = rough(epsilon=budget, delta=DELTA, rounds=rounds, participation=participation, precision=1e-3)
    assert time.process_time() - started < 3  # half a second by itself
    assert exact * (1 - 1e-4) <= result <= exact * 1.01
