"""Local randomisers: what a report can tell, from the numbers it is drawn with; and what many tell."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairyring.core.errors import PlanError, PrivacyError
from fairyring.privacy import local
from fairyring.privacy.entropy import derive, words
from fairyring.privacy.local import RandomizedResponse, UnaryEncoding

WORDS = 1 << 64
KEY = bytes(range(32))

epsilons = st.floats(1e-6, 60)


def exp_below(epsilon: float) -> Fraction:
    """A rational just below e^epsilon: the partial sum of its series, to far below one part in 2^64."""
    x, term, total = Fraction(epsilon), Fraction(1), Fraction(1)
    for n in range(1, 60 + 6 * int(epsilon + 1)):
        term = term * x / n
        # Rounding each term down keeps the sum below and its digits few.
        term = Fraction((term.numerator << 300) // term.denominator, 1 << 300)
        total += term
    return total


def make(kind: str, epsilon: float, categories: int) -> RandomizedResponse | UnaryEncoding:
    if kind == "response":
        return RandomizedResponse(epsilon, categories)
    return UnaryEncoding(epsilon, categories, optimized=kind == "optimized")


KINDS = ["response", "optimized", "symmetric"]


def worst_ratio(kind: str, it: RandomizedResponse | UnaryEncoding) -> Fraction:
    """The largest ratio of likelihoods of a report, from the words that make each."""
    q = it.lie_words
    if isinstance(it, RandomizedResponse):
        return Fraction(WORDS - (it.categories - 1) * q, q)
    p = it.true_words
    # Answers differ in two bits: one goes from true to not, one from not to true.
    return Fraction(p, q) * Fraction(WORDS - q, WORDS - p)


@given(st.sampled_from(KINDS), epsilons, st.integers(2, 1 << 12))
def test_no_report_is_likelier_than_promised(kind: str, epsilon: float, categories: int) -> None:
    ratio = worst_ratio(kind, make(kind, epsilon, categories))
    assert 1 < ratio <= exp_below(epsilon)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("epsilon", [0.01, 0.5, 1.0, 3.0, 10.0])
@pytest.mark.parametrize("categories", [2, 3, 100])
def test_nothing_of_epsilon_is_wasted(kind: str, epsilon: float, categories: int) -> None:
    ratio = worst_ratio(kind, make(kind, epsilon, categories))
    assert float(ratio / exp_below(epsilon)) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("epsilon", [60.0, 700.0, 1e4, 1e308])
@pytest.mark.parametrize("kind", KINDS)
def test_a_huge_epsilon_still_lies_with_the_least_chance_there_is(kind: str, epsilon: float) -> None:
    it = make(kind, epsilon, 10)
    assert it.lie_words >= 1
    assert it.epsilon == epsilon


@given(st.integers(2, 40), st.floats(0.01, 20), st.data())
def test_response_from_words_has_the_transition_matrix_it_claims(
    categories: int, epsilon: float, data: st.DataObject
) -> None:
    """Words at both ends of each step of the matrix give the category the step is of."""
    it = RandomizedResponse(epsilon, categories)
    value = data.draw(st.integers(0, categories - 1))
    borders = [step * it.lie_words for step in range(categories)]
    drawn = [word for border in borders for word in (border - 1, border) if 0 <= word < WORDS] + [WORDS - 1]
    reports = with_words(np.array(drawn, np.uint64), lambda: it.randomize(np.full(len(drawn), value)))
    for word, report in zip(drawn, reports, strict=True):
        step = word // it.lie_words + 1
        assert report == (value if step >= categories else (value + step) % categories)


def with_words(drawn: np.ndarray, call: Callable[[], np.ndarray]) -> np.ndarray:
    """What `call` returns when these are the words it gets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "words", lambda key, count: drawn[:count])
        return call()


@pytest.mark.parametrize("optimized", [True, False])
def test_bits_from_words_have_the_chances_they_claim(optimized: bool) -> None:
    it = UnaryEncoding(1.0, 3, optimized)
    q, p = it.lie_words, it.true_words
    drawn = np.array([q - 1, p - 1, q, q - 1, p, q - 1], np.uint64)
    reports = with_words(drawn, lambda: it.randomize(np.array([1, 1])))
    assert reports.tolist() == [[True, True, False], [True, False, True]]


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.floats(0.5, 8),
    st.lists(st.integers(0, 4), min_size=1, max_size=5),
    st.binary(min_size=32, max_size=32),
)
def test_estimates_are_right_within_their_own_error(
    kind: str, epsilon: float, some: list[int], root: bytes
) -> None:
    it = make(kind, epsilon, 5)
    values = np.resize(np.array(some), 4000)
    estimate = it.estimate(it.randomize(values, root))  # pyright: ignore[reportArgumentType]
    # The count of a frequent category varies by at most n/4 more, divided by the same square as the rest.
    lie = it.lie_words / WORDS
    error = (4000 * 0.25 * it.variance(1) / (lie * (1 - lie)) + it.variance(4000)) ** 0.5
    assert (np.abs(estimate - np.bincount(values, minlength=5)) < 6.5 * error).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_estimates_are_unbiased_and_vary_as_stated(kind: str, epsilon: float) -> None:
    it = make(kind, epsilon, 8)
    n, trials = 400, 3000
    values = np.zeros(n, np.int64)
    values[:40] = 1  # categories 2 to 7: nobody
    reports = it.randomize(np.tile(values, trials), KEY)
    folded = [it.estimate(part) for part in np.split(reports, trials)]  # pyright: ignore[reportArgumentType]
    estimates = np.array(folded)
    truth = np.bincount(values, minlength=8)
    spread = estimates.std(axis=0)
    assert (np.abs(estimates.mean(axis=0) - truth) < 5 * spread / trials**0.5).all()
    # Of so many trials the variance is known to a deviation of sqrt(2 / 3000) = 2.6 %.
    assert estimates[:, 2:].var(axis=0) == pytest.approx(np.full(6, it.variance(n)), rel=0.13)


def test_an_estimate_with_the_wrong_epsilon_is_caught_by_the_same_count() -> None:
    values = np.zeros(100_000, np.int64)
    reports = RandomizedResponse(1.0, 4).randomize(values, KEY)
    wrong = RandomizedResponse(1.1, 4)
    assert abs(wrong.estimate(reports)[0] - 100_000) > 6 * wrong.variance(100_000) ** 0.5
    right = RandomizedResponse(1.0, 4)
    assert abs(right.estimate(reports)[0] - 100_000) < 6 * right.variance(100_000) ** 0.5


def test_variances_are_those_of_the_paper() -> None:
    # Wang et al. 2017, table 1, in units of n.
    e = np.e
    assert UnaryEncoding(1.0, 9).variance(1) == pytest.approx(4 * e / (e - 1) ** 2)
    assert UnaryEncoding(1.0, 9, optimized=False).variance(1) == pytest.approx(e**0.5 / (e**0.5 - 1) ** 2)
    assert RandomizedResponse(1.0, 9).variance(1) == pytest.approx((9 - 2 + e) / (e - 1) ** 2)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_entropy_gives_the_same_reports_and_none_gives_new_ones(kind: str) -> None:
    it = make(kind, 1.0, 20)
    values = np.arange(200) % 20
    assert np.array_equal(it.randomize(values, KEY), it.randomize(values, KEY))
    assert not np.array_equal(it.randomize(values, KEY), it.randomize(values, derive(KEY, 1)))
    assert not np.array_equal(it.randomize(values), it.randomize(values))


@pytest.mark.parametrize("kind", KINDS)
def test_no_values_make_no_reports(kind: str) -> None:
    it = make(kind, 1.0, 4)
    reports = it.randomize(np.array([], np.int64))
    assert it.estimate(reports).tolist() == [0] * 4  # pyright: ignore[reportArgumentType]


def test_batches_of_bits_do_not_share_words() -> None:
    it = UnaryEncoding(1.0, 1 << 12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "_BATCH", 1 << 14)
        reports = it.randomize(np.zeros(12, np.int64), KEY)
    assert len({row.tobytes() for row in reports[:, 1:]}) == 12


def test_reports_use_words_of_the_entropy_alone() -> None:
    it = RandomizedResponse(1.0, 3)
    drawn = words(KEY, 50)
    expected = [0 if w // it.lie_words >= 2 else w // it.lie_words + 1 for w in drawn.tolist()]
    assert it.randomize(np.zeros(50, np.int64), KEY).tolist() == expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "epsilon", [0, 0.0, -1.0, float("nan"), float("inf"), 1e-300, 1e-20, "1", True, None]
)
def test_an_epsilon_that_is_none_is_refused(kind: str, epsilon: float) -> None:
    with pytest.raises(PlanError, match="epsilon"):
        make(kind, epsilon, 4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("categories", [1, 0, -3, 2.0, True, local.MAXIMUM_CATEGORIES + 1])
def test_too_few_or_too_many_categories_are_refused(kind: str, categories: int) -> None:
    with pytest.raises(PlanError, match="categories"):
        make(kind, 1.0, categories)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("values", [[-1], [4], [0, 77], [0.5], [[0, 1]], ["a"], [True]])
def test_values_that_are_no_categories_are_refused_and_not_shown(kind: str, values: list) -> None:
    with pytest.raises(PlanError, match="values") as refused:
        make(kind, 1.0, 4).randomize(np.array(values))
    assert "77" not in str(refused.value)


def test_reports_that_are_none_are_refused() -> None:
    with pytest.raises(PlanError, match="reports"):
        RandomizedResponse(1.0, 4).estimate(np.array([4]))
    for reports in (np.zeros((3, 5), bool), np.zeros((3, 4), int), np.zeros(4, bool)):
        with pytest.raises(PlanError, match="reports"):
            UnaryEncoding(1.0, 4).estimate(reports)


@pytest.mark.parametrize("kind", KINDS)
def test_entropy_of_another_size_is_refused(kind: str) -> None:
    with pytest.raises(PrivacyError, match="32 bytes"):
        make(kind, 1.0, 4).randomize(np.array([1]), b"short")
