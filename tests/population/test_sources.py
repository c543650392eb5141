"""Tables of other libraries give the same population as the same arrays."""

import sys

import numpy as np
import pytest

from fairyring.core.errors import MissingExtra, PopulationError
from fairyring.population import Population

CLIENT = ["b", "a", "b", "c"]
COLUMNS = {"x": np.arange(12, dtype=np.float32).reshape(4, 3), "y": np.array([0, 1, 1, 0])}


@pytest.fixture
def expected():
    return Population.from_arrays(COLUMNS, client=CLIENT)


def table(**changes):
    pa = pytest.importorskip("pyarrow")
    return pa.table({"x": COLUMNS["x"].tolist(), "y": COLUMNS["y"], "who": CLIENT} | changes)


def write(path, arrow):
    import pyarrow.parquet as pq

    pq.write_table(arrow, path)
    return path


def alike(a, b):
    assert list(a.ids) == list(b.ids)
    for i in range(len(a)):
        for name in b.names:
            np.testing.assert_array_equal(a.client(i)[name], b.client(i)[name])


def test_parquet_with_lists_as_axes(tmp_path, expected):
    population = Population.from_parquet(write(tmp_path / "p.parquet", table()), client="who")
    assert population.names == ("x", "y")
    alike(population, expected)


def test_parquet_fixed_nested_and_dictionary_columns(tmp_path):
    pa = pytest.importorskip("pyarrow")
    nested = np.arange(24).reshape(4, 2, 3)
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(8.0)), 2)
    who = pa.array(CLIENT).dictionary_encode()
    path = write(tmp_path / "p.parquet", table(deep=nested.tolist(), pair=fixed, who=who))
    population = Population.from_parquet(path, client="who", columns=["deep", "pair"])
    assert population.shape("deep") == (2, 3)
    np.testing.assert_array_equal(population.client(0)["deep"], nested[[1]])
    np.testing.assert_array_equal(population.client(1)["pair"], [[0.0, 1.0], [4.0, 5.0]])


def test_parquet_folder_of_files(tmp_path, expected):
    whole = table()
    write(tmp_path / "1.parquet", whole.slice(0, 2))
    write(tmp_path / "2.parquet", whole.slice(2))
    alike(Population.from_parquet(tmp_path, client="who"), expected)


@pytest.mark.parametrize(
    ("changes", "options", "says"),
    [
        ({"y": [0, None, 1, 0]}, {}, "column 'y', row 1: given no value"),
        ({"x": [[1.0], [1.0, 2.0], [1.0], [1.0]]}, {}, "rows of 1 to 2 values"),
        ({"x": [[1.0], [1.0], None, [1.0]]}, {}, "column 'x', row 2"),
        ({"x": [[1.0], [1.0], [None], [1.0]]}, {}, "column 'x', row 2"),
        ({"who": ["a", "b", None, "c"]}, {}, "column 'who', row 2"),
        ({"note": CLIENT}, {}, "column 'note'"),
        ({}, {"columns": ["X"]}, "Did you mean 'x'|one of x, y, who"),
        ({}, {"client": "whom"}, "Did you mean 'who'"),
    ],
)
def test_parquet_that_makes_no_population_is_refused(tmp_path, changes, options, says):
    path = write(tmp_path / "p.parquet", table(**changes))
    with pytest.raises(PopulationError, match=says):
        Population.from_parquet(path, **({"client": "who"} | options))


def test_files_that_are_no_parquet_are_refused(tmp_path):
    pytest.importorskip("pyarrow")
    with pytest.raises(PopulationError, match="nothing there"):
        Population.from_parquet(tmp_path / "none.parquet", client="who")
    (tmp_path / "bad.parquet").write_bytes(b"no parquet at all")
    with pytest.raises(PopulationError, match="Parquet file"):
        Population.from_parquet(tmp_path / "bad.parquet", client="who")


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"fairyring\[data\]"):
        Population.from_parquet(tmp_path / "p.parquet", client="who")


class Columnar:
    """A stand-in with only names and access by name."""

    def __init__(self, columns):
        self._columns = columns
        self.column_names = list(columns)

    def __getitem__(self, name):
        return self._columns[name]


class Convertible:
    def to_dict(self):
        return {"x": COLUMNS["x"].tolist(), "y": COLUMNS["y"].tolist(), "who": CLIENT}


def test_anything_with_columns_will_do(expected):
    columns = {**COLUMNS, "who": CLIENT}
    for dataset in (Columnar(columns), Convertible(), columns):
        alike(Population.from_huggingface(dataset, client="who"), expected)
    some = Population.from_huggingface(Columnar(columns | {"note": CLIENT}), client="who", columns=["y"])
    assert some.names == ("y",)


def test_splits_and_strangers_are_refused():
    splits = {"train": Columnar(COLUMNS), "test": Columnar(COLUMNS)}
    with pytest.raises(PopulationError, match="the splits train, test"):
        Population.from_huggingface(splits, client="who")
    with pytest.raises(PopulationError, match="column_names"):
        Population.from_huggingface(3, client="who")


def test_a_real_hugging_face_dataset(expected):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "x": datasets.Sequence(datasets.Value("float32")),
            "y": datasets.Value("int64"),
            "who": datasets.Value("string"),
            "grid": datasets.Array2D((2, 2), "uint8"),
            "precise": datasets.Value("float64"),
        }
    )
    images = np.arange(16, dtype=np.uint8).reshape(4, 2, 2)
    rows = {"x": COLUMNS["x"].tolist(), "y": COLUMNS["y"].tolist(), "who": CLIENT, "grid": images.tolist()}
    rows["precise"] = (COLUMNS["y"] + 1e-12).tolist()
    dataset = datasets.Dataset.from_dict(rows, features=features)
    population = Population.from_huggingface(dataset, client="who")
    alike(population, expected)
    assert population.dtype("grid") == np.uint8
    np.testing.assert_array_equal(population.client(1)["grid"], images[[0, 2]])
    np.testing.assert_array_equal(population.client(0)["precise"], [1 + 1e-12])
    shuffled = Population.from_huggingface(dataset.select([3, 2, 1, 0]), client="who")
    np.testing.assert_array_equal(shuffled.client(1)["grid"], images[[2, 0]])
    with pytest.raises(PopulationError, match="the splits train"):
        Population.from_huggingface(datasets.DatasetDict({"train": dataset}), client="who")


def test_a_stream_of_hugging_face_is_the_same_as_its_rows(expected):
    datasets = pytest.importorskip("datasets")
    rows = {"x": COLUMNS["x"].tolist(), "y": COLUMNS["y"].tolist(), "who": CLIENT, "note": CLIENT}
    stream = datasets.Dataset.from_dict(rows).to_iterable_dataset(num_shards=2)
    population = Population.from_huggingface(stream, client="who", columns=["x", "y"])
    alike(population, expected)
    unnamed = stream.map(lambda row: {"y": row["y"]})  # a stream that does not know its columns
    alike(Population.from_huggingface(unnamed, client="who", columns=["x", "y"]), expected)
    with pytest.raises(PopulationError, match="Did you mean 'who'"):
        Population.from_huggingface(stream, client="whom")
    with pytest.raises(PopulationError, match="a stream without a row"):
        Population.from_huggingface(stream.take(0), client="who")
    with pytest.raises(PopulationError, match="the splits train"):
        Population.from_huggingface(datasets.IterableDatasetDict({"train": stream}), client="who")


def test_images_of_a_real_hugging_face_dataset_are_decoded():
    datasets = pytest.importorskip("datasets")
    image = pytest.importorskip("PIL.Image")
    grey = np.arange(32, dtype=np.uint8).reshape(2, 4, 4)
    rows = {"image": [image.fromarray(g) for g in grey], "who": ["b", "a"]}
    features = datasets.Features({"image": datasets.Image(), "who": datasets.Value("string")})
    dataset = datasets.Dataset.from_dict(rows, features=features)
    population = Population.from_huggingface(dataset.to_iterable_dataset(), client="who")
    np.testing.assert_array_equal(population.client(1)["image"], grey[[0]])
    population = Population.from_huggingface(dataset, client="who")
    assert population.dtype("image") == np.uint8
    np.testing.assert_array_equal(population.client(0)["image"], grey[[1]])
