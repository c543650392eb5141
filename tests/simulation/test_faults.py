"""Bad input and bad luck: each is named, and nothing is lost."""

import msgspec
import numpy as np
import optax
import pytest

import fairyring as fr
from tests.learning.linear import people, task

LOCAL = fr.LocalTraining(optax.sgd(0.1), batch_size=4)


def plan(**changes):
    return fr.Plan(**({"task": task(), "local": LOCAL, "cohort": 3} | changes))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fr.Plan(task(), LOCAL, 3, agregation=None), "Did you mean 'aggregation'"),
        (lambda: fr.LocalTraining(optax.sgd(0.1), batchsize=3), "Did you mean 'batch_size'"),
        (
            lambda: fr.LocalTraining(optax.sgd(0.1), batch_size=0),
            "batch_size: given 0; expected a whole number >= 1",
        ),
        (lambda: fr.LocalTraining(optax.sgd(0.1), epochs=1, steps=2), "one of the two"),
        (lambda: fr.LocalTraining(0.1), "an optax optimiser"),
        (lambda: plan(cohort=0), "cohort size: given 0"),
        (lambda: plan(cohort=fr.cohort.uniform(True)), "cohort size: given True"),
        (lambda: plan(server=1.0), "an optax optimiser"),
        (lambda: plan(aggregation=fr.clip), "a stage"),
        (lambda: plan(aggregation=fr.chain(fr.quantize(bits=8), fr.secure_sum())), "range"),
        (lambda: fr.cohort.poisson(1.5, maximum=3), "poisson rate"),
        (lambda: fr.cohort.fixed([[1, 1]]), "each once"),
        (lambda: fr.fedprox(-1), "fedprox mu"),
        (lambda: fr.fednova(momentum=1.0), "fednova momentum"),
        (lambda: fr.EarlyStopping(patience=0), "patience"),
    ],
)
def test_plans_that_make_no_sense(make, message):
    with pytest.raises(fr.PlanError, match=message):
        make()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 0}, "rounds: given 0"),
        ({"rounds": 2, "evaluate_every": -1}, "evaluate_every"),
        ({"rounds": 2, "dropout": 1.0}, "dropout: given 1.0"),
        ({"rounds": 2, "processors": 0}, "processors: given 0"),
        ({"rounds": 2, "resume": True}, "no run folder"),
        ({"rounds": 2, "stop": fr.EarlyStopping("loss")}, "no test population"),
    ],
)
def test_simulations_that_make_no_sense(options, message):
    with pytest.raises(fr.PlanError, match=message):
        fr.simulate(plan(), people([3, 4, 5]), **options)


def test_a_cohort_larger_than_the_population():
    with pytest.raises(fr.PlanError, match="at most 2, the clients that have examples"):
        fr.simulate(plan(), people([3, 0, 4]), rounds=1)


def test_labels_out_of_range():
    bad = people([3, 4, 5])
    columns = {"x": bad.columns["x"], "y": bad.columns["y"] + 2}
    with pytest.raises(fr.PopulationError, match="labels from 0 to 2"):
        fr.simulate(plan(), fr.Population.from_arrays(columns, client=np.arange(12) // 4), rounds=1)


def test_clients_without_examples_are_skipped_and_counted():
    run = fr.simulate(plan(), people([3, 0, 4, 0, 5]), rounds=5)
    assert run.population["skipped"] == 2
    assert run.participation.tolist() == [5, 0, 5, 0, 5]


def poisoned(clients):
    """A population in which the given clients' features are finite but overflow the model."""
    good = people([4, 4, 4, 4])
    x = good.columns["x"].copy()
    for client in clients:
        x[4 * client : 4 * client + 4] = 3e38
    return fr.Population.from_arrays({"x": x, "y": good.columns["y"]}, client=np.arange(16) // 4)


@pytest.mark.parametrize(
    "aggregation",
    [fr.chain(), fr.chain(fr.clip(0.5), fr.quantize(bits=8), fr.secure_sum())],
    ids=["real", "integer"],
)
def test_a_client_that_is_not_finite_is_left_out_and_noted(aggregation):
    everybody = plan(cohort=fr.cohort.fixed([[0, 1, 2, 3]]), aggregation=aggregation)
    others = plan(cohort=fr.cohort.fixed([[0, 1, 3]]), aggregation=aggregation)
    run = fr.simulate(everybody, poisoned([2]), rounds=3)
    clean = fr.simulate(others, poisoned([2]), rounds=3)
    assert [r.nonfinite for r in run.records] == [1, 1, 1]
    # Under masks it sends zeros, and nobody sees that it was this one.
    assert [r.clients for r in run.records] == ([4, 4, 4] if aggregation.parts else [3, 3, 3])
    assert run.participation.tolist() == [3, 3, 0, 3]
    if aggregation.parts:
        return  # the modulus leaves more room for three than for four: not the same rounding
    np.testing.assert_allclose(run.params["w"], clean.params["w"], rtol=1e-6, atol=1e-7)


def test_a_run_in_which_no_client_is_finite_stops_and_says_where(tmp_path):
    always = fr.cohort.fixed([[0, 1], [0, 1], [2]])
    with pytest.raises(fr.TrainingDiverged, match=r"round 3: .* any of 1 clients \(first: 2\)"):
        fr.simulate(plan(cohort=always), poisoned([2]), rounds=9, run=tmp_path / "run", checkpoint_every=1)
    saved = [
        msgspec.json.decode(line) for line in (tmp_path / "run" / "metrics.jsonl").read_bytes().splitlines()
    ]
    assert [r["round"] for r in saved] == [1, 2]
    header = fr.load_run(tmp_path / "run").header
    assert (header["status"], header["failed_by"]) == ("failed", "training diverged")


def test_a_round_without_anybody_leaves_the_model_as_it_is():
    rule = fr.cohort.poisson(0.02, maximum=4)
    run = fr.simulate(plan(cohort=rule), people([4, 4, 4, 4]), rounds=12)
    empty = [r for r in run.records if r.sampled == 0]
    assert empty
    assert all(np.isnan(r.loss) and r.clients == 0 for r in empty)
    assert np.all(np.isfinite(run.params["w"]))


def test_override_changes_fields_and_refuses_others():
    changed = fr.override(plan(), {"local.batch_size": "7", "cohort": "2", "local.shuffle": "false"})
    assert (changed.local.batch_size, changed.cohort.maximum, changed.local.shuffle) == (7, 2, False)
    for settings, message in [
        ({"local.batchsize": "7"}, "Did you mean 'batch_size'"),
        ({"local.batch_size": "many"}, "int"),
        ({"local.batch_size": "0"}, "given 0"),
        ({"server": "adam"}, "Change it in the file"),
        ({"cohort.size.x": "1"}, "has fields of its own"),
    ]:
        with pytest.raises(fr.PlanError, match=message):
            fr.override(plan(), settings)
