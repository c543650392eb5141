"""Dividing rows among clients: every row once, the same for the same seed, with the stated skew."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairyring.core.errors import PopulationError
from fairyring.population import Population, partition

DEALERS = {
    "uniform": lambda c, k, s: partition.uniform(c, clients=k, seed=s),
    "dirichlet": lambda c, k, s: partition.dirichlet(c, clients=k, alpha=0.3, seed=s),
    "dirichlet, tiny alpha": lambda c, k, s: partition.dirichlet(c, clients=k, alpha=1e-9, seed=s),
    "dirichlet, free sizes": lambda c, k, s: partition.dirichlet(
        c, clients=k, alpha=0.3, seed=s, sizes="free"
    ),
    "shards": lambda c, k, s: partition.shards(c, clients=k, per_client=1, seed=s),
    "quantity, alpha": lambda c, k, s: partition.quantity_skew(c, clients=k, alpha=0.2, seed=s),
    "quantity, sigma": lambda c, k, s: partition.quantity_skew(c, clients=k, sigma=2.0, minimum=1, seed=s),
    "by column": lambda c, k, s: partition.by_column(c | {"w": c["row"]}, "w", clients=k, seed=s),
}


@pytest.mark.parametrize("name", DEALERS)
@settings(max_examples=25, deadline=None)
@given(
    labels=st.lists(st.integers(0, 5), min_size=1, max_size=60), data=st.data(), seed=st.integers(0, 2**32)
)
def test_every_row_belongs_to_exactly_one_client(name, labels, data, seed):
    clients = data.draw(st.integers(1, len(labels)))
    columns = {"y": np.array(labels), "row": np.arange(len(labels))}
    population = DEALERS[name](columns, clients, seed)
    assert len(population) == clients
    rows, owner = population.rows()
    assert sorted(rows["row"]) == list(range(len(labels)))
    np.testing.assert_array_equal(rows["y"], columns["y"][rows["row"]])
    for i in range(clients):
        assert np.all(np.diff(rows["row"][owner == i]) > 0), "rows keep their order within a client"
    assert DEALERS[name](columns, clients, seed).fingerprint() == population.fingerprint()
    if name in ("uniform", "dirichlet", "dirichlet, tiny alpha", "shards"):
        assert population.sizes.max() - population.sizes.min() <= 1
    if name == "quantity, sigma":
        assert population.sizes.min() >= 1


COLUMNS = {"y": np.repeat(np.arange(10), 200), "row": np.arange(2000)}


@pytest.mark.parametrize("name", DEALERS)
def test_another_seed_deals_otherwise(name):
    assert DEALERS[name](COLUMNS, 20, 0).fingerprint() != DEALERS[name](COLUMNS, 20, 1).fingerprint()


def skew(population):
    """The mean over clients of the total variation distance between a client's labels and all labels."""
    distance = []
    for i in range(len(population)):
        shares = np.bincount(population.client(i)["y"], minlength=10) / population.sizes[i]
        distance.append(np.abs(shares - 0.1).sum() / 2)
    return np.mean(distance)


def test_smaller_alpha_means_more_skew():
    skews = [
        skew(partition.dirichlet(COLUMNS, clients=20, alpha=a, seed=0)) for a in (0.1, 1.0, 10.0, 1000.0)
    ]
    assert skews == sorted(skews, reverse=True)
    assert skews[0] > 0.6
    even = skew(partition.uniform(COLUMNS, clients=20, seed=0))
    assert abs(skews[-1] - even) < 0.05, "a large alpha is a uniform deal"


def test_dirichlet_label_shares_have_the_moments_of_the_distribution():
    """Proportions of ten equal classes have variance p (1 - p) / (alpha + 1), except for the last clients, which receive
    what is left."""
    columns = {"y": np.tile(np.arange(10), 2_000)}
    shares = []
    for seed in range(60):
        population = partition.dirichlet(columns, clients=50, alpha=2.0, seed=seed)
        shares += [np.bincount(population.client(i)["y"], minlength=10) / 400 for i in range(50)]
    shares = np.array(shares)
    np.testing.assert_allclose(shares.mean(axis=0), 0.1, atol=1e-12)
    assert 0.85 < shares.var(axis=0).mean() / (0.1 * 0.9 / 3.0) < 1.15


def test_free_sizes_differ_and_may_be_zero():
    population = partition.dirichlet(COLUMNS, clients=50, alpha=0.05, seed=0, sizes="free")
    assert population.sizes.std() > 10
    assert population.describe()["skipped"] == int((population.sizes == 0).sum()) > 0


def test_shards_give_few_classes():
    population = partition.shards(COLUMNS, clients=100, per_client=2, seed=0)
    classes = [len(np.unique(population.client(i)["y"])) for i in range(100)]
    assert max(classes) == 2
    assert set(population.sizes) == {20}


def test_smaller_alpha_means_more_unequal_sizes():
    spread = [
        partition.quantity_skew(COLUMNS, clients=20, alpha=a, seed=0).sizes.std() for a in (0.2, 2.0, 200.0)
    ]
    assert spread[0] > spread[1] > spread[2]
    spread = [partition.quantity_skew(COLUMNS, clients=20, sigma=s, seed=0).sizes.std() for s in (0.1, 1.0)]
    assert spread[0] < spread[1]


def test_by_column_makes_every_value_a_client_or_keeps_it_whole():
    columns = {"x": np.arange(6), "town": np.array(["b", "a", "b", "c", "a", "b"])}
    population = partition.by_column(columns, "town")
    assert list(population.ids) == ["a", "b", "c"]
    assert population.names == ("x",)
    np.testing.assert_array_equal(population.client(1)["x"], [0, 2, 5])
    grouped = partition.by_column(COLUMNS, "y", clients=4, seed=0, keep=True)
    assert sorted(len(np.unique(grouped.client(i)["y"])) for i in range(4)) == [2, 2, 3, 3]
    assert set(grouped.sizes) == {400, 600}


def test_dirichlet_draws_again_until_every_client_has_the_minimum():
    def divided(minimum, **options):
        return partition.dirichlet(COLUMNS, clients=20, alpha=0.5, seed=0, minimum=minimum, **options)

    free = divided(0, sizes="free")
    least = int(free.sizes.min())
    assert divided(least, sizes="free").fingerprint() == free.fingerprint(), (
        "the first draw is kept if it will do"
    )
    more = divided(least + 5, sizes="free")
    assert more.sizes.min() >= least + 5
    assert more.sizes.std() > 0
    assert divided(1).fingerprint() == divided(0).fingerprint()
    rows = len(COLUMNS["y"])
    with pytest.raises(PopulationError, match=r"at most .*, the best of 1,000 draws.*raise alpha"):
        divided(rows // 20, sizes="free")
    with pytest.raises(PopulationError, match=f"at most {rows} rows in total"):
        divided(rows // 20 + 1)


@pytest.mark.parametrize(
    ("deal", "says"),
    [
        (lambda: partition.uniform(COLUMNS, clients=2001, seed=0), "at most 2000"),
        (lambda: partition.uniform(COLUMNS, clients=0, seed=0), "whole number >= 1"),
        (lambda: partition.uniform(COLUMNS, clients=2, seed=-1), "seed"),
        (lambda: partition.dirichlet(COLUMNS, clients=2, alpha=0.0, seed=0), "alpha"),
        (lambda: partition.dirichlet(COLUMNS, clients=2, alpha=float("nan"), seed=0), "alpha"),
        (lambda: partition.dirichlet(COLUMNS, clients=2, alpha=1.0, seed=0, label="lable"), "label column"),
        (
            lambda: partition.dirichlet(COLUMNS, clients=2, alpha=1.0, seed=0, sizes="both"),
            "'equal' or 'free'",
        ),
        (
            lambda: partition.dirichlet({"y": np.zeros((4, 2), int)}, clients=2, alpha=1.0, seed=0),
            "one class",
        ),
        (lambda: partition.shards(COLUMNS, clients=1500, per_client=2, seed=0), "1500 clients x 2 shards"),
        (lambda: partition.quantity_skew(COLUMNS, clients=2, seed=0), "one of the two"),
        (lambda: partition.quantity_skew(COLUMNS, clients=2, alpha=1.0, minimum=1001, seed=0), "minimum"),
        (lambda: partition.by_column(COLUMNS, "Y"), "column: given 'Y'"),
        (lambda: partition.by_column(COLUMNS, "y", clients=11), "10 values"),
        (lambda: partition.uniform({"x": np.array([1.0, np.nan])}, clients=1, seed=0), "row 1"),
    ],
)
def test_deals_that_make_no_sense_are_refused(deal, says):
    with pytest.raises(PopulationError, match=says):
        deal()


def test_a_population_can_be_dealt_again():
    before = Population.from_arrays(COLUMNS, client=COLUMNS["y"])
    after = partition.uniform(before.rows()[0], clients=7, seed=0)
    assert after.examples == before.examples
