"""Runs side by side: which are one setting, what tells settings apart, and what each came to."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fairyring as fr
from fairyring.core.errors import PlanError, RunError
from fairyring.sweeps import compare
from tests.report.run.run_folders import make_run_folder


def folder_of(
    path: Path, seed: int, rate: float = 0.1, *, algorithm: str = "averaging", population: str = "p"
) -> Path:
    """A run's folder, made up."""
    folder = make_run_folder(path, rounds=4, evaluate_every=2)
    header = json.loads((folder / "run.json").read_text("utf-8"))
    plan = {
        "local": {"optimizer": {"sgd": {"learning_rate": rate}}},
        "algorithm": {algorithm: {}},
        "aggregation": [{"clip": {"norm": 1.0}}, {"secure_sum": {}}],
        "bytes_up": seed,
    }
    header |= {"seed": seed, "fingerprints": {"plan": f"{rate}{algorithm}", "population": population}}
    (folder / "run.json").write_text(json.dumps(header))
    (folder / "plan.json").write_text(json.dumps(plan))
    return folder


def test_runs_that_differ_in_their_seed_alone_are_one_setting(tmp_path: Path) -> None:
    rates = {0.1: 3, 0.3: 2}
    folders = [folder_of(tmp_path / f"{r}-{s}", s, r) for r, n in rates.items() for s in range(n)]
    comparison = compare(folders)
    assert {one.name: len(one.runs) for one in comparison.settings} == {
        "learning_rate=0.1": 3,
        "learning_rate=0.3": 2,
    }
    assert comparison.fields == ["local.optimizer.sgd.learning_rate"]  # bytes_up only follows from the rest
    for one in comparison.settings:
        values = [run.records[-1].test.loss for run in one.runs if run.records[-1].test is not None]
        interval = one.interval("test.loss")
        assert interval is not None
        assert interval.estimate == pytest.approx(np.mean(values))
    row = comparison.table()[0]
    assert (row["setting"], row["runs"], row["local.optimizer.sgd.learning_rate"]) == (
        "learning_rate=0.1",
        3,
        "0.1",
    )
    assert "learning_rate=0.3" in str(comparison)


def test_every_named_test_population_has_a_column(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a", 0)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    for line in lines:
        if "test" in line:
            north = {"loss": line["round"] / 8, "metrics": {"accuracy": 0.25}}
            line["tests"] = {"all": line["test"], "north": north}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    comparison = compare([folder])
    assert comparison.columns[:4] == [
        "test.loss",
        "test.metrics.accuracy",
        "tests.north.loss",
        "tests.north.metrics.accuracy",
    ]
    assert comparison.table()[0]["tests.north.loss"] == 0.5
    assert "north accuracy" in str(comparison).splitlines()[0]


def test_a_part_is_called_by_its_name_and_what_has_none_by_the_folder(tmp_path: Path) -> None:
    both = [folder_of(tmp_path / "a", 0), folder_of(tmp_path / "b", 0, algorithm="scaffold")]
    assert [one.name for one in compare(both).settings] == ["averaging", "scaffold"]
    other = compare([both[0], folder_of(tmp_path / "c", 0, population="another")])
    assert other.fields == ["population"]
    assert [one.name for one in other.settings] == ["a", "c"]


def test_settings_have_the_names_that_are_given(tmp_path: Path) -> None:
    one, two, other = (
        folder_of(tmp_path / name, seed, rate)
        for name, seed, rate in (("a", 1, 0.1), ("b", 0, 0.1), ("c", 0, 0.3))
    )
    comparison = compare({"mine": [one, two], "theirs": other})
    assert [(s.name, [run.header["seed"] for run in s.runs]) for s in comparison.settings] == [
        ("mine", [0, 1]),
        ("theirs", [0]),
    ]
    with pytest.raises(PlanError, match="several settings"):
        compare({"both": [one, other]})
    with pytest.raises(PlanError, match="no runs"):
        compare([])
    with pytest.raises(RunError, match="no such folder"):
        compare([tmp_path / "nothing"])


def test_a_report_shows_every_setting(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    folders = [folder_of(tmp_path / f"{s}", s, 0.1 + s) for s in range(2)]
    page = fr.write_comparison(compare(folders), tmp_path / "out.html").read_text("utf-8")
    for words in ("learning_rate=0.1", "learning_rate=1.1", "Where the plans differ", "<svg"):
        assert words in page


def test_a_report_of_a_private_run_is_its_owners(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    folder = folder_of(tmp_path / "a", 0)
    header: dict[str, Any] = json.loads((folder / "run.json").read_text("utf-8"))
    (folder / "run.json").write_text(json.dumps(header | {"privacy": {"spent": 1.5}}))
    page = fr.write_comparison(compare([folder]), tmp_path / "out.html")
    assert page.stat().st_mode & 0o077 == 0
    assert "1.5" in page.read_text("utf-8")


def test_a_run_that_was_stopped_is_not_averaged_with_one_that_ended(tmp_path: Path) -> None:
    ended, stopped = folder_of(tmp_path / "a", 0), folder_of(tmp_path / "b", 1)
    lines = (stopped / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (stopped / "metrics.jsonl").write_bytes(b"".join(lines[:2]))
    assert [one.name for one in compare([ended, stopped]).settings] == ["rounds=4", "rounds=2"]


def test_a_run_counts_once(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a", 0)
    copy = folder_of(tmp_path / "copy", 0)  # public, with the same plan, data and seed: the same numbers
    (one,) = compare([folder, folder, copy]).settings
    assert len(one.runs) == 1


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    for wrong in (None, 3, "a", [3], [None]):
        with pytest.raises(PlanError, match="compare"):
            compare(wrong)  # type: ignore[arg-type]
    with pytest.raises(PlanError, match="write_comparison"):
        fr.write_comparison("a", tmp_path / "o.html")  # type: ignore[arg-type]
    with pytest.raises(fr.StorageError, match="a folder"):
        fr.write_comparison(compare([folder_of(tmp_path / "a", 0)]), tmp_path)
