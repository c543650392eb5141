"""Clients loaded by a function are the same as stored ones, and are checked each time."""

import numpy as np
import pytest

from fairyring.core.errors import PopulationError
from fairyring.population import Population

SIZES = np.array([3, 0, 5, 1, 4])


def rows_of(i):
    x = np.arange(SIZES[i] * 2, dtype=np.float32).reshape(-1, 2) + 100 * i
    return {"x": x, "y": np.full(SIZES[i], i, np.int32)}


EXAMPLE = {"x": np.zeros(2, np.float32), "y": np.int32(0)}


@pytest.fixture
def stored():
    columns = {n: np.concatenate([rows_of(i)[n] for i in range(5)]) for n in EXAMPLE}
    return Population.from_arrays(columns, client=np.repeat(np.arange(5), SIZES), clients=range(5))


@pytest.fixture
def lazy():
    return Population.from_function(5, rows_of, sizes=SIZES, example=EXAMPLE)


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype
        np.testing.assert_array_equal(a[name], b[name])


def test_nothing_is_loaded_until_asked_for():
    loaded = []

    def load(i):
        loaded.append(i)
        return rows_of(i)

    lazy = Population.from_function(5, load, sizes=SIZES, example=EXAMPLE)
    view = lazy.select([4, 2])
    assert (lazy.examples, lazy.shape("x"), len(view)) == (13, (2,), 2)
    assert loaded == []
    view.gather([1])
    assert loaded == [2]


def test_reads_as_the_stored_one(lazy, stored):
    assert not lazy.stored
    assert lazy.describe() == stored.describe()
    for i in range(5):
        same(lazy.client(i), stored.client(i))
    for chosen in ([4, 0, 0, 1], [], slice(None)):
        ours, theirs = lazy.gather(chosen), stored.gather(chosen)
        same(ours[0], theirs[0])
        np.testing.assert_array_equal(ours[1], theirs[1])
    same(lazy.rows()[0], stored.rows()[0])
    same(lazy.select([4, 2]).rows()[0], stored.select([4, 2]).rows()[0])
    assert lazy.in_memory().fingerprint() == stored.fingerprint()


def test_saves_as_the_stored_one(lazy, stored, tmp_path):
    opened = Population.open(lazy.save(tmp_path / "p"))
    assert opened.fingerprint() == stored.fingerprint()


def test_sizes_and_example_can_be_found_by_loading(lazy):
    found = Population.from_function(5, rows_of)
    np.testing.assert_array_equal(found.sizes, SIZES)
    assert found.fingerprint() == lazy.fingerprint()


@pytest.mark.parametrize("seed", [None, 3])
def test_splits_within_stay_lazy_and_complete(lazy, seed):
    for population in (lazy, lazy.select([4, 2, 1])):
        first, second = population.split_within(0.6, seed)
        assert not first.stored
        for i in range(len(population)):
            parts = np.concatenate([first.client(i)["x"], second.client(i)["x"]])
            whole = population.client(i)["x"]
            np.testing.assert_array_equal(parts[np.argsort(parts[:, 0])], whole)
            assert first.sizes[i] == len(first.client(i)["x"])


def test_split_clients_and_attributes(lazy):
    named = Population.from_function(
        list("abcde"), rows_of, sizes=SIZES, example=EXAMPLE, attributes={"n": SIZES}
    )
    first, second = named.split_clients(0.4, seed=1)
    assert sorted([*first.ids, *second.ids]) == list("abcde")
    np.testing.assert_array_equal(first.attributes["n"], first.sizes)


@pytest.mark.parametrize(
    ("load", "says"),
    [
        (lambda i: {"x": rows_of(i)["x"]}, "client 2, column 'y': given nothing"),
        (lambda i: rows_of(i) | {"z": np.zeros(SIZES[i])}, "client 2, column: given 'z'"),
        (
            lambda i: rows_of(i) | {"x": np.zeros((SIZES[i], 3), np.float32)},
            r"column 'x': given float32 \(5, 3\)",
        ),
        (lambda i: rows_of(i) | {"y": np.zeros(SIZES[i])}, "column 'y': given float64"),
        (lambda i: {n: c[1:] for n, c in rows_of(i).items()}, r"\(4, 2\)"),
        (
            lambda i: rows_of(i) | {"x": np.full((SIZES[i], 2), np.nan, np.float32)},
            "column 'x', row 0: given nan",
        ),
    ],
)
def test_what_a_function_gives_is_checked(load, says):
    lazy = Population.from_function(5, load, sizes=SIZES, example=EXAMPLE)
    with pytest.raises(PopulationError, match=says):
        lazy.gather([2])


def test_columns_are_refused_with_the_alternative(lazy):
    with pytest.raises(PopulationError, match="in_memory"):
        _ = lazy.columns
    with pytest.raises(PopulationError, match="sizes"):
        Population.from_function(5, rows_of, sizes=[1, 2], example=EXAMPLE)
