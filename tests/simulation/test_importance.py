"""How much a client counts: by its examples' weights or by a column of its own, the same with epochs and with steps."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fairyring as fr

SIZES = [4, 8, 2]
OWNER = np.repeat(range(3), SIZES)
RNG = np.random.default_rng(2)
Y = RNG.normal(size=14).astype(np.float32)
WEIGHT = RNG.choice([0.0, 1.0, 2.0, 5.0], 14).astype(np.float32)
OWN = RNG.choice([0.25, 1.0, 3.0], 14).astype(np.float32)
MEAN = (lambda key: {"m": jnp.zeros(())}, lambda params, x: params["m"] + 0 * x[:, 0])
RATE = 0.1


def population(**columns):
    return fr.Population.from_arrays({"x": np.ones((14, 1), np.float32), "y": Y, **columns}, client=OWNER)


def trained(people, aggregation=None, **local):
    """One full-batch step of gradient descent on the squared distance from m = 0, whatever the client's size."""
    options = {"aggregation": aggregation} if aggregation is not None else {}
    plan = fr.Plan(
        fr.regression(MEAN), fr.LocalTraining(optax.sgd(RATE), batch_size=8, **local), fr.cohort.fixed([[0, 1, 2]]), **options
    )  # fmt: skip
    run = fr.simulate(plan, people, rounds=1, processors=1)
    return float(run.params["m"]), run.records[0].loss


def expected(weight, client_weight):
    """The model and the loss: each client's step by its weighted mean of y, and their mean by the clients' weights."""
    of = [(k == OWNER) for k in range(3)]
    counts = [client_weight[own].sum() for own in of]
    steps = [2 * RATE * np.average(Y[own], weights=weight[own]) for own in of]
    losses = [np.average(Y[own] ** 2, weights=weight[own]) for own in of]
    return np.average(steps, weights=counts), np.average(losses, weights=counts)


ONES = np.ones(14, np.float32)


@pytest.mark.dealt(2, "local")
@pytest.mark.parametrize("local", [{"epochs": 1}, {"steps": 1}], ids=["epochs", "steps"])
def test_a_client_counts_by_its_examples_weights_or_by_its_importance(local):
    everything = population(weight=WEIGHT, own=OWN)
    assert trained(population(), **local) == pytest.approx(expected(ONES, ONES), rel=1e-5)
    assert trained(everything, **local) == pytest.approx(expected(WEIGHT, WEIGHT), rel=1e-5)
    assert trained(everything, importance="own", **local) == pytest.approx(expected(WEIGHT, OWN), rel=1e-5)
    assert trained(population(own=OWN), importance="own", **local) == pytest.approx(
        expected(ONES, OWN), rel=1e-5
    )


def test_importance_is_bounded_like_a_number_of_examples():
    most = 5.0
    cut = [min(OWN[k == OWNER].sum(), most) for k in range(3)]
    steps = [2 * RATE * Y[k == OWNER].mean() for k in range(3)]
    found, _ = trained(population(own=OWN), fr.chain(fr.weight_by_examples(most)), importance="own", steps=1)
    assert found == pytest.approx(np.average(steps, weights=cut), rel=1e-5)


def test_a_column_that_is_missing_or_wrong_is_refused():
    with pytest.raises(fr.PopulationError, match=r"'own'.*importance="):
        trained(population(), importance="own")
    with pytest.raises(fr.PopulationError, match="at least 0"):
        trained(population(own=-OWN), importance="own")
    with pytest.raises(fr.PlanError, match="the name of a column"):
        fr.LocalTraining(optax.sgd(0.1), importance=3)
    with pytest.raises(fr.PlanError, match="noise that protects examples"):
        fr.LocalTraining(
            optax.sgd(0.1), examples=fr.chain(fr.clip(1.0), fr.gaussian_noise()), importance="own"
        )


def test_populations_to_evaluate_on_need_no_importance_and_the_document_names_it():
    local = fr.LocalTraining(optax.sgd(RATE), importance="own")
    plan = fr.Plan(fr.regression(MEAN), local, 2)
    assert plan.task.validate(population()).complete
    document = plan.document()
    assert (document["local"]["importance"], document["task"]["optional"]) == ("own", ["weight", "own"])
    again = fr.override(plan, {"local.batch_size": 3})
    assert again.document()["task"] == document["task"]
    assert (
        "importance"
        not in fr.override(plan, {"local": fr.LocalTraining(optax.sgd(RATE))}).document()["local"]
    )
