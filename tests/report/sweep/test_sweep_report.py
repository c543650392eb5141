"""The report of a sweep: of one that ended, that was stopped, that failed, and whose runs are gone."""

import re
import shutil

import optax
import pytest

import fairyring as fr
from fairyring.records.round_record import Means
from fairyring.sweeps import SweepRun, read_sweep
from fairyring.sweeps.results import write_sweep
from tests.learning.linear import people, task

PEOPLE, TEST = people([7, 12, 4, 9, 31, 2, 5, 8]), people([30, 30, 30, 30], seed=9)


def plan(rate=0.1, mu=0.0):
    local = fr.LocalTraining(optax.sgd(rate), batch_size=4)
    return fr.Plan(task(), local, cohort=5, algorithm=fr.fedprox(mu))


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep") / "rates"
    grid = {"rate": [0.01, 0.1, 0.3]}
    fr.sweep(plan, grid, PEOPLE, rounds=3, test=TEST, seeds=2, choose_by="accuracy", folder=folder)
    return folder


@pytest.fixture
def copy(swept, tmp_path):
    return shutil.copytree(swept, tmp_path / "copy")


def text(folder):
    page = fr.write_report(folder).read_text("utf-8")
    assert "<script" not in page
    assert not re.search(r'(src|href)="(?!#|data:)', page)
    return page


def test_a_sweep_that_ended(swept):
    page, found = text(swept), read_sweep(swept)
    assert found.best is not None
    assert f"Chosen: {found.names[found.best]}" in page
    assert "On the test clients" in page
    assert page.count("<figure") == 3  # accuracy by rate; accuracy and loss by round
    assert "6 of 6" in page
    assert "failed" not in page


def test_one_that_was_stopped_and_one_that_failed(copy):
    found = read_sweep(copy)
    kept = [run for run in found.runs if run.seed == 0][:-1]
    kept.append(SweepRun(setting=2, seed=0, error="TrainingDiverged: <b>far</b>"))
    found.runs[:] = kept
    write_sweep(copy, found)
    page = text(copy)
    assert "No setting is chosen yet" in page
    assert "has not ended: 2 of 6 runs have finished" in page
    assert "&lt;b&gt;far&lt;/b&gt;" in page
    assert "<b>far</b>" not in page


def test_one_without_a_run(copy):
    found = read_sweep(copy)
    found.runs.clear()
    write_sweep(copy, found)
    assert "No run has recorded an evaluation" in text(copy)


def test_one_whose_runs_are_gone_or_damaged(copy):
    for folder in copy.glob("rate=0.01/*"):
        shutil.rmtree(folder)
    for file in copy.glob("rate=0.1/*/*.json*"):
        file.write_bytes(file.read_bytes()[:40])
    assert "Chosen" in text(copy)


def test_names_are_escaped_and_settings_beyond_the_lines_are_named(copy):
    found = read_sweep(copy)
    for number in range(9):
        found.names.append(f"rate=<i>{number}</i>")
        found.labels.append({"rate": f"<i>{number}</i>"})
        means = Means(9.0 + number, {"accuracy": 0.01})
        found.runs += [
            SweepRun(setting=3 + number, seed=seed, finished=True, validation=means, test=means)
            for seed in (0, 1)
        ]
    write_sweep(copy, found)
    page = text(copy)
    assert "<i>3</i>" not in page
    assert "4 others are not: rate=&lt;i&gt;" in page


def test_one_seed_has_no_interval(tmp_path):
    folder = tmp_path / "sweep"
    fr.sweep(plan, {"mu": [0.1], "rate": [0.1, 0.2]}, PEOPLE, rounds=1, test=TEST, seeds=1, folder=folder)
    page = text(folder)
    assert "of one seed" in page
    assert "nan" not in page.lower().replace("nano", "")


@pytest.mark.filterwarnings("ignore::fairyring.PrivacyWarning")
def test_the_report_of_private_runs_is_their_owners(tmp_path, swept):
    def private(norm):
        stages = fr.chain(fr.weight_by_examples(40), fr.clip(norm), fr.gaussian_noise())
        budget = fr.Budget(epsilon=8.0, delta=1e-3, rounds=1)
        local = fr.LocalTraining(optax.sgd(0.1), batch_size=4)
        return fr.Plan(task(), local, cohort=5, aggregation=stages, privacy=budget)

    folder = tmp_path / "sweep"
    fr.sweep(private, {"norm": [0.5, 1.0]}, PEOPLE, rounds=1, test=TEST, seeds=1, folder=folder)
    assert "Together they spend epsilon" in text(folder)
    for name in (".", "report.html", "sweep.json"):
        assert (folder / name).stat().st_mode & 0o077 == 0
    for file in folder.glob("*/*/run.json"):
        file.write_text("{")
    text(folder)
    assert (folder / "report.html").stat().st_mode & 0o077 == 0
    text(swept)
    assert (swept / "report.html").stat().st_mode & 0o044
