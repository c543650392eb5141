"""The scorer of membership inference, on statistics whose law is known."""

import math

import numpy as np
import pytest
from scipy import stats

from fairyring.core.errors import PlanError
from fairyring.privacy import membership as module
from fairyring.privacy.membership import Membership, auc, balanced, check_shadows, judged, lira, lower_bound


def drawn(
    distance: float, runs: int = 64, clients: int = 100, looks: int = 1, seed: int = 0, common: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Statistics that are normal, by client of another mean and spread; in, they are `distance` spreads further.

    `common` is the standard deviation of what all clients of a run have in common.
    """
    dice = np.random.default_rng(seed)
    members = balanced(runs, clients, dice)
    own = dice.standard_normal((runs, clients, looks)) + common * dice.standard_normal((runs, 1, 1))
    signs = np.where(dice.random((clients, 1)) < 0.5, -1, 1)
    spread = np.exp(dice.normal(size=(clients, 1)))
    return dice.normal(size=(clients, 1)) * 10 + spread * (
        own + signs * distance * members[..., None]
    ), members


def result(distance: float, **given: object) -> Membership:
    statistics, members = drawn(distance, **given)
    return judged(lira(statistics, members), members, rounds=30)


def test_every_client_is_in_half_of_the_runs_apart_from_all_others() -> None:
    members = balanced(64, 300, np.random.default_rng(0))
    assert (members.sum(axis=0) == 32).all()
    assert abs(np.corrcoef(members.T)[np.triu_indices(300, 1)]).mean() < 0.15
    assert members.sum(axis=1).std() > 4


@pytest.mark.parametrize(("distance", "looks"), [(0.0, 1), (1.0, 1), (2.0, 1), (1.0, 3)])
def test_the_curve_of_gaussians_is_found(distance: float, looks: int) -> None:
    built = result(distance, clients=300, looks=looks)
    # The optimal observer of two normal laws at a distance: Phi(distance / sqrt 2); looks add up.
    mu = distance * math.sqrt(looks)
    ideal = stats.norm.cdf(mu / math.sqrt(2))
    assert built.auc == pytest.approx(ideal, abs=0.03)
    assert built.auc <= ideal + 0.015  # what is estimated costs a little
    assert built.auc_low < built.auc < built.auc_high < built.auc_low + 0.05
    rate = built.rates[0]
    assert rate.fpr == pytest.approx(0.1, abs=1e-3)
    assert rate.tpr == pytest.approx(stats.norm.sf(stats.norm.isf(0.1) - mu), abs=0.06)
    false, true = built.roc()
    assert false[-1] == 1
    assert true[-1] > 0.99
    assert (np.diff(false) > 0).all()
    assert (np.diff(true) >= 0).all()
    assert np.interp(0.1, false, true) == pytest.approx(rate.tpr, abs=0.01)


def test_looks_that_say_the_same_are_not_counted_twice() -> None:
    statistics, members = drawn(1.0)
    once, twice = lira(statistics, members), lira(np.repeat(statistics, 3, axis=2), members)
    assert auc(once, members) == pytest.approx(auc(twice, members), abs=0.02)


def test_each_run_is_scored_by_others_and_not_by_its_partner() -> None:
    statistics, members = drawn(1.0, runs=12, clients=3)
    client = 1
    inside, outside = (np.flatnonzero(members[:, client] == side) for side in (True, False))
    for part in (members, ~members):
        mean, variance = module._left_out(statistics, part)
        x = statistics[:, client, 0]
        for pair in zip(inside, outside, strict=True):
            rest = part[:, client] & ~np.isin(np.arange(12), pair)
            assert mean[pair, client, 0] == pytest.approx([x[rest].mean()] * 2)
            assert variance[pair, client, 0] == pytest.approx([x[rest].var(ddof=1)] * 2)


@pytest.mark.parametrize("runs", [8, 32])
def test_what_is_no_member_is_not_told_from_one(runs: int) -> None:
    areas = [auc(lira(*given), given[1]) for given in (drawn(0.0, runs, 40, seed=seed) for seed in range(60))]
    assert np.mean(areas) == pytest.approx(0.5, abs=5 * np.std(areas) / 60**0.5)
    assert np.mean(areas) == pytest.approx(0.5, abs=0.015)


def test_auc_is_mann_and_whitney_s() -> None:
    dice = np.random.default_rng(3)
    scores, members = dice.integers(0, 9, (8, 20)).astype(float), dice.random((8, 20)) < 0.4
    inside, outside = scores[members], scores[~members]
    expected = np.mean((inside[:, None] > outside) + 0.5 * (inside[:, None] == outside))
    assert auc(scores, members) == pytest.approx(expected)


def test_the_lower_bound_is_below_what_is_true_and_not_idle() -> None:
    # Two normal laws at distance mu are (epsilon, delta) for the Gaussian mechanism's epsilon of mu.
    for mu, true in ((0.0, 0.0), (1.0, 4.38), (2.0, 9.99)):
        for seed in range(3):
            built = result(mu, runs=32, seed=seed)
            assert 0 <= built.lower < true + 1e-9
    assert result(2.0, clients=200).lower > 2
    assert result(1.0, clients=200).lower > 0.8


@pytest.mark.parametrize("alike", [False, True])
def test_what_a_run_s_clients_have_in_common_does_not_pass_for_evidence(alike: bool) -> None:
    """Scores that are not about members, and move together in a run; with `alike`, all clients are in the same runs."""
    above = naive = 0
    for seed in range(40):
        dice = np.random.default_rng(seed)
        members = balanced(24, 200, dice)
        if alike:
            members = np.repeat(members[:, :1], 200, axis=1)
        scores = dice.standard_normal((24, 1)) + 0.3 * dice.standard_normal((24, 200))
        above += lower_bound(scores, members, 0.0, 0.95) > 0
        naive += lower_bound(scores.reshape(1, -1), members.reshape(1, -1), 0.0, 0.95) > 0
    assert above <= stats.binom.isf(1e-3, 40, 0.05)
    assert naive > 20 or not alike


def test_a_claim_below_the_bound_is_contradicted() -> None:
    statistics, members = drawn(2.0, clients=200)
    scores = lira(statistics, members)
    for claimed, holds in ((1.0, False), (10.0, True), (math.inf, True), (None, True)):
        built = judged(scores, members, rounds=30, claimed=claimed, delta=1e-5)
        assert built.holds is holds
        assert built.describe()["holds"] is holds
        assert ("is claimed" in built.statement) is (claimed is not None)
        assert ("of a client with all its examples this plan claims none" in built.statement) is (
            claimed is None
        )
    assert "AUC of" in built.statement
    assert f"{members.shape[0]} runs of 30 rounds" in built.statement
    assert "each with half of 200 clients, of whom nobody drops out" in built.statement
    assert "Epsilon is not below" in built.statement
    blind = judged(np.zeros(members.shape), members, rounds=30)
    assert "Of epsilon this shows nothing, with 99.9 % confidence" in blind.statement


def test_rates_too_small_for_the_runs_are_left_out() -> None:
    built = result(1.0, runs=8, clients=4)
    assert [rate.false for rate in built.rates] == [1, 0, 0]
    assert math.isnan(built.rates[2].tpr)


def test_a_delta_above_the_true_positives_bounds_nothing() -> None:
    statistics, members = drawn(1.0)
    scores = lira(statistics, members)
    assert lower_bound(scores, members, 0.999, 0.999) == 0.0
    assert lower_bound(scores, members, 0.1, 0.999) <= lower_bound(scores, members, 0.0, 0.999)


@pytest.mark.parametrize(
    ("shadows", "confidence"), [(6, 0.999), (9, 0.999), (True, 0.999), (64.0, 0.999), (64, 0.5), (64, 1.0)]
)
def test_what_tells_nothing_is_refused(shadows: object, confidence: float) -> None:
    with pytest.raises(PlanError, match="membership"):
        check_shadows(shadows, confidence)  # pyright: ignore[reportArgumentType]
