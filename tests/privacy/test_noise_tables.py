"""The tables of integer noise against mpmath, digit by digit; and what is drawn from them, bit by bit."""

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairyring.privacy._alias import TOTAL_BITS, Alias
from fairyring.privacy._laws import ONE, DiscreteGaussian, Law, RoundedGaussian, Skellam, fixed_exp
from fairyring.privacy.entropy import derive, words
from fairyring.privacy.sampling import _Cells, _sampler, _Table

KEY = bytes(range(32))
KINDS = [RoundedGaussian, DiscreteGaussian, Skellam]
LARGE: list[Law] = [
    RoundedGaussian(1100.0),
    RoundedGaussian(50_000.0),
    DiscreteGaussian(50_000.0),
    Skellam(4096.0**2),
]


# --- tables, against mpmath


def weights_of(table: Alias) -> list[int]:
    """The exact probability of each number, in units of 2^-128, read back from the table's arrays."""
    room = 1 << TOTAL_BITS - table.bits
    result = [0] * len(table.borders)
    for cell, (high, low, other) in enumerate(
        zip(table.borders.tolist(), table.beyond.tolist(), table.others.tolist(), strict=True)
    ):
        own = (high << 64) + low - cell * room
        assert 0 <= own <= room
        result[cell] += own
        result[other] += room - own
    return result


def reference(law: Law) -> Callable[[int], object]:
    """The probability of a number, from mpmath in 400 bits."""
    mp = pytest.importorskip("mpmath").mp.clone()
    mp.prec = 400
    sigma = mp.mpf(law.sigma)
    if isinstance(law, Skellam):
        if law.variance < 1000:
            return lambda k: mp.exp(-mp.mpf(law.variance)) * mp.besseli(k, law.variance)
        # A Fourier sum over the law's characteristic function; its error is the law 50 deviations away.
        variance, points = mp.mpf(law.variance), int(64 * law.sigma) + 800
        angles = [
            2 * mp.pi * j / points for j in range(points) if min(j, points - j) < points * 4 / law.sigma + 1
        ]
        heights = [mp.exp(variance * (mp.cos(angle) - 1)) / points for angle in angles]
        return lambda k: mp.fdot(heights, [mp.cos(k * angle) for angle in angles])
    if isinstance(law, DiscreteGaussian):
        # Poisson's sum of the series over all numbers where that converges sooner.
        terms = range(-120, 121)
        total = mp.fsum(mp.exp(-(k**2) / (2 * sigma**2)) for k in terms)
        if sigma > 1:
            total = sigma * mp.sqrt(2 * mp.pi) * mp.fsum(mp.exp(-2 * (mp.pi * sigma * k) ** 2) for k in terms)
        return lambda k: mp.exp(-(mp.mpf(k) ** 2) / (2 * sigma**2)) / total
    root = sigma * mp.sqrt(2)
    return lambda k: (mp.erfc((abs(k) - mp.mpf(0.5)) / root) - mp.erfc((abs(k) + mp.mpf(0.5)) / root)) / 2


@pytest.mark.parametrize("law", [kind(p) for kind in KINDS for p in (0.3, 1.7, 12.5)])
def test_a_table_is_within_its_bound_of_the_law(law: Law) -> None:
    sampler = _sampler(law)
    assert isinstance(sampler, _Table)
    weights = weights_of(sampler.alias)
    assert sum(weights) == 1 << TOTAL_BITS
    width = 2 * sampler.largest + 1
    assert not any(weights[width:])
    assert weights[:width] == weights[:width][::-1]
    assert sampler.largest + 1 >= 12 * law.sigma
    probability = reference(law)
    apart = missing = 0
    for k in range(2 * sampler.largest):
        exact = int(probability(k) * 2**200)  # pyright: ignore[reportOperatorIssue]
        ours = weights[k + sampler.largest] << 72 if k <= sampler.largest else 0
        apart += abs(ours - exact) * (2 if k else 1)
        missing += 2 * exact * (ours == 0 and k > sampler.largest)
    assert apart / 2 < 2**200 / 2**110
    assert missing < 2**200 / 2**118


@pytest.mark.parametrize(
    "law", [RoundedGaussian(500.0), RoundedGaussian(1024.0), DiscreteGaussian(900.0), Skellam(90_000.0)]
)
def test_numbers_of_a_large_table_have_their_probability(law: Law) -> None:
    sampler = _sampler(law)
    assert isinstance(sampler, _Table)
    weights = weights_of(sampler.alias)
    assert sum(weights) == 1 << TOTAL_BITS
    assert sampler.largest >= 12 * law.sigma
    probability = reference(law)
    for k in sorted({int(sampler.largest * share**2) for share in np.linspace(0, 1, 25)}):
        exact = int(probability(k) * 2**TOTAL_BITS)  # pyright: ignore[reportOperatorIssue]
        assert weights[sampler.largest - k] == weights[sampler.largest + k]
        # Zero takes what is left of rounding all others.
        assert abs(weights[sampler.largest + k] - exact) <= (2 if k else len(weights))


@pytest.mark.parametrize("law", LARGE)
def test_weights_of_a_wide_law_are_those_of_mpmath(law: Law) -> None:
    probability = reference(law)
    scale = Fraction(law.weight(0))
    zero = probability(0)
    for share in (0, 0.001, 0.5, 1, 3, 6, 9, 12):
        k = int(share * law.sigma)
        exact = int(probability(k) / zero * 2**200)  # pyright: ignore[reportOperatorIssue]
        assert abs(law.weight(k) / scale * 2**200 - exact) < 2**56
        assert law.weight(-k) == law.weight(k)


@pytest.mark.parametrize("law", LARGE)
def test_cells_draw_every_number_in_proportion_to_its_weight(law: Law) -> None:
    """A cell's chance, times that of a place, times that of acceptance, is the weight of the number."""
    cells = _sampler(law)
    assert isinstance(cells, _Cells)
    width = 1 << cells.shift
    bounds = law.profile(width)
    weights = weights_of(cells.alias)
    assert sum(weights) == 1 << TOTAL_BITS
    total = sum(bounds[:-1])
    # Each cell in proportion to its bound, but for rounding, which all goes to the first.
    errors = [abs(w - Fraction(b << TOTAL_BITS, total)) for w, b in zip(weights, bounds[:-1], strict=False)]
    assert max(errors[1:]) < 1
    assert errors[0] < len(bounds)
    assert bounds[-1] < bounds[0] >> 120
    # The bound is one: weights fall. And what is accepted unseen would be accepted.
    assert all(a >= b for a, b in pairwise(bounds))
    sure = Fraction(int(cells.sure) >> 64 - cells.coin_bits, 1 << cells.coin_bits)
    assert sure > 0.96
    for q in (0, 1, len(bounds) // 3, len(bounds) - 2):
        for k in (q * width, q * width + width // 2, q * width + width):
            assert sure * bounds[q] <= law.weight(k) <= bounds[q] + (ONE >> 200)


@pytest.mark.parametrize("law", LARGE)
def test_floats_are_as_near_to_the_exact_chance_as_they_are_trusted(law: Law) -> None:
    cells = _sampler(law)
    assert isinstance(cells, _Cells)
    reach = int(12.5 * law.sigma)
    numbers = np.linspace(-reach, reach, 7 if isinstance(law, Skellam) else 101).astype(np.int64)
    inner = np.where(numbers < 0, ~numbers, numbers) >> cells.shift << cells.shift
    for k, bound, chance in zip(
        numbers.tolist(), inner.tolist(), cells.ratio(numbers, inner).tolist(), strict=True
    ):
        assert abs(Fraction(law.weight(k), law.weight(bound)) - Fraction(chance)) < Fraction(1, 1 << 43)


# --- draws, bit by bit


@st.composite
def exact_weights(draw: st.DrawFn) -> list[int]:
    """Whole numbers that add up to 2^128, some of them tiny or none."""
    cuts = draw(st.lists(st.integers(0, 1 << TOTAL_BITS), max_size=40))
    cuts += [cut >> draw(st.integers(1, 127)) for cut in cuts[:10]]
    edges = sorted([0, 1 << TOTAL_BITS, *cuts])
    return [b - a for a, b in pairwise(edges)]


@given(exact_weights())
def test_a_table_has_exactly_the_weights_it_is_given(weights: list[int]) -> None:
    result = weights_of(Alias(weights))
    assert result[: len(weights)] == weights
    assert not any(result[len(weights) :])


@given(exact_weights(), st.data())
def test_a_draw_is_what_128_bits_say(weights: list[int], data: st.DataObject) -> None:
    table = Alias(weights)
    picked = data.draw(st.lists(st.integers(0, len(table.borders) - 1), min_size=1, max_size=20))
    high = [int(table.borders[cell]) + data.draw(st.integers(-1, 1)) for cell in picked]
    high = [min(max(word, 0), (1 << 64) - 1) for word in high]
    room = 1 << TOTAL_BITS - table.bits
    low, expected = [], []
    for word in high:
        cell = (word << 64) // room
        border = (int(table.borders[cell]) << 64) + int(table.beyond[cell])
        near = int(table.beyond[cell]) + data.draw(st.integers(-1, 1))
        near = min(max(near, 0), (1 << 64) - 1)
        if word == table.borders[cell]:
            low.append(near)
        expected.append(cell if (word << 64) + near < border else int(table.others[cell]))
    out = np.empty(len(high), np.int64)

    def more(count: int) -> np.ndarray:
        assert count == len(low)
        return np.array(low, np.uint64)

    table.draw(np.array(high, np.uint64), more, out)
    assert out.tolist() == expected


@pytest.mark.parametrize(
    "weights", [[1 << 127], [1 << 128, 1], [(1 << 128) + 1, -1], [0] * 40_000 + [1 << 128]]
)
def test_weights_that_are_none_make_no_table(weights: list[int]) -> None:
    with pytest.raises(AssertionError, match="add up"):
        Alias(weights)


@pytest.mark.parametrize("law", [RoundedGaussian(2000.0), DiscreteGaussian(2.0**22), Skellam(2000.0**2)])
def test_acceptance_near_the_border_is_decided_by_whole_numbers(law: Law) -> None:
    cells = _sampler(law)
    assert isinstance(cells, _Cells)
    numbers, coins, lows, expected = [], [], [], []
    for k in (int(2 * law.sigma) + 1, -int(3 * law.sigma), int(9 * law.sigma) + 1):
        inner = (k if k >= 0 else ~k) >> cells.shift << cells.shift
        border = (law.weight(k) << cells.coin_bits + 64) // law.weight(inner)
        for coin in (border - 1, border, border + 1, border - (1 << 64), border + (1 << 64)):
            numbers.append(k)
            coins.append(coin >> 64)
            lows.append(coin & (1 << 64) - 1)
            expected.append(coin <= border)
    accepted = cells._accept(
        np.array(numbers), np.array(coins, np.uint64), lambda count: np.array(lows[:count], np.uint64)
    )
    assert accepted.tolist() == expected


def test_the_coin_of_a_draw_is_compared_with_the_whole_chance() -> None:
    """Far from the border floats decide, and a coin of ones is refused if a weight is below its bound."""
    law = DiscreteGaussian(50_000.0)
    cells = _sampler(law)
    assert isinstance(cells, _Cells)
    top = np.uint64((1 << cells.coin_bits) - 1)
    numbers = np.array([1 << cells.shift, (1 << cells.shift) + 1, 1000, -1000])
    accepted = cells._accept(numbers, np.full(4, top), partial(words, KEY))
    assert accepted.tolist() == [True, False, bool(1000 % (1 << cells.shift) == 0), False]


def test_what_is_refused_is_drawn_again_until_it_is_not_and_never_from_the_same_words() -> None:
    cells = _Cells(DiscreteGaussian(2000.0))
    cells.sure = np.uint64(0)
    cells._accept = lambda numbers, coins, more: numbers % 4 == 1
    asked: list[tuple] = []

    def stream(count: int, *address: int | str) -> np.ndarray:
        asked.append(address)
        return words(derive(KEY, *address), count)

    out = np.zeros(2000, np.int64)
    cells.fill(out, stream)
    assert (out % 4 == 1).all()
    assert len(asked) == len(set(asked)) > 40
    # None of them stayed where it was put first, or was put where another belongs.
    assert np.abs(out).max() < 12 * 2000
    assert len(np.unique(out)) > 1000


@given(st.fractions(0, 90))
@settings(max_examples=50)
def test_the_exponential_is_right_to_its_last_digits(exponent: Fraction) -> None:
    mp = pytest.importorskip("mpmath").mp.clone()
    mp.prec = 400
    exact = mp.exp(-mp.mpf(exponent.numerator) / exponent.denominator) * ONE
    assert abs(fixed_exp(exponent) - int(exact)) <= 1
