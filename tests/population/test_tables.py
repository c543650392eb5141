"""Data frames and CSV files give the population that the same numbers give, or are refused with advice."""

import datetime

import numpy as np
import pytest

from fairyring.core.errors import PopulationError
from fairyring.population import Population

WHO = ["b", "a", "b", "c"]
ROWS = {
    "who": WHO,
    "age": [63, 41, 57, 70],
    "pressure": [1.5, 2.5, 3.5, 4.5],
    "smokes": [True, False, False, True],
    "pain": ["none", "typical", "none", "other"],
    "y": [0, 1, 1, 0],
}
PAIN = {"pain": ["none", "typical", "other"]}
X = np.array(
    [[63, 1.5, 1, 1, 0, 0], [41, 2.5, 0, 0, 1, 0], [57, 3.5, 0, 1, 0, 0], [70, 4.5, 1, 0, 0, 1]], "f4"
)
NAMES = ("age", "pressure", "smokes", "pain=none", "pain=typical", "pain=other")


def pandas(rows, **_):
    return pytest.importorskip("pandas").DataFrame(rows)


def nullable(rows):
    return pandas(rows).convert_dtypes()


def arrow_backed(rows):
    return pandas(rows).convert_dtypes(dtype_backend="pyarrow")


def categorical(rows):
    frame = pandas(rows)
    return frame.assign(pain=frame["pain"].astype("category"))


def objects(rows):
    return pandas(rows).astype(object)


def polars(rows):
    return pytest.importorskip("polars").DataFrame(rows)


def table(rows):
    return pytest.importorskip("pyarrow").table(rows)


def dictionary(rows):
    arrow = table(rows)
    return arrow.set_column(4, "pain", arrow["pain"].dictionary_encode())


FRAMES = (pandas, nullable, arrow_backed, categorical, objects, polars, table, dictionary)


@pytest.mark.parametrize("frame", FRAMES)
def test_a_frame_is_the_population_of_its_numbers(frame):
    population = Population.from_dataframe(frame(ROWS), client="who", categories=PAIN)
    same = Population.from_arrays({"x": X, "y": np.array(ROWS["y"])}, client=WHO)
    assert population.fingerprint() == same.fingerprint()
    assert population.feature_names == {"x": NAMES}


@pytest.mark.parametrize("frame", FRAMES)
def test_missing_values_are_counted_by_column_or_kept(frame):
    rows = ROWS | {
        "age": [63, None, 57, None],
        "smokes": [True, None, False, True],
        "pain": [*"aa", None, "b"],
    }
    with pytest.raises(PopulationError, match=r"2 in 'age', 1 in 'smokes', 1 in 'pain'.*missing='keep'"):
        Population.from_dataframe(frame(rows), client="who")
    kept = Population.from_dataframe(frame(rows), "who", missing="keep", categories={"pain": ["a", "b"]})
    a, b, c = (kept.client(i)["x"] for i in range(3))
    np.testing.assert_array_equal(a, [[np.nan, 2.5, np.nan, 1, 0]])
    np.testing.assert_array_equal(b, [[63, 1.5, 1, 1, 0], [57, 3.5, 0, np.nan, np.nan]])
    np.testing.assert_array_equal(c, [[np.nan, 4.5, 1, 0, 1]])


def test_declared_categories_and_labels():
    pl = pytest.importorskip("polars")
    declared = {"pain": pl.Enum(PAIN["pain"])}
    population = Population.from_dataframe(polars(ROWS).cast(declared), "who", inputs=["age"], label="pain")
    np.testing.assert_array_equal(population.rows()[0]["y"], [1, 0, 0, 2])
    ordered = pandas(ROWS).assign(
        pain=lambda f: f["pain"].astype(
            pytest.importorskip("pandas").CategoricalDtype(PAIN["pain"], ordered=True)
        )
    )
    again = Population.from_dataframe(ordered, "who", inputs=["age"], label="pain")
    assert again.fingerprint() == population.fingerprint()
    truth = Population.from_dataframe(polars(ROWS), "who", inputs=["age"], label="smokes")
    np.testing.assert_array_equal(truth.rows()[0]["y"], np.array([0, 1, 0, 1], np.int32))
    numbered = Population.from_dataframe(pandas(ROWS), "who", inputs=["age"], categories={"y": [1, 0]})
    np.testing.assert_array_equal(numbered.rows()[0]["y"], np.array([0, 1, 0, 1], np.int32))


def test_one_column_of_arrays_is_the_input_itself():
    images = np.arange(16, dtype=np.uint8).reshape(4, 2, 2)
    frame = pandas({"who": WHO, "image": list(images)})
    population = Population.from_dataframe(frame, "who", label=None)
    assert population.feature_names == {}
    assert population.dtype("x") == np.uint8
    np.testing.assert_array_equal(population.client(1)["x"], images[[0, 2]])
    lists = Population.from_dataframe(
        table({"who": WHO, "x": images.reshape(4, 4).tolist()}), "who", label=None
    )
    assert lists.shape("x") == (4,)


def test_a_table_for_each_client():
    frames = {name: pandas(ROWS).loc[lambda f, n=name: f["who"] == n].drop(columns="who") for name in "abc"}
    population = Population.from_dataframe(frames, categories=PAIN)
    together = Population.from_dataframe(pandas(ROWS), "who", categories=PAIN)
    assert population.fingerprint() == together.fingerprint()
    frames["a"] = frames["a"].assign(age=None)  # a hospital that did not measure
    kept = Population.from_dataframe(frames, categories=PAIN, missing="keep")
    assert np.isnan(kept.client(0)["x"][:, 0]).all()
    frames["a"] = frames["a"].assign(age="old")
    with pytest.raises(
        PopulationError, match="column 'age': given text for client 'a', number for client 'b'"
    ):
        Population.from_dataframe(frames, categories=PAIN)
    with pytest.raises(PopulationError, match="columns that differ in 'age'"):
        Population.from_dataframe(frames | {"a": frames["a"].drop(columns="age")}, categories=PAIN)


DAY = datetime.datetime(2020, 1, 1)


@pytest.mark.parametrize(
    ("changes", "options", "says"),
    [
        (
            {},
            {},
            r"text with 3 distinct values.*categories=\{'pain': \['none', 'other', 'typical'\]\}",
        ),
        (
            {},
            {"categories": {"pain": ["none"]}},
            "'other' 1 times, 'typical' 1 times; expected one of its cat",
        ),
        ({}, {"categories": {"pain": ["none", "none"]}}, "categories of column 'pain'.*each once"),
        ({}, {"categories": {"pian": ["none"]}}, "Did you mean 'pain'"),
        ({}, {"label": "z"}, "label column"),
        ({}, {"client": "whom"}, "Did you mean 'who'"),
        ({}, {"inputs": ["y"]}, "without the client and the label"),
        ({}, {"missing": "drop"}, "'refuse' or 'keep'"),
        ({"pain": [DAY] * 4}, {}, "Datetime.*total_seconds"),
        ({"pain": [DAY - DAY] * 4}, {}, "Duration.*total_seconds"),
        ({"pain": ["1", "?", "3", "?"]}, {}, r"text in 2 of 4 rows among numbers: '\?'.*missing"),
        ({"pain": ["1", "2", "3", "4"]}, {}, r"looks like numbers, such as '1'.*astype\(float\)"),
        ({"pain": [1.7e9, 1.7e9 + 1, 1.7e9 + 2, 1.7e9 + 3]}, {}, "float32 tells only steps of 128"),
        ({"pain": [1.0, float("inf"), 3.0, 4.0]}, {}, "column 'pain', row 1: given inf"),
        ({"pain": [[1], [1], [1], [1]]}, {}, "arrays, beside 3 other inputs"),
        ({"pain": [None] * 4}, {"missing": "keep"}, "no value at all"),
        ({"y": [0, None, 1, 0]}, {"missing": "keep"}, "1 in 'y'; expected a client and a label"),
        ({"who": [0.5, 1, 2, 3]}, {}, r"client column 'who'.*astype\(str\)"),
    ],
)
@pytest.mark.parametrize("frame", [pandas, polars])
def test_what_makes_no_population_is_refused_with_advice(frame, changes, options, says):
    with pytest.raises(PopulationError, match=says):
        Population.from_dataframe(frame(ROWS | changes), **({"client": "who"} | options))


def test_strangers_are_refused():
    with pytest.raises(PopulationError, match=r"frame.collect\(\)"):
        Population.from_dataframe(polars(ROWS).lazy(), "who")
    with pytest.raises(PopulationError, match=r"given numpy.ndarray.*from_arrays"):
        Population.from_dataframe(np.zeros(3), "who")
    with pytest.raises(PopulationError, match="a mapping with a table for each client"):
        Population.from_dataframe(pandas(ROWS))
    with pytest.raises(PopulationError, match="Leave client= out"):
        Population.from_dataframe({"a": pandas(ROWS)}, "who")
    mixed = pandas(ROWS | {"pain": [1, "a", DAY, 2]})
    with pytest.raises(PopulationError, match="2 int, 1 str, 1 datetime"):
        Population.from_dataframe(mixed, "who")


def test_names_of_features_stay_with_a_population(tmp_path):
    population = Population.from_dataframe(pandas(ROWS), "who", categories=PAIN)
    population.save(tmp_path / "p")
    parts = [*population.split_within(0.5, 0), *population.split_clients(0.5, 0), population.in_memory()]
    lazy = Population.from_function(["a"], lambda i: {"x": X}, feature_names={"x": NAMES})
    parts += [Population.open(tmp_path / "p"), lazy.select([0]), lazy.split_within(0.5, 0)[1]]
    assert {part.feature_names["x"] for part in parts} == {NAMES}
    with pytest.raises(PopulationError, match="given 2 names"):
        Population({"x": X}, [0], [4], feature_names={"x": ("a", "b")})


CSV = """who, age,pressure,smokes,pain,y
b,63,1.5,true,none,0
a,41,2.5,false,"typical",1

b,57,3.5,false,none,1
c,70,4.5,true,other,0
"""


def test_a_csv_file_is_the_population_of_its_numbers(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("\ufeff" + CSV, encoding="utf-8")
    population = Population.from_csv(path, "who", categories=PAIN)
    assert (
        population.fingerprint()
        == Population.from_dataframe(table(ROWS), "who", categories=PAIN).fingerprint()
    )
    assert population.feature_names == {"x": NAMES}
    path.write_text(CSV.replace(",", ";"))
    again = Population.from_csv(path, "who", categories=PAIN, delimiter=";")
    assert again.fingerprint() == population.fingerprint()


def test_a_csv_file_for_each_client_without_a_header(tmp_path):
    (tmp_path / "north").write_text("63,1.5,0\n41,?,1\n")
    (tmp_path / "south").write_text("?,2.5,1\n")
    files = {name: tmp_path / name for name in ("south", "north")}
    population = Population.from_csv(files, names=["age", "pressure", "y"], missing="keep")
    assert population.ids.tolist() == ["north", "south"]
    np.testing.assert_array_equal(population.client(0)["x"], [[63, 1.5], [41, np.nan]])
    np.testing.assert_array_equal(population.client(1)["x"], [[np.nan, 2.5]])


def test_ids_in_a_csv_file_stay_what_they_are(tmp_path):
    path = tmp_path / "p.csv"
    for given, ids in ((["2", "10"], [2, 10]), (["002", "10"], ["002", "10"]), (["1.5", "2"], ["1.5", "2"])):
        path.write_text("who,x\n" + "".join(f"{one},1\n" for one in given))
        assert Population.from_csv(path, "who", label=None).ids.tolist() == ids
    path.write_text("who,zip,y\na,01234,1\nb,99999,0\n")
    zips = Population.from_csv(path, "who", categories={"zip": ["01234", "99999"]})
    np.testing.assert_array_equal(zips.rows()[0]["x"], np.eye(2))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("who,x,y\na,1,0\nb,2\n", "line 3: given 2 values; expected 3, as in the header"),
        ("who;x;y\na;1;0\n", "delimiter=';'"),
        ("who,x,x\na,1,0\n", "each once"),
        ("who,x,y\n", "given no row"),
        ("who,x,y\na,1 mmHg,0\nb,2,1\n", "among numbers: '1 mmHg'.*missing_values="),
        ("who,x,y\na,\xe4,0\n", "encoding='latin-1'|invalid continuation"),
    ],
)
def test_damaged_csv_files_are_refused(tmp_path, text, says):
    path = tmp_path / "p.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(PopulationError, match=says):
        Population.from_csv(path, "who")
    with pytest.raises(PopulationError, match="Check the path"):
        Population.from_csv(tmp_path / "none.csv", "who")
