"""The noise of a run: of the size that was promised, and never twice the same."""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats
from scipy.signal import lfilter

from fairyring.aggregation.contract import Noise
from fairyring.core.errors import PrivacyError
from fairyring.privacy._fine import digits, fine_gaussian
from fairyring.privacy.correlated import coefficients
from fairyring.privacy.release import Release
from fairyring.privacy.source import NoiseSource, _mixed

ROOT = bytes(range(32))
COUNT = 40_000


def noise(mechanism: str = "gaussian", sigma: float = 20.0, bands: int = 0, shares: int = 0) -> Noise:
    return Noise(mechanism, sigma / 10.0, COUNT, 10.0, 100.0, 5.0, COUNT - 5, bands, shares)


def is_of_variance(drawn: np.ndarray, variance: float) -> bool:
    """Whether the mean square of independent, nearly normal numbers is that of this variance; once in 10^6 it is not."""
    low, high = stats.chi2.ppf([5e-7, 1 - 5e-7], len(drawn)) / len(drawn)
    return low <= float(np.mean(drawn.astype(float) ** 2)) / variance <= high


def are_independent(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two vectors are uncorrelated, as far as five standard deviations can tell."""
    product = np.corrcoef(first, second)[0, 1]
    return abs(product) < 5 / math.sqrt(len(first))


def test_the_server_adds_noise_of_the_promised_size():
    given = noise()
    drawn = NoiseSource(given, ROOT).of_server(1, {1: 7})
    assert drawn.dtype == np.int64
    assert is_of_variance(drawn, given.sigma**2 + 1 / 12)
    assert not is_of_variance(drawn, 1.1 * given.sigma**2)


def test_an_address_has_one_vector_and_no_other_address_has_it():
    source = NoiseSource(noise(), ROOT)
    first = source.of_server(1, {1: 7})
    assert np.array_equal(first, NoiseSource(noise(), ROOT).of_server(1, {1: 7}))
    # The reservation is the address: a round that is run again with one of its own has noise of its own.
    assert are_independent(first, source.of_server(1, {1: 8}))
    assert are_independent(first, NoiseSource(noise(), bytes(32)).of_server(1, {1: 7}))


@pytest.mark.parametrize("mechanism", ["skellam", "discrete_gaussian"])
def test_shares_add_up_to_what_was_promised(mechanism):
    given = noise(mechanism, shares=9)
    source = NoiseSource(given, ROOT)
    shares = [source.of_client(3, client) for client in range(9)]
    assert all(is_of_variance(share, given.sigma**2 / 9) for share in shares)
    assert is_of_variance(np.sum(shares, axis=0), given.sigma**2)
    assert is_of_variance(source.of_clients(3, 9), given.sigma**2)
    assert is_of_variance(source.of_clients(3, 14), given.sigma**2 * 14 / 9)
    # Four shares that are missing, and the five that are there.
    assert is_of_variance(np.sum(shares[:5], axis=0) + source.missing(3, 4), given.sigma**2)


@pytest.mark.parametrize("mechanism", ["skellam", "discrete_gaussian"])
def test_what_is_accounted_is_the_variance_of_what_was_added(mechanism):
    given = noise(mechanism, shares=9)
    for shares in (9, 14):
        release = Release.of(given, shares)
        drawn = NoiseSource(given, ROOT).of_clients(4, shares)
        assert is_of_variance(drawn, release.shares * release.sigma**2)
        assert is_of_variance(drawn, (release.multiplier * release.l2) ** 2)


def test_shares_of_clients_rounds_and_purposes_are_independent():
    source = NoiseSource(noise("skellam", shares=9), ROOT)
    vectors = [
        source.of_client(3, 0),
        source.of_client(3, 1),
        source.of_client(4, 0),
        source.of_client(0, 3),
        source.of_clients(3, 9),
        source.missing(3, 9),
    ]
    for i, first in enumerate(vectors):
        for second in vectors[:i]:
            assert are_independent(first, second)


@pytest.mark.parametrize("bands", [1, 2, 6])
def test_correlated_noise_is_the_banded_inverse_square_root_of_white_noise(bands):
    rounds = 12
    given = noise("correlated", sigma=50.0, bands=bands)
    numbers = {t: 10 + 3 * t for t in range(1, rounds + 1)}
    source = NoiseSource(given, ROOT)
    released = np.array([source.of_server(t, numbers) for t in range(1, rounds + 1)])
    white = lfilter([1.0], coefficients(bands), released, axis=0)  # the strategy itself undoes it
    for t in range(rounds):
        assert is_of_variance(white[t], given.sigma**2 + 1 / 12)
        for earlier in range(t):
            assert are_independent(white[t], white[earlier])
    # And the sums over rounds, which a model is, have less noise than with independent noise.
    if bands > 1:
        assert np.var(released.sum(axis=0)) < 0.7 * rounds * given.sigma**2
        assert not are_independent(released[0], released[1])


@pytest.mark.parametrize("finer", [1.3, 5.83, 23.31, 256.0])
def test_correlated_noise_is_on_no_grid_between_the_whole_numbers(finer):
    # Rounded from numbers on a grid so much finer, a whole number is as likely as it has numbers of that grid, which is
    # one more or less than its neighbour has. Even ones have two more at 256, where ties go to them.
    count = 2_000_000 if finer == 256 else 200_000
    given = Noise("correlated", 2.0**22 / finer / 10.0, count, 10.0, 100.0, 5.0, count - 5, 4)
    drawn = NoiseSource(given, ROOT).of_server(1, {1: 7})
    low = np.ceil((drawn - 0.5) * finer)
    high = np.floor((drawn + 0.5) * finer)
    low += np.rint(low / finer) != drawn
    high -= np.rint(high / finer) != drawn
    had = high - low + 1
    assert abs(np.mean(had) - finer) < 5 * np.std(had) / math.sqrt(count)
    assert abs(np.mean(drawn & 1) - 0.5) < 5 * 0.5 / math.sqrt(count)


@pytest.mark.parametrize("sigma", [5.0, 16_384.0, 2.0**22 / 5.83, 2.0**22])
@pytest.mark.parametrize("round", [1, 4])
def test_what_correlated_noise_tells_is_what_gaussian_noise_does(sigma, round):
    # The exact likelihood ratio of a round, with a vector in it and without, for who knows all earlier noise.
    count, bands, times, unit = 600, 4, 150, 2.0 ** digits(sigma)
    built = [fine_gaussian(sigma, count * times, bytes([t] * 32)) for t in range(round)]
    older = built[:-1]
    vector = np.random.default_rng(0).normal(size=count)
    vector = np.rint(vector / np.linalg.norm(vector) * max(1.0, 1.5 * sigma)).astype(np.int64)
    delivered = np.linalg.norm(vector) / sigma
    released = _mixed(built, bands, digits(sigma))

    def least(complete):
        """The least newest number that makes at least this whole number: int64, by bisection."""
        low, high = np.full(count * times, -(2**61)), np.full(count * times, 2**61)
        for _ in range(62):
            middle = low + (high - low) // 2
            reached = _mixed([*older, middle], bands, digits(sigma)) >= complete
            low, high = np.where(reached, low, middle), np.where(reached, middle, high)
        return high

    def logarithm(complete):
        first, last = least(complete), least(complete + 1)
        assert np.array_equal(last - first, np.full(len(first), int(unit)))  # each as many as any other
        middle = np.abs(first / unit + 0.5)
        return np.log(stats.norm.cdf((0.5 - middle) / sigma) - stats.norm.cdf((-0.5 - middle) / sigma))

    ratio = logarithm(released) - logarithm(released + np.tile(vector, times))
    ratio = ratio.reshape(times, count).sum(axis=1)
    assert abs(ratio.mean() - delivered**2 / 2) < 5 * delivered / math.sqrt(times)
    assert 0.7 < ratio.std() / delivered < 1.3


def test_what_is_left_of_earlier_noise_errs_by_no_more_than_is_stated():
    sigma, bands = 50.0, 40
    older = [fine_gaussian(sigma, 50, bytes([t] * 32)) for t in range(bands - 1)]
    behind = digits(sigma)
    # Without a point, all digits of what is left are released.
    result = _mixed([*older, np.zeros(50, np.int64)], bands, 1) * 2
    weights = coefficients(bands)
    for i in range(50):
        exact = sum(
            Fraction(float(weights[bands - 1 - t])) * (2 * int(z[i]) + 1) / 2 for t, z in enumerate(older)
        )
        assert abs(result[i] - exact) < (bands + 2) * 2.0**-49 * sigma * 2.0**behind
    for bands in range(1, 1025):
        assert 1 / coefficients(bands).sum() <= math.sqrt(math.pi * bands)


def test_correlated_noise_is_the_same_after_a_restart():
    given = noise("correlated", bands=5)
    numbers = {t: t + 2 for t in range(1, 10)}
    kept = NoiseSource(given, ROOT)
    complete = [kept.of_server(t, numbers) for t in range(1, 10)]
    for t in (1, 4, 9):
        assert np.array_equal(complete[t - 1], NoiseSource(given, ROOT).of_server(t, numbers))


def test_a_round_run_again_has_new_noise_in_it_and_the_old_of_those_before():
    given = noise("correlated", sigma=50.0, bands=4)
    numbers = {1: 1, 2: 2, 3: 3}
    once = NoiseSource(given, ROOT).of_server(3, numbers)
    again = NoiseSource(given, ROOT).of_server(3, numbers | {3: 4})
    fresh = NoiseSource(given, ROOT)
    own = [fresh.of_server(1, {1: number}) for number in (3, 4)]  # a first round is white noise alone
    assert np.abs((again - once) - (own[1] - own[0])).max() <= 2  # each rounded by itself
    assert are_independent(own[0], own[1])


def test_the_secret_is_shown_nowhere():
    source = NoiseSource(noise(), ROOT)
    for text in (repr(source), str(source), f"{source}"):
        assert ROOT.hex() not in text
        assert str(ROOT) not in text
    short = bytes(range(1, 32))
    with pytest.raises(PrivacyError) as caught:
        NoiseSource(noise(), short).of_server(1, {1: 1})
    assert "31 bytes" in str(caught.value)
    assert repr(short) not in str(caught.value)
    assert short.hex() not in str(caught.value)
