"""A client's round with aligned dense layers, against the same round without."""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fairyring as fr
from fairyring.core.keys import of_round
from fairyring.learning.algorithm import Algorithm, Report
from fairyring.learning.device import Broadcast, device_half
from fairyring.learning.local import Workload
from fairyring.learning.program import program
from fairyring.lowering import align_dense
from fairyring.task import zoo


def traced(plan, size, columns, align):
    """One client's round as a traced program, and its arguments: states that are not zero."""
    workload = Workload.of(np.array([size]), plan.local)
    update = device_half(plan.task, plan.local, plan.algorithm, plan.bound, workload, align=align)
    params = jax.tree.map(np.asarray, jax.jit(plan.task.model.init)(jax.random.key(0)))
    filled = [
        jax.tree.map(lambda leaf: np.float32(0.01) * np.cos(leaf), state(params))
        for state in (plan.algorithm.server_state, plan.algorithm.client_state)
    ]
    key = of_round(jax.random.key(3), 1)
    arguments = (
        Broadcast(params, filled[0], jnp.int32(2)),
        columns,
        jnp.int32(0),
        jnp.int32(size),
        filled[1],
        key,
        key,
    )
    return jax.jit(update).trace(*arguments), arguments


def text_of(program):
    """A traced program as text, without where its functions lie in memory."""
    return re.sub("0x[0-9a-f]+", "", str(program.jaxpr))


def assert_alignment_changes_nothing(
    size, features, hidden, classes, *, aligned=True, compared=True, **choices
):
    batch_size = choices.pop("batch_size", 4)
    optimizer = choices.pop("optimizer", optax.sgd(0.1))
    model = choices.pop("model", None) or zoo.two_nn(features, hidden, classes)
    plan = fr.Plan(
        fr.classification(model),
        local=fr.LocalTraining(optimizer, batch_size=batch_size, **choices.pop("local", {})),
        aggregation=choices.pop("aggregation", fr.chain()),
        cohort=2,
        **choices,
    )
    rng = np.random.default_rng(0)
    columns = {
        "x": jnp.asarray(rng.normal(size=(size, features)).astype(np.float32)),
        "y": jnp.asarray(rng.integers(0, classes, size).astype(np.int32)),
    }
    used = []

    def align(*args, **kwargs):
        used.append(align_dense(*args, **kwargs))
        return used[-1]

    programs = [traced(plan, size, columns, how) for how in (align, None)]
    assert used[-1].padded == aligned
    one, other = (text_of(program) for program, _ in programs)
    if one == other or not compared:
        return
    got, expected = (program.lower().compile()(*arguments) for program, arguments in programs)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape
        assert np.allclose(a, b, rtol=1e-3, atol=2e-5)


@pytest.mark.dealt(4, "choices")
@pytest.mark.parametrize(
    ("hidden", "choices"),
    [
        (21, {"optimizer": optax.sgd(0.1, momentum=0.9)}),
        (21, {"optimizer": optax.adam(1e-3), "aggregation": fr.chain(fr.clip(0.1))}),
        (21, {"algorithm": fr.scaffold()}),
        (32, {"algorithm": fr.scaffold(), "optimizer": optax.adam(1e-3)}),
    ],
    ids=["momentum", "Adam, clipped", "SCAFFOLD", "square"],
)
def test_matrices_of_equinox_over_many_steps(hidden, choices):
    """They are stored transposed; square ones keep their shape."""

    def model(key):
        return eqx.nn.MLP(32, 20, hidden, 2, key=key)

    assert_alignment_changes_nothing(13, 32, hidden, 20, model=model, local={"epochs": 3}, **choices)


@settings(max_examples=3, deadline=None)
@given(
    size=st.sampled_from([1, 3, 8, 13]),
    batch_size=st.sampled_from([1, 4, 20]),
    hidden=st.integers(17, 31),
    classes=st.integers(2, 40),
)
def test_shapes(size, batch_size, hidden, classes):
    assert_alignment_changes_nothing(size, 9, hidden, classes, batch_size=batch_size)


@pytest.mark.dealt(3, "optimizer")
@pytest.mark.parametrize(
    "optimizer",
    [
        optax.adamw(1e-2),
        optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(0.1)),
        lambda r: optax.sgd(0.1 * 0.5**r),
    ],
)
def test_optimisers(optimizer):
    assert_alignment_changes_nothing(10, 9, 20, 17, optimizer=optimizer)


def test_an_optimiser_that_mixes_elements_is_not_padded():
    optimizer = optax.chain(optax.centralize(), optax.sgd(0.1))
    assert_alignment_changes_nothing(10, 9, 20, 17, optimizer=optimizer, aligned=False)


def test_a_small_layer_of_a_large_model_is_not_padded():
    assert_alignment_changes_nothing(10, 60, 32, 17, aligned=False)


@pytest.mark.dealt(2, "algorithm")
@pytest.mark.parametrize("algorithm", [fr.fedprox(0.5), fr.fednova(momentum=0.5)])
def test_algorithms(algorithm):
    assert_alignment_changes_nothing(10, 9, 20, 17, algorithm=algorithm, local={"epochs": 2})


def test_states_within_states_are_padded():
    assert_alignment_changes_nothing(
        10, 9, 20, 17,
        algorithm=fr.adaptive_clip(0.5, algorithm=fr.scaffold()), aggregation=fr.chain(fr.clip(1.0)),
    )  # fmt: skip


def test_an_update_of_a_part_of_the_parameters_is_not_padded():
    def device(client, received, server_state, client_state):
        return Report(next(leaf for leaf in jax.tree.leaves(client.sgd(received).delta) if leaf.ndim == 2))

    algorithm = Algorithm("first matrix", device, server=lambda mean, state, facts: (None, state))
    assert_alignment_changes_nothing(10, 9, 20, 17, algorithm=algorithm, aligned=False)


def test_a_gradient_that_mixes_elements_is_not_padded():
    def device(client, received, server_state, client_state):
        def centred(params, batch):
            return jax.tree.map(lambda g: g - jnp.mean(g), batch.gradient(params))

        return Report(client.sgd(received, centred).delta)

    algorithm = Algorithm("centred", device)
    assert_alignment_changes_nothing(10, 9, 20, 17, algorithm=algorithm, aligned=False, local={"steps": 3})


def spread(params):
    """A sum that zeros count in."""
    return sum(jnp.sum(jnp.exp(leaf)) for leaf in jax.tree.leaves(params))


def by_gradient_of_the_loss(params, batch):
    scale = 1e-3 * spread(params)
    return jax.tree.map(lambda g: scale * g, jax.grad(batch.loss)(params))


def by_second_derivatives(params, batch):
    scale = 1e-3 * spread(params)
    _, product = jax.jvp(batch.gradient, (params,), (params,))
    return jax.tree.map(lambda g, h: g + scale * h, batch.gradient(params), product)


def by_the_loss(params, batch):
    scale = 1e-3 * spread(params) * batch.loss(params)
    return jax.tree.map(lambda g: scale * g, batch.gradient(params))


@pytest.mark.dealt(3, "gradient")
@pytest.mark.parametrize("gradient", [by_gradient_of_the_loss, by_second_derivatives, by_the_loss])
@pytest.mark.parametrize("rate", [0.1, 1e-8])
def test_a_gradient_by_a_sum_that_padding_counts_in_is_not_padded(gradient, rate):
    algorithm = Algorithm("mine", lambda client, w, *_: Report(client.sgd(w, gradient).delta))
    # A rate that moves nothing hides no mixing from whoever decides; it would hide it from a comparison.
    assert_alignment_changes_nothing(
        10, 9, 20, 17,
        algorithm=algorithm, aligned=False, compared=rate > 1e-3, optimizer=optax.sgd(rate),
    )  # fmt: skip


def test_a_gradient_of_the_loss_alone_is_padded():
    algorithm = Algorithm(
        "mine", lambda client, w, *_: Report(client.sgd(w, lambda p, b: jax.grad(b.loss)(p)).delta)
    )
    assert_alignment_changes_nothing(10, 9, 20, 17, algorithm=algorithm)


def test_a_state_that_has_the_shapes_of_padded_parameters_is_left_whole():
    """Such as one of a wider model."""
    wider = []
    align = lambda *args, **kwargs: wider.append(align_dense(*args, **kwargs)) or wider[-1]  # noqa: E731
    plan = fr.Plan(
        fr.classification(zoo.two_nn(9, 20, 17)),
        local=fr.LocalTraining(optax.sgd(0.1), batch_size=4),
        cohort=2,
    )
    columns = {"x": jnp.zeros((10, 9)), "y": jnp.zeros(10, jnp.int32)}
    traced(plan, 10, columns, align)
    shapes = jax.eval_shape(wider[0].pad, plan.params_shape)

    def wide(params):
        return jax.tree.map(lambda leaf: jnp.ones(leaf.shape), shapes)

    def device(client, w, server_state, own):
        return Report(client.sgd(w).delta, client_state=jax.tree.map(lambda leaf: leaf + 1, own))

    algorithm = Algorithm("mine", device, client_state=wide)
    assert_alignment_changes_nothing(10, 9, 20, 17, algorithm=algorithm, aligned=False)


def test_the_order_of_an_epoch_is_a_fair_permutation():
    from fairyring.learning.batches import PACKED, shuffled

    counts = np.zeros((5, 5))
    workload = Workload(7, 1, (3,))
    draw = jax.jit(jax.vmap(lambda key: shuffled(key, jnp.int32(5), workload)))
    orders = np.asarray(draw(jax.random.split(jax.random.key(0), 4000)))
    assert orders.shape == (4000, 10)
    assert (np.sort(orders[:, :5]) == np.arange(5)).all()
    for place in range(5):
        counts[place] = np.bincount(orders[:, place], minlength=5)
    assert np.abs(counts - 800).max() < 5 * np.sqrt(800 * 0.8)
    for longest in (1, 2, PACKED, PACKED + 1):
        order = np.asarray(shuffled(jax.random.key(1), jnp.int32(longest), Workload(longest, 1, ())))
        assert (np.sort(order) == np.arange(longest)).all()


def test_the_exported_program_is_the_plain_one():
    plan = fr.Plan(
        fr.classification(zoo.two_nn(9, 20, 17)),
        local=fr.LocalTraining(optax.sgd(0.1)),
        aggregation=fr.chain(),
        cohort=2,
    )
    exported = program(plan, {"x": ((9,), np.float32), "y": ((), np.int32)}, 6)
    assert {r.name: r.shape for r in exported.results}["vector"] == (plan.layout.size,)
