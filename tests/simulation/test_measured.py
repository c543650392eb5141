"""What is recorded is what was measured: nothing is cut that need not be, and a metric without a value keeps nobody from training."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fairyring as fr
from fairyring.learning.measured import Measured
from fairyring.rounds.means import training_means
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


def test_a_record_says_that_a_bound_was_met():
    stages = fr.chain(fr.clip(1.0), fr.quantize(8), fr.secure_sum(24))
    metrics = {
        "squared_error": fr.Metric(lambda o, b: (constant(3.0)(o, b), jnp.ones(len(o))), 2.0),
        "rate": fr.Metric(lambda o, b: (constant(1.0)(o, b), jnp.ones(len(o))), 1.0),
        "small_error": fr.Metric(lambda o, b: (constant(0.5)(o, b), jnp.ones(len(o))), 2.0),
    }
    record, run = first(plan(metrics, aggregation=stages))
    assert record.at_bound == "squared_error"
    assert run.table()["at_bound"].tolist() == ["squared_error"]
    near = fr.classification((init, apply), loss_bound=1e-3)
    record, _ = first(fr.Plan(near, fr.LocalTraining(optax.sgd(0.1), batch_size=4), EVERYBODY, stages))
    assert record.at_bound == "loss"
    assert first(plan(metrics))[0].at_bound is None  # nothing is cut in a sum of floats


@pytest.mark.dealt(2, "aggregation")
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


# -- weights of a metric's own ----------------------------------------------------------------------------------


def recall(outputs, batch):
    """Of the examples of class 1: whether they are found."""
    return (outputs.argmax(1) == 1).astype(jnp.float32), (batch["y"] == 1).astype(jnp.float32)


RECALL = fr.Metric(recall, 1.0, weight_bound=1.0)


def still(metrics, aggregation, cohort=EVERYBODY, **parts):
    """A plan whose model stays as it begins: what is recorded is what an evaluation finds."""
    task = fr.classification((lambda key: {**init(key), "w": W}, apply), metrics=metrics)
    local = fr.LocalTraining(optax.sgd(0.0), epochs=2, batch_size=4)
    return fr.Plan(task, local, cohort, aggregation=aggregation, **parts)


W = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)), jnp.float32)


@pytest.mark.parametrize(
    "aggregation",
    [
        fr.chain(fr.weight_by_examples()),
        fr.chain(fr.weight_by_examples(max(SIZES)), fr.clip(1.0), fr.quantize(8), fr.secure_sum(24)),
    ],
    ids=["plain", "secure"],
)
def test_a_metric_with_weights_of_its_own_is_the_mean_over_all_examples(aggregation):
    given, population = still({"recall": RECALL}, aggregation), people(SIZES)
    record, run = first(given, population)
    found = np.asarray(population.columns["x"] @ W).argmax(1) == 1
    positive = population.columns["y"] == 1
    expected = found[positive].mean()
    owner = np.repeat(range(4), SIZES)
    by_client = [found[positive & (owner == k)].mean() for k in range(4)]
    assert (
        abs(np.average(by_client, weights=SIZES) - expected) > 0.02
    )  # the mean of clients' means is another
    assert record.metrics["recall"] == pytest.approx(expected, abs=1e-4)
    assert run.evaluate(population).metrics["recall"] == pytest.approx(expected, rel=1e-6)
    assert record.metrics["accuracy"] == pytest.approx(run.evaluate(population).metrics["accuracy"], abs=1e-4)
    names = [one.name for one in given.auxiliaries]
    assert names == ["weight", "loss", "accuracy", "recall times its weight", "weight of recall"]


def test_weights_of_its_own_must_be_declared():
    hidden = fr.Metric(recall, 1.0)
    with pytest.raises(fr.PlanError, match=r"metric 'recall'.*weights of its own.*weight_bound"):
        first(still({"recall": hidden}, fr.chain()))
    with pytest.raises(fr.PlanError, match="a number above 0"):
        first(still({"recall": RECALL._replace(weight_bound=0.0)}, fr.chain()))
    unbounded = RECALL._replace(weight_bound=np.inf)
    with pytest.raises(fr.PlanError, match="'recall times its weight'"):
        still({"recall": unbounded}, fr.chain(fr.clip(1.0), fr.quantize(8), fr.secure_sum(24)))


def test_the_records_of_sequences_with_padding_are_means_over_tokens():
    """Bigrams as a table of logits; two clients, whose sequences hold few tokens and many."""
    rng = np.random.default_rng(1)
    x = rng.integers(1, 6, (10, 9))
    for row, length in enumerate([2, 9, 9, 4, 3, 2, 9, 2, 3, 2]):
        x[row, length:] = 0
    table = rng.normal(size=(6, 6)).astype(np.float32)
    owner = np.array([0] * 4 + [1] * 6)
    population = fr.Population.from_arrays({"x": x}, client=owner)
    model = (lambda key: {"t": jnp.asarray(table)}, lambda params, x: params["t"][x])
    given = fr.Plan(fr.next_token(model, padding=0), fr.LocalTraining(optax.sgd(0.0), batch_size=4), 2)
    record = fr.simulate(given, population, rounds=1, processors=1)
    seen, wanted = x[:, :-1], x[:, 1:]
    logits = table[seen].astype(float)
    terms = np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, wanted[..., None], -1)[..., 0]
    counts = wanted != 0
    right = (logits.argmax(-1) == wanted)[counts].mean()
    means, evaluated = record.records[0].training, record.evaluate(population).means
    assert means.loss == pytest.approx(terms[counts].mean(), rel=1e-5)
    assert means.metrics["accuracy"] == pytest.approx(right, rel=1e-5)
    assert evaluated.columns() == pytest.approx(means.columns(), rel=1e-5)
    by_client = [terms[owner == k][counts[owner == k]].mean() for k in range(2)]
    assert abs(np.average(by_client, weights=[4, 6]) - means.loss) > 0.01


def test_totals_and_coordinates_are_each_others_inverse():
    measured = Measured(("loss", "a", "b"), (9.0, 1.0, 1.0), (None, 1.0, None))
    totals = jnp.array([6.0, 4.0, 1.5, 2.0, 1.0, 4.0, 4.0])
    coordinates = measured.coordinates_of(totals)
    assert coordinates.tolist() == [1.5, 0.375, 0.5, 0.25]
    assert measured.totals_of(jnp.float32(4.0), coordinates).tolist() == totals.tolist()
    assert measured.values(coordinates, holds_bounds=True) == [1.5, 0.75, 0.25]
    assert np.isnan(measured.values([1.5, 0.375, 0.0, 0.25], holds_bounds=True)[1])
    plain = Measured(("loss", "b"), (9.0, 1.0), (None, None))
    assert plain.totals_of(jnp.float32(4.0), jnp.array([1.5, 0.25])).tolist() == [6.0, 4.0, 1.0, 4.0, 4.0]


def test_the_noise_in_a_quotient_is_that_of_both_sums():
    """What a record says of the noise, against quotients of sums with that noise; and a weight lost in noise is said to be."""
    stages = fr.chain(fr.weight_uniformly(), fr.clip(1.0), fr.gaussian_noise(1.0))
    given = still({"recall": RECALL}, stages, cohort=100, privacy=fr.Budget(np.inf, 1e-5, rounds=1))
    noise = SimpleNamespace(auxiliary_std=lambda weight, deviation: (0.1, 0.01, 0.02, 0.02))
    spending = SimpleNamespace(by_steps=False, noise=noise, deviation=lambda clients, session: 1.0)

    def means(weight):
        decoded = np.array([100.0, 1.0, 0.5, 0.3, weight])
        return training_means(given, decoded, 100, 100, spending, released=True)

    found = means(0.5)
    draws = np.random.default_rng(0).normal(size=(2, 200_000)) * 0.02 + [[0.3], [0.5]]
    assert found.means.metrics["recall"] == pytest.approx(0.6)
    assert found.noise_std.metrics == pytest.approx(
        {"accuracy": 0.01, "recall": (draws[0] / draws[1]).std()}, rel=0.02
    )
    assert found.lost is None
    assert np.isnan(means(-0.01).means.metrics["recall"])
    assert means(-0.01).lost.metrics == means(0.01).lost.metrics == {"accuracy": False, "recall": True}
