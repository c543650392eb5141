"""The canary audit: exact where it can be, no false alarm on an honest run, and every planted fault is caught."""

import math
import re
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import root_scalar
from scipy.stats import kstest, norm

from fairyring.core.errors import PlanError, PrivacyError
from fairyring.privacy import canaries as module
from fairyring.privacy._distinguishing import epsilon_between
from fairyring.privacy.canaries import Audit, Canaries, Estimate, canary, verdict

DELTA = 1e-5
DIMENSION = 10_000


def gaussian_epsilon(mu: float, delta: float = DELTA) -> float:
    """Of the Gaussian mechanism with sensitivity over noise `mu`, written another way than the product does."""

    def excess(epsilon: float) -> float:
        far = norm.logcdf(-mu / 2 - epsilon / mu)
        return float(norm.cdf(mu / 2 - epsilon / mu) - np.exp(epsilon + far)) - delta

    return float(root_scalar(excess, bracket=(0.0, mu * mu + 10 * mu + 1)).root)


@partial(jax.jit, static_argnums=(1, 2))
def _directions(key: jax.Array, count: int, dimension: int) -> jax.Array:
    return jax.vmap(lambda j: canary(key, j, dimension))(jnp.arange(count))


def directions(seed: int, count: int, dimension: int) -> np.ndarray:
    return np.asarray(_directions(jax.random.key(seed), count, dimension))


def audited(
    seed: int, releases: np.ndarray, taken: np.ndarray, confidence: float = 0.999, known: bool = True
):
    """An audit of releases `[T, d]` in which canaries took part as `taken` `[T, k]` says."""
    audit = Audit(releases.shape[1], jax.random.key(seed), Canaries(taken.shape[1], confidence), known=known)
    for release, part in zip(releases, taken, strict=True):
        audit.record(release, np.flatnonzero(part))
    return audit


def schedule(rng: np.random.Generator, rounds: int, count: int, times: int) -> np.ndarray:
    """Each canary in `times` of the rounds, by chance: bool `[T, k]`."""
    return rng.random((rounds, count)).argsort(axis=0) < times


def honest(seed: int, taken: np.ndarray, dimension: int, noise: float, size: float = 1.0) -> np.ndarray:
    """Sums of canaries and of some clients who pull the same way, with independent noise: `[T, d]`."""
    rng = np.random.default_rng(seed)
    sums = size * taken.astype(np.float32) @ directions(seed, taken.shape[1], dimension)
    drift = rng.standard_normal(dimension) * (0.1 * noise)
    return sums + drift + noise * rng.standard_normal(sums.shape)


# Epsilon of two normal distributions


@settings(max_examples=60, deadline=None)
@given(st.floats(0.05, 12.0), st.floats(0.3, 3.0), st.sampled_from([1e-2, 1e-5, 1e-8]))
def test_epsilon_is_where_the_larger_divergence_is_delta(mean: float, std: float, delta: float) -> None:
    epsilon = epsilon_between(mean, std, delta)

    def divergence(first: tuple[float, float], second: tuple[float, float]) -> float:
        x = np.linspace(first[0] - 12 * first[1], first[0] + 12 * first[1], 100_001)
        p, q = norm.logpdf(x, *first), norm.logpdf(x, *second)
        return float(np.trapezoid(np.exp(p) * -np.expm1(np.minimum(epsilon + q - p, 0.0)), x))

    worst = max(divergence((0.0, 1.0), (mean, std)), divergence((mean, std), (0.0, 1.0)))
    if epsilon == 0.0:
        assert worst <= delta * 1.01
    else:
        assert worst == pytest.approx(delta, rel=0.02)


@settings(max_examples=60, deadline=None)
@given(st.floats(0.05, 30.0), st.sampled_from([1e-2, 1e-5, 1e-10]))
def test_epsilon_of_equal_spreads_is_that_of_the_gaussian_mechanism(mu: float, delta: float) -> None:
    assert norm.cdf(mu / 2) - norm.cdf(-mu / 2) <= delta or epsilon_between(mu, 1.0, delta) == pytest.approx(
        gaussian_epsilon(mu, delta), rel=1e-6
    )
    # The quadratic with next to no curvature is the line.
    assert epsilon_between(mu, 1.0 + 1e-8, delta) == pytest.approx(epsilon_between(mu, 1.0, delta), rel=1e-5)
    assert epsilon_between(-mu, 1.0, delta) == epsilon_between(mu, 1.0, delta)


def test_epsilon_of_what_cannot_be_mistaken_is_huge_and_finite() -> None:
    assert epsilon_between(0.0, 1.0, DELTA) == 0.0
    assert epsilon_between(1e5, 1.0, DELTA) == pytest.approx(0.5e10, rel=0.01)
    assert math.isfinite(epsilon_between(1e5, 7.0, DELTA))


# The directions


@pytest.mark.parametrize("dimension", [1, 100, 8191, 8192, 20_001])
def test_a_canary_is_a_unit_vector_of_fair_signs(dimension: int) -> None:
    first, second = directions(3, 2, dimension)
    assert first.shape == (dimension,)
    assert first.dtype == np.float32
    assert len(np.unique(np.abs(first))) == 1
    assert np.linalg.norm(first.astype(np.float64)) == pytest.approx(1.0, rel=1e-6)
    if dimension >= 100:
        for product in (first @ second, first.mean() * math.sqrt(dimension)):
            assert abs(product) < 5 / math.sqrt(dimension)


def test_a_canary_depends_on_its_key_and_index_alone() -> None:
    key = jax.random.key(5)
    alone = np.asarray(canary(key, 4, 9000))
    np.testing.assert_array_equal(alone, directions(5, 6, 9000)[4])
    assert not np.array_equal(alone, np.asarray(canary(jax.random.key(6), 4, 9000)))
    # The signs of one chunk are not those of another.
    longer = np.asarray(canary(key, 4, 16_384))
    assert abs(np.sign(longer[:8192]) @ np.sign(longer[8192:])) < 5 * math.sqrt(8192)


def test_the_audit_draws_the_same_canaries() -> None:
    dimension = 9000
    rng = np.random.default_rng(0)
    release = 3 * directions(2, 40, dimension)[17] + 0.01 * rng.standard_normal(dimension)
    taken = np.ones((1, 40), bool)
    assert audited(2, release[None], taken).scores().scores.argmax() == 17
    assert audited(3, release[None], taken).scores().scores.max() < 5


# Chance


@pytest.mark.parametrize("rounds", [1, 6, 40, 700])
def test_directions_that_had_no_part_score_standard_normal(rounds: int) -> None:
    rng = np.random.default_rng(rounds)
    dimension, count = 1000, 200
    releases = rng.standard_normal((rounds, dimension)) * rng.uniform(0.1, 10, (rounds, 1))
    releases += rng.standard_normal(dimension) * (rng.random(dimension) < 0.1) * 5
    scores = audited(1, releases, schedule(rng, rounds, count, max(1, rounds // 2))).scores().scores
    assert len(scores) == count
    assert kstest(scores, "norm").pvalue > 1e-3


def test_an_honest_gaussian_is_measured_exactly() -> None:
    rng = np.random.default_rng(0)
    taken = schedule(rng, 12, 200, 5)
    estimate = audited(0, honest(0, taken, DIMENSION, 3.0), taken).estimate(DELTA)
    mu = math.sqrt(5) / 3
    assert estimate.mean == pytest.approx(mu, abs=4 / math.sqrt(200))
    assert estimate.std == pytest.approx(1.0, abs=4 / math.sqrt(400))
    assert estimate.lower < gaussian_epsilon(mu) < 2 * estimate.lower
    assert estimate.epsilon == pytest.approx(gaussian_epsilon(mu), rel=0.3)
    assert estimate.canaries == 200


def test_a_tight_claim_fails_as_seldom_as_the_confidence_says() -> None:
    runs, dimension, noise = 250, 1200, 1.5
    taken = np.ones((2, 30), bool)
    claim = gaussian_epsilon(math.sqrt(2) / noise)
    lower = []
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        sums = taken.astype(np.float32) @ directions(seed, 30, dimension)
        releases = sums + noise * rng.standard_normal(sums.shape)
        lower.append(audited(seed, releases, taken, confidence=0.9).estimate(DELTA).lower)
    alarms = float(np.mean(np.asarray(lower) > claim))
    assert alarms <= 0.1 + 3 * math.sqrt(0.1 * 0.9 / runs)
    # Nor is the bound idle: it is about as near as 30 canaries allow.
    assert alarms > 0.01
    assert np.mean(lower) > 0.6 * claim


@pytest.mark.parametrize("noise", [1.0, 4.0, 30.0])
def test_no_false_alarm_where_releases_and_canaries_crowd_a_small_model(noise: float) -> None:
    for seed in range(6):
        taken = np.ones((60, 300), bool)
        estimate = audited(seed, honest(seed, taken, 650, noise), taken, confidence=0.99).estimate(DELTA)
        assert verdict(gaussian_epsilon(math.sqrt(60) / noise), estimate)
        assert estimate.std < 1.2


def test_no_false_alarm_with_more_releases_than_parameters() -> None:
    taken = np.ones((900, 100), bool)
    estimate = audited(0, honest(0, taken, 400, 25.0), taken).estimate(DELTA)
    claim = gaussian_epsilon(math.sqrt(900) / 25)
    assert 0.05 * claim < estimate.lower < claim
    unclipped = audited(0, honest(0, taken, 400, 25.0, size=100.0), taken).estimate(DELTA)
    assert not verdict(claim, unclipped)


def test_correlated_noise_is_whitened() -> None:
    rng = np.random.default_rng(3)
    rounds, dimension, noise = 16, DIMENSION, 2.0
    coefficients = np.cumprod([1.0, *[(k - 1.5) / k for k in range(1, 8)]])
    mixing = sum(c * np.eye(rounds, k=-i) for i, c in enumerate(coefficients))
    taken = np.zeros((rounds, 200), bool)
    taken[::8] = True
    releases = taken.astype(np.float32) @ directions(3, 200, dimension)
    releases = releases + mixing @ (noise * rng.standard_normal((rounds, dimension)))
    strategy = np.linalg.inv(mixing)
    mu = float(np.linalg.norm(strategy[:, ::8].sum(axis=1))) / noise
    estimate = audited(3, releases, taken).estimate(DELTA)
    assert estimate.mean == pytest.approx(mu, abs=0.2)
    assert verdict(gaussian_epsilon(mu), estimate)
    # Whoever took that noise for independent would claim less than is spent.
    assert not verdict(gaussian_epsilon(0.6 * mu), estimate)


def test_secret_sampling_is_not_held_against_a_claim_that_rests_on_it() -> None:
    accounting = pytest.importorskip("dp_accounting")
    from dp_accounting.rdp import RdpAccountant

    rng = np.random.default_rng(4)
    rounds, noise, rate = 40, 1.0, 0.1
    event = accounting.PoissonSampledDpEvent(rate, accounting.GaussianDpEvent(noise))
    claim = RdpAccountant().compose(event, rounds).get_epsilon(DELTA)
    taken = rng.random((rounds, 200)) < rate
    releases = honest(4, taken, DIMENSION, noise)
    unknown = audited(4, releases, taken, known=False).estimate(DELTA)
    assert verdict(claim, unknown)
    assert unknown.canaries == 200
    # One who knows who took part is not covered by this claim, and sees more than it allows.
    assert not verdict(claim, audited(4, releases, taken).estimate(DELTA))


def test_unclipped_canaries_are_seen_without_knowing_when() -> None:
    taken = np.random.default_rng(5).random((20, 200)) < 0.2
    estimate = audited(5, honest(5, taken, DIMENSION, 1.0, size=100.0), taken, known=False).estimate(DELTA)
    assert not verdict(gaussian_epsilon(math.sqrt(20)), estimate)


# Planted faults

ROUNDS, NOISE, TIMES = 10, 3.0, 4


def no_fault(seed: int, taken: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return honest(seed, taken, DIMENSION, NOISE), taken


def no_clip(seed: int, taken: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return honest(seed, taken, DIMENSION, NOISE, size=100.0), taken


def half_the_noise(seed: int, taken: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return honest(seed, taken, DIMENSION, NOISE / 2), taken


def unbounded_weight(seed: int, taken: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The clip holds, but a client with many examples counts eight times."""
    return honest(seed, taken, DIMENSION, NOISE, size=8.0), taken


def noise_reused_on_a_retry(seed: int, taken: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round 5 is released twice with one draw of noise; the second time a tenth of its canaries has left."""
    releases = honest(seed, taken, DIMENSION, NOISE)
    left = taken[5] & (np.random.default_rng(seed).random(taken.shape[1]) < 0.1)
    again = releases[5] - left.astype(np.float32) @ directions(seed, taken.shape[1], DIMENSION)
    return np.vstack([releases, again]), np.vstack([taken, taken[5] & ~left])


def noise_in_a_quarter_of_the_coordinates(seed: int, taken: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    releases = honest(seed, taken, DIMENSION, NOISE)
    quiet = honest(seed, taken, DIMENSION, 0.01)
    return np.where(np.arange(DIMENSION) < DIMENSION // 4, releases, quiet), taken


def no_noise(seed: int, taken: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return taken.astype(np.float32) @ directions(seed, taken.shape[1], DIMENSION), taken


Fault = Callable[[int, np.ndarray], tuple[np.ndarray, np.ndarray]]


def outcome(fault: Fault, seed: int) -> tuple[float, Estimate]:
    """The claim, exact for what the run was meant to be, with a retry counted; and what the canaries showed."""
    rng = np.random.default_rng(seed)
    releases, taken = fault(seed, schedule(rng, ROUNDS, 200, TIMES))
    times = int(taken.sum(axis=0).max())
    return gaussian_epsilon(math.sqrt(times) / NOISE), audited(seed, releases, taken).estimate(DELTA)


@pytest.mark.parametrize("seed", range(5))
def test_the_run_without_a_fault_passes(seed: int) -> None:
    assert verdict(*outcome(no_fault, seed))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "fault",
    [
        no_clip,
        no_noise,
        half_the_noise,
        unbounded_weight,
        noise_reused_on_a_retry,
        noise_in_a_quarter_of_the_coordinates,
    ],
)
def test_a_planted_fault_is_caught(fault: Fault, seed: int) -> None:
    claim, estimate = outcome(fault, seed)
    assert not verdict(claim, estimate), (claim, estimate)


def test_no_clip_is_caught_among_many_canaries_of_a_small_model() -> None:
    taken = np.ones((3, 300), bool)
    estimate = audited(0, honest(0, taken, 650, 1.0, size=1000.0), taken).estimate(DELTA)
    assert not verdict(gaussian_epsilon(math.sqrt(3)), estimate)


# The request and the record


@pytest.mark.parametrize("count", [29, 0, 30.0, True])
def test_too_few_canaries_are_refused(count: int) -> None:
    with pytest.raises(PlanError, match="canaries count"):
        Canaries(count)


@pytest.mark.parametrize("confidence", [0.5, 1.0, float("nan")])
def test_a_confidence_that_is_none_is_refused(confidence: float) -> None:
    with pytest.raises(PlanError, match="confidence"):
        Canaries(confidence=confidence)


def test_what_cannot_be_audited_is_refused() -> None:
    key = jax.random.key(0)
    with pytest.raises(PlanError, match="99 parameters"):
        Audit(99, key, Canaries())
    audit = Audit(100, key, Canaries())
    for release in (np.zeros(101), np.full(100, np.nan)):
        with pytest.raises(PrivacyError, match="100 finite numbers"):
            audit.record(release, np.arange(3))
    for taken in ([1000], [-1]):
        with pytest.raises(PrivacyError, match="indices"):
            audit.record(np.zeros(100), np.asarray(taken))
    assert len(audit) == 0
    with pytest.raises(PlanError, match="delta"):
        audit.estimate(0.0)


@pytest.mark.parametrize("known", [True, False])
def test_nothing_is_concluded_from_nothing(known: bool) -> None:
    audit = Audit(200, jax.random.key(0), Canaries(), known=known)
    for _ in range(2):
        estimate = audit.estimate(DELTA)
        assert (estimate.epsilon, estimate.lower, estimate.canaries) == (0.0, 0.0, 0)
        assert "nothing is known" in estimate.statement
        assert verdict(0.0, estimate)
        audit.record(np.random.default_rng(0).standard_normal(200), np.zeros(0))


def test_empty_releases_and_absent_canaries_are_left_out() -> None:
    taken = np.ones((3, 60), bool)
    taken[:, 40:] = False
    releases = honest(0, taken, 2000, 1.0)
    releases[1] = 0.0
    estimate = audited(0, releases, taken).estimate(DELTA)
    assert estimate.canaries == 40
    assert estimate.mean == pytest.approx(math.sqrt(2), abs=0.7)


def test_sizes_are_the_parts_of_a_canary() -> None:
    rng = np.random.default_rng(0)
    taken = np.ones((2, 200), bool)
    sums = taken.astype(np.float32) @ directions(0, 200, DIMENSION)
    # A clip ten times smaller in the second release, beside the same noise.
    releases = sums * np.array([[1.0], [0.1]]) + rng.standard_normal(sums.shape)
    means = []
    for sizes in [(1.0, 1.0), (1.0, 0.1)]:
        audit = Audit(DIMENSION, jax.random.key(0), Canaries(200))
        for release, size in zip(releases, sizes, strict=True):
            audit.record(release, np.arange(200), size)
        means.append(audit.estimate(DELTA).mean)
    assert means[1] == pytest.approx(math.sqrt(1.01), abs=0.3)
    assert means[1] > means[0] + 0.1


def test_releases_on_disk_give_the_same_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = schedule(np.random.default_rng(0), 7, 40, 3)
    releases = honest(0, taken, 9000, 1.0)
    kept = audited(0, releases, taken).scores()
    monkeypatch.setattr(module, "_IN_MEMORY", 3 * 4 * 9000)
    audit = audited(0, releases, taken)
    assert audit._file is not None
    assert audit._rows == []
    np.testing.assert_array_equal(audit.scores().scores, kept.scores)
    np.testing.assert_array_equal(audit.scores().scores, kept.scores)  # and again


def test_the_statement_has_the_numbers() -> None:
    words = Estimate(3.21, 2.87, 0.512, 1.01, 1000, 1e-6, 0.999).statement
    assert re.findall(r"\d[\d.,e-]*\d", words) == ["1,000", "0.512", "1e-06", "3.21", "99.9", "2.87"]
    assert "took part" not in words


def test_the_statement_says_who_had_no_part_and_what_shows_nothing() -> None:
    built = Estimate(0.4, 0.0, 0.05, 1.01, 85, 1e-6, 0.999, 100)
    assert built.statement.startswith("85 of 100 canaries took part; they score 0.05 on average")
    assert built.statement.endswith("epsilon is about 0.4, and with 99.9 % confidence this shows nothing.")
    everyone = np.arange(100) < 85
    audit = audited(0, honest(0, np.tile(everyone, (4, 1)), 9000, 1.0), np.tile(everyone, (4, 1)))
    assert (audit.estimate(1e-6).canaries, audit.estimate(1e-6).requested) == (85, 100)
