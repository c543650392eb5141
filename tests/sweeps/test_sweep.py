"""Sweeps: every setting with every seed, chosen on some clients and judged on others, stopped and gone on with."""

import json
import math

import numpy as np
import optax
import pytest

import fairyring as fr
from fairyring.records.round_record import Means
from fairyring.sweeps import SWEEP, Sweep, SweepRun, read_sweep, running
from fairyring.sweeps.results import write_sweep
from fairyring.sweeps.settings import settings_of
from tests.learning.linear import people, task

SIZES = [7, 12, 4, 9, 31, 2, 5, 8]
PEOPLE, TEST = people(SIZES), people([30, 30, 30, 30], seed=9)


def plan(rate=0.2, mu=0.0):
    local = fr.LocalTraining(optax.sgd(rate), batch_size=4)
    return fr.Plan(task(), local, cohort=5, algorithm=fr.fedprox(mu))


def go(grid=None, **options):
    given = {"rounds": 2, "test": TEST, "seeds": 2} | options
    return fr.sweep(plan, grid or {"rate": [0.01, 0.3]}, PEOPLE, **given)


def finished(setting, seed, loss, accuracy=0.5, judged=0.0):
    return SweepRun(
        setting=setting,
        seed=seed,
        finished=True,
        validation=Means(loss, {"accuracy": accuracy}),
        test=Means(judged, {"accuracy": judged}),
    )


def made(runs, choose_by="loss", seeds=(0, 1), names=("a", "b"), higher_is_better=None):
    return Sweep(
        form=1,
        fairyring="0",
        started="2026-01-01T00:00:00+00:00",
        names=list(names),
        labels=[{"rate": name} for name in names],
        seeds=list(seeds),
        rounds=1,
        choose_by=choose_by,
        runs=runs,
        higher_is_better=higher_is_better,
    )


def test_every_setting_runs_with_every_seed_as_it_would_alone(tmp_path):
    found = go({"rate": [0.01, 0.3], "mu": [0.0, 0.5]}, folder=tmp_path / "sweep", seeds=np.arange(2))
    assert found.names == ["rate=0.01,mu=0", "rate=0.01,mu=0.5", "rate=0.3,mu=0", "rate=0.3,mu=0.5"]
    assert sorted((r.setting, r.seed) for r in found.runs) == [(s, seed) for s in range(4) for seed in (0, 1)]
    validation, test = TEST.split_clients(0.5, 0)
    for run in found.runs:
        label = found.labels[run.setting]
        given = plan(float(label["rate"]), float(label["mu"]))
        alone = fr.simulate(given, PEOPLE, rounds=2, seed=run.seed, test=validation, processors=1)
        assert run.validation is not None
        assert run.test is not None
        assert run.validation.loss == pytest.approx(alone.records[-1].test.loss, rel=1e-5)
        assert run.test.loss == pytest.approx(alone.evaluate(test).loss, rel=1e-5)
        folder = json.loads((tmp_path / "sweep" / run.folder / "run.json").read_text())
        assert folder["seed"] == run.seed
    assert read_sweep(tmp_path / "sweep") == found


def test_a_setting_is_chosen_by_validation_and_judged_by_test():
    runs = [finished(0, 0, 0.5, judged=9.0), finished(0, 1, 0.7, judged=7.0)]
    runs += [finished(1, 0, 0.3, judged=2.0), finished(1, 1, 0.5, judged=4.0)]
    found = made(runs)
    assert found.best == 1
    interval = found.test()
    assert interval is not None
    assert interval.estimate == pytest.approx(3.0)
    # Student's t of two values: 12.706 standard errors of 1.
    assert interval.high - 3.0 == pytest.approx(12.706, rel=1e-4)
    assert "b. On the test clients: loss 3 ± 13" in found.verdict
    worse = [finished(0, seed, 0.1, accuracy=0.2) for seed in (0, 1)]
    better = [finished(1, seed, 0.9, accuracy=0.8) for seed in (0, 1)]
    assert made(worse + better).best == 0
    assert made(worse + better, choose_by="accuracy").best == 1


def test_of_an_error_less_is_better():
    def of(setting, error):
        return SweepRun(
            setting=setting, seed=0, finished=True, validation=Means(1.0, {"squared_error": error}), test=None
        )

    runs = [of(0, 3.0), of(1, 2.0)]
    assert made(runs, choose_by="squared_error", seeds=[0]).best == 1
    assert made(runs, choose_by="squared_error", seeds=[0], higher_is_better=True).best == 0


def test_a_setting_of_which_a_run_failed_is_not_chosen():
    runs = [finished(0, 0, 0.1), SweepRun(setting=0, seed=1, error="TrainingDiverged: far away")]
    found = made([*runs, finished(1, 0, 0.9), finished(1, 1, 0.8)])
    assert found.best == 1
    assert [run.error for run in found.failed] == ["TrainingDiverged: far away"]
    assert "failed: a, seed 1: TrainingDiverged: far away" in str(found)
    assert made(runs).best is None
    assert made(runs).verdict.startswith("No setting has finished all its runs")


def test_a_run_that_fails_does_not_stop_the_others(tmp_path):
    def breaks(params, x):
        raise RuntimeError("no such layer")

    models = {"whole": task(), "broken": fr.classification((task().model.init, breaks))}

    def make_plan(model, rate):
        return fr.Plan(models[model], fr.LocalTraining(optax.sgd(rate), batch_size=4), cohort=5)

    found = fr.sweep(
        make_plan,
        {"model": ["broken", "whole"], "rate": {"usual": 0.1, "far": float("inf")}},
        PEOPLE,
        rounds=3,
        test=TEST,
        seeds=2,
        folder=tmp_path / "sweep",
    )
    assert found.names[found.best or 0] == "model=whole,rate=usual"
    errors = {found.names[run.setting]: str(run.error) for run in found.failed}
    assert "no such layer" in errors.pop("model=broken,rate=usual")
    assert "no such layer" in errors.pop("model=broken,rate=far")
    assert "finite" in errors.pop("model=whole,rate=far")
    assert not errors
    assert len(found.runs) == 8


def test_a_sweep_that_was_stopped_goes_on(tmp_path):
    whole = go(rounds=4)
    seen = []

    def interrupt(run):
        seen.append(run)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(rounds=4, folder=tmp_path / "sweep", on_run=interrupt)
    stopped = read_sweep(tmp_path / "sweep")
    assert 2 <= len(stopped.runs) < 4
    resumed = go(rounds=4, folder=tmp_path / "sweep", resume=True)
    for setting in range(2):
        for one, other in zip(resumed.of(setting), whole.of(setting), strict=True):
            assert one.finished
            assert (one.validation, one.test) == (other.validation, other.test)
    assert resumed.best == whole.best


def test_a_resumed_sweep_may_have_more_settings_and_seeds(tmp_path):
    first = go(folder=tmp_path / "sweep")
    more = go({"rate": [0.1, 0.01, 0.3]}, folder=tmp_path / "sweep", resume=True, seeds=[0, 1, 7])
    assert len(more.runs) == 9
    for run in first.runs:
        again = next(
            r for r in more.runs if more.names[r.setting] == first.names[run.setting] and r.seed == run.seed
        )
        assert (again.validation, again.folder) == (run.validation, run.folder)


def test_a_folder_of_another_plan_fails_that_run_only(tmp_path):
    go(folder=tmp_path / "sweep")
    other = {0.01: 0.02, 0.3: 0.3}
    found = fr.sweep(
        lambda rate: plan(other[rate]),
        {"rate": [0.01, 0.3]},
        PEOPLE,
        rounds=2,
        test=TEST,
        seeds=2,
        folder=tmp_path / "sweep",
        resume=True,
    )
    assert {run.setting for run in found.failed} == {0}
    assert all("plan" in str(run.error) for run in found.failed)


def test_one_at_once_and_many_at_once_agree():
    one, many = go(at_once=1), go(at_once=3)
    for a, b in zip(one.table(), many.table(), strict=True):
        assert a.keys() == b.keys()
        for name in ("loss", "metrics.accuracy"):
            assert a[name] == pytest.approx(b[name], rel=1e-4)


def test_the_table_has_a_row_for_each_setting():
    rows = go(seeds=1).table()
    assert [row["rate"] for row in rows] == ["0.01", "0.3"]
    assert [row["finished"] for row in rows] == [1, 1]
    assert sorted(row["best"] for row in rows) == [0, 1]
    assert all(math.isinf(row["loss.low"]) and np.isfinite(row["loss"]) for row in rows)  # of one seed


@pytest.mark.filterwarnings("ignore::fairyring.PrivacyWarning")
def test_private_runs_over_the_same_people_add_up(tmp_path):
    def private(norm):
        local = fr.LocalTraining(optax.sgd(0.2), batch_size=4)
        stages = fr.chain(fr.weight_by_examples(40), fr.clip(norm), fr.gaussian_noise())
        budget = fr.Budget(epsilon=8.0, delta=1e-3, rounds=2)
        return fr.Plan(task(), local, cohort=5, aggregation=stages, privacy=budget)

    given = {"grid": {"norm": [0.3, 0.6]}, "population": PEOPLE, "rounds": 2, "test": TEST, "seeds": 1}
    found = fr.sweep(private, **given, folder=tmp_path / "sweep")
    both = fr.privacy.together([tmp_path / "sweep" / str(run.folder) for run in found.runs])
    assert both.epsilon > 8
    assert found.privacy is not None
    assert str(both) in found.privacy
    assert str(both) in str(found)
    fewer = fr.sweep(private, **given | {"grid": {"norm": [0.3]}}, folder=tmp_path / "sweep", resume=True)
    assert fewer.privacy == found.privacy
    forgotten = fr.sweep(private, **given)
    assert forgotten.privacy is not None
    assert "not known" in forgotten.privacy


def test_a_single_client_is_halved_by_its_rows():
    found = go(test=people([40], seed=9))
    assert found.best is not None


def test_validation_clients_can_be_given():
    validation = people([5], seed=3)
    found = go(validation=validation, seeds=1)
    (run, *_) = found.of(0)
    done = fr.simulate(plan(0.01), PEOPLE, rounds=2, processors=1)
    assert run.validation is not None
    assert run.validation.loss == pytest.approx(done.evaluate(validation).loss, rel=1e-5)
    assert run.test is not None
    assert run.test.loss == pytest.approx(done.evaluate(TEST).loss, rel=1e-5)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"grid": {"rate": []}}, "at least one value"),
        ({"grid": {"rate": 0.1}}, "list of values"),
        ({"grid": {"rate": [lambda: 0.1]}}, "mapping of label"),
        ({"seeds": 1.5}, "whole number"),
        ({"seeds": [0.5]}, "whole number"),
        ({"grid": {"rate": [0.1, 0.1]}}, "different names"),
        ({"seeds": []}, "all different"),
        ({"seeds": [1, 1]}, "all different"),
        ({"at_once": 0}, "1 or more"),
        ({"choose_by": "acuracy"}, "accuracy"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_runs(given, match, monkeypatch):
    monkeypatch.setattr(running, "simulate", lambda *_, **__: pytest.fail("a run began"))
    with pytest.raises(fr.PlanError, match=match):
        go(**given)


def test_every_setting_is_checked_before_anything_runs(monkeypatch):
    monkeypatch.setattr(running, "simulate", lambda *_, **__: pytest.fail("a run began"))
    with pytest.raises(fr.PlanError) as error:
        go({"mu": [0.1, -1.0]})
    assert error.value.__notes__ == ["in the setting mu=-1"]


def test_folders_are_not_run_over(tmp_path):
    go(folder=tmp_path / "sweep", seeds=1)
    with pytest.raises(fr.RunError, match="resume=True"):
        go(folder=tmp_path / "sweep")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("mine")
    with pytest.raises(fr.RunError, match="another folder"):
        go(folder=tmp_path / "other")
    with pytest.raises(fr.RunError, match=SWEEP):
        go(folder=tmp_path / "other", resume=True)
    whole = (tmp_path / "sweep" / SWEEP).read_text()
    for damaged in (
        "{}",
        whole.replace('"setting": 1', '"setting": 7'),
        whole.replace('"choose_by": "loss"', '"choose_by": "lost"'),
        whole.replace('"folder": "', '"folder": "../'),
        whole.replace('"form": 1', '"form": 2'),
    ):
        assert damaged != whole
        (tmp_path / "sweep" / SWEEP).write_text(damaged)
        with pytest.raises(fr.RunDamaged):
            read_sweep(tmp_path / "sweep")


def test_values_are_called_by_what_they_are():
    values = {
        "rate": np.array([0.25, 1e-3], np.float32),
        "mu": [np.float32(0.5), None, True, "x"],
        "server": [optax.sgd(0.5, momentum=0.9), fr.fedprox(0.1), fr.clip(0.5)],
    }
    given = settings_of(lambda rate, mu, server: plan(), values)
    assert given[0].name == "rate=0.25,mu=0.5,server=sgd(learning_rate=0.5, momentum=0.9, nesterov=false)"
    labels = [list(dict.fromkeys(setting.labels[field] for setting in given)) for field in values]
    assert labels[1] == ["0.5", "none", "true", "x"]
    assert labels[2][1:] == ["fedprox(mu=0.1)", "clip(0.5)"]


def test_settings_whose_folders_would_have_one_name(tmp_path):
    both = {"rate": {"x/y": 0.1, "x y": 0.2, "z" * 150: 0.3}}
    found = go(both, folder=tmp_path / "sweep", seeds=1, at_once=2)
    assert not found.failed
    assert len({run.folder for run in found.runs}) == 3


def test_a_sweep_whose_file_is_gone_goes_on_with_its_runs(tmp_path):
    before = go(folder=tmp_path / "sweep")
    (tmp_path / "sweep" / SWEEP).unlink()
    after = go(folder=tmp_path / "sweep", resume=True)
    assert [
        (r.setting, r.seed, r.validation) for r in sorted(after.runs, key=lambda r: (r.setting, r.seed))
    ] == [(r.setting, r.seed, r.validation) for r in sorted(before.runs, key=lambda r: (r.setting, r.seed))]


def test_a_metric_that_is_not_a_number_is_kept_and_not_chosen_by(tmp_path):
    runs = [finished(0, 0, 0.1, accuracy=math.nan), finished(1, 0, 0.9, accuracy=0.2)]
    found = made(runs, choose_by="accuracy", seeds=[0])
    assert found.best == 1
    write_sweep(tmp_path, found)
    again = read_sweep(tmp_path)
    assert again.runs[0].validation is not None
    assert math.isnan(again.runs[0].validation.metrics["accuracy"])
    assert again.runs[1] == found.runs[1]


def test_one_process_at_a_time(tmp_path):
    def meanwhile(_):
        with pytest.raises(fr.RunError, match="one process a folder"):
            go(folder=tmp_path / "sweep", resume=True)

    go(folder=tmp_path / "sweep", seeds=1, on_run=meanwhile)
