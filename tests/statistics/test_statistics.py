"""Intervals and tests, against enumeration, closed forms and SciPy."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom, bootstrap, norm, t

from fairyring import statistics as s
from fairyring.core.errors import StatisticsError

few = st.lists(st.integers(0, 4), min_size=1, max_size=5)


def every_deal(a: list[int], b: list[int]) -> list[float]:
    """U of every division of the values, by definition."""
    both, found = a + b, []
    for chosen in itertools.combinations(range(len(both)), len(a)):
        first = [both[i] for i in chosen]
        second = [both[i] for i in range(len(both)) if i not in chosen]
        found.append(sum((x > y) + (x == y) / 2 for x in first for y in second))
    return found


@settings(max_examples=60, deadline=None)
@given(few, few)
def test_the_rank_test_counts_every_deal_also_where_values_tie(a: list[int], b: list[int]) -> None:
    found, deals = s.mann_whitney(a, b), every_deal(a, b)
    u = sum((x > y) + (x == y) / 2 for x in a for y in b)
    assert found.u == u
    assert found.p == pytest.approx(sum(one >= u for one in deals) / len(deals), rel=1e-12)
    assert found.delta == pytest.approx(sum(np.sign(x - y) for x in a for y in b) / (len(a) * len(b)))
    assert found.delta == pytest.approx(s.cliffs_delta(a, b), abs=1e-15)
    assert s.cliffs_delta(b, a) == pytest.approx(-found.delta, abs=1e-15)
    assert found.least_p == 1 / len(deals)
    assert found.method == ("exact" if len(set(a + b)) == len(a + b) else "exact with ties")


def test_ties_that_hardly_matter_hardly_change_p() -> None:
    """One tie among 32 worlds: the shift algorithm comes close to SciPy's exact p of the broken tie, on both sides."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(0.5, 1, 16), rng.normal(0, 1, 16)
    near = np.argmin(np.abs(b - a[3]))
    below, tied, above = b.copy(), b.copy(), b.copy()
    below[near], tied[near], above[near] = a[3] - 1e-9, a[3], a[3] + 1e-9
    p = [s.mann_whitney(a, one).p for one in (below, tied, above)]
    assert p[0] < p[1] < p[2]
    assert [s.mann_whitney(a, one).method for one in (below, tied)] == ["exact", "exact with ties"]


def test_many_worlds_are_dealt_at_random() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.2, 1, 90), rng.normal(0, 1, 90)
    found = s.mann_whitney(a, b, seed=4)
    z = (found.u - 4050) / math.sqrt(90 * 90 * 181 / 12)
    assert found.method == "permutation"
    assert found.p == pytest.approx(norm.sf(z), abs=0.005)
    assert s.mann_whitney(a + 9, b).p == found.least_p == 1e-5
    assert s.mann_whitney(a, b, seed=4) == found


def test_separate_worlds_have_the_least_p() -> None:
    found = s.mann_whitney(np.arange(8) + 10.0, np.arange(8))
    assert (found.p, found.delta) == (pytest.approx(1 / math.comb(16, 8)), 1.0)
    assert found.p == pytest.approx(found.least_p)


def test_the_interval_is_scipys_and_moves_with_its_values() -> None:
    x = np.random.default_rng(3).gamma(2.0, size=20)
    ours = s.bca_interval(x, seed=5)
    # Half of the interval of a normal mean, by Student, in units of what a bootstrap takes for its standard error.
    reach = t.ppf(0.975, 19) * np.sqrt(20 / 19)
    asked = 1 - 2 * norm.sf(reach)
    theirs = bootstrap(
        (x,), np.mean, method="BCa", confidence_level=asked, n_resamples=9999, rng=np.random.default_rng(6)
    )
    assert ours.method == "BCa"
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.06)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.06)
    moved = s.bca_interval(1e6 + 1e-3 * x, seed=5)
    assert (moved.low - 1e6) * 1e3 == pytest.approx(ours.low, abs=1e-5)
    assert s.bca_interval(x, seed=5) == ours
    assert s.bca_interval(x, seed=7) != ours


def test_intervals_cover_the_mean_about_as_often_as_they_say() -> None:
    """Of 300 skewed samples of 20."""
    rng = np.random.default_rng(0)
    samples = rng.gamma(2.0, 0.5, (300, 20))
    both = [s.bca_interval(x, 0.95, seed=i, resamples=499) for i, x in enumerate(samples)]
    lower = [s.bootstrap_lower_bound(x, 0.95, seed=i, resamples=499) for i, x in enumerate(samples)]
    assert 0.91 <= np.mean([one.holds(1.0) for one in both]) <= 0.98
    assert 0.91 <= np.mean([one.low <= 1.0 for one in lower]) <= 0.98
    assert all(math.isinf(one.high) for one in lower)


@pytest.mark.parametrize(("size", "least"), [(4, 0.82), (6, 0.91), (8, 0.91)])
def test_intervals_of_few_worlds_cover_it_too(size: int, least: float) -> None:
    """Unexpanded ones of 4, 6 and 8 normal values would cover 76, 84 and 88 % and not 95. (Of 4, the range covers 87.5 %.)"""
    samples = np.random.default_rng(size).normal(size=(300, size))
    found = [s.bca_interval(x, 0.95, seed=i, resamples=999).holds(0.0) for i, x in enumerate(samples)]
    assert np.mean(found) >= least


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.0, 1.0, -2.5, 1e-30, 7e8]), min_size=3, max_size=9), st.booleans())
def test_no_sample_has_an_interval_that_is_no_number(x: list[float], one_sided: bool) -> None:
    found = s.bootstrap_lower_bound(x, resamples=199) if one_sided else s.bca_interval(x, resamples=199)
    slack = 1e-9 * max(map(abs, x))
    assert min(x) - slack <= found.low <= found.estimate + slack
    assert one_sided or found.low <= found.high <= max(x) + slack
    assert found.method != "too few"


def test_degenerate_samples_say_so() -> None:
    same = s.bca_interval([0.7] * 6)
    assert (same.low, same.high, same.method) == (0.7, 0.7, "constant")
    assert s.bootstrap_lower_bound([0.7] * 6).low == 0.7
    assert s.bca_interval([0.1 + 0.2, 0.3, 0.3]).method == "constant"  # they differ by rounding alone
    two = s.bca_interval([1.0, 2.0])
    assert (two.estimate, two.low, two.high, two.method) == (1.5, -math.inf, math.inf, "too few")
    assert s.bootstrap_lower_bound([1.0, 2.0]).low == -math.inf


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.floats(0.001, 0.999))
def test_holm_rejects_what_its_steps_reject(p: list[float], level: float) -> None:
    adjusted = s.holm(p)
    order, rejecting = sorted(range(len(p)), key=lambda i: p[i]), True
    for step, i in enumerate(order):
        scaled = p[i] * (len(p) - step)
        rejecting = rejecting and scaled <= level
        assert (adjusted[i] <= level) == rejecting
        assert p[i] <= adjusted[i] <= 1


def test_holm_by_hand() -> None:
    assert s.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert s.holm([]) == ()


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 3))
def test_signs_are_counted_exactly(up: int, down: int, none: int) -> None:
    if up + down + none == 0:
        return
    found = s.sign_fraction([0.3] * up + [-2.0] * down + [0.0] * none)
    n = up + down
    assert (found.positive, found.negative, found.zero) == (up, down, none)
    if n == 0:
        assert math.isnan(found.fraction)
        assert (found.p, found.low, found.high) == (1.0, 0.0, 1.0)
        return
    assert found.fraction == up / n
    assert found.p == pytest.approx(min(1.0, 2 * binom.cdf(min(up, down), n, 0.5)))
    assert found.low == pytest.approx(beta.ppf(0.025, up, down + 1) if up else 0.0)
    assert found.high == pytest.approx(beta.ppf(0.975, up + 1, down) if down else 1.0)


def test_an_upper_bound_of_none_is_the_rule_of_three() -> None:
    assert s.clopper_pearson(0, 16, 0.95, side="upper") == pytest.approx((0.0, 1 - 0.05 ** (1 / 16)))


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=7))
def test_flipped_signs_are_all_counted(x: list[int]) -> None:
    sums = [
        abs(sum(a * b for a, b in zip(x, signs, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(x))
    ]
    assert s.sign_flip_p(x) == pytest.approx(sum(one >= abs(sum(x)) for one in sums) / len(sums))


def test_drawn_signs_agree_with_all_of_them() -> None:
    x = np.random.default_rng(2).normal(0.4, 1, 16)
    signs = np.array(list(itertools.product((1, -1), repeat=16)))
    exact = np.mean(np.abs(signs @ x) >= abs(x.sum()) - 1e-12)
    assert s.sign_flip_p(x) == pytest.approx(exact)
    assert s.sign_flip_p([*x, 1e-9], seed=1) == pytest.approx(exact, abs=0.015)  # a 17th that adds nothing
    assert s.sign_flip_p(np.full(40, 2.0)) == 1e-4


def test_refusals() -> None:
    for call, named in [
        (lambda: s.bca_interval([]), "values"),
        (lambda: s.bca_interval([1.0, math.nan]), "finite"),
        (lambda: s.bca_interval([[1.0]]), "axes"),
        (lambda: s.bca_interval(["a"]), "numbers"),
        (lambda: s.bca_interval([1.0], 1.0), "confidence"),
        (lambda: s.bca_interval([1.0], seed=-1), "seed"),
        (lambda: s.bca_interval([1.0], seed=0.5), "seed"),  # pyright: ignore[reportArgumentType]
        (lambda: s.bca_interval([1.0], resamples=10), "resamples"),
        (lambda: s.mann_whitney([], [1.0]), "first group"),
        (lambda: s.cliffs_delta([1.0], [math.inf]), "second group"),
        (lambda: s.holm([0.2, 1.2]), "p-values"),
        (lambda: s.clopper_pearson(3, 2), "clopper_pearson"),
        (lambda: s.clopper_pearson(1, 2, side="lower"), "side"),
    ]:
        with pytest.raises(StatisticsError, match=named):
            call()


def test_importing_them_brings_in_neither_scipy_nor_jax() -> None:
    code = "import sys, fairyring.statistics;print({'scipy', 'jax'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


@given(st.integers(0, 30), st.integers(1, 30), st.floats(0.001, 0.999))
def test_trials_of_one_cluster_have_clopper_and_pearsons_limits(k: int, n: int, quantile: float) -> None:
    k = min(k, n)
    found = s.clustered_limit([k, 0], [n, 0], quantile)
    if quantile < 0.5:
        assert found == pytest.approx(beta.ppf(quantile, k, n - k + 1) if k else 0.0, rel=1e-6, abs=1e-12)
    else:
        assert found == pytest.approx(beta.ppf(quantile, k + 1, n - k) if k < n else 1.0, rel=1e-6)


def test_trials_that_go_together_count_for_fewer() -> None:
    """Ten clusters in which all trials came out alike are ten trials, not a thousand; the spread of so few is uncertain too."""
    counts, sizes = [100] * 3 + [0] * 7, [100] * 10
    alike = s.clustered_limit(counts, sizes, 0.975)
    assert alike > s.clopper_pearson(3, 10)[1] > s.clopper_pearson(300, 1000)[1]
    apart = s.clustered_limit([30] * 10, sizes, 0.975)  # less spread than a binomial has: no credit for it
    assert apart == pytest.approx(s.clopper_pearson(300, 1000)[1], abs=1e-9)
    assert s.clustered_limit(counts, sizes, 0.025) < s.clopper_pearson(3, 10)[0]


@settings(max_examples=60, deadline=None)
@given(few, few)
def test_pairs_above_are_counted_with_ties_as_half(a: list[int], b: list[int]) -> None:
    assert s.pairs_above(a, b) == sum((x > y) + (x == y) / 2 for x in a for y in b)


def test_limits_of_no_clusters_are_refused() -> None:
    for counts, sizes, quantile in [([1], [0], 0.5), ([3], [2], 0.5), ([1, 1], [2], 0.5), ([1], [2], 1.0)]:
        with pytest.raises(StatisticsError):
            s.clustered_limit(counts, sizes, quantile)


def test_an_interval_ends_where_the_value_does() -> None:
    whole = s.student_interval([0.7, 0.8, 0.99])
    cut = whole.within(0.0, 1.0)
    assert (cut.low, cut.high, cut.estimate) == (whole.low, 1.0, whole.estimate)
    assert whole.symmetric
    assert not cut.symmetric
    assert s.interval_text(whole) == "0.83 ± 0.37"
    assert s.interval_text(cut) == "0.83 [0.464, 1]"
    few, beyond = s.student_interval([0.7]), s.student_interval([2.0, 3.0])
    assert few.within(0, 1) == few  # nothing is known of it, so nothing is cut
    assert beyond.within(0, 1) == beyond  # it is no share


def test_students_interval_is_scipys_and_covers_what_it_says() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(3.0, 2.0, 5)
    found = s.student_interval(values, 0.9)
    expected = t.interval(0.9, 4, values.mean(), values.std(ddof=1) / math.sqrt(5))
    np.testing.assert_allclose((found.low, found.high), expected)
    hits = [s.student_interval(rng.normal(size=3)).holds(0.0) for _ in range(2000)]
    assert abs(np.mean(hits) - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 2000)
    assert s.student_interval([2.0]).low == -math.inf
    assert (s.student_interval([2.0, 2.0]).low, s.student_interval([2.0, 2.0]).method) == (2.0, "constant")
    with pytest.raises(StatisticsError):
        s.student_interval([])
