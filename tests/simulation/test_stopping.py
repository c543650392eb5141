"""Early stopping, and callbacks with the record of every round."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fairyring as fr
from fairyring.records.round_record import Means
from fairyring.report.run.reported_run import ReportedRun
from tests.learning.linear import people, task


def test_early_stopping():
    stop = fr.EarlyStopping("accuracy", patience=2)
    assert not stop.judge([Means(0.0, {"accuracy": value}) for value in (0.1, 0.2, 0.2)])
    assert stop.judge([Means(0.0, {"accuracy": value}) for value in (0.1, 0.2, 0.2, 0.19)])
    assert fr.EarlyStopping("loss", patience=2, target=0.5).judge([Means(0.9, {}), Means(0.4, {})])
    plan = fr.Plan(task(), local=fr.LocalTraining(optax.sgd(0.0), batch_size=4), cohort=2)
    run = fr.simulate(plan, people([9, 9]), test=people([9]), rounds=50, evaluate_every=3, stop=stop)
    assert (run.rounds, run.header["status"]) == (9, "stopped")


def test_callbacks_see_every_round_in_order_with_its_evaluation():
    seen = []
    plan = fr.Plan(task(), local=fr.LocalTraining(optax.sgd(0.1), batch_size=4), cohort=2)
    run = fr.simulate(
        plan, people([9, 9]), test=people([9]), rounds=7, evaluate_every=3, on_round=seen.append
    )
    assert seen == run.records
    assert [record.round for record in seen if record.test is not None] == [3, 6, 7]
    assert run.evaluate(people([9])).means == seen[-1].test


def test_of_an_error_less_is_better():
    falling = [Means(1.0, {"squared_error": error}) for error in (4.0, 3.0, 2.0, 1.0)]
    stop = fr.EarlyStopping("squared_error", patience=2)
    assert not stop.judge(falling)
    assert stop.judge(falling[::-1])
    assert fr.EarlyStopping("squared_error", target=1.5).judge(falling)
    rising = [Means(1.0, {"accuracy": share}) for share in (0.1, 0.2, 0.3)]
    assert not fr.EarlyStopping("accuracy", patience=2).judge(rising)


def test_a_metric_says_itself_whether_less_of_it_is_better(tmp_path):
    def distance(outputs, batch):
        return batch["x"][:, 0] ** 2, jnp.ones(len(outputs))

    def of(higher_is_better):
        metric = fr.Metric(distance, 100.0, higher_is_better=higher_is_better)
        given = replace(task(), metrics={"distance": metric})
        return fr.Plan(given, local=fr.LocalTraining(optax.sgd(0.0), batch_size=4), cohort=2)

    clients, test = people([9, 9]), people([6, 3, 8], seed=3)
    stop = fr.EarlyStopping("distance", patience=4, target=90.0)  # far above every distance
    options = {"test": test, "rounds": 3, "evaluate_every": 1, "stop": stop}
    less = fr.simulate(of(False), clients, run=tmp_path / "less", **options)
    more = fr.simulate(of(None), clients, run=tmp_path / "more", **options)
    assert (less.rounds, more.rounds) == (1, 3)
    means = [float(np.mean(test.client(i)["x"][:, 0].astype(float) ** 2)) for i in range(3)]
    assert less.tested.worst_decile("distance") == pytest.approx(max(means), rel=1e-6)
    assert more.tested.worst_decile("distance") == pytest.approx(min(means), rel=1e-6)
    for run, expected in ((less, False), (more, True)):
        assert ReportedRun.read(run.folder).higher_is_better("metrics.distance") is expected
    assert of(False).digest() == of(None).digest()  # nothing is computed otherwise
