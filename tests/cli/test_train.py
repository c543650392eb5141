"""`train` and `demo`: what is read from a file, passed to the engine, and shown."""

import importlib
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fairyring.cli._result import Result
from fairyring.core.errors import PlanError, RunError
from fairyring.core.lock import Lock
from fairyring.distributed import RayEngine
from fairyring.records.round_record import Means, read_record
from tests.cli.documented import document
from tests.report.run.run_folders import make_run_folder
from tests.rounds.round_records import record_of

FILE = """
from fairyring_neighbour import size
plan, population, test = ("plan",), ["population"], ["test"]
rounds, seed, evaluate_every, keep_client_states = 12, 7, 3, True
if __name__ == "__main__":
    raise AssertionError("only run as a program")
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "fairyring_neighbour.py").write_text("size = 3\n")
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A stand-in for the engine that records its arguments and writes a run folder."""
    asked: list[dict[str, Any]] = []

    def simulate(plan: Any, population: Any, **options: Any) -> SimpleNamespace:
        asked.append({"plan": plan, "population": population, **options})
        folder = make_run_folder(Path(options["run"]), rounds=options["rounds"], evaluate_every=5)
        records = [read_record(line) for line in (folder / "metrics.jsonl").read_bytes().splitlines()]
        for record in records:
            options["on_round"](record)
        return SimpleNamespace(records=records, folder=folder)

    def override(plan: Any, settings: dict[str, str]) -> Any:
        if "cohrt" in settings:
            raise PlanError(
                "Plan field 'cohrt'", given="unknown", expected="cohort", do="Did you mean 'cohort'?"
            )
        return (*plan, settings)

    monkeypatch.setattr(importlib.import_module("fairyring.simulation"), "simulate", simulate, raising=False)
    monkeypatch.setattr(importlib.import_module("fairyring.learning"), "override", override, raising=False)
    return asked


def test_the_file_says_what_is_trained(call: Callable, engine: list, file: Path, tmp_path: Path) -> None:
    called = call("train", file, "--run", tmp_path / "run")
    assert called.status == 0
    (asked,) = engine
    assert asked["plan"] == ("plan",)
    assert asked["population"] == ["population"]
    assert asked["test"] == ["test"]
    assert (asked["rounds"], asked["seed"], asked["evaluate_every"], asked["resume"]) == (12, 7, 3, False)
    assert asked["keep_client_states"] is True
    assert "secure_sum" not in asked


def test_as_json_the_summary_is_the_only_output(
    call: Callable, engine: list, file: Path, tmp_path: Path
) -> None:
    file.write_text(FILE + "print('a plan file may print')\n")
    called = call("train", file, "--run", tmp_path / "run", "--rounds", 10, "--json")
    assert called.status == 0
    found = document("train", called.out)
    assert "a plan file may print" in called.err
    assert "round 10/10" in called.err
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert found["last_round"] == last
    assert found["test"] == {"round": 10, **last["test"]}
    assert (found["run"], found["report"]) == (str(tmp_path / "run"), str(tmp_path / "run" / "report.html"))
    refused = call("train", tmp_path / "absent.py", "--json")
    assert refused.status == 2
    assert json.loads(refused.out)["error"]["given"] == "no such file"


def test_options_go_before_the_file(call: Callable, engine: list, file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    called = call(
        "train",
        file,
        "--run",
        run,
        "--rounds",
        4,
        "--seed",
        0,
        "--resume",
        "--set",
        "cohort=5",
        "--set",
        "local.batch_size = 2",
    )
    assert called.status == 0
    (asked,) = engine
    assert (asked["rounds"], asked["seed"], asked["resume"], asked["run"]) == (4, 0, True, str(run))
    assert asked["plan"] == ("plan", {"cohort": "5", "local.batch_size": "2"})


def test_the_run_folder_is_named_after_the_file(
    call: Callable, engine: list, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("train", "mine.py").status == 0
    assert engine[0]["run"] == "runs/mine"
    assert (tmp_path / "runs" / "mine" / "report.html").is_file()


def test_progress_in_plain_lines_and_a_closing_summary(
    call: Callable, engine: list, file: Path, tmp_path: Path
) -> None:
    out = call("train", file, "--run", tmp_path / "run", "--rounds", 200).out
    lines = [line for line in out.splitlines() if line.startswith("round ")]
    assert 20 <= len(lines) <= 22
    assert lines[0].startswith("round 1/200  loss ")
    assert lines[-1].startswith("round 200/200  loss ")
    assert all("clients/s" in line and "accuracy" in line for line in lines)
    assert " left" in lines[5]
    assert " left" not in lines[-1]
    assert "\x1b" not in out
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert f"accuracy {100 * last['test']['metrics']['accuracy']:.1f} % (round 200)" in out
    assert str(tmp_path / "run" / "report.html") in out.replace("\n", "")
    closing = out[out.index("What is not private") :]
    assert "Updates in the clear" in closing
    assert "No differential privacy" in closing
    assert "An honest server" not in closing


def test_the_demo_trains_its_file_and_replaces_only_an_earlier_demo(
    call: Callable, engine: list, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairyring.cli._train._DEMO", file)
    audited = []
    done = Result({}, lambda: None, 1)
    monkeypatch.setattr("fairyring.cli._train.audit", lambda run, *_, **__: audited.append(run) or done)
    out = tmp_path / "demo"
    for _ in range(2):
        assert call("demo", "--out", out).status == 1  # the status of the audit
        assert json.loads((out / "source.json").read_text()) == {"file": str(file), "settings": {}}
        (out / "checkpoints").mkdir()
        (out / "checkpoints" / "round-000060.safetensors").write_bytes(b"old")
        (out / "lock").touch()  # every run leaves one
        (out / "run.json.part").touch()  # a crash leaves one
    assert audited == [out, out]
    assert not engine[0]["resume"]
    assert (out / "report.html").is_file()
    (out / "thesis.txt").write_text("mine")
    call("demo", "--out", out)
    assert (out / "thesis.txt").read_text() == "mine"
    assert (out / "checkpoints" / "round-000060.safetensors").is_file()


def test_a_demo_that_is_being_made_is_not_replaced(call: Callable, engine: list, tmp_path: Path) -> None:
    out = make_run_folder(tmp_path / "demo", rounds=2)
    held = Lock(out / "lock")
    called = call("demo", "--out", out)
    held.release()
    assert called.status
    assert "being written by process" in called.err
    assert (out / "metrics.jsonl").is_file()
    assert not engine


def test_a_run_that_is_refused_leaves_the_note_of_the_run_that_is_there(
    call: Callable, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise an audit would take plan and population from another file."""
    folder = make_run_folder(tmp_path / "run", rounds=2)
    (folder / "source.json").write_text("the other's")

    def simulate(*_: Any, **__: Any) -> None:
        raise RunError("run folder", given="a path that is in use", expected="a new one", do="Choose one.")

    monkeypatch.setattr(importlib.import_module("fairyring.simulation"), "simulate", simulate, raising=False)
    monkeypatch.setattr(importlib.import_module("fairyring.learning"), "override", None, raising=False)
    assert call("train", file, "--run", folder).status
    assert (folder / "source.json").read_text() == "the other's"


def test_an_interrupt_says_how_to_go_on(
    call: Callable, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def simulate(*_: Any, run: str, on_round: Callable, **__: Any) -> None:
        make_run_folder(Path(run), rounds=1)
        on_round(record_of(1))
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module("fairyring.simulation"), "simulate", simulate, raising=False)
    monkeypatch.setattr(importlib.import_module("fairyring.learning"), "override", None, raising=False)
    monkeypatch.setattr(importlib.import_module("fairyring.learning"), "override", lambda plan, _: plan)
    given = "--rounds", 4, "--engine", "debug", "--set", "a name=1", "--track", "csv:metrics"
    called = call("train", file, "--run", tmp_path / "run", *given)
    assert called.status == 130
    command = f"fairyring train {file} --rounds 4 --engine debug --set 'a name=1' --track csv:metrics --run {tmp_path / 'run'} --resume"
    stopped = "Stopped after round 1; it is run again from the start."
    assert f"{stopped} Continue with: {command}\n" in called.out
    (tmp_path / "run" / "checkpoints").mkdir()
    (tmp_path / "run" / "checkpoints" / "round-000001.safetensors").touch()
    told = json.loads(call("train", file, "--run", tmp_path / "run", *given, "--resume", "--json").out)
    assert told == {"interrupted": {"kept": "Stopped after round 1.", "command": command}}
    # It was another run that was there before.
    assert "--resume" not in call("train", file, "--run", tmp_path / "run").out


def test_nothing_measured_and_nothing_finite_still_sums_up(
    call: Callable, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def simulate(*_: Any, on_round: Callable, run: str, **__: Any) -> SimpleNamespace:
        make_run_folder(Path(run), rounds=1, run={"assumptions": []})
        records = [record_of(loss=math.nan, clients=0, test=Means(math.nan, {}), nonfinite=3)]
        on_round(records[0])
        return SimpleNamespace(records=records)

    monkeypatch.setattr(importlib.import_module("fairyring.simulation"), "simulate", simulate, raising=False)
    monkeypatch.setattr(importlib.import_module("fairyring.learning"), "override", None, raising=False)
    called = call("train", file, "--run", tmp_path / "run")
    assert called.status == 0
    assert "3 updates held a number that is not finite" in called.out
    assert "Assume that nothing about it is private" in called.out


def test_settings_may_be_in_a_file(call: Callable, engine: list, file: Path, tmp_path: Path) -> None:
    """What is said on the command line goes before it."""
    written = tmp_path / "mine.toml"
    written.write_text('rounds = 5\ncohort = 9\n[local]\nbatch_size = 2\nshuffle = false\nsteps = "none"\n')
    given = "--settings", written, "--run", tmp_path / "run"
    assert call("train", file, *given, "--set", "cohort=5").status == 0
    (asked,) = engine
    changes = {"cohort": "5", "local.batch_size": "2", "local.shuffle": "false", "local.steps": "none"}
    assert asked["plan"] == ("plan", changes)
    assert (asked["rounds"], asked["seed"]) == (5, 7)
    for content, words in (("[grid", "TOML"), ("cohort = [1, 2]", "fairyring sweep")):
        written.write_text(content)
        refused = call("train", file, *given)
        assert refused.status == 2
        assert words in refused.err


def test_what_is_kept_and_where_a_run_starts(
    call: Callable, engine: list, file: Path, tmp_path: Path
) -> None:
    given = "--keep", 3, "--init", tmp_path / "old", "--overwrite"
    assert call("train", file, "--run", tmp_path / "run", *given).status == 0
    (asked,) = engine
    assert (asked["keep"], asked["init"], asked["overwrite"]) == (3, tmp_path / "old", True)
    assert call("train", file, "--run", tmp_path / "run", "--keep", "best").status == 0
    assert engine[1]["keep"] == "best"
    assert "init" not in engine[1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("population = 1\nrounds = 2\n", ["defines no 'plan'", "plan = fr.Plan(...)"]),
        ("plan = 1\nrounds = 2\n", ["defines no 'population'"]),
        ("plan = population = 1\n", ["no number of rounds", "--rounds 100"]),
        ("plan = population = 1\nrounds = 'ten'\n", ["mine.py, rounds", "'ten'", "a whole number"]),
        ("plan = 1\nboom = 1 / 0\n", ["mine.py, line 2", "ZeroDivisionError: division by zero"]),
        ("plan = 1\nplan = (\n", ["mine.py, line 2", "SyntaxError"]),
        ("import no_such_module_at_all\n", ["mine.py, line 1", "ModuleNotFoundError"]),
        (
            "def f():\n    raise fr.PlanError('cohort', given=0, expected='>= 1', do='Set it.')\n"
            "import fairyring as fr\nf()\n",
            ["cohort", "given", "0", "mine.py, line 2"],
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said_plainly(
    call: Callable, engine: list, tmp_path: Path, text: str, words: list[str]
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    called = call("train", path, "--run", tmp_path / "run")
    assert called.status == 2
    assert [w for w in words if w not in called.err] == []
    assert "Traceback" not in called.err
    assert engine == []


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (["--set", "cohort"], "NAME=VALUE"),
        (["--set", "=5"], "NAME=VALUE"),
        (["--set", "cohrt=5"], "Did you mean 'cohort'?"),
    ],
)
def test_a_wrong_setting_is_refused(
    call: Callable, engine: list, file: Path, tmp_path: Path, tokens: list[str], words: str
) -> None:
    called = call("train", file, "--run", tmp_path / "run", *tokens)
    assert called.status == 2
    assert words in called.err
    assert engine == []


def test_no_such_file(call: Callable, tmp_path: Path) -> None:
    called = call("train", tmp_path / "absent.py")
    assert called.status == 2
    assert "no such file" in called.err


def test_rounds_may_be_computed_elsewhere(
    call: Callable, engine: list, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nodes get what the file defines, and the modules beside it."""
    cloudpickle = pytest.importorskip("ray").cloudpickle
    sent: list[str] = []
    monkeypatch.delitem(sys.modules, "fairyring_neighbour", raising=False)  # another test's
    monkeypatch.setattr(cloudpickle, "register_pickle_by_value", lambda module: sent.append(module.__name__))
    for given, where in (
        ("debug", "debug"),
        ("ray", RayEngine()),
        ("ray:10.0.0.1:6379", RayEngine("10.0.0.1:6379")),
    ):
        call("train", file, "--run", tmp_path / "run", "--overwrite", "--engine", given)
        assert engine[-1]["engine"] == where
        call("train", file, "--run", tmp_path / "run", "--overwrite")
        assert "engine" not in engine[-1]
    assert sorted(set(sent)) == ["fairyring_neighbour", "fairyring_plan_file"]
    for command, *more in (["train"], ["sweep", "--grid", "cohort=1,2"]):
        refused = call(command, file, *more, "--engine", "cluster")
        assert refused.status == 2
        assert "compiled, debug, ray or ray:ADDRESS" in refused.err
    monkeypatch.setattr("fairyring.core.extras.find_spec", lambda name: None)
    refused = call("train", file, "--run", tmp_path / "run", "--overwrite", "--engine", "ray")
    assert refused.status == 2
    assert "fairyring[ray]" in refused.err
