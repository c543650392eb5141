"""A Gaussian of many binary digits: of its law within the steps it is drawn by, and the same everywhere."""

import hashlib

import numpy as np
import pytest
from scipy import stats
from scipy.special import ndtr

from fairyring.privacy import _fine
from fairyring.privacy._fine import digits, fine_gaussian, floored_gaussian
from fairyring.privacy.sampling import rounded_gaussian

KEY = bytes(range(32))


def chance(drawn: np.ndarray, sigma: float) -> float:
    """How likely numbers of the law `floor(sigma Z)` are to be as far from it as these (chi-square)."""
    edges = np.arange(np.floor(-2.5 * sigma), np.ceil(2.5 * sigma) + 1)
    expected = np.diff(np.concatenate([[0], ndtr(edges / sigma), [1]])) * len(drawn)
    observed = np.bincount(np.searchsorted(edges, drawn, side="right"), minlength=len(expected))
    return float(stats.chi2.sf(((observed - expected) ** 2 / expected).sum(), len(expected) - 1))


@pytest.mark.parametrize(("coarse", "bits"), [(0.5, 3), (1.0, 3), (25.0, 1)])
def test_numbers_are_of_their_law_within_a_step(coarse, bits):
    drawn = floored_gaussian(coarse, bits, 6_000, KEY)
    assert chance(drawn, coarse * 2**bits) > 1e-5


def test_places_drawn_uniformly_do_not_pass():
    steps = rounded_gaussian(0.5, 6_000, KEY)
    places = np.random.default_rng(0).integers(-4, 4, len(steps))
    assert chance(8 * steps + places, 4.0) < 1e-12


@pytest.mark.parametrize("sigma", [0.3, 1.0, 50.0, 719_800.0, 2.0**22])
def test_there_are_fifty_seven_digits_to_a_standard_deviation(sigma):
    assert 2.0**57 <= sigma * 2.0 ** digits(sigma) < 2.0**58
    drawn = fine_gaussian(sigma, 50_000, KEY)
    assert stats.kstest(drawn / 2.0 ** digits(sigma) / sigma, "norm").pvalue > 1e-5
    # From the last digit to those above the step: each a fair coin.
    for digit in range(45):
        ones = int(np.count_nonzero(drawn >> digit & 1))
        assert stats.binomtest(ones, len(drawn)).pvalue > 1e-6, digit


def test_few_are_decided_by_decimals_and_by_the_density(monkeypatch):
    asked = []
    settled = _fine._settled
    monkeypatch.setattr(_fine, "_settled", lambda *given: asked.append(given) or settled(*given))
    drawn = fine_gaussian(1.0, 600_000, KEY)
    assert 0 < len(asked) < 40
    assert np.abs(drawn).max() < 13 * 2.0**58
    # A coin of 28 ones, 12 standard deviations out: the near end of the step is taken, the far end is drawn again.
    step, bits = 12 << 21, 36
    near, far = (1 << 64) - (1 << bits), (1 << 64) - 1
    lowest = (step << bits) - (1 << bits - 1)
    assert settled(2.0**21, bits, step, near, KEY) == lowest
    assert settled(2.0**21, bits, step, far, KEY) != lowest + (1 << bits) - 1
    assert settled(2.0**21, bits, -step, far, KEY) == -lowest - 1
    assert settled(2.0**21, bits, -step, near, KEY) != -lowest - (1 << bits)


def test_a_number_depends_on_its_key_and_place_alone():
    many = fine_gaussian(50.0, 100_000, KEY)
    assert np.array_equal(many[:40_000], fine_gaussian(50.0, 40_000, KEY))
    other = fine_gaussian(50.0, 100_000, bytes(32))
    assert abs(np.corrcoef(many, other)[0, 1]) < 5 / np.sqrt(len(many))
    assert abs(np.corrcoef(many[: 1 << 15], many[1 << 15 : 2 << 15])[0, 1]) < 5 / np.sqrt(1 << 15)


def test_a_key_has_the_same_numbers_as_ever():
    digest = hashlib.sha256(fine_gaussian(50.0, 100_000, KEY).astype("<i8").tobytes()).hexdigest()
    assert digest == "c14f717868061363ecc823b3fece77aff25f4e045768324e0688cf031b43bcc3"
