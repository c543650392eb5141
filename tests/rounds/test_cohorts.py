import numpy as np
import optax
import pytest

import fairyring as fr
from fairyring.privacy.participation import AtMost
from fairyring.rounds.cohorts import CohortSampler
from tests.learning.linear import people, task


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


def traced(clients=40, **attributes):
    hours = (np.arange(24) - 5 * np.arange(clients)[:, None]) % 24 < 12
    hours[:, 3], hours[2:, 4] = False, False
    hours[:2, 4] = True
    return people([1, 2] * (clients // 2)).with_attributes({"hours": hours} | attributes), hours


def test_a_cohort_is_drawn_from_those_available_at_its_hour():
    population, hours = traced()
    cohorts = CohortSampler(fr.cohort.available(4, by="hours", minutes=30), population, seed=3)
    counts, expected = np.zeros(40), np.zeros(40)
    for number in range(1, 48 * 40 + 1):
        there = hours[:, (number - 1) // 2 % 24]
        sampled = cohorts.of(number).sampled
        assert len(set(sampled)) == min(4, there.sum())
        assert there[sampled].all()
        counts[sampled] += 1
        expected += np.where(there, min(1, 4 / max(1, there.sum())), 0)
    assert cohorts.of(7).sampled.size == 0, "hour 3, when nobody is there"
    assert cohorts.of(9).sampled.tolist() == [0, 1], "all that are there in hour 4"
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected.max())
    again = CohortSampler(fr.cohort.available(4, by="hours", minutes=30), population, seed=3).of(100)
    np.testing.assert_array_equal(again.sampled, cohorts.of(100).sampled)


def test_each_client_drops_out_by_its_own_probability():
    population = people([1] * 50).with_attributes({"flaky": {i: 0.8 if i < 25 else 0.0 for i in range(50)}})
    cohorts = CohortSampler(fr.cohort.uniform(40), population, seed=4, dropout="flaky")
    stayed, sampled, late = np.zeros(50), np.zeros(50), np.zeros(50)
    for number in range(1, 201):
        cohort = cohorts.of(number)
        sampled[cohort.sampled] += 1
        stayed[cohort.staying] += 1
        points = cohorts.dropout_points(cohort)
        late[[client for client in points if client in cohort.staying]] += 1
    assert (stayed[25:] == sampled[25:]).all()
    assert late[25:].sum() == 0
    for share, of in (
        (stayed[:25].sum(), sampled[:25].sum()),
        (stayed[:25].sum() - late[:25].sum(), stayed[:25].sum()),
    ):
        assert abs(share / of - 0.2) < 5 * np.sqrt(0.16 / of)
    same = people([1] * 50).with_attributes({"flaky": np.full(50, 0.25)})
    plain = CohortSampler(fr.cohort.uniform(40), same, seed=4, dropout=0.25).of(1)
    np.testing.assert_array_equal(
        plain.staying, CohortSampler(fr.cohort.uniform(40), same, seed=4, dropout="flaky").of(1).staying
    )


def test_a_promise_counts_on_no_sampling_where_clients_come_when_they_can():
    def plan(cohort, **budget):
        noisy = fr.chain(fr.clip(1.0), fr.gaussian_noise(1.0))
        promise = fr.Budget(8.0, 1e-5, rounds=10, **budget)
        return fr.Plan(task(), fr.LocalTraining(optax.sgd(0.1)), cohort, aggregation=noisy, privacy=promise)

    rule = fr.cohort.available(4, by="hours", minutes=30)
    assert plan(rule).protection.participation == AtMost()
    with pytest.raises(fr.PlanError, match="Budget population"):
        plan(rule, population=40)
    population, _ = traced(flaky=np.full(40, 0.5))
    with pytest.raises(fr.PlanError, match="one that canaries can be drawn into"):
        CohortSampler(rule, population, seed=0, canaries=2)
    for sampled in (plan(fr.cohort.poisson(0.1, maximum=40)), plan(4, population=40)):
        with pytest.raises(fr.PlanError, match="a guarantee that counts on sampling; expected one for all"):
            fr.simulate(sampled, population, rounds=1, seed=0, dropout="flaky")


@pytest.mark.parametrize(
    ("attributes", "options", "message"),
    [
        ({}, {"by": "hours"}, "by='hours'; expected one of the client attributes"),
        ({"hours": np.ones(4)}, {"by": "hours"}, r"expected a trace, bool \[clients, hours\]"),
        ({"hours": np.full((4, 24), 0.5)}, {"by": "hours"}, "True or False"),
        ({"hours": np.eye(4)}, {"by": "hours"}, "at most 1, the most that are available in any hour"),
        ({"hours": np.zeros((4, 24))}, {"by": "hours"}, "nobody is ever available"),
        ({}, {"dropout": "flaky"}, "'flaky'; expected a number, or one of the client attributes"),
        (
            {"flaky": [0.1, 1.0, 0.0, 0.0]},
            {"dropout": "flaky"},
            "given 1.0 for client 1; expected one number",
        ),
        ({"flaky": ["a"] * 4}, {"dropout": "flaky"}, "expected one number in"),
    ],
)
def test_attributes_that_are_no_trace_and_no_probability(attributes, options, message):
    population = people([1, 0, 2, 2]).with_attributes(attributes)
    by, dropout = options.get("by"), options.get("dropout", 0.0)
    rule = fr.cohort.available(2, by=by, minutes=60) if by else fr.cohort.uniform(2)
    with pytest.raises(fr.PlanError, match=message):
        CohortSampler(rule, population, 0, dropout)


def test_available_takes_numbers():
    for minutes in (0, -1.0, float("inf"), "10"):
        with pytest.raises(fr.PlanError, match="available minutes"):
            fr.cohort.available(2, minutes=minutes)


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
