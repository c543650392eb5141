"""`--json`: standard output is one document, whatever the command and however it ends."""

import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fairyring as fr
from fairyring.cli._app import app
from fairyring.cli._ecology import ecology
from fairyring.cli._help import asked
from fairyring.cli._result import Interrupted, Result, answer
from fairyring.core.errors import FairyringError, TrackerWarning
from tests.cli.documented import FIELDS, document
from tests.privacy.ledger_meter import digest, noise, opened
from tests.report.run.run_folders import make_run_folder


def test_what_is_printed_meanwhile_goes_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    def run() -> Result:
        print("from Python")
        os.write(1, b"from C++\n")
        subprocess.run([sys.executable, "-c", "print('from a process')"], check=True)
        return Result({"value": 1}, lambda: print("for people"), 3)

    assert answer(run, as_json=True) == 3
    out, err = capfd.readouterr()
    assert json.loads(out) == {"value": 1}
    assert sorted(err.split("\n")) == ["", "from C++", "from Python", "from a process"]
    assert answer(run) == 3
    assert capfd.readouterr().out.endswith("for people\n")


def test_values_are_plain_and_what_is_not_finite_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    found = {
        "path": Path("a") / "b",
        "mean": np.float32(0.5),
        "rows": np.array([1.0, np.nan]),
        "none": float("inf"),
    }
    answer(lambda: Result(found, lambda: None), as_json=True)
    assert json.loads(capsys.readouterr().out) == {
        "path": "a/b",
        "mean": 0.5,
        "rows": [1.0, None],
        "none": None,
    }


def failing(error: BaseException) -> Callable[[], Result]:
    def run() -> Result:
        raise error

    return run


def test_however_it_ends_there_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    error = FairyringError("cohort", given=0, expected="1 or more", do="Set it.")
    error.add_note("plan.py, line 3")
    assert answer(failing(error), as_json=True) == 2
    told = json.loads(capsys.readouterr().out)["error"]
    assert told == {
        "kind": "FairyringError",
        "what": "cohort",
        "given": "0",
        "expected": "1 or more",
        "do": "Set it.",
        "where": ["plan.py, line 3"],
    }
    assert answer(failing(Interrupted("Stopped.", "go on")), as_json=True) == 130
    assert json.loads(capsys.readouterr().out) == {"interrupted": {"kept": "Stopped.", "command": "go on"}}
    assert answer(failing(KeyboardInterrupt()), as_json=True) == 130
    assert json.loads(capsys.readouterr().out)["interrupted"]["command"] is None
    with pytest.raises(ZeroDivisionError):
        answer(failing(ZeroDivisionError("by zero")), as_json=True)
    assert json.loads(capsys.readouterr().out)["error"].keys() == told.keys()


def test_a_command_line_that_is_wrong_is_an_error_too(call: Callable) -> None:
    called = call("trian", "--json")
    assert called.status == 2
    error = json.loads(called.out)["error"]
    assert error["kind"] == "UsageError"
    assert 'Did you mean "train"?' in error["given"]
    assert json.loads(call("train", "--json").out)["error"]["kind"] == "UsageError"
    assert json.loads(call("ecology", "--json").out) == {"status": 0}


@pytest.mark.parametrize(
    "tokens", [("--help",), ("train", "-h"), ("ecology", "--help"), ("ecology", "study", "--help")]
)
def test_help_is_a_document(tokens: tuple[str, ...], call: Callable) -> None:
    called = call(*tokens, "--json")
    found = document("--help", called.out)
    text = " ".join(re.sub(r"[^\w=.,:;()-]+", " ", call(*tokens).out).split())
    assert called.status == 0
    assert found["name"] == " ".join(("fairyring", *tokens[:-1]))
    assert {one["name"] for one in found["common_options"]} == {"--json", "--debug", "--no-cache"}
    for one in (*found["arguments"], *found["options"]):
        assert one["name"] in text
        assert re.sub(r"[^\w=.,:;()-]+", " ", one["help"]).split()[0] in text
    for one in found["commands"]:
        assert one["name"] in text
        assert one["purpose"]
    assert bool(found["commands"]) == (tokens in {("--help",), ("ecology", "--help")})


def test_the_version_is_a_document_and_a_wrong_command_an_error(call: Callable) -> None:
    assert document("--version", call("--version", "--json").out) == {"version": fr.__version__}
    assert json.loads(call("trian", "--help", "--json").out)["error"]["kind"] == "UsageError"
    assert asked(app, ["bench", "noise", "--", "--help", "--json"]) is None  # those are the benchmark's


def test_the_fields_are_the_documented_ones(call: Callable, tmp_path: Path) -> None:
    folders = [
        make_run_folder(tmp_path / name, rounds=3, run={"seed": seed}) for seed, name in enumerate("ab")
    ]
    with opened(folders[0] / "ledger.sqlite", 100.0) as ledger:
        ledger.release(ledger.reserve(1, noise(2.0)), digest(1))
        head = ledger.head
    assert document("report", call("report", folders[0], "--json").out)["report"] == str(
        folders[0] / "report.html"
    )
    read = document("ledger", call("ledger", folders[0], "--json").out)
    assert read["head"] == str(head)
    assert [one["state"] for one in read["releases"]] == ["released"]
    compared = document("compare", call("compare", *folders, "--out", tmp_path / "both.html", "--json").out)
    assert [name for one in compared["settings"] for name in one["runs"]] == [
        str(folder) for folder in folders
    ]
    assert set(document("cache", call("cache", "--json").out)) > {"programs"}
    benchmarks = document("bench", call("bench", "--json").out)["benchmarks"]
    assert {"name", "question"} == set(benchmarks[0])
    sets = document("data", call("data", "--json").out)["data_sets"]
    assert "digits" in [one["name"] for one in sets]
    assert document("data NAME", call("data", "digits", "--json").out)["licence"].startswith("CC BY 4.0")
    zoo = document("ecology zoo", call("ecology", "zoo", "--json").out)["populations"]
    named = document("ecology zoo NAME", call("ecology", "zoo", zoo[0]["name"], "--json").out)
    assert named == zoo[0]
    assert set(named["card"]) > {"population", "index"}


def test_a_run_is_sent_to_trackers_and_warnings_are_no_part_of_the_document(
    call: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, to = make_run_folder(tmp_path / "run", rounds=3), f"csv:{tmp_path / 'metrics'}"
    sent = call("track", folder, "--to", to)
    assert (sent.status, sent.out) == (0, f"3 rounds sent to {to}\n")
    (table,) = (tmp_path / "metrics").iterdir()
    assert [row.partition(",")[0] for row in table.read_text().splitlines()] == ["round", "1", "2", "3"]

    def away(*_: object) -> bool:
        warnings.warn("The tracker is away.", TrackerWarning, stacklevel=2)
        return False

    monkeypatch.setattr("fairyring.tracking.deliver", away)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        failed = call("track", folder, "--to", to, "--json")
    assert failed.status == 1
    assert document("track", failed.out)["trackers"] == [{"name": to, "complete": False}]
    assert failed.err == "Warning. The tracker is away.\n"  # without the line of code that it comes from


def test_every_command_is_documented(call: Callable) -> None:
    commands = set(json.loads(call("--json").out)["commands"]) - {"privacy", "ecology"}
    assert commands <= {name.split()[0] for name in FIELDS}
    worlds = {name for name in ecology if not name.startswith("-")}
    assert worlds == {name.split()[1] for name in FIELDS if name.startswith("ecology ")}
