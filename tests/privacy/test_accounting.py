"""Accountants against dp-accounting asked by another road, against brute force, and against themselves."""

import builtins
import itertools
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

import dp_accounting as dp
import numpy as np
import pytest
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.linalg import toeplitz
from scipy.special import logsumexp

from fairyring.core.errors import MissingExtra, PlanError
from fairyring.core.rounding import at_most
from fairyring.privacy._rdp import FIXED_SIZE_ORDERS, ORDERS, amplified
from fairyring.privacy.accounting import LEAST_MULTIPLIER, Accountant, calibrate, epsilon
from fairyring.privacy.correlated import coefficients, sensitivity
from fairyring.privacy.discrete import rounded_norms
from fairyring.privacy.participation import AnyParticipation, AtMost, FixedSize, PoissonSampled
from fairyring.privacy.release import OfRound, Release

DELTA = 1e-6
ADD_OR_REMOVE, REPLACE = dp.NeighboringRelation.ADD_OR_REMOVE_ONE, dp.NeighboringRelation.REPLACE_ONE
MULTIPLIERS = st.floats(0.3, 50)


def gaussian(multiplier: float) -> Release:
    return Release("gaussian", multiplier)


def shared(mechanism: str, multiplier: float, grid: float = 200.0, shares: int = 20) -> Release:
    """A distributed release of 64 coordinates on a grid of so many steps a clip norm."""
    l2, l1 = rounded_norms(1.0, grid, 64)
    sigma = multiplier * l2 / math.sqrt(shares)
    return Release(mechanism, multiplier, dimension=64, l2=l2, l1=l1, shares=shares, sigma=sigma, scale=grid)


def spent(participation: AnyParticipation, counts: Mapping[OfRound, int], delta: float = DELTA) -> float:
    return Accountant(participation, delta).spent(counts).epsilon


# Against dp-accounting


@pytest.mark.parametrize(("multiplier", "rounds"), [(0.5, 1), (3.0, 10), (20.0, 400), (0.7, 3)])
def test_composed_gaussians_agree_with_the_analytic_formula(multiplier: float, rounds: int) -> None:
    ours = epsilon(multiplier, rounds=rounds, delta=DELTA, participation=AtMost(rounds)).epsilon
    assert ours == pytest.approx(dp.get_epsilon_gaussian(multiplier / math.sqrt(rounds), DELTA), rel=1e-12)
    # Distributions of the privacy loss and divergences, round by round, both bound it from above.
    loss = PLDAccountant(ADD_OR_REMOVE).compose(dp.GaussianDpEvent(multiplier), rounds)
    assert ours == pytest.approx(loss.get_epsilon(DELTA), abs=1e-6)
    renyi = RdpAccountant(neighboring_relation=ADD_OR_REMOVE).compose(dp.GaussianDpEvent(multiplier), rounds)
    assert ours <= renyi.get_epsilon(DELTA) <= ours * 1.15


@pytest.mark.parametrize(
    ("multiplier", "rate", "rounds"), [(1.0, 0.01, 300), (1.0, 0.002, 50), (5.0, 0.2, 1000), (2.0, 0.5, 1)]
)
def test_poisson_sampled_gaussians_agree(multiplier: float, rate: float, rounds: int) -> None:
    event = dp.PoissonSampledDpEvent(rate, dp.GaussianDpEvent(multiplier))
    theirs = PLDAccountant(ADD_OR_REMOVE).compose(event, rounds).get_epsilon(DELTA)
    ours = spent(PoissonSampled(rate), {gaussian(multiplier): rounds})
    assert ours == pytest.approx(theirs, rel=1e-6)
    renyi = RdpAccountant(neighboring_relation=ADD_OR_REMOVE).compose(event, rounds)
    assert ours <= renyi.get_epsilon(DELTA)


def test_poisson_sampled_gaussians_of_two_kinds_agree() -> None:
    theirs = PLDAccountant(ADD_OR_REMOVE)
    counts = {gaussian(2.0): 20, gaussian(3.0): 40}
    for release, count in counts.items():
        theirs.compose(dp.PoissonSampledDpEvent(0.05, dp.GaussianDpEvent(release.multiplier)), count)
    assert spent(PoissonSampled(0.05), counts) == pytest.approx(theirs.get_epsilon(DELTA), rel=1e-6)


def test_what_is_beyond_use_is_told_quickly_and_from_above() -> None:
    """Distributions of these losses have hundreds of millions of points."""
    for multiplier, rate, rounds in ((0.5, 0.5, 10_000), (0.1, 0.01, 100), (0.3, 0.9, 1000)):
        result = Accountant(PoissonSampled(rate), DELTA).spent({gaussian(multiplier): rounds})
        event = dp.PoissonSampledDpEvent(rate, dp.GaussianDpEvent(multiplier))
        renyi = RdpAccountant(list(range(2, 33)), ADD_OR_REMOVE).compose(event, rounds)
        assert result.epsilon <= renyi.get_epsilon(DELTA) * (1 + 1e-9)
        assert result.epsilon > 40
        assert "RDP" in result.accountant or "not sampled" in result.accountant


@pytest.mark.parametrize(("multiplier", "rounds"), [(2.0, 10), (4.0, 300), (30.0, 500)])
def test_draws_of_fixed_size_spend_less_than_their_divergences(multiplier: float, rounds: int) -> None:
    # Here a release is of half the multiplier: replacing a device moves a sum by twice the clip.
    event = dp.SampledWithoutReplacementDpEvent(1000, 50, dp.GaussianDpEvent(multiplier / 2))
    theirs = RdpAccountant(list(FIXED_SIZE_ORDERS), REPLACE).compose(event, rounds).get_epsilon(DELTA)
    assert 0.3 * theirs < spent(FixedSize(50, 1000), {gaussian(multiplier): rounds}) < 0.7 * theirs
    # Below a multiplier of 0.4 the divergences are what is left, by another road.
    event = dp.SampledWithoutReplacementDpEvent(1000, 50, dp.GaussianDpEvent(0.15))
    theirs = RdpAccountant(list(FIXED_SIZE_ORDERS), REPLACE).compose(event, 3).get_epsilon(DELTA)
    unsampled = dp.get_epsilon_gaussian(0.15 / math.sqrt(3), DELTA)
    result = spent(FixedSize(50, 1000), {gaussian(0.3): 3})
    assert result == pytest.approx(min(theirs, unsampled), rel=1e-6)


def test_a_replaced_device_moves_a_sum_by_twice_the_clip() -> None:
    """With everybody drawn, replacement is one Gaussian, which dp-accounting has by itself."""
    loss = PLDAccountant(REPLACE).compose(dp.GaussianDpEvent(3.0), 4)
    assert spent(FixedSize(10, 10), {gaussian(3.0): 4}) == pytest.approx(loss.get_epsilon(DELTA), abs=1e-6)


def test_a_published_value() -> None:
    """Balle and Wang 2018: the classical sigma for epsilon 1, sqrt(2 ln(1.25 / delta)), is more than enough."""
    classical = math.sqrt(2 * math.log(1.25 / DELTA))
    assert epsilon(classical, rounds=1, delta=DELTA, participation=AtMost(1)).epsilon < 1
    exact = calibrate(epsilon=1, delta=DELTA, rounds=1, participation=AtMost(1))
    assert exact == pytest.approx(dp.get_sigma_gaussian(1, DELTA), rel=1e-4)
    assert exact < classical


# Sampling of any noise


def expansion(release_rdp: Any, orders: int) -> np.ndarray:
    """`(l - 1) RDP(l)` for l from 0."""
    return np.array([0.0, 0.0] + [(k - 1) * release_rdp(k) for k in range(2, orders + 1)])


@pytest.mark.parametrize("rate", [0.001, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("multiplier", [0.8, 3.0, 20.0])
def test_amplification_of_gaussian_divergences_is_the_sampled_gaussian(
    rate: float, multiplier: float
) -> None:
    moments = expansion(lambda k: k / (2 * multiplier**2), 64)
    orders = [2, 3, 8, 33, 64]
    event = dp.PoissonSampledDpEvent(rate, dp.GaussianDpEvent(multiplier))
    theirs = RdpAccountant(orders, ADD_OR_REMOVE).compose(event).rdp
    ours = [amplified(rate, order, moments) for order in orders]
    assert ours == pytest.approx(list(theirs), rel=1e-9, abs=1e-14)


@pytest.mark.parametrize("multiplier", [1e3, 1e6, 1e9])
def test_amplification_is_not_rounded_to_nothing(multiplier: float) -> None:
    """The first term of the expansion, `a rate^2 / (2 z^2)`, is all there is: far below the last bit of 1."""
    moments = expansion(lambda k: k / (2 * multiplier**2), 32)
    for order in (2, 32):
        assert amplified(0.01, order, moments) == pytest.approx(order * 1e-4 / (2 * multiplier**2), rel=1e-3)


@pytest.mark.parametrize("rate", [0.01, 0.3, 0.9])
@pytest.mark.parametrize(("sigma", "shift"), [(0.6, 1), (2.0, 1), (2.0, 5), (10.0, 12)])
def test_neither_direction_of_sampled_whole_number_noise_exceeds_the_amplified_bound(
    rate: float, sigma: float, shift: int
) -> None:
    x = np.arange(-600, 601)
    log_p = -(x**2) / (2 * sigma**2)
    log_p -= logsumexp(log_p)
    still, moved = log_p, np.roll(log_p, shift)
    mixed = np.logaddexp(np.log1p(-rate) + still, np.log(rate) + moved)
    moments = expansion(lambda k: k * shift**2 / (2 * sigma**2), 32)
    for order in (2, 3, 8, 32):
        with_it = float(logsumexp(order * mixed + (1 - order) * still)) / (order - 1)
        without = float(logsumexp(order * still + (1 - order) * mixed)) / (order - 1)
        bound = amplified(rate, order, moments)
        assert with_it == pytest.approx(bound, rel=1e-6, abs=1e-12)
        assert without <= bound + 1e-12


@pytest.mark.parametrize("mechanism", ["discrete_gaussian", "skellam"])
def test_shares_on_a_fine_grid_spend_hardly_more_than_a_gaussian(mechanism: str) -> None:
    release = shared(mechanism, 2.0, grid=1e4)
    for participation in (AtMost(50), PoissonSampled(0.05)):
        exact = spent(participation, {gaussian(2.0): 50})
        assert exact <= spent(participation, {release: 50}) <= exact * 1.15
    assert spent(PoissonSampled(0.05), {release: 50}) < spent(AtMost(50), {release: 50}) / 3


# Participation without sampling


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(0.5, 5), min_size=1, max_size=7),
    st.integers(1, 4),
    st.integers(1, 3),
    st.sampled_from(["gaussian", "skellam"]),
)
def test_no_device_spends_more_than_the_worst(
    multipliers: list[float], times: int, separation: int, mechanism: str
) -> None:
    """Whatever the order of the releases, and whichever of them a device is in."""
    releases = [gaussian(z) if mechanism == "gaussian" else shared(mechanism, z) for z in multipliers]
    counts = {release: releases.count(release) for release in releases}
    ours = spent(AtMost(times, separation), counts)
    for count in range(1, times + 1):
        for chosen in itertools.combinations(range(len(releases)), count):
            if all(later - sooner >= separation for sooner, later in itertools.pairwise(chosen)):
                one = {releases[i]: [releases[j] for j in chosen].count(releases[i]) for i in chosen}
                assert spent(AtMost(count), one) <= ours * (1 + 1e-9)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.floats(0.5, 5), max_size=3), min_size=1, max_size=6),
    st.integers(1, 4),
    st.integers(1, 4),
    st.sampled_from(["gaussian", "skellam"]),
)
def test_no_device_spends_more_than_the_worst_where_rounds_released_several_times_or_not_at_all(
    rounds: list[list[float]], times: int, separation: int, mechanism: str
) -> None:
    """Every set of rounds a device may be in, with all that left them."""
    of = [[gaussian(z) if mechanism == "gaussian" else shared(mechanism, z) for z in one] for one in rounds]
    counts = Counter(tuple(sorted(one, key=lambda r: r.multiplier)) for one in of if one)
    ours = Accountant(AtMost(times, separation), DELTA).spent(counts, len(rounds)).epsilon
    for count in range(1, times + 1):
        for chosen in itertools.combinations(range(len(rounds)), count):
            if all(later - sooner >= separation for sooner, later in itertools.pairwise(chosen)):
                one = Counter(release for i in chosen for release in of[i])
                assert spent(AtMost(), one) <= ours * (1 + 1e-9)


@pytest.mark.parametrize("mechanism", ["gaussian", "skellam", "discrete_gaussian"])
def test_a_round_released_again_and_again_is_as_many_releases_to_whoever_is_in_it(mechanism: str) -> None:
    release = gaussian(2.0) if mechanism == "gaussian" else shared(mechanism, 2.0)
    often = {(release,) * 1000: 1}
    for separation in (1, 10):
        assert spent(AtMost(None, separation), often) == pytest.approx(spent(AtMost(), {release: 1000}))
    # With other rounds: of ten, ten apart, a device is in one, and that may be the one released seven times.
    ten = {(release,) * 7: 1, release: 9}
    assert spent(AtMost(None, 10), ten) == pytest.approx(spent(AtMost(), {release: 7}))
    assert spent(AtMost(None, 5), ten) == pytest.approx(spent(AtMost(), {release: 8}))


def test_a_sample_that_is_released_twice_is_one_sample() -> None:
    """The same draw in both: a sampled Gaussian with less noise, and more than two draws of half the chance to be seen."""
    twice = spent(PoissonSampled(0.05), {(gaussian(2.0), gaussian(2.0)): 20})
    assert twice == spent(PoissonSampled(0.05), {gaussian(math.sqrt(2.0)): 20})
    assert twice > spent(PoissonSampled(0.05), {gaussian(2.0): 40})
    sized = FixedSize(5, 100)
    assert spent(sized, {(gaussian(2.0), gaussian(2.0)): 20}) == spent(sized, {gaussian(math.sqrt(2.0)): 20})
    noise = shared("skellam", 3.0)
    pair = spent(PoissonSampled(0.05), {(noise, noise): 20})
    assert spent(PoissonSampled(0.05), {noise: 40}) < pair < spent(AtMost(), {noise: 40})


def test_rounds_without_a_release_lie_between_a_devices_rounds() -> None:
    accountant = Accountant(AtMost(None, 4), DELTA)
    assert accountant.spent({gaussian(2.0): 3}).epsilon == accountant.spent({gaussian(2.0): 3}, 4).epsilon
    assert accountant.spent({gaussian(2.0): 3}, 5).epsilon == spent(AtMost(), {gaussian(2.0): 2})
    assert "in at most 2 of 5" in accountant.spent({gaussian(2.0): 3}, 5).sampling
    with pytest.raises(PlanError, match="rounds from the first release to the last: given 2"):
        accountant.spent({gaussian(2.0): 3}, 2)
    assert accountant.fits({gaussian(2.0): 3}, spent(AtMost(), {gaussian(2.0): 1}), 4)
    assert not accountant.fits({gaussian(2.0): 3}, spent(AtMost(), {gaussian(2.0): 1}), 5)


def test_a_share_of_delta_that_is_kept_aside_is_not_spent_on_noise() -> None:
    kept = spent(PoissonSampled(0.05, 0.25), {gaussian(2.0): 20})
    assert kept == spent(PoissonSampled(0.05), {gaussian(2.0): 20}, 0.75 * DELTA)
    with pytest.raises(PlanError, match="aside"):
        Accountant(PoissonSampled(0.05, 1.0), DELTA)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 8), st.integers(1, 4), st.integers(0, 11), st.integers(1, 3))
def test_a_correlated_round_seen_twice_shows_its_row_once_more(
    rounds: int, bands: int, separation: int, again: int, more: int
) -> None:
    """Against every pattern of participation: the rows of the strategy, those of the round that was seen again repeated."""
    again %= rounds
    first = np.linalg.inv(
        toeplitz(np.pad(coefficients(min(bands, rounds)), (0, rounds - min(bands, rounds))), np.zeros(rounds))
    )
    strategy = np.vstack([first] + [first[again : again + 1]] * more)
    worst = 0.0
    for pattern in itertools.product((0.0, 1.0), repeat=rounds):
        taken = np.flatnonzero(pattern)
        if not len(taken) or (np.diff(taken) < separation).any():
            continue
        worst = max(worst, float(np.linalg.norm(strategy @ np.array(pattern))))
    release = Release("correlated", 5.0, bands)
    counts = Counter({release: rounds - 1, (release,) * (1 + more): 1})
    assert spent(AtMost(None, separation), counts) >= dp.get_epsilon_gaussian(5.0 / worst, DELTA) * (1 - 1e-9)


def test_mixed_gaussians_are_one() -> None:
    counts = {gaussian(3.0): 2, gaussian(4.0): 5, gaussian(10.0): 100}
    # Three participations: two at 3 and one at 4.
    one = (2 / 9 + 1 / 16) ** -0.5
    assert spent(AtMost(3, 4), counts) == pytest.approx(dp.get_epsilon_gaussian(one, DELTA), rel=1e-12)
    # Of three releases two rounds apart, a device is in two at most.
    assert spent(AtMost(9, 2), {gaussian(3.0): 3}) == spent(AtMost(2), {gaussian(3.0): 2})


def test_correlated_noise_is_a_gaussian_over_its_sensitivity() -> None:
    participation = AtMost(4, 8)
    for rounds in (1, 9, 40):
        ours = spent(participation, {Release("correlated", 5.0, 6): rounds})
        one = 5.0 / sensitivity(rounds, 6, 4, 8)
        assert ours == pytest.approx(dp.get_epsilon_gaussian(one, DELTA), rel=1e-12)
    independent = epsilon(5.0, rounds=40, delta=DELTA, participation=participation).epsilon
    one_band = epsilon(
        5.0, rounds=40, delta=DELTA, participation=participation, mechanism="correlated", bands=1
    )
    assert one_band.epsilon == pytest.approx(independent, rel=1e-9)


# What every accountant must be


PARTICIPATIONS = st.one_of(
    st.builds(AtMost, st.integers(1, 20), st.integers(1, 5)),
    st.builds(FixedSize, st.integers(1, 30), st.integers(30, 100)),
)


@settings(max_examples=8, deadline=None)
@given(PARTICIPATIONS, MULTIPLIERS, st.floats(1.01, 3), st.integers(1, 100), st.integers(1, 50))
def test_less_noise_and_more_rounds_never_spend_less(
    participation: AnyParticipation, multiplier: float, more: float, rounds: int, extra: int
) -> None:
    base = spent(participation, {gaussian(multiplier): rounds})
    assert spent(participation, {gaussian(multiplier * more): rounds}) <= base
    assert spent(participation, {gaussian(multiplier): rounds + extra}) >= base
    assert spent(participation, {gaussian(multiplier): rounds, gaussian(multiplier * 2): extra}) >= base


@pytest.mark.parametrize("participation", [PoissonSampled(0.02), PoissonSampled(1.0)])
def test_less_noise_and_more_rounds_never_spend_less_when_sampled(participation: PoissonSampled) -> None:
    by_noise = [spent(participation, {gaussian(z): 20}) for z in (0.15, 0.21, 0.4, 0.7, 2.0, 40.0)]
    assert by_noise == sorted(by_noise, reverse=True)
    by_rounds = [spent(participation, {gaussian(1.0): n}) for n in (1, 10, 100)]
    assert by_rounds == sorted(by_rounds)
    for mechanism in ("discrete_gaussian", "skellam"):
        by_noise = [spent(participation, {shared(mechanism, z): 20}) for z in (0.2, 0.6, 2.0, 40.0)]
        assert by_noise == sorted(by_noise, reverse=True)


@settings(max_examples=30, deadline=None)
@given(
    st.builds(AtMost, st.integers(1, 100), st.integers(1, 10)),
    st.floats(0.05, 30),
    st.integers(1, 200),
    st.sampled_from(["gaussian", "correlated", "discrete_gaussian", "skellam"]),
)
def test_a_calibrated_plan_fits_and_with_a_per_cent_less_noise_does_not(
    participation: AtMost, budget: float, rounds: int, mechanism: str
) -> None:
    def release(multiplier: float) -> Release:
        if mechanism in ("gaussian", "correlated"):
            return Release(mechanism, multiplier, 4 if mechanism == "correlated" else 0)
        return shared(mechanism, multiplier, grid=2000.0)

    z = calibrate(epsilon=budget, delta=DELTA, rounds=rounds, participation=participation, release=release)
    assume(z > LEAST_MULTIPLIER)
    accountant = Accountant(participation, DELTA)
    assert accountant.fits({release(z): rounds}, budget)
    assert accountant.spent({release(z): rounds}).epsilon == pytest.approx(budget, rel=2e-3)
    assert not accountant.fits({release(z * 0.99): rounds}, budget)


@pytest.mark.parametrize("participation", [PoissonSampled(0.1), FixedSize(50, 1000)])
@pytest.mark.parametrize("budget", [0.5, 2.0])
def test_a_calibrated_plan_fits_when_sampled(participation: AnyParticipation, budget: float) -> None:
    z = calibrate(epsilon=budget, delta=DELTA, rounds=30, participation=participation)
    accountant = Accountant(participation, DELTA)
    assert accountant.fits({gaussian(z): 30}, budget)
    assert not accountant.fits({gaussian(z * 0.999): 30}, budget)


@pytest.mark.parametrize("mechanism", ["discrete_gaussian", "skellam"])
def test_a_calibrated_plan_of_shares_fits_when_sampled(mechanism: str) -> None:
    z = calibrate(
        epsilon=2.0,
        delta=DELTA,
        rounds=100,
        participation=PoissonSampled(0.05),
        release=lambda z: shared(mechanism, z),
    )
    accountant = Accountant(PoissonSampled(0.05), DELTA)
    assert accountant.fits({shared(mechanism, z): 100}, 2.0)
    assert not accountant.fits({shared(mechanism, z * 0.99): 100}, 2.0)


def test_a_budget_beyond_use_still_gets_some_noise() -> None:
    z = calibrate(epsilon=1e9, delta=DELTA, rounds=1, participation=AtMost(1))
    assert z == LEAST_MULTIPLIER


# fits


def test_ten_thousand_equal_releases_cost_a_handful_of_computations() -> None:
    release, participation = gaussian(30.0), AtMost(10_000)
    budget = spent(participation, {release: 7_321})
    accountant = Accountant(participation, DELTA)
    answers = [accountant.fits({release: n}, budget) for n in range(1, 10_001)]
    assert answers == [n <= 7_321 for n in range(1, 10_001)]
    assert accountant.computed <= 40
    planned = Accountant(participation, DELTA)
    assert planned.fits({release: 7_321}, budget)
    assert all(planned.fits({release: n}, budget) for n in range(1, 7_322))
    assert planned.computed == 1


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 40), st.sampled_from([0.5, 2.0, 2.1])),
        min_size=1,
        max_size=20,
    )
)
def test_fits_says_what_spent_says_in_any_order(asked: list[tuple[int, int, float]]) -> None:
    participation = AtMost(60)
    accountant = Accountant(participation, DELTA)
    for first, second, budget in asked:
        counts = {gaussian(10.0): first, gaussian(20.0): second}
        assert accountant.fits(counts, budget) == (spent(participation, counts) <= budget)


def test_a_mix_of_releases_costs_few_computations() -> None:
    """Rounds in which now one and now another number of shares came in."""
    releases = [shared("skellam", 20.0 + extra, shares=20 + extra) for extra in range(5)]
    accountant, counts, statement = Accountant(AtMost(2000), DELTA), dict.fromkeys(releases, 0), []
    for round_ in range(1500):
        counts[releases[round_ % 5]] += 1
        statement.append(accountant.fits(counts, 8.0))
    assert True in statement
    assert False in statement
    assert statement == sorted(statement, reverse=True)
    last = {release: n for release, n in counts.items() if n}
    assert statement[-1] == (spent(AtMost(2000), last) <= 8.0)
    assert accountant.computed <= 60


def test_asked_again_nothing_is_computed() -> None:
    accountant = Accountant(PoissonSampled(0.01), DELTA)
    first = accountant.spent({gaussian(1.0): 10})
    assert accountant.spent({gaussian(1.0): 10, gaussian(2.0): 0}) is first
    assert accountant.computed == 1


# What is said


def test_what_was_spent_names_all_it_rests_on() -> None:
    for participation, release, name in (
        (AtMost(3, 2), gaussian(2.0), "exact Gaussian"),
        (PoissonSampled(0.01), gaussian(2.0), "PLD"),
        (FixedSize(5, 50), gaussian(2.0), "PLD of sampling without replacement"),
        (AtMost(3), shared("skellam", 2.0), "RDP of skellam"),
        (PoissonSampled(0.1), shared("discrete_gaussian", 2.0), "Poisson sampled discrete gaussian"),
        (AtMost(3), Release("correlated", 2.0, 2), "matrix mechanism"),
    ):
        result = Accountant(participation, DELTA).spent({release: 3})
        assert result.unit == "device"
        text = str(result)
        for words in (at_most(result.epsilon), "1e-06", "device", result.relation, result.sampling, name):
            assert words in text
    nothing = Accountant(AtMost(3), DELTA).spent({})
    assert nothing.epsilon == 0
    assert Accountant(AtMost(3), DELTA).fits({}, 0.1)


def refused(match: str, call: Any, *args: Any, **kwargs: Any) -> None:
    with pytest.raises(PlanError, match=match) as caught:
        call(*args, **kwargs)
    assert caught.value.do
    assert caught.value.expected


def test_refusals() -> None:
    for delta in (0.0, 1.0, -1.0, math.nan):
        refused("delta", Accountant, AtMost(1), delta)
    for participation in (PoissonSampled(0.0), PoissonSampled(1.1), FixedSize(3, 2), AtMost(0), AtMost(1, 0)):
        refused("expected", Accountant, participation, DELTA)
    usual = {"rounds": 10, "delta": DELTA, "participation": AtMost(1)}
    for multiplier in (0.0, -1.0, math.inf, math.nan):
        refused("noise multiplier", epsilon, multiplier, **usual)
    for rounds in (0, 1.5, math.inf, math.nan):
        refused("rounds", epsilon, 1.0, **(usual | {"rounds": rounds}))
    refused("bands", epsilon, 1.0, **usual, bands=3)
    refused("bands", epsilon, 1.0, **usual, mechanism="correlated")
    refused("mechanism", epsilon, 1.0, **usual, mechanism="skellam")
    refused("gaussian", epsilon, 1.0, **usual, mechanism="gausian")
    for budget in (0.0, -1.0, math.nan, math.inf):
        refused("epsilon", calibrate, epsilon=budget, **usual)
    accountant = Accountant(AtMost(3), DELTA)
    refused("number of releases", accountant.spent, {gaussian(1.0): -1})
    refused("shares", accountant.spent, {Release("skellam", 1.0, dimension=1, l2=1, l1=1, sigma=1): 1})
    mixed = {Release("correlated", 1.0, 2): 1, Release("correlated", 1.0, 3): 1}
    refused("one multiplier", accountant.spent, mixed)
    refused("one multiplier", accountant.spent, {Release("correlated", 1.0, 2): 1, gaussian(1.0): 1})


@pytest.mark.parametrize("participation", [PoissonSampled(0.1), FixedSize(1, 10)])
def test_correlated_noise_is_refused_where_it_is_sampled(participation: AnyParticipation) -> None:
    refused("AtMost", Accountant(participation, DELTA).spent, {Release("correlated", 1.0, 2): 1})


@pytest.mark.parametrize("mechanism", ["discrete_gaussian", "skellam"])
def test_shares_are_refused_from_draws_of_fixed_size(mechanism: str) -> None:
    refused(
        "PoissonSampled or AtMost", Accountant(FixedSize(1, 10), DELTA).spent, {shared(mechanism, 1.0): 1}
    )


def test_a_budget_that_no_noise_keeps_is_refused_with_what_would_do() -> None:
    # The grid gets coarser as the noise grows, as in a modulus of fixed size: rounding costs ever more.
    def on_coarse_grid(multiplier: float) -> Release:
        built = shared("discrete_gaussian", multiplier, grid=20.0 / multiplier)
        return Release(
            built.mechanism,
            built.multiplier,
            dimension=built.dimension,
            l2=built.l2,
            l1=built.l1,
            shares=built.shares,
            sigma=20.0 / math.sqrt(built.shares),  # all the modulus holds
        )

    with pytest.raises(PlanError, match="at least") as caught:
        calibrate(epsilon=0.5, delta=DELTA, rounds=100, participation=AtMost(100), release=on_coarse_grid)
    feasible = float(caught.value.expected.split()[2].rstrip(","))
    assert feasible > 0.5
    z = calibrate(
        epsilon=feasible * 1.01, delta=DELTA, rounds=100, participation=AtMost(100), release=on_coarse_grid
    )
    accountant = Accountant(AtMost(100), DELTA)
    assert accountant.fits({on_coarse_grid(z): 100}, feasible * 1.01)


def test_a_release_that_is_refused_at_every_multiplier_says_why_itself() -> None:
    def release(multiplier: float) -> Release:
        raise PlanError("bits", given=8, expected="more", do="Raise bits.")

    with pytest.raises(PlanError, match="Raise bits"):
        calibrate(epsilon=1.0, delta=DELTA, rounds=1, participation=AtMost(1), release=release)


def test_without_dp_accounting_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == "dp_accounting":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"fairyring\[privacy\]"):
        epsilon(1.0, rounds=1, delta=DELTA, participation=AtMost(1))


def test_drawing_noise_and_reading_a_ledger_take_neither_jax_nor_an_accountant() -> None:
    code = (
        "import sys, fairyring.privacy.accounting, fairyring.privacy.planner, fairyring.privacy.source,"
        " fairyring.privacy.ledger, fairyring.privacy.local, fairyring.report.run.page;"
        "print(*sorted({'dp_accounting', 'scipy', 'jax'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_orders_are_whole_and_rise() -> None:
    for orders in (ORDERS, FIXED_SIZE_ORDERS):
        assert list(orders) == sorted(set(orders))
        assert all(isinstance(order, int) and order > 1 for order in orders)
