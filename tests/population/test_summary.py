"""Statistics over clients are those of all rows together, and standardising by them is standardising by all rows."""

import numpy as np
import pytest

from fairyring.core.errors import DataUnavailable, PopulationError
from fairyring.population import Population, find, load, summary, summary_statistics
from fairyring.population.readers.heart_disease import read_patients

RNG = np.random.default_rng(0)
X = RNG.normal(5.0, 2.0, (40, 3)).astype(np.float32)
X[RNG.random(X.shape) < 0.2] = np.nan
X[:, 2] = RNG.integers(0, 3, 40)
OWNER = RNG.integers(0, 6, 40)
NAMES = {"x": ("age", "chol", "cp")}


@pytest.fixture
def population():
    sizes = np.bincount(OWNER)
    rows = X[np.argsort(OWNER, kind="stable")]
    y = np.sort(OWNER % 2)
    return Population({"x": rows, "y": y}, np.cumsum(sizes) - sizes, sizes, feature_names=NAMES)


def test_they_are_those_of_all_rows_together(population, monkeypatch):
    whole = summary_statistics(population, categories=["cp"], by_client=True)
    monkeypatch.setattr(summary, "_BLOCK", 8 * 3 * 7)  # a few clients at a time
    for found in (whole, summary_statistics(population, categories=["cp"], by_client=True)):
        np.testing.assert_array_equal(found.count, (~np.isnan(X)).sum(axis=0))
        np.testing.assert_array_equal(found.missing, np.isnan(X).sum(axis=0))
        exact = X.astype(np.float64)
        np.testing.assert_allclose(found.mean, np.nanmean(exact, axis=0), rtol=1e-14)
        np.testing.assert_allclose(found.deviation, np.nanstd(exact, axis=0), rtol=1e-13)
        np.testing.assert_array_equal(found.minimum, np.nanmin(X, axis=0))
        np.testing.assert_array_equal(found.maximum, np.nanmax(X, axis=0))
        assert found.categories == {"cp": {float(v): int((X[:, 2] == v).sum()) for v in range(3)}}
        for client in range(6):
            own = found.by_client[client]
            np.testing.assert_allclose(own.deviation, np.nanstd(exact[client == OWNER], axis=0), rtol=1e-12)
            assert sum(own.categories["cp"].values()) == (client == OWNER).sum()
    assert whole.table()["client"].tolist() == sorted([*range(6)] * 3)
    assert whole.by_client[0].table()["feature"].tolist() == ["age", "chol", "cp"]


def test_large_values_that_are_alike_keep_their_deviation():
    x = 1e9 + np.array([0.0, 1.0, 2.0, 3.0])
    found = summary_statistics(Population({"x": x}, [0, 2], [2, 2]))
    assert found.deviation == pytest.approx(np.sqrt(1.25), rel=1e-12)
    assert found.features == ("x",)


def test_rows_of_any_shape_and_labels(population):
    images = Population.from_function(3, lambda i: {"x": np.full((2, 2, 2), i, np.uint8)})
    found = summary_statistics(images)
    assert found.mean.shape == (2, 2)
    assert found.features[1] == "x[0, 1]"
    np.testing.assert_array_equal(found.standardize()(images).client(1)["x"], np.zeros((2, 2, 2)))
    labels = summary_statistics(population, "y", categories=["y"])
    assert labels.categories["y"] == {0: int((OWNER % 2 == 0).sum()), 1: int((OWNER % 2).sum())}


def test_standardising_fills_in_and_flags(population):
    found = summary_statistics(population)
    train = found.standardize(indicators=True)(population)
    x = train.rows()[0]["x"]
    raw = population.rows()[0]["x"]
    assert train.feature_names["x"] == ("age", "chol", "cp", "age missing", "chol missing")
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x[:, 3:], np.isnan(raw[:, :2]))
    np.testing.assert_allclose(x[:, :3].mean(axis=0), 0, atol=1e-6)
    known = ~np.isnan(raw)
    assert np.all(x[:, :3][~known] == 0)
    np.testing.assert_allclose(
        x[:, :3][known], ((raw - np.nanmean(raw, axis=0)) / np.nanstd(raw, axis=0))[known], atol=1e-5
    )
    np.testing.assert_array_equal(train.rows()[0]["y"], population.rows()[0]["y"])
    other = Population({"x": X[:5], "y": OWNER[:5]}, [0], [5])
    with pytest.raises(PopulationError, match="3 features that were summarised; they differ in age"):
        found.standardize()(other)


def test_a_feature_without_a_value_is_named():
    x = np.array([[1.0, np.nan], [2.0, np.nan]])
    found = summary_statistics(Population({"x": x}, [0], [2], feature_names={"x": ("age", "ca")}))
    assert np.isnan(found.mean[1])
    assert np.isnan(found.minimum[1])
    with pytest.raises(PopulationError, match="no value at all of ca"):
        found.standardize()
    with pytest.raises(PopulationError, match="Did you mean 'age'"):
        summary_statistics(
            Population({"x": x}, [0], [2], feature_names={"x": ("age", "ca")}), categories=["ag"]
        )


def test_hospitals_are_standardised_as_by_their_reader_which_pools_rows():
    try:
        files = find("heart-disease")
    except DataUnavailable:
        pytest.skip("heart-disease is not on this machine")
    tables = [read_patients(path)[:, :13] for path in files]
    edges = np.cumsum([0, *map(len, tables)])
    everyone = Population({"x": np.concatenate(tables)}, edges[:-1], np.diff(edges))
    train, va = everyone.select(slice(0, 3)), everyone.select([3])
    standardize = summary_statistics(train).standardize(indicators=True)
    for own, theirs in zip((train, va), load("heart-disease", split="hospital"), strict=True):
        own, theirs = standardize(own).rows()[0]["x"], theirs.rows()[0]["x"]
        np.testing.assert_allclose(own[:, :13], theirs[:, :13], rtol=1e-6, atol=1e-7)
        np.testing.assert_array_equal(own[:, 13:], theirs[:, 13 + (standardize.flagged - 3)])
