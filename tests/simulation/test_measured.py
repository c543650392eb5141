"""What is recorded is what was measured: nothing is cut that need not be, and a metric without a value keeps nobody from training."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fairyring as fr
from tests.learning.linear import apply, init, people

SIZES = [7, 12, 4, 9]
EVERYBODY = fr.cohort.fixed([[0, 1, 2, 3]])


def plan(metrics=None, **parts):
    task = fr.classification((init, apply), metrics=metrics or {}, loss_bound=5.0)
    return fr.Plan(task, fr.LocalTraining(optax.sgd(0.1), batch_size=4), **({"cohort": EVERYBODY} | parts))


def first(given, population=None, **options):
    run = fr.simulate(given, population or people(SIZES), rounds=1, processors=1, **options)
    return run.records[0], run


def constant(value):
    return lambda outputs, batch: value + 0.0 * outputs[:, 0]


def missing(outputs, batch):
    """NaN for examples of class 0."""
    return jnp.where(batch["y"] == 0, jnp.nan, 1.0)


def test_a_metric_below_zero_or_above_its_bound_is_recorded_as_it_is():
    metrics = {
        "bias": constant(-250.0),
        "bounded": fr.Metric(lambda o, b: (constant(3.0)(o, b), jnp.ones(len(o))), 1.0),
    }
    record, _ = first(plan(metrics))
    assert record.metrics["bias"] == pytest.approx(-250.0)
    assert record.metrics["bounded"] == pytest.approx(3.0)


def test_a_large_loss_is_recorded_as_it_is():
    """One batch a client, so that its loss is that of the model it received: of 0 against 300."""
    model = (lambda key: {"w": jnp.zeros((5, 1))}, lambda params, x: x @ params["w"])
    good = people(SIZES)
    population = fr.Population.from_arrays(
        {"x": good.columns["x"], "y": np.full(good.examples, 300.0, np.float32)},
        client=np.repeat(range(4), SIZES),
    )
    given = fr.Plan(fr.regression(model), fr.LocalTraining(optax.sgd(1e-6), batch_size=32), EVERYBODY)
    record, _ = first(given, population)
    assert record.loss == pytest.approx(90_000)
    assert record.metrics["mae"] == pytest.approx(300)


def test_a_sum_of_whole_numbers_holds_bounds():
    stages = fr.chain(fr.clip(1.0), fr.quantize(8), fr.secure_sum(24))
    metric = fr.Metric(lambda o, b: (constant(3.0)(o, b), jnp.ones(len(o))), 1.0)
    record, _ = first(plan({"bounded": metric}, aggregation=stages))
    assert record.metrics["bounded"] == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("aggregation", [fr.chain(), fr.chain(fr.weight_by_examples())])
def test_a_metric_without_a_value_keeps_nobody_from_training(aggregation):
    record, run = first(plan({"missing": missing}, aggregation=aggregation))
    without, other = first(plan(aggregation=aggregation))
    assert (record.clients, record.nonfinite) == (4, 0)
    assert np.isnan(record.metrics["missing"])
    assert record.loss == without.loss
    jax.tree.map(np.testing.assert_array_equal, run.params, other.params)
    assert np.isnan(run.evaluate(people(SIZES)).metrics["missing"])  # one meaning, in training and evaluation


def test_a_run_judges_only_what_fits_its_task():
    _, run = first(plan())
    x = people(SIZES).columns["x"]
    owner = np.repeat(range(4), SIZES)
    for y, says in ((np.full(len(x), 7), "labels from 0 to 2"), (np.full(len(x), 0.7), "whole numbers")):
        with pytest.raises(fr.PopulationError, match=says):
            run.evaluate(fr.Population.from_arrays({"x": x, "y": y}, client=owner))
    with pytest.raises(fr.ModelError, match="examples of shape"):
        run.evaluate(fr.Population.from_arrays({"x": x[:, :4], "y": np.zeros(len(x), int)}, client=owner))


def test_a_model_that_looks_at_a_batch_as_a_whole_sees_examples_only():
    """The smallest number of a batch: rows that are no examples would be zeros."""
    model = (lambda key: {"w": jnp.zeros(())}, lambda params, x: params["w"] + jnp.min(x) + 0 * x[:, 0])
    task = fr.regression(model)
    x = np.full((6, 5), 2.0, np.float32)
    population = fr.Population.from_arrays({"x": x, "y": np.zeros(6, np.float32)}, client=[0, 0, 0, 1, 1, 1])
    given = fr.Plan(task, fr.LocalTraining(optax.sgd(0.0)), cohort=2)
    assert fr.simulate(given, population, rounds=1).evaluate(population).loss == pytest.approx(4.0)


def test_what_is_printed_of_a_run_is_short():
    test = people([5, 6], seed=9)
    _, run = first(plan({"<b>": constant(-1.0)}), test=test)
    for shown in (run, run.plan, run.plan.task, run.tested):
        assert len(repr(shown)) < 160, repr(shown)
    assert repr(run).startswith("<Run: 1 round of classification, loss ")
    assert "on test clients" in repr(run)
    assert f"{run.tested.means}".startswith("loss ")
    page = run._repr_html_()
    assert "<th>accuracy</th><th>&lt;b&gt;</th>" in page
    assert page.count("<tr>") == 3
