"""Noise correlated over rounds: matrices written out, and every way to take part tried."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairyring.core.errors import PlanError
from fairyring.privacy.correlated import MAXIMUM_BANDS, choose_bands, coefficients, noise_error, sensitivity


def noise_matrix(rounds: int, bands: int) -> np.ndarray:
    """Row t: what of z is in the noise of round t."""
    r = np.zeros(rounds)
    r[: min(bands, rounds)] = coefficients(bands)[:rounds]
    return np.array([[r[t - s] if t >= s else 0.0 for s in range(rounds)] for t in range(rounds)])


def patterns(rounds: int, times: int, separation: int) -> list[tuple[int, ...]]:
    """Every set of rounds that one device may be in."""
    return [
        chosen
        for count in range(1, times + 1)
        for chosen in itertools.combinations(range(rounds), count)
        if all(later - sooner >= separation for sooner, later in itertools.pairwise(chosen))
    ]


def brute_force(rounds: int, bands: int, times: int, separation: int) -> float:
    strategy = np.linalg.inv(noise_matrix(rounds, bands))
    # All entries are positive, so no signs and no directions of the vectors sent do worse than equal ones.
    assert (strategy > -1e-12).all()
    return max(
        float(np.linalg.norm(strategy[:, list(p)].sum(axis=1))) for p in patterns(rounds, times, separation)
    )


def test_the_coefficients_square_to_one_minus_x() -> None:
    r = coefficients(40)
    assert np.convolve(r, r)[:40] == pytest.approx([1.0, -1.0] + [0.0] * 38, abs=1e-15)
    assert r[:4] == pytest.approx([1.0, -0.5, -0.125, -0.0625])
    assert coefficients(1) == pytest.approx([1.0])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 11), st.integers(1, 12), st.integers(1, 5), st.integers(1, 6))
def test_no_pattern_of_participation_moves_more_than_the_sensitivity(
    rounds: int, bands: int, times: int, separation: int
) -> None:
    exact = brute_force(rounds, bands, times, separation)
    assert sensitivity(rounds, bands, times, separation) == pytest.approx(exact, rel=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 9), st.integers(1, 9))
def test_no_other_vectors_do_worse_than_equal_ones(seed: int, rounds: int, bands: int) -> None:
    rng = np.random.default_rng(seed)
    strategy = np.linalg.inv(noise_matrix(rounds, bands))
    sent = np.zeros((rounds, 3))
    sent[::2] = rng.normal(size=sent[::2].shape)
    sent[::2] /= np.linalg.norm(sent[::2], axis=1, keepdims=True)
    assert np.linalg.norm(strategy @ sent) <= sensitivity(rounds, bands, rounds, 2) * (1 + 1e-12)


@pytest.mark.parametrize(("rounds", "bands"), [(1, 1), (7, 3), (30, 30), (30, 50), (64, 8)])
def test_the_error_is_that_of_the_matrices(rounds: int, bands: int) -> None:
    sums = np.tril(np.ones((rounds, rounds))) @ noise_matrix(rounds, bands)
    exact = math.sqrt((sums**2).sum() / rounds)
    assert noise_error(rounds, bands) == pytest.approx(exact, rel=1e-12)


def test_a_published_comparison() -> None:
    def error(bands: int) -> float:
        return noise_error(512, bands) * sensitivity(512, bands, 8, 64)

    assert error(32) == pytest.approx(9.98, abs=0.005)
    assert error(1) == pytest.approx(45.3, abs=0.005)
    assert error(choose_bands(512, 8, 64)) <= error(32)


def test_independent_noise_is_one_band() -> None:
    assert sensitivity(100, 1, 7, 10) == pytest.approx(math.sqrt(7))
    assert sensitivity(100, 1, 20, 10) == pytest.approx(math.sqrt(10))  # there is no room for more
    assert noise_error(100, 1) == pytest.approx(math.sqrt(101 / 2))


def test_sensitivity_grows_with_the_rounds_so_far() -> None:
    grown = [sensitivity(rounds, 8, 4, 10) for rounds in range(1, 80)]
    assert all(sooner <= later for sooner, later in itertools.pairwise(grown))
    assert grown[0] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("rounds", "times", "separation"),
    [(1, 1, 1), (7, 2, 3), (60, 1, 1), (100, 100, 1), (120, 6, 20), (200, 3, 50)],
)
def test_no_number_of_bands_is_better_than_the_chosen(rounds: int, times: int, separation: int) -> None:
    errors = {
        bands: noise_error(rounds, bands) * sensitivity(rounds, bands, times, separation)
        for bands in range(1, rounds + 1)
    }
    assert errors[choose_bands(rounds, times, separation)] == pytest.approx(min(errors.values()), rel=1e-12)


def test_the_choice_is_capped() -> None:
    assert choose_bands(4000, 2, 2000) <= MAXIMUM_BANDS


def test_refusals() -> None:
    with pytest.raises(PlanError, match="bands"):
        coefficients(0)
    for arguments in ((0, 1, 1, 1), (5, 0, 1, 1), (5, 1, 0, 1), (5, 1, 1, 0)):
        with pytest.raises(PlanError, match="whole number from 1"):
            sensitivity(*arguments)
    with pytest.raises(PlanError, match="rounds"):
        noise_error(0, 1)
    with pytest.raises(PlanError, match="rounds"):
        choose_bands(0, 1, 1)
