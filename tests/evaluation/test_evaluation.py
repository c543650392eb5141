import jax
import numpy as np
import optax
import pytest

import fairyring as fr
import fairyring.evaluation.evaluation as evaluation
from fairyring.lowering import hardware
from fairyring.statistics import bca_interval
from fairyring.task import finished, statistics_of
from tests.learning.linear import apply, init, people, task


@pytest.fixture(scope="module")
def trained():
    plan = fr.Plan(task(), local=fr.LocalTraining(optax.sgd(0.2), batch_size=4), cohort=4)
    return fr.simulate(plan, people([20, 30, 11, 9]), rounds=5)


def reference(params, client):
    logits = client["x"] @ np.asarray(params["w"]) + np.asarray(params["b"])
    logits = logits.astype(np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    loss = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(shifted)), client["y"]]
    return loss, np.argmax(logits, axis=1) == client["y"]


@pytest.mark.parametrize("piece", [1 << 30, 24 * 300, 1], ids=["whole", "pieces", "least"])
def test_means_and_clients_are_numpys(trained, monkeypatch, piece):
    monkeypatch.setattr(evaluation, "PIECE_BYTES", piece)
    monkeypatch.setattr(evaluation, "HELD_BYTES", 0 if piece == 1 else 1 << 30)
    sizes = [300, 0, 1, 777, 40, 5]
    test = people(sizes, seed=8)
    result = trained.evaluate(test)
    pairs = [reference(trained.params, test.client(i)) for i in range(6)]
    every = [np.concatenate([pair[k] for pair in pairs]) for k in range(2)]
    assert result.loss == pytest.approx(every[0].mean(), rel=1e-5)
    assert result.metrics["accuracy"] == pytest.approx(every[1].mean(), rel=1e-6)
    for i, (loss, right) in enumerate(pairs):
        if sizes[i]:
            assert result.client_loss[i] == pytest.approx(loss.mean(), rel=1e-4)
            assert result.client_metrics["accuracy"][i] == pytest.approx(right.mean(), rel=1e-6)
        else:
            assert np.isnan(result.client_metrics["accuracy"][i])
    assert result.examples.tolist() == sizes


def test_the_worst_decile():
    values = np.linspace(0, 1, 20).astype(np.float32)
    by_client = np.append(values, np.nan)
    result = evaluation.Evaluation(0.0, {}, by_client, {"accuracy": by_client, "mae": by_client}, np.ones(21))
    assert result.worst_decile("accuracy") == pytest.approx(values[:2].mean())
    assert result.worst_decile("loss") == result.worst_decile("mae") == pytest.approx(values[-2:].mean())


def test_sample_weights_count(trained):
    test = people([6, 6], seed=8)
    weight = np.array([1, 0, 0, 2, 0, 1] * 2, np.float32)
    columns = {**{name: test.columns[name] for name in ("x", "y")}, "weight": weight}
    weighted = fr.Population.from_arrays(columns, client=np.arange(12) // 6)
    loss = np.concatenate([reference(trained.params, test.client(i))[0] for i in range(2)])
    assert trained.evaluate(weighted).loss == pytest.approx((loss * weight).sum() / weight.sum(), rel=1e-5)


# -- metrics from sums ------------------------------------------------------------------------------------------

POOLED = {
    "f1": fr.metrics.f1(),
    "ece": fr.metrics.calibration_error(),
    "auc": fr.metrics.auc(16),
    "confusion": fr.metrics.confusion_matrix(),
}


@pytest.mark.parametrize("piece", [1 << 30, 4 * 150 * 128, 1], ids=["whole", "pieces", "least"])
def test_pooled_metrics_of_all_examples_and_of_each_client(trained, monkeypatch, piece):
    monkeypatch.setattr(evaluation, "PIECE_BYTES", piece)
    monkeypatch.setattr(evaluation, "HELD_BYTES", 0 if piece == 1 else 1 << 30)
    sizes = [300, 0, 1, 2, 1, 1, 377, 40, 5]
    test = people(sizes, seed=8)
    judged = fr.classification((init, apply), metrics=POOLED)
    result = evaluation.Evaluator(judged, test, hardware(100))(trained.params)
    plain = trained.evaluate(test)
    assert (result.loss, result.metrics["accuracy"]) == (plain.loss, plain.metrics["accuracy"])
    assert list(result.metrics) == ["accuracy", "f1", "ece", "auc"]
    statistics = jax.jit(lambda logits, client: statistics_of(POOLED, logits, client, len(logits)))
    for i, size in enumerate(sizes):
        if size == 0:
            assert all(np.isnan(result.client_metrics[name][i]) for name in ("f1", "ece", "auc"))
            continue
        client = test.client(i)
        logits = client["x"] @ np.asarray(trained.params["w"]) + np.asarray(trained.params["b"])
        for name, own in zip(POOLED, statistics(logits, client), strict=True):
            sums = np.zeros(int(own.length))
            np.add.at(sums, np.asarray(own.places), np.asarray(own.values, np.float64))
            np.testing.assert_allclose(result.statistics[name][i], sums, rtol=1e-5, atol=1e-6)
    for name, metric in POOLED.items():
        pooled = finished(metric, result.statistics[name].sum(axis=0))
        np.testing.assert_array_equal(pooled, result.tables[name] if metric.table else result.metrics[name])
    assert result.tables["confusion"].sum() == test.examples
    assert np.trace(result.tables["confusion"]) == pytest.approx(plain.metrics["accuracy"] * test.examples)
    assert set(result.means.metrics) == {"accuracy", "f1", "ece", "auc"}
    assert result.worst_decile("ece") == np.nanmax(result.client_metrics["ece"])


def test_the_interval_of_a_mean_is_that_of_its_clients(trained):
    """Of clients of one size it is that of a mean of their means; and it is wider than one over examples."""
    result = trained.evaluate(people([30] * 40, seed=8))
    found = result.interval("accuracy", 0.9, seed=1)
    other = bca_interval(result.client_metrics["accuracy"], 0.9, seed=2)
    assert (found.estimate, found.size, found.method) == (pytest.approx(other.estimate), 40, "BCa")
    width = other.high - other.low
    assert abs(found.low - other.low) < 0.06 * width
    assert abs(found.high - other.high) < 0.06 * width
    for wrong in ("confusion", "nothing"):
        with pytest.raises(fr.StatisticsError, match="'loss', 'accuracy'"):
            result.interval(wrong)


def test_a_pooled_metric_is_recorded_and_ends_a_run_and_nothing_of_it_travels(tmp_path):
    judged = fr.classification((init, apply), metrics={"f1": POOLED["f1"], "confusion": POOLED["confusion"]})
    local = fr.LocalTraining(optax.sgd(0.2), batch_size=4)
    given, plain = (fr.Plan(one, local=local, cohort=2) for one in (judged, task()))
    options = {"test": people([9, 7], seed=3), "evaluate_every": 1, "rounds": 5, "processors": 1}
    stop = fr.EarlyStopping("f1", target=0.0)
    run = fr.simulate(given, people([9, 9]), stop=stop, run=tmp_path / "run", **options)
    other = fr.simulate(plain, people([9, 9]), **options)
    assert run.rounds == 1
    assert given.auxiliaries == plain.auxiliaries
    first = run.records[0]
    assert (first.loss, first.metrics) == (other.records[0].loss, other.records[0].metrics)
    assert list(first.test.metrics) == ["accuracy", "f1"]
    assert first.test.metrics["f1"] == run.evaluate(people([9, 7], seed=3)).metrics["f1"]
    assert given.digest() != plain.digest()
    page = fr.write_report(tmp_path / "run").read_text("utf-8")
    assert "<th>held-out F1</th>" in page
    assert "<th>f1</th>" not in page
    with pytest.raises(fr.PlanError, match="early stopping"):
        fr.simulate(given, people([9, 9]), stop=fr.EarlyStopping("confusion"), **options)


def test_a_secure_sum_gives_the_same_values_from_sums_alone(trained):
    """Counts to the bit: a confusion matrix and F1 are those of all examples; means to the resolution that is stated."""
    test = people([3, 0, 40, 12, 7], seed=8)
    judged = fr.classification((init, apply), metrics=POOLED)
    result = evaluation.Evaluator(judged, test, hardware(100))(trained.params)
    found = result.summed(fr.secure_sum(32), bound=64)
    np.testing.assert_array_equal(found.tables["confusion"], result.tables["confusion"])
    for name in ("accuracy", "f1", "auc"):
        assert found.metrics[name] == result.metrics[name]
    resolution = 4 * 64 * 4 / 2**31
    assert found.loss == pytest.approx(result.loss, abs=resolution)
    assert found.metrics["ece"] == pytest.approx(result.metrics["ece"], abs=15 * resolution)
    assert (found.clients, found.cut) == (4, 0)
    cut = result.summed(fr.secure_sum(32), bound=10)
    assert cut.cut == 2
    most = np.minimum(result.statistics["accuracy"], 10).sum(axis=0)
    assert cut.metrics["accuracy"] == pytest.approx(most[0] / most[1], rel=1e-7)
    with pytest.raises(fr.PlanError, match="4 clients with examples"):
        result.summed(fr.secure_sum(32, minimum_cohort=5), bound=64)
    with pytest.raises(fr.PlanError, match="cannot wrap around"):
        result.summed(fr.secure_sum(16), bound=1e5)
    with pytest.raises(fr.PlanError, match="a secure sum alone"):
        result.summed(fr.quantize(8), bound=64)
