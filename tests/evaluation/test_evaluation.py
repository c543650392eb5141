import numpy as np
import optax
import pytest

import fairyring as fr
import fairyring.evaluation.evaluation as evaluation
from tests.learning.linear import people, task


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
