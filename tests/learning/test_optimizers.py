"""What is no optimiser is refused when a plan is made, with what to write instead; ours are named and read like those of optax."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fairyring as fr
from fairyring.learning.describe import read_optimizer
from tests.learning.linear import people, task


def plan(optimizer, **parts):
    return fr.Plan(task(), fr.LocalTraining(optimizer, batch_size=4), **({"cohort": 2} | parts))


@pytest.mark.parametrize(
    ("optimizer", "says"),
    [
        (optax.sgd, r"given the function optax.sgd itself; .* Call it, as in optax.sgd\(0.1\)"),
        (optax.adam, r"Call it, as in optax.adam\(0.1\)"),
        (
            optax.cosine_decay_schedule(0.1, 10),
            r"a schedule, of optax.cosine_decay_schedule; .*optax.sgd\(optax.cosine",
        ),
        (optax.constant_schedule(0.1), "a schedule, of optax.constant_schedule"),
        (lambda r: 0.1, "a function that returns float for a round"),
        (optax.polyak_sgd(), "update fails with gradients, state and parameters: TypeError: .*'value'"),
        (
            optax.lbfgs(),
            "an optimiser that needs nothing else, such as no value of the loss and no line search",
        ),
        (lambda r: optax.contrib.reduce_on_plateau(), "update fails with"),
        (functools.partial(optax.sgd, momentum=0.9), "the function optax.sgd itself"),
        (
            lambda r: optax.sgd(0.1 if r < 5 else 0.01),
            "fails for a round: TracerBoolConversionError: .*jnp.where",
        ),
        (lambda: optax.sgd(0.1), "fails for a round: TypeError"),
        (optax.lookahead(optax.sgd(0.1), 5, 0.5), "update fails with"),
        (0.1, "given float; expected an optax optimiser"),
    ],
)
def test_what_is_no_local_optimizer_is_refused(optimizer, says):
    with pytest.raises(fr.PlanError, match=f"LocalTraining optimizer.*{says}"):
        plan(optimizer)


def test_a_server_that_needs_the_loss_is_refused():
    with pytest.raises(fr.PlanError, match="Plan server: given one whose update fails"):
        plan(optax.sgd(0.1), server=optax.polyak_sgd())


def test_whole_numbers_of_numpy_are_whole_numbers():
    local = fr.LocalTraining(optax.sgd(0.1), epochs=np.int64(2), batch_size=np.uint8(4))
    given = fr.Plan(task(), local, np.int32(2), privacy=None)
    run = fr.simulate(given, people([5, 6, 7]), rounds=np.int64(2), seed=np.uint32(3))
    assert (run.rounds, run.header["seed"], type(run.header["seed"])) == (2, 3, int)
    assert (local.epochs, local.batch_size, type(local.batch_size)) == (2, 4, int)


@pytest.mark.parametrize(
    ("optimizer", "name", "settings"),
    [
        (
            fr.fedyogi(0.1, b1=0.8, tau=1e-2),
            "fedyogi",
            {"learning_rate": 0.1, "b1": 0.8, "b2": 0.99, "tau": 1e-2},
        ),
        (fr.fedadagrad(0.2), "fedadagrad", {"learning_rate": 0.2, "tau": 1e-3}),
        (
            fr.fedadam(0.1, bias_correction=False),
            "fedadam",
            {"learning_rate": 0.1, "b1": 0.9, "b2": 0.99, "tau": 1e-3, "bias_correction": False},
        ),
    ],
)
def test_ours_are_read_written_and_changed_by_name(optimizer, name, settings):
    reading = read_optimizer(optimizer)
    assert reading.complete
    assert reading.value == {name: settings}
    given = plan(optax.sgd(0.1), server=optimizer)
    assert given.document()["server"] == {name: settings}
    changed = fr.override(given, {"server.tau": "0.5"})
    assert read_optimizer(changed.server).value == {name: settings | {"tau": 0.5}}


def test_the_first_step_of_fedyogi_and_fedadagrad_depends_on_tau():
    """Reddi et al. 2021: v starts at tau**2. A delta of 1e-3 with tau = 1e-3 moves adagrad by rate / (1 + sqrt 2)."""
    delta = {"w": jnp.full(3, 1e-3)}

    def step(optimizer):
        updates, _ = optimizer.update(jax.tree.map(jnp.negative, delta), optimizer.init(delta), delta)
        return float(updates["w"][0])

    assert step(fr.fedadagrad(0.1)) == pytest.approx(0.1 / (1 + 2**0.5), rel=1e-5)
    # v = tau**2 - 0.01 delta**2, as tau is larger than delta, and m = 0.1 delta.
    assert step(fr.fedyogi(0.1, tau=2e-3)) == pytest.approx(0.1 * 1e-4 / (3.99e-6**0.5 + 2e-3), rel=1e-4)
