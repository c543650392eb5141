"""Rows grouped by client: owning, gathering, selecting, splitting; and errors."""

import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fairyring.core.errors import PopulationError, PopulationWarning
from fairyring.population import Population

quick = settings(max_examples=40, deadline=None)


@st.composite
def owned_rows(draw):
    """Columns, the owner of each row, and all clients, some of which may own no row."""
    clients = draw(st.integers(1, 8))
    owner = np.array(draw(st.lists(st.integers(0, clients - 1), min_size=1, max_size=40)))
    rows = len(owner)
    columns = {
        "x": np.arange(rows * 3, dtype=np.float32).reshape(rows, 3),
        "y": np.arange(rows, dtype=np.int32),
    }
    return columns, owner, clients


def build(case):
    columns, owner, clients = case
    return Population.from_arrays(columns, client=owner, clients=np.arange(clients))


@quick
@given(owned_rows())
def test_each_client_owns_its_rows_in_their_order(case):
    columns, owner, clients = case
    population = build(case)
    assert len(population) == clients
    assert population.examples == len(owner)
    for i in range(clients):
        rows = population.client(i)
        for name, column in columns.items():
            np.testing.assert_array_equal(rows[name], column[owner == i])


@quick
@given(owned_rows(), st.data())
def test_gather_is_the_clients_one_after_the_other(case, data):
    population = build(case)
    chosen = data.draw(st.lists(st.integers(0, len(population) - 1), max_size=10))
    columns, offsets = population.gather(chosen)
    assert offsets.dtype == np.int64
    assert len(offsets) == len(chosen) + 1
    for j, i in enumerate(chosen):
        for name, rows in population.client(i).items():
            np.testing.assert_array_equal(columns[name][offsets[j] : offsets[j + 1]], rows)
    assert all(len(column) == offsets[-1] for column in columns.values())
    assert not any(np.shares_memory(columns[n], population.columns[n]) for n in columns)


@quick
@given(owned_rows(), st.data())
def test_selections_compose_and_copy_nothing(case, data):
    population = build(case)
    owning = np.flatnonzero(population.sizes)
    chosen = data.draw(st.permutations(list(range(len(population)))))
    view = population.select(chosen)
    assert view.columns["x"] is population.columns["x"]
    np.testing.assert_array_equal(view.ids, population.ids[chosen])
    again = view.select([chosen.index(owning[0])])
    np.testing.assert_array_equal(again.client(0)["y"], population.client(owning[0])["y"])
    rows, owner = view.rows()
    for j in range(len(view)):
        np.testing.assert_array_equal(rows["y"][owner == j], view.client(j)["y"])


@quick
@given(owned_rows(), st.floats(0.05, 0.95), st.one_of(st.none(), st.integers(0, 99)))
def test_split_within_shares_every_row_once(case, fraction, seed):
    population = build(case)
    if population.sizes.max() == 1:
        with pytest.raises(PopulationError, match="split_clients"):
            population.split_within(fraction, seed)
        return
    first, second = population.split_within(fraction, seed)
    np.testing.assert_array_equal(first.sizes + second.sizes, population.sizes)
    np.testing.assert_array_equal(first.ids, population.ids)
    for i, size in enumerate(population.sizes):
        parts = [first.client(i)["y"], second.client(i)["y"]]
        assert sorted(np.concatenate(parts)) == list(population.client(i)["y"])
        assert all(np.all(np.diff(part) > 0) for part in parts)
        if size >= 2:
            assert all(len(part) for part in parts)
            assert abs(len(parts[0]) - fraction * size) <= 1
    if seed is None:
        assert first.columns["x"] is population.columns["x"]


@quick
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=2, max_size=60),
    st.floats(0.05, 0.95),
    st.integers(0, 99),
)
def test_a_stratified_split_keeps_each_clients_classes_in_proportion(rows, fraction, seed):
    owner, labels = np.array(rows).T
    columns = {"y": labels, "row": np.arange(len(labels))}
    population = Population.from_arrays(columns, client=owner)
    assume(population.sizes.max() > 1)
    first, second = population.split_within(fraction, seed, stratify="y")
    plain, _ = population.split_within(fraction, None)
    np.testing.assert_array_equal(first.sizes + second.sizes, population.sizes)
    for i, size in enumerate(population.sizes):
        parts = [first.client(i), second.client(i)]
        assert sorted(np.concatenate([p["row"] for p in parts])) == sorted(population.client(i)["row"])
        counts = [np.bincount(p["y"], minlength=5) for p in parts]
        of = counts[0] + counts[1]
        assert np.all(np.minimum(*counts)[of >= 2] >= 1), "a class that can be is in both parts"
        assert np.all(np.abs(counts[0] - fraction * of) <= 1)
        if size >= 2:
            assert len(parts[0]["y"])
            assert len(parts[1]["y"])
            if np.all((of * min(fraction, 1 - fraction) >= 1)[of >= 2]):  # no class was in need of a row
                assert len(parts[0]["y"]) == plain.sizes[i]
    lazy = Population.from_function(
        population.ids, lambda i: population.client(i), sizes=population.sizes
    ).split_within(fraction, seed, stratify="y")
    for part, other in zip(lazy, lazy[::-1], strict=True):
        for i in range(len(population)):
            assert len(part.client(i)["y"]) + len(other.client(i)["y"]) == population.sizes[i]
    again = population.split_within(fraction, seed, stratify="y")[0]
    assert again.fingerprint() == first.fingerprint()


def test_a_split_that_leaves_a_hospital_one_class_says_so():
    labels = np.repeat([0, 1, 0, 1], [2, 30, 16, 16])
    population = Population.from_arrays({"x": labels, "y": labels}, client=["zurich"] * 32 + ["va"] * 32)
    with pytest.warns(PopulationWarning, match=r"one class for client zurich, which.*stratify='y'"):
        population.split_within(0.8, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, test = population.split_within(0.8, 0, stratify="y")
        population.select([0]).split_within(0.8, 0)  # of a client that has enough of both
        Population.from_arrays({"y": labels + 0.0}, client=labels).split_within(0.8, 0)
    assert [np.bincount(test.client(i)["y"]).tolist() for i in range(2)] == [[3, 3], [1, 5]]
    with pytest.raises(PopulationError, match="Give a seed, or leave stratify out"):
        population.split_within(0.8, None, stratify="y")
    with pytest.raises(PopulationError, match="column to stratify by"):
        population.split_within(0.8, 0, stratify="z")


@quick
@given(st.integers(2, 50), st.floats(0.05, 0.95), st.integers(0, 99))
def test_split_clients_puts_every_client_on_one_side(clients, fraction, seed):
    population = Population.from_arrays({"x": np.arange(clients)}, client=np.arange(clients))
    first, second = population.split_clients(fraction, seed)
    assert sorted([*first.ids, *second.ids]) == list(range(clients))
    assert len(first) == min(max(1, round(fraction * clients)), clients - 1)
    np.testing.assert_array_equal(population.split_clients(fraction, seed)[0].ids, first.ids)


def test_splits_differ_between_seeds():
    population = Population.from_arrays({"x": np.arange(100)}, client=np.repeat(np.arange(10), 10))
    assert not np.array_equal(
        population.split_clients(0.5, 0)[0].ids, population.split_clients(0.5, 1)[0].ids
    )
    parts = [population.split_within(0.5, seed)[0].columns["x"] for seed in (0, 1)]
    assert not np.array_equal(*parts)


def test_rows_in_order_are_not_copied():
    x = np.arange(6.0)
    population = Population.from_arrays({"x": x}, client=["a", "a", "b", "c", "c", "c"])
    assert population.columns["x"] is x
    assert np.shares_memory(population.rows()[0]["x"], x)
    assert list(population.ids) == ["a", "b", "c"]


def test_client_may_be_a_column_and_is_then_no_data():
    population = Population.from_arrays({"x": [1, 2, 3], "who": ["b", "a", "b"]}, client="who")
    assert population.names == ("x",)
    np.testing.assert_array_equal(population.client(1)["x"], [1, 3])


def test_attributes_are_added_by_id_or_in_order():
    population = Population.from_arrays({"x": [0, 1, 2]}, client=["b", "a", "b"])
    more = population.with_attributes({"age": {"b": 30, "a": 20}, "hours": np.eye(2, dtype=bool)})
    assert more.attributes["age"].tolist() == [20, 30]
    assert more.select([1]).attributes["hours"].tolist() == [[False, True]]
    assert not population.attributes
    assert more.with_attributes({"age": [1, 2]}).attributes["age"].tolist() == [1, 2]
    assert more.columns["x"] is population.columns["x"]
    for age, says in (
        ({"a": 1}, "no value for client 'b'"),
        ({"a": 1, "b": 2, "c": 3}, "a value for 'c'"),
        ([1], "2 numbers"),
    ):
        with pytest.raises(PopulationError, match=says):
            population.with_attributes({"age": age})


def test_attributes_follow_their_clients():
    population = Population.from_arrays(
        {"x": [0, 1, 2]}, client=["b", "c", "b"], clients=["c", "a", "b"], attributes={"age": [30, 10, 20]}
    )
    view = population.select([2, 1])
    assert list(view.attributes["age"]) == [20, 10]
    assert list(view.ids) == ["b", "a"]
    with pytest.raises(TypeError):
        population.attributes["age"] = np.zeros(3)


def test_masks_and_slices_choose_clients():
    population = Population.from_arrays({"x": np.arange(5)}, client=np.arange(5))
    assert list(population.select(population.ids > 2).ids) == [3, 4]
    assert list(population.select(slice(1, 3)).ids) == [1, 2]


def test_in_memory_keeps_only_owned_rows():
    view = Population.from_arrays({"x": np.arange(9)}, client=np.repeat([0, 1, 2], 3)).select([2, 0])
    compact = view.in_memory()
    assert list(compact.columns["x"]) == [6, 7, 8, 0, 1, 2]
    assert compact.fingerprint() == view.fingerprint()


def test_description_counts_and_skips():
    population = Population.from_arrays(
        {"x": np.arange(10)}, client=[0] * 1 + [1] * 4 + [2] * 5, clients=range(4)
    )
    assert population.describe(test=population.select([0])) == {
        "clients": 4,
        "examples": 10,
        "skipped": 1,
        "sizes": {"min": 1, "p10": 1.6, "median": 4.0, "p90": 4.8, "max": 5},
        "test": {
            "clients": 1,
            "examples": 1,
            "skipped": 0,
            "sizes": {"min": 1, "p10": 1.0, "median": 1.0, "p90": 1.0, "max": 1},
        },
    }


@pytest.mark.parametrize("change", ["value", "name", "dtype", "owner", "id", "attribute"])
def test_fingerprint_sees_every_change(change):
    columns, client, ids, age = {"x": np.arange(8.0), "y": np.arange(8)}, np.repeat([0, 1], 4), [0, 1], [3, 4]
    before = Population.from_arrays(columns, client, clients=ids, attributes={"age": age}).fingerprint()
    assert (
        before == Population.from_arrays(columns, client, clients=ids, attributes={"age": age}).fingerprint()
    )
    match change:
        case "value":
            columns["x"] = np.where(np.arange(8) == 5, 99.0, columns["x"])
        case "name":
            columns["z"] = columns.pop("y")
        case "dtype":
            columns["y"] = columns["y"].astype(np.int32)
        case "owner":
            client = np.array([0, 0, 0, 1, 1, 1, 1, 1])
        case "id":
            ids, client = [0, 7], np.repeat([0, 7], 4)
        case "attribute":
            age = [3, 5]
    after = Population.from_arrays(columns, client, clients=ids, attributes={"age": age}).fingerprint()
    assert after != before
    assert len(after) == 64


X = np.ones((4, 2), np.float32)
OWNER = [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("columns", "client", "says"),
    [
        ({"x": X, "y": np.zeros(3)}, OWNER, "column 'y': given 3 rows; expected 4 rows, as in column 'x'"),
        (
            {"x": np.where(np.arange(8).reshape(4, 2) == 5, np.nan, 1.0)},
            OWNER,
            "column 'x', row 2: given nan",
        ),
        ({"x": np.array([0, np.inf, 0, 0])}, OWNER, "column 'x', row 1: given inf"),
        ({"x": np.zeros((0, 3))}, [], "without a row"),
        ({}, OWNER, "at least one column"),
        ({"x": ["a", "b", "c", "d"]}, OWNER, "encode|Encode"),
        ({"x": [[1], [1, 2], [1], [1]]}, OWNER, "column 'x': given rows of different shapes"),
        ({"x": [1, None, 2, 3]}, OWNER, "column 'x'"),
        ({"x": np.zeros((4, 0))}, OWNER, "are empty"),
        ({"x": X}, "writer", "client column: given 'writer'"),
        ({"x": X, "writers": OWNER}, "writer", "Did you mean 'writers'?"),
        ({"x": X}, [0, 0, 1], "client of each row: given 3 values; expected 4"),
        ({"x": X}, [0.5, 0.5, 1.0, 1.0], "one integer or one string"),
        ({"x": X}, ["a", None, "b", "b"], "no id at row 1"),
        ({"x": X.astype(complex)}, OWNER, "complex128"),
    ],
)
def test_bad_input_is_refused_with_its_place(columns, client, says):
    with pytest.raises(PopulationError, match=says):
        Population.from_arrays(columns, client=client)


def test_clients_that_are_not_listed_are_refused():
    with pytest.raises(PopulationError, match=r"client of row 2: given 5"):
        Population.from_arrays({"x": [1, 2, 3]}, client=[0, 1, 5], clients=[0, 1, 2])
    with pytest.raises(PopulationError, match="2 times"):
        Population.from_arrays({"x": [1, 2, 3]}, client=[0, 1, 1], clients=[0, 1, 1])
    with pytest.raises(PopulationError, match="as in the rows"):
        Population.from_arrays({"x": [1, 2, 3]}, client=[0, 1, 1], clients=["0", "1"])


def test_runs_outside_the_rows_are_refused():
    for starts, sizes in ([[0], [5]], [[-1], [2]], [[0], [-1]], [[3], [2]]):
        with pytest.raises(PopulationError, match="client 0"):
            Population({"x": X}, starts, sizes)
    with pytest.raises(PopulationError, match="as many starts as sizes"):
        Population({"x": X}, [0, 1], [4])
    with pytest.raises(PopulationError, match="3 ids"):
        Population({"x": X}, [0], [4], ids=[1, 2, 3])


def test_selecting_nobody_somebody_twice_or_a_stranger_is_refused():
    population = Population.from_arrays({"x": np.arange(3)}, client=[0, 1, 1], clients=range(3))
    with pytest.raises(PopulationError, match="no client"):
        population.select([])
    with pytest.raises(PopulationError, match="1 clients without examples"):
        population.select([2])
    with pytest.raises(PopulationError, match="2 times"):
        population.select([1, 1])
    for stranger in (3, -1):
        with pytest.raises(PopulationError, match=f"client index: given {stranger}"):
            population.gather([stranger])
    with pytest.raises(PopulationError, match="indices"):
        population.select(["a"])


def test_unknown_column_names_the_nearest():
    population = Population.from_arrays({"image": X}, client=OWNER)
    assert population.shape("image") == (2,)
    assert population.dtype("image") == np.float32
    with pytest.raises(PopulationError, match="Did you mean 'image'"):
        population.shape("images")


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1, float("nan"), "0.5", True])
def test_shares_outside_of_zero_and_one_are_refused(fraction):
    population = Population.from_arrays({"x": X}, client=OWNER)
    with pytest.raises(PopulationError, match="fraction"):
        population.split_clients(fraction, seed=0)
    with pytest.raises(PopulationError, match="fraction"):
        population.split_within(fraction, seed=0)


def test_a_column_of_equal_arrays_is_one_array():
    """As a data frame holds them."""
    rows = np.empty(3, object)
    rows[:] = [np.arange(4.0), np.ones(4), np.zeros(4)]
    population = Population.from_arrays({"x": rows, "y": np.array([1, 2, 3], object)}, client=[0, 0, 1])
    assert population.shape("x") == (4,)
    np.testing.assert_array_equal(population.client(0)["x"], [[0, 1, 2, 3], [1, 1, 1, 1]])
    assert population.dtype("y").kind == "i"


def test_what_is_missing_is_named_by_its_row():
    for column, says in (
        ([1.0, None, 2.0], "column 'x': given no value in row 1"),
        (np.ma.masked_array([1.0, 2.0, 3.0], [False, True, True]), "a masked array with 2 missing values"),
        (np.array([np.zeros(2), np.zeros(3), np.zeros(2)], object), "rows of different shapes"),
    ):
        with pytest.raises(PopulationError, match=says):
            Population.from_arrays({"x": column}, client=[0, 0, 1])
    whole = Population.from_arrays({"x": np.ma.masked_array([1.0, 2.0])}, client=[0, 1])
    assert type(whole.columns["x"]) is np.ndarray


def test_a_description_has_the_names_of_few_clients():
    hospitals = Population.from_arrays({"x": [1, 2, 3]}, client=["va", "north", "va"])
    assert (
        hospitals.describe(hospitals)["ids"]
        == hospitals.describe(hospitals)["test"]["ids"]
        == ["north", "va"]
    )
    assert "ids" not in Population.from_arrays({"x": [1, 2, 3]}, client=[0, 1, 0]).describe(), "no names"
    many = Population.from_arrays({"x": np.arange(51)}, client=[f"person {i}" for i in range(51)])
    assert "ids" not in many.describe()
    assert len(many.select(slice(50)).describe()["ids"]) == 50
