"""`sweep`, `cache` and `--no-cache`: a file with a plan, a grid, a table, a report."""

import os
from pathlib import Path

import pytest

from fairyring.core.program_cache import FOLDER, ProgramCache
from fairyring.statistics import interval_text
from fairyring.sweeps import read_sweep, running
from tests.cli.documented import document

PLAN = """
import optax
import fairyring as fr
from tests.learning.linear import people, task

plan = fr.Plan(task(), fr.LocalTraining(optax.sgd(0.1), batch_size=4), cohort=5)
population, test = people([7, 12, 4, 9, 31, 2, 5, 8]), people([30, 30, 30, 30], seed=9)
rounds = 2
"""


@pytest.fixture
def file(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.py"
    path.write_text(PLAN)
    return path


def test_a_grid_is_swept_and_reported(file, call):
    grid = "--grid", "local.optimizer.learning_rate=0.01,0.3", "--grid", "local.batch_size=4,8"
    done = call("sweep", file, *grid, "--seeds", 2, "--choose-by", "accuracy")
    assert done.status == 0
    folder = file.parent / "runs" / "mine-sweep"
    found = read_sweep(folder)
    assert found.names[0] == "learning_rate=0.01,batch_size=4"
    assert len(found.runs) == 8
    assert "run 8/8" in done.out
    for place, name in enumerate(found.names):
        row = next(
            line for line in done.out.splitlines() if line.split()[:2] == [*found.labels[place].values()]
        )
        assert row.endswith("best") == (place == found.best)
        mean = found.validation(place)
        assert mean is not None, name
        assert interval_text(mean) in row
    assert found.verdict in done.out
    assert found.best is not None
    page = (folder / "report.html").read_text()
    assert found.names[found.best] in page
    assert page.count("<svg") == 5  # the mark, two fields, two measures by round

    again = call("sweep", file, *grid, "--seeds", 3, "--resume", "--run", folder, "--json")
    assert again.status == 0
    told, found = document("sweep", again.out), read_sweep(folder)
    assert len(found.runs) == len(told["runs"]) == 12
    assert found.best is not None
    assert told["best"] == found.names[found.best]
    judged = found.test()
    assert judged is not None
    assert told["test"][found.column]["mean"] == judged.estimate
    assert [one["values"] for one in told["settings"]] == found.labels
    assert "Report: " in call("report", folder).out


def test_validation_clients_of_the_file(file, call):
    file.write_text(PLAN + "validation = people([40], seed=2)\n")
    assert call("sweep", file, "--grid", "local.batch_size=4", "--seeds", 1).status == 0


def test_ctrl_c_says_how_to_go_on(file, call, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "simulate", interrupted)
    done = call("sweep", file, "--grid", "local.batch_size=4", "--at-once", 1)
    assert done.status == 130
    assert "--resume" in done.out


def test_each_settings_cautions_are_printed(file, call, monkeypatch):
    private = ", privacy=fr.Budget(epsilon=50.0, delta=0.5, rounds=2), aggregation=fr.chain(fr.clip(1.0), fr.gaussian_noise())"
    file.write_text(PLAN.replace(", cohort=5)", f", cohort=5{private})"))

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "simulate", interrupted)
    done = call("sweep", file, "--grid", "privacy.delta=0.01,0.5", "--at-once", 1)
    lines = [line for line in done.out.splitlines() if "exposed whole" in line]
    assert len(lines) == 1
    assert lines[0].startswith("Warning. delta=0.5: ")


def test_what_a_run_says_of_its_training_is_printed_after_it(file, call):
    file.write_text(PLAN.replace(", cohort=5)", ", cohort=5, aggregation=fr.clip(1.0))"))
    done = call("sweep", file, "--grid", "aggregation.clip.norm=0.001,1000", "--seeds", 1)
    lines = done.out.splitlines()
    (said,) = [
        place
        for place, line in enumerate(lines)
        if line.startswith("Warning. In rounds 1 to 2 clip(0.001) cut 100.0 %")
    ]
    assert "norm=0.001" in lines[said - 1]
    assert "Warning" not in done.err


def test_no_setting_can_be_chosen(file, call):
    done = call("sweep", file, "--grid", "local.optimizer.learning_rate=inf", "--seeds", 1)
    assert done.status == 1
    assert "none is chosen" in done.out
    assert "learning_rate=inf, seed 0" in done.out


def test_a_grid_may_be_in_a_file(file, call, tmp_path):
    (tmp_path / "grid.toml").write_text(
        "[local]\nbatch_size = 4\n[local.optimizer]\nlearning_rate = [0.01, 0.3]\n"
    )
    done = call("sweep", file, "--settings", "grid.toml", "--seeds", 1)
    assert done.status == 0, done.err
    found = read_sweep(tmp_path / "runs" / "mine-sweep")
    assert found.labels == [{"local.optimizer.learning_rate": rate} for rate in ("0.01", "0.3")]
    refused = call("sweep", file, "--seeds", 1)
    assert refused.status == 2
    assert "--grid" in refused.err


@pytest.mark.parametrize(
    ("source", "grid", "words"),
    [
        (PLAN, "local.batch_size", "NAME=VALUE"),
        (PLAN, "local.batch_size=4,,5", "NAME=VALUE"),
        (PLAN, "local.batchsize=4", "batch_size"),
        (PLAN, "local.batch_size=4 --grid local.batch_size=8", "twice"),
        (PLAN, "local.optimizer.momentun=0.1", "momentum"),
        (PLAN.replace(", test =", ", other ="), "local.batch_size=4", "no test clients"),
        (PLAN.replace("rounds", "turns"), "local.batch_size=4", "no number of rounds"),
    ],
)
def test_what_cannot_be_swept_is_refused(file, call, source, grid, words):
    file.write_text(source)
    done = call("sweep", file, "--grid", *grid.split())
    assert done.status == 2
    assert words in done.err
    assert not (file.parent / "runs").exists()


def test_the_cache_is_shown_and_emptied(call, tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER, str(tmp_path / "programs"))
    cache = ProgramCache.of_user()
    assert cache is not None
    cache.write("ab" * 32, bytes(2000))
    assert f"{tmp_path / 'programs'}: 1 program, 2.0 KiB of at most 1.0 GiB" in call("cache").out
    assert ": 0 programs" in call("cache", "--clear").out
    assert list((tmp_path / "programs").iterdir()) == []


@pytest.mark.parametrize("tokens", [("--no-cache", "cache"), ("cache", "--no-cache")])
def test_without_the_cache(call, tmp_path, monkeypatch, tokens):
    monkeypatch.setenv(FOLDER, str(tmp_path / "programs"))
    assert "No programs are kept" in call(*tokens).out
    assert os.environ[FOLDER] == "none"
    assert not (tmp_path / "programs").exists()
