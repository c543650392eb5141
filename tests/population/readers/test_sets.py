"""Published data sets as populations: shapes, clients, and that no test data reaches training."""

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from fairyring.core.errors import DataUnavailable, PopulationError
from fairyring.population import describe, find, load, names
from fairyring.population.readers import fashion_mnist, heart_disease, shakespeare, wisdm
from fairyring.population.readers._prepare import standardised

needs_data = pytest.mark.skipif("FAIRYRING_DATA" not in os.environ, reason="FAIRYRING_DATA is not set")


def loaded(name, **options):
    try:
        return load(name, **options)
    except DataUnavailable as error:
        pytest.skip(f"{name} is not on this machine: {error.what}")


@needs_data
@pytest.mark.parametrize("name", [name for name in names() if name != "fashion-mnist"])
def test_columns_are_as_the_catalogue_says(name):
    train, test = loaded(name)
    for population in (train, test):
        for column in ("x", "y"):
            dtype, _, shape = describe(name).shapes[column].partition(" ")
            assert population.dtype(column) == np.dtype(dtype.rstrip(",")), column
            if shape.startswith("["):
                assert list(population.shape(column)) == eval_shape(shape)
    again = loaded(name)
    assert [p.fingerprint() for p in again] == [train.fingerprint(), test.fingerprint()]


def eval_shape(text):
    return [int(n) for n in text[1 : text.index("]")].split(",")]


def test_digits_hold_out_a_fifth_of_each_digit():
    train, test = load("digits", clients=30, alpha=0.1, test_clients=5, seed=3)
    assert (len(train), len(test), train.examples + test.examples) == (30, 5, 1797)
    labels = [np.bincount(p.rows()[0]["y"]) for p in (train, test)]
    np.testing.assert_allclose(labels[1] / (labels[0] + labels[1]), 0.2, atol=0.004)
    assert train.rows()[0]["x"].max() == 255
    few = np.mean([len(np.unique(train.client(i)["y"])) for i in range(30)])
    many = np.mean(
        [len(np.unique(load("digits", clients=30, alpha=None).train.client(i)["y"])) for i in range(30)]
    )
    assert few < 4 < 8 < many


@needs_data
def test_mnist_writers_are_different_people():
    train, test = loaded("mnist-writers")
    assert (len(train), len(test)) == (539, 297)
    assert (train.sizes.min(), train.sizes.max()) == (19, 131)
    assert not set(train.ids) & set(test.ids)
    with np.load(find("mnist-writers")[0]) as arrays:
        rows = arrays["train_writer"] == train.ids[7]
        np.testing.assert_array_equal(train.client(7)["x"][..., 0], arrays["train_images"][rows])


@needs_data
def test_omniglot_drawers_are_different_and_every_character_is_trained():
    train, test = loaded("omniglot", test_fraction=0.25)
    assert (len(train), len(test)) == (120, 40)
    assert not set(train.ids) & set(test.ids)
    assert set(train.rows()[0]["y"]) == set(range(242))
    assert all(np.unique(test.attributes["alphabet"], return_counts=True)[1] == 5)


@needs_data
def test_arabic_speakers_are_different():
    train, test = loaded("arabic-speech-commands")
    validation = loaded("arabic-speech-commands", held_out="validation").test
    assert len({*train.ids, *test.ids, *validation.ids}) == len(train) + len(test) + len(validation) == 30
    assert np.bincount(test.rows()[0]["y"]).tolist() == [len(test) * 10] * 40


@needs_data
def test_shakespeare_sequences_are_the_text():
    train, test = loaded("shakespeare")
    assert len(train) == len(test) == 309
    assert list(train.ids) == list(test.ids)
    i = list(train.ids).index("ROMEO")
    rows = train.client(i)
    np.testing.assert_array_equal(rows["x"][:, 1:], rows["y"][:, :-1])
    np.testing.assert_array_equal(rows["x"][1:, 0], rows["y"][:-1, -1])
    spoken = "".join(shakespeare.VOCABULARY[token] for token in rows["x"].ravel())
    assert spoken.startswith("Is the day so young?\n")
    text = find("shakespeare")[0].read_text()
    assert all(line in text for line in spoken.split("\n")[:-1])
    last = "".join(shakespeare.VOCABULARY[token] for token in test.client(i)["x"].ravel())
    assert text.index(spoken.split("\n")[3]) < text.index(last.split("\n")[3]), "the test is later"
    assert train.describe(test)["skipped"] > 0


@needs_data
def test_shakespeare_by_speakers_and_by_length():
    train, test = loaded("shakespeare", split="speakers", test_fraction=0.3, length=40)
    assert not set(train.ids) & set(test.ids)
    assert len(train) + len(test) == 309
    assert train.shape("x") == (40,)
    assert round(0.3 * ((train.sizes > 0).sum() + (test.sizes > 0).sum())) == (test.sizes > 0).sum()


def test_the_vocabulary_is_that_of_the_benchmark():
    assert len(shakespeare.VOCABULARY) == len(set(shakespeare.VOCABULARY)) == 80
    assert "".join(shakespeare.VOCABULARY[t] for t in shakespeare.encode("It $is.\n")) == "It  is.\n"


@needs_data
def test_wisdm_people_are_different_or_later():
    train, test = loaded("wisdm")
    assert len(train) + len(test) == 36
    assert train.examples + test.examples == 5418
    assert set(test.ids % 4) == {0}
    assert 0 not in train.ids % 4
    later = loaded("wisdm", split="within")
    assert len(later.train) == len(later.test) == 36
    counts = [np.bincount(p.client(3)["y"], minlength=6) for p in later]
    np.testing.assert_allclose(counts[1], (counts[0] + counts[1]) * 0.2, atol=0.51)
    assert abs(later.test.examples / 5418 - 0.2) < 0.01


@needs_data
@pytest.mark.parametrize(("name", "values"), [("wisdm", 43), ("heart-disease", 13)])
def test_features_are_standardised_on_training_rows_alone(name, values):
    train, test = (p.rows()[0]["x"][:, :values] for p in loaded(name))
    np.testing.assert_allclose(train.mean(axis=0), 0, atol=1e-5)
    assert np.all(train.std(axis=0) < 1 + 1e-5)
    assert np.abs(test.mean(axis=0)).max() > 0.01, "the test rows have means of their own"


def test_test_rows_do_not_move_the_training_rows():
    rng = np.random.default_rng(0)
    values, training = rng.normal(3, 2, (50, 4)), np.arange(50) < 30
    values[rng.random(values.shape) < 0.2] = np.nan
    values[:, 3] = 7.0
    before = standardised(values, training)
    other = values.copy()
    other[~training] = 1e6
    np.testing.assert_array_equal(standardised(other, training)[training], before[training])
    assert np.isfinite(before).all()
    assert np.all(before[np.isnan(values)] == 0)
    assert np.all(before[:, 3] == 0)
    reference = values[training, 0]
    np.testing.assert_allclose(
        before[~np.isnan(values[:, 0]), 0],
        ((values[:, 0] - np.nanmean(reference)) / np.nanstd(reference))[~np.isnan(values[:, 0])],
        rtol=1e-5,
    )


@needs_data
def test_hospitals_are_clients_and_missing_values_are_flagged():
    train, test = loaded("heart-disease")
    assert list(train.ids) == sorted(heart_disease.HOSPITALS)
    np.testing.assert_array_equal(train.sizes + test.sizes, [303, 294, 123, 200])
    flags = 13 + heart_disease._FLAGGED.index("chol")
    missing = [train.client(i)["x"][:, flags].mean() for i in range(4)]
    assert missing[0] == 0, "Cleveland measured all"
    assert missing[2] == 1, "Switzerland wrote 0 for cholesterol"
    assert set(np.unique(train.rows()[0]["x"][:, 13:])) == {0.0, 1.0}
    assert abs(test.rows()[0]["y"].mean() - 0.55) < 0.1
    train, test = loaded("heart-disease", split="hospital", hospital="switzerland", flags=False)
    assert list(test.ids) == ["switzerland"]
    assert "switzerland" not in train.ids
    assert train.shape("x") == (13,)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("digits", {"test_fraction": 1.5}, "test_fraction"),
        ("digits", {"clients": 5000}, "at most"),
        ("shakespeare", {"split": "acts"}, "'time' or 'speakers'"),
        ("heart-disease", {"hospital": "mayo"}, "'cleveland' or"),
        ("wisdm", {"split": "user"}, "'users' or 'within'"),
        ("arabic-speech-commands", {"held_out": "train"}, "'test' or 'validation'"),
    ],
)
def test_options_out_of_range_are_refused(name, options, says):
    with pytest.raises(PopulationError, match=says):
        loaded(name, **options)


def test_fashion_mnist_is_dealt_from_its_own_split():
    train, test = loaded("fashion-mnist", clients=50, test_clients=10)
    assert (train.examples, test.examples) == (60_000, 10_000)
    assert (train.shape("x"), train.dtype("y")) == ((28, 28, 1), np.int32)
    assert np.bincount(test.rows()[0]["y"]).tolist() == [1000] * 10


def idx(path: Path, array, kind=8):
    header = struct.pack(">HBB", 0, kind, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))
    return path


def test_idx_files_are_read_and_damaged_ones_refused(tmp_path):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    path = idx(tmp_path / "a.gz", array)
    np.testing.assert_array_equal(fashion_mnist.read_idx(path), array)
    whole = path.read_bytes()
    for content in (whole[:-9], gzip.compress(gzip.decompress(whole)[:-1]), b"", gzip.compress(b"\0\0")):
        path.write_bytes(content)
        with pytest.raises(DataUnavailable, match=r"a\.gz"):
            fashion_mnist.read_idx(path)
    with pytest.raises(DataUnavailable, match="type 13"):
        fashion_mnist.read_idx(idx(path, array, kind=13))


def test_tables_of_another_form_are_refused(tmp_path):
    path = tmp_path / "table"
    path.write_text("1,2,3\n")
    with pytest.raises(DataUnavailable, match="14 numbers"):
        heart_disease.read_patients(path)
    path.write_text("@data\n1,2,3\n")
    with pytest.raises(DataUnavailable, match="43 features"):
        wisdm.read_arff(path)
