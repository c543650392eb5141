import numpy as np
import pytest

import fairyring as fr
from fairyring.rounds.cohorts import CohortSampler
from tests.learning.linear import people


def test_uniform_cohorts_are_distinct_eligible_and_even():
    sizes = [3, 0, 2] * 40
    cohorts = CohortSampler(fr.cohort.uniform(10), people(sizes), seed=1)
    counts = np.zeros(len(sizes))
    for number in range(1, 2001):
        cohort = cohorts.of(number)
        assert len(set(cohort.sampled)) == 10
        counts[cohort.sampled] += 1
    assert counts[1::3].sum() == 0
    seen = np.delete(counts, np.s_[1::3])
    # Each of 80 clients: binomial(2000, 1/8); 5 deviations.
    assert np.abs(seen - 250).max() < 5 * np.sqrt(2000 / 8 * 7 / 8)


def test_a_cohort_that_is_most_of_the_population():
    cohorts = CohortSampler(fr.cohort.uniform(5), people([1] * 6), seed=1)
    counts = sum(np.bincount(cohorts.of(n).sampled, minlength=6) for n in range(1, 601))
    assert np.abs(counts - 500).max() < 5 * np.sqrt(600 * 5 / 36)


@pytest.mark.parametrize("clients", [8, 9, 30, 36, 37, 200])
def test_small_cohorts_of_populations_of_any_size(clients):
    cohorts = CohortSampler(fr.cohort.uniform(2), people([1] * clients), seed=1)
    counts = np.zeros(clients)
    for number in range(1, 1001):
        sampled = cohorts.of(number).sampled
        assert len(set(sampled)) == 2
        counts[sampled] += 1
    assert np.abs(counts - 2000 / clients).max() < 5 * np.sqrt(2000 / clients)


def test_poisson_rates_and_independence():
    cohorts = CohortSampler(fr.cohort.poisson(0.3, maximum=50), people([1] * 50), seed=4)
    taken = np.zeros((1000, 50))
    for number in range(1000):
        taken[number, cohorts.of(number + 1).sampled] = 1
    assert abs(taken.mean() - 0.3) < 5 * np.sqrt(0.21 / 50000)
    assert abs(taken.sum(axis=1).var() - 50 * 0.21) < 2.5
    correlation = np.corrcoef(taken.T)
    assert np.abs(correlation[~np.eye(50, dtype=bool)]).max() < 6 / np.sqrt(1000)


def test_poisson_is_cut_at_its_bound():
    cohorts = CohortSampler(fr.cohort.poisson(1.0, maximum=4), people([1] * 9), seed=4)
    assert len(cohorts.of(1).sampled) == 4


def test_weights_decide():
    population = people([1] * 5)
    population = fr.Population.from_arrays(
        {n: population.columns[n] for n in ("x", "y")},
        client=np.arange(5),
        attributes={"speed": [1.0, 1, 2, 4, 0]},
    )
    cohorts = CohortSampler(fr.cohort.weighted(1, by="speed"), population, seed=4)
    counts = sum(np.bincount(cohorts.of(n).sampled, minlength=5) for n in range(1, 4001))
    expected = 4000 * np.array([1, 1, 2, 4, 0]) / 8
    assert np.abs(counts - expected).max() < 5 * np.sqrt(1000)
    assert counts[4] == 0


def test_rounds_do_not_depend_on_which_were_asked_before():
    make = lambda: CohortSampler(fr.cohort.uniform(3), people([1] * 50), seed=4, dropout=0.5)  # noqa: E731
    forwards = [make().of(n) for n in (70, 3)]
    cohorts = make()
    backwards = [cohorts.of(n) for n in (3, 70)][::-1]
    for a, b in zip(forwards, backwards, strict=True):
        np.testing.assert_array_equal(a.sampled, b.sampled)
        np.testing.assert_array_equal(a.staying, b.staying)


def test_dropout_rate():
    cohorts = CohortSampler(fr.cohort.uniform(40), people([1] * 50), seed=4, dropout=0.25)
    stayed = sum(len(cohorts.of(n).staying) for n in range(1, 201))
    assert abs(stayed / 8000 - 0.75) < 5 * np.sqrt(0.1875 / 8000)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (fr.cohort.uniform(4), "given 4 clients a round; expected at most 3"),
        (fr.cohort.weighted(2, by="speed"), "by='speed'"),
        (fr.cohort.fixed([[0], [7]]), "client 7"),
    ],
)
def test_rules_that_do_not_fit(rule, message):
    with pytest.raises(fr.PlanError, match=message):
        CohortSampler(rule, people([1, 0, 2, 2]), seed=0)
