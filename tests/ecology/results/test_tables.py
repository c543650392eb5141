"""Results as rows and as CSV: nothing is lost, and what is not known is empty."""

import csv
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fairyring.core.errors import EcologyError, StorageError
from fairyring.ecology.analysis import Criterion, Decision
from fairyring.ecology.history import Evolution, WorldRun, world_key
from fairyring.ecology.lab import MEASURES, Assay, Assays, Coculture
from fairyring.ecology.results import study_tables, write_csv
from fairyring.ecology.studies import ControlledRun, Judgement
from fairyring.ecology.world import AMOUNTS, NUMBERS
from tests.ecology.worlds import FIRST


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def lab(shift: float) -> Assay:
    """Three individuals, the last of which was never in some situation."""
    rows = {name: np.array([1.0, 2.0, np.nan]) + shift + i for i, name in enumerate(MEASURES)}
    return Assay(**rows, probabilities=np.zeros((3, 3)))


def run() -> Evolution:
    """Two worlds of four steps, in which the numbers count up."""
    worlds = [
        dataclasses.replace(
            WorldRun.new(FIRST, world_key(1, number)),
            numbers=np.arange(4 * len(NUMBERS), dtype=np.int32).reshape(4, -1) + 100 * number,
            amounts=np.full((4, len(AMOUNTS)), 0.1, np.float32),
        )
        for number in (0, 3)
    ]
    return Evolution(FIRST, 1, (0, 3), tuple(worlds))


def decision() -> Decision:
    criteria = tuple(
        Criterion(name, 1.0, 0.5, low, np.inf, True) for name, low in zip("abcd", range(4), strict=True)
    )
    return Decision("a question", criteria, 3, 4, 0.2)


def test_assays_are_rows_of_worlds_or_of_individuals(tmp_path: Path) -> None:
    assays = Assays((4, 7, 9), [lab(0), None, lab(10)])
    assert [row["world"] for row in assays.table()] == [4, 7, 9]
    rows = read(write_csv(assays, tmp_path / "assay.csv"))
    assert list(rows[0]) == ["world", *MEASURES]
    assert [float(row["index"] or "nan") for row in rows] == pytest.approx([1.5, np.nan, 11.5], nan_ok=True)
    each = assays.table(individuals=True)
    assert [(row["world"], row["individual"]) for row in each] == [
        (4, 0),
        (4, 1),
        (4, 2),
        (9, 0),
        (9, 1),
        (9, 2),
    ]
    rows = read(write_csv(each, tmp_path / "each.csv"))
    assert [row["index"] for row in rows] == ["1.0", "2.0", "", "11.0", "12.0", ""]


def test_a_run_is_rows_of_steps_and_its_judgement_rows_of_worlds(tmp_path: Path) -> None:
    evolved = run()
    rows = evolved.table(every=3)
    assert [(row["world"], row["step"]) for row in rows] == [(0, 1), (0, 4), (3, 1), (3, 4)]
    metrics = evolved.metrics
    assert all(
        row[name] == values[i // 2, 3 * (i % 2)]
        for i, row in enumerate(rows)
        for name, values in metrics.items()
    )
    assert read(write_csv(rows, tmp_path / "run.csv"))[1]["births"] == str(metrics["births"][0, 3])
    judged = ControlledRun(
        evolved, evolved, Judgement(Assays((0, 3), [lab(0), None]), [], [decision(), None])
    )
    first, second = read(write_csv(judged, tmp_path / "worlds.csv"))
    assert (first["world"], second["world"]) == ("0", "3")
    assert first["population"] == repr(float(metrics["population"][0].mean()))
    assert (first["contrast.compared"], first["contrast.least"], first["contrast.most"]) == ("0.5", "2", "")
    assert (first["chemotaxis"], second["chemotaxis"], second["index"]) == ("False", "", "")


def test_a_study_is_a_table_of_its_worlds_and_one_of_its_pairs() -> None:
    world = {"world": 3, "population": 80.0, "assay": {"index": 1.5, "probabilities": [[0.1]]}}
    study = {"study": "v1", "arms": {"evolved": {"worlds": [world]}, "blind": {"worlds": [{"world": 9}]}}}
    assert study_tables(study) == {
        "worlds": [
            {"arm": "evolved", "world": 3, "population": 80.0, "assay.index": 1.5},
            {"arm": "blind", "world": 9},
        ]
    }
    jars: dict[str, Any] = {
        "contests": [{"first": "0", "first_gains": {"mean": 0.6}}],
        "populations": [{"name": "0"}],
    }
    tables = {"pairs": [{"first": "0", "first_gains.mean": 0.6}], "populations": [{"name": "0"}]}
    assert study_tables({"study": "jars", "jars": jars}) == tables
    measures = [{"name": "learning, antisymmetric", "p": 0.3, "verdict": "not shown"}]
    assert study_tables({"study": "rotation", "verdicts": {"rotation": measures}}) == {"measures": measures}
    assert study_tables({"study": "another"}) == {}


def test_a_coculture_is_rows_of_jars_and_counts(tmp_path: Path) -> None:
    counts = np.arange(12, dtype=np.int32).reshape(2, 2, 3)
    jars = Coculture(
        "jar", ("a", "b"), np.array([0, 10, 20]), counts, counts.sum(1), np.zeros((2, 2, 4), np.int64)
    )
    rows = read(write_csv(jars, tmp_path / "jars.csv"))
    assert len(rows) == 6
    assert rows[4] == {"jar": "1", "step": "10", "alive.a": "7", "alive.b": "10", "population": "17"}


def test_columns_are_rows_and_what_is_no_table_is_refused(tmp_path: Path) -> None:
    path = write_csv({"eat": np.array([0.1, np.nan]), "dummy": [1, 2]}, tmp_path / "rates.csv")
    assert path.read_text() == "eat,dummy\n0.1,1\n,2\n"
    with pytest.raises(EcologyError, match="one value for each row"):
        write_csv({"eat": [1], "dummy": [1, 2]}, path)
    with pytest.raises(EcologyError, match="no rows"):
        write_csv([], path)
    assert path.read_text() == "eat,dummy\n0.1,1\n,2\n"
    with pytest.raises(StorageError):
        write_csv([{"a": 1}], tmp_path / "nowhere" / "a.csv")
