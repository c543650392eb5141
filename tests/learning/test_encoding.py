"""The stages by themselves give what the whole device half gives: local training by hand, then the stages."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fairyring as fr
from fairyring.core.keys import Purpose, of_round, root, shared
from fairyring.learning.encoding import encoding
from fairyring.task import zoo
from tests.simulation.private_runs import plan as private_plan

ROWS, ROUND, CLIENT = 4, 2, 3  # one batch of examples; the address
RECALL = fr.Metric(
    lambda outputs, batch: (
        (outputs.argmax(-1) == batch["y"]).astype(jnp.float32),
        (batch["y"] == 1).astype(jnp.float32),
    ),
    bound=1.0,
    weight_bound=1.0,
)


def plan(aggregation, **metrics):
    task = fr.classification(zoo.two_nn(features=12, hidden=8, classes=4), metrics=metrics or None)
    return fr.Plan(task, fr.LocalTraining(optax.sgd(0.1), batch_size=ROWS), 9, aggregation)


PLANS = {
    "plain": lambda: plan(fr.chain(fr.weight_by_examples())),
    "masked": lambda: plan(fr.chain(fr.clip(0.5), fr.rotate(), fr.quantize(bits=10), fr.secure_sum())),
    "noisy": lambda: private_plan(fr.distributed_noise("skellam", 1.5, shares=2), cohort=3, features=12),
}


@cache
def made(name):
    given = PLANS[name]()
    columns = {"x": ((12,), np.float32), "y": ((), np.int32)}
    return given, given.program(columns, ROWS).exported.call, encoding(given)


def arguments(given):
    rng = np.random.default_rng(4)
    key = of_round(root(7), ROUND)
    return {
        "params": np.asarray(given.layout.flatten(given.task.model.init(jax.random.key(2)))),
        "x": rng.normal(size=(ROWS, 12)).astype(np.float32),
        "y": rng.integers(0, 4, ROWS).astype(np.int32),
        "client_key": np.asarray(jax.random.key_data(jax.random.fold_in(key, CLIENT))),
        "shared_key": np.asarray(jax.random.key_data(shared(key, Purpose.SHARED))),
    }


def by_hand(given, values):
    """One step on all examples, and what travels with it, without anything of the local loop."""
    params = given.layout.unflatten(jnp.asarray(values["params"]))
    batch = {"x": jnp.asarray(values["x"]), "y": jnp.asarray(values["y"])}

    def loss(params):
        outputs = given.task.forward(params, batch, jax.random.key(0))
        return jnp.mean(given.task.loss(outputs, batch)[0]), outputs

    (mean, outputs), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    rate = 0.2 if given.privacy else 0.1
    update = -rate * np.asarray(given.layout.flatten(gradient))
    accuracy = np.mean(np.asarray(outputs).argmax(-1) == values["y"])
    return update.astype(np.float32), np.array([ROWS, mean, accuracy], np.float32)


@pytest.mark.parametrize("name", PLANS)
def test_local_training_by_hand_and_the_stages_are_the_whole_program(name):
    given, whole, stages = made(name)
    values = arguments(given)
    update, auxiliary = by_hand(given, values)
    assert [a.name for a in stages.arguments] == ["update", "auxiliary", "client_key", "shared_key"]
    assert stages.arguments[1].shape == auxiliary.shape
    expected = jax.jit(whole)(
        values["params"], np.int32(ROUND), np.int32(ROWS), values["x"], values["y"],
        values["client_key"], values["shared_key"],
    )  # fmt: skip
    found = jax.jit(stages.exported.call)(update, auxiliary, values["client_key"], values["shared_key"])
    assert bool(found[-1])
    assert [r.name for r in stages.results] == (
        ["vector", "side", "finite"] if len(found) == 3 else ["vector", "finite"]
    )
    for ours, theirs in zip(found[:-1], expected[:-1], strict=True):
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        assert ours.dtype == theirs.dtype
        if ours.dtype == np.float32:
            np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6)
            continue
        # Two ways to sum a gradient differ in the last bits, which move a number to the next step of a grid.
        bits = given.bound.spec.modulus_bits
        steps = (ours.astype(np.int64) - theirs + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))
        model = given.bound.spec.dimension - len(given.auxiliaries)
        assert np.abs(steps[:model]).max() <= 1
        assert np.mean(steps[:model] != 0) < 0.05
        assert np.abs(steps[model:]).max() <= 64


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("broken", ["update", "loss", "weight", "metric"])
def test_what_is_not_finite_is_treated_as_in_the_whole_program(name, broken):
    given, _, stages = made(name)
    values = arguments(given)
    update, auxiliary = by_hand(given, values)
    call = jax.jit(stages.exported.call)
    sound = call(update, auxiliary, values["client_key"], values["shared_key"])
    if broken == "update":
        update[5] = np.inf
    else:
        auxiliary[{"weight": 0, "loss": 1, "metric": 2}[broken]] = np.nan
    found = call(update, auxiliary, values["client_key"], values["shared_key"])
    assert bool(found[-1]) == (broken == "metric")
    vector = np.asarray(found[0])
    if broken == "metric" and not given.bound.spec.integer:
        np.testing.assert_array_equal(vector, sound[0])
    elif name == "noisy" and broken == "update":
        # As the message of an update of zeros, with the client's own weight.
        zeros = call(np.zeros_like(update), auxiliary, values["client_key"], values["shared_key"])
        np.testing.assert_array_equal(vector, zeros[0])
        assert np.any(vector)
    elif broken != "metric" and name != "noisy":
        assert not np.any(vector)


@pytest.mark.parametrize("which", ["whole", "stages"])
def test_a_program_says_nothing_of_its_authors_files(which):
    given = PLANS["masked"]()
    columns = {"x": ((12,), np.float32), "y": ((), np.int32)}
    frames = jax.config.jax_traceback_in_locations_limit
    made = encoding(given) if which == "stages" else given.program(columns, ROWS)
    assert jax.config.jax_traceback_in_locations_limit == frames
    for content in (made.serialize(), made.stablehlo().encode()):
        assert b".py" not in content
        assert b"/fairyring" not in content


def test_measures_with_weights_of_their_own_travel_as_two_numbers():
    given = plan(fr.chain(), recall=RECALL)
    assert encoding(given).arguments[1].shape == (5,)


@pytest.mark.parametrize(
    "algorithm", [fr.scaffold(), fr.fednova(), fr.adaptive_clip(0.5)], ids=lambda a: a.name
)
def test_algorithms_that_send_or_keep_more_are_refused(algorithm):
    task = fr.classification(zoo.two_nn(features=12, hidden=8, classes=4))
    given = fr.Plan(task, fr.LocalTraining(optax.sgd(0.1)), 9, fr.chain(fr.clip(1.0)), algorithm=algorithm)
    with pytest.raises(fr.PlanError, match="a participant with its own training"):
        encoding(given)
