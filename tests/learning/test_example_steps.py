"""Noise in every local step: what one example can change, what is computed, what it spends, and what is refused."""

import math
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fairyring as fr
from fairyring.aggregation.contract import BoundStage
from fairyring.core.errors import PlanError
from fairyring.learning import client
from fairyring.learning.device import Broadcast, device_half
from fairyring.learning.example_steps import Drawn, Shapes, places_of, sum_of_batch
from fairyring.learning.local import Workload
from fairyring.privacy.accounting import Accountant
from fairyring.privacy.examples import PoissonBatches, ShuffledBatches, calibrate, epsilon
from fairyring.privacy.participation import AtMost, PoissonSampled
from fairyring.privacy.release import Release
from tests.learning.linear import CLASSES, FEATURES, gradient, mapped, people, task

BUDGET = fr.Budget(3.0, 1e-3, rounds=10, unit="example")
COUNTED = fr.Budget(math.inf, 1e-3, unit="example")
CLIP, RATE, STEPS, BATCH, LEARNING = 0.7, 0.3, 4, 6, 0.5
STAGES = fr.chain(fr.clip(CLIP), fr.gaussian_noise(1.5))
UNIFORM = fr.chain(fr.weight_uniformly())


def local(**changes) -> fr.LocalTraining:
    usual = {"steps": STEPS, "rate": RATE, "batch_size": BATCH, "examples": STAGES}
    return fr.LocalTraining(optax.sgd(LEARNING), **(usual | changes))


def plan(
    privacy: fr.Budget | None = COUNTED, aggregation=UNIFORM, cohort: Any = 4, algorithm=None, **changes
) -> fr.Plan:
    more = {} if algorithm is None else {"algorithm": algorithm}
    return fr.Plan(task(), local(**changes), cohort, aggregation, privacy=privacy, **more)


PLAN = plan()
SHUFFLED = {"steps": None, "rate": None, "epochs": 2}


def stages_of(made: fr.Plan) -> BoundStage:
    assert made.example_stages is not None
    return made.example_stages


def noise_of(made: fr.Plan):
    assert made.noise is not None
    return made.noise


# -- what one example can change ------------------------------------------------------------------------------

ROWS = 6
ALL, WITHOUT = np.arange(ROWS, dtype=np.int32), np.array([0, 1, 2, 3, 4, -1], np.int32)


def summed(stages: BoundStage):
    """The integer sum of a batch, compiled: `(params, columns, places) -> int32 [length]`."""

    def gradient_of(params, batch, mask, key):
        def objective(params):
            outputs = PLAN.task.forward(params, batch, key)
            pairs = [
                PLAN.task.loss(outputs, batch),
                *(m.measure(outputs, batch) for m in PLAN.task.metrics.values()),
            ]
            totals = [jnp.sum(part) for value, weight in pairs for part in (value * weight, weight)]
            return totals[0] / totals[1], jnp.stack([*totals, jnp.float32(1)])

        return jax.grad(objective, has_aux=True)(params)

    rows, keys = (jnp.int32(0), jnp.int32(ROWS)), (jax.random.key(1), jax.random.key(2))
    return jax.jit(
        lambda p, c, places: sum_of_batch(gradient_of, PLAN.measured, p, c, rows, places, stages, keys)
    )


COARSE = fr.chain(fr.clip(CLIP), fr.gaussian_noise(3e5))  # so much noise that rounding is at random
SUMS = {
    "fine": summed(stages_of(PLAN)),
    "coarse": summed(stages_of(plan(examples=COARSE))),
    "epochs": summed(stages_of(plan(**SHUFFLED))),
}
NOISES = {
    "fine": noise_of(PLAN),
    "coarse": noise_of(plan(examples=COARSE)),
    "epochs": noise_of(plan(**SHUFFLED)),
}
assert CLIP * NOISES["coarse"].scale < 256 * NOISES["coarse"].dimension ** 0.5 < CLIP * NOISES["fine"].scale
FLOATS = st.integers(0, 2**32 - 1)  # the bits of any float32
USUAL = np.random.default_rng(3).normal(size=(ROWS, FEATURES)).astype(np.float32)


def moved(name, bits, scale, label, sums=None):
    """How far one example of these bits moves the sum of a batch: int64 `[coordinates]`."""
    x = USUAL.copy()
    x[-1] = np.array(bits, np.uint32).view(np.float32)
    columns = {"x": x, "y": np.full(ROWS, label, np.int32)}
    weights = np.random.default_rng(4).normal(size=(FEATURES, CLASSES)) * scale
    params = {"b": np.zeros(CLASSES, np.float32), "w": weights.astype(np.float32)}
    found = (sums or SUMS)[name]
    whole, rest = (np.asarray(found(params, columns, places), np.int64) for places in (ALL, WITHOUT))
    return (whole - rest)[: NOISES[name].coordinates]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(SUMS)),
    st.lists(FLOATS, min_size=FEATURES, max_size=FEATURES),
    st.sampled_from([0.1, 1.0, 1e4, 1e30]),
    st.integers(0, CLASSES - 1),
)
def test_one_example_moves_a_step_by_the_claimed_norms_at_most(name, bits, scale, label):
    apart = moved(name, bits, scale, label)
    assert np.linalg.norm(apart) <= NOISES[name].l2
    assert np.abs(apart).sum() <= NOISES[name].l1


def test_the_claimed_norm_is_nearly_reached():
    """An example that is clipped, and as wrong as can be: nothing is wasted."""
    bits = np.full(FEATURES, 30, np.float32).view(np.uint32)
    lengths = [np.linalg.norm(moved("fine", bits, 1e4, label)) for label in range(CLASSES)]
    assert max(lengths) > 0.97 * NOISES["fine"].l2


def test_a_clip_that_is_missed_is_found():
    """The same check, of examples that count twice."""
    encode = stages_of(PLAN).encode

    def twice(*given_):
        message = encode(*given_)
        return message._replace(vector=2 * message.vector)

    sums = {"fine": summed(stages_of(PLAN)._replace(encode=twice))}
    bits = np.full(FEATURES, 30, np.float32).view(np.uint32)
    assert (
        max(np.linalg.norm(moved("fine", bits, 1e4, label, sums)) for label in range(CLASSES))
        > NOISES["fine"].l2
    )


def test_who_else_is_in_a_batch_does_not_change_what_an_example_adds():
    """To the last bit: an example encoded alone is what it adds to any batch."""
    x = USUAL * np.logspace(-3, 3, ROWS, dtype=np.float32)[:, None]
    columns = {"x": x, "y": (np.arange(ROWS) % CLASSES).astype(np.int32)}
    params = {"b": np.zeros(CLASSES, np.float32), "w": np.ones((FEATURES, CLASSES), np.float32)}
    whole = np.asarray(SUMS["coarse"](params, columns, ALL))
    places = np.full((ROWS, ROWS), -1, np.int32)
    places[:, 0] = ALL
    assert np.array_equal(whole, sum(np.asarray(SUMS["coarse"](params, columns, one)) for one in places))


# -- what is computed -----------------------------------------------------------------------------------------

SIZE = 11
POPULATION = people([7, SIZE, 5])
PARAMS = {name: np.asarray(leaf) for name, leaf in PLAN.task.model.init(jax.random.key(5)).items()}


def drawn_for(made: fr.Plan, seed: int) -> Drawn:
    dice = np.random.default_rng(seed)
    shapes = Shapes.of(made.local, stages_of(made), SIZE)
    noise = np.rint(dice.normal(size=(shapes.steps, shapes.coordinates)) * noise_of(made).sigma)
    batches = np.full(shapes.drawn.batches.shape, -1, np.int32)
    for step in range(1, len(batches)):  # the first is of nobody
        chosen = np.flatnonzero(dice.random(SIZE) < RATE)
        batches[step, : len(chosen)] = chosen
    return Drawn(noise.astype(np.int32), batches)


def trained(made: fr.Plan, drawn: Drawn, population: fr.Population | None = None):
    half = device_half(
        made.task,
        made.local,
        made.algorithm,
        made.bound,
        Workload.of(np.array([7, SIZE, 5]), made.local),
        stages=stages_of(made),
    )
    rows, _ = (population or POPULATION).gather(np.arange(3))
    columns = {name: jnp.asarray(rows[name]) for name in ("x", "y")}
    key = jax.random.key(0)
    sent = Broadcast(PARAMS, made.algorithm.server_state(PARAMS), jnp.int32(1))
    own = made.algorithm.client_state(PARAMS)
    return jax.jit(half)(sent, columns, jnp.int32(7), jnp.int32(SIZE), own, key, key, drawn)


TRAINED = trained(PLAN, drawn_for(PLAN, 0))


def by_hand(made: fr.Plan, drawn: Drawn, batch_size: int = BATCH) -> dict[str, np.ndarray]:
    """DP-SGD in float64 NumPy, one example after the other: the change of the parameters."""
    client, noise = POPULATION.client(1), noise_of(made)
    params = mapped(lambda leaf: leaf.astype(float), PARAMS)
    for step, places in enumerate(drawn.batches):
        total = drawn.noise[step][: noise.dimension] / noise.scale
        for place in places[places >= 0]:
            one = gradient(params, client["x"][place : place + 1], client["y"][place : place + 1])
            flat = np.concatenate([one["b"], one["w"].ravel()])
            total = total + flat * min(1.0, CLIP / np.linalg.norm(flat))
        mean = {"b": total[:CLASSES], "w": total[CLASSES:].reshape(FEATURES, CLASSES)}
        params = mapped(lambda leaf, g: leaf - LEARNING * g / batch_size, params, mean)
    return mapped(lambda new, old: new - old, params, PARAMS)


def flat_of(change: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([change["b"], change["w"].ravel()])


def test_a_round_is_dp_sgd():
    drawn = drawn_for(PLAN, 0)
    found = np.asarray(TRAINED.message.vector)
    assert np.abs(flat_of(by_hand(PLAN, drawn))).max() > 0.1
    np.testing.assert_allclose(found, flat_of(by_hand(PLAN, drawn)), atol=2e-5)
    assert float(TRAINED.message.auxiliary[0]) == 1.0  # however many examples there are


@pytest.mark.parametrize("step", range(STEPS))
def test_noise_that_is_missing_from_a_step_is_found(step):
    """The same check, of a client that leaves one step's noise out: the first step is of no example, too."""
    drawn = drawn_for(PLAN, 0)
    without = drawn.noise.copy()
    without[step] = 0
    apart = np.abs(np.asarray(TRAINED.message.vector) - flat_of(by_hand(PLAN, drawn._replace(noise=without))))
    assert apart.max() > 1e-2


def test_an_update_tells_nothing_but_through_noisy_sums():
    """With noise as large as can be drawn, a client's update is what noise alone makes of the model."""
    loud = drawn_for(PLAN, 0)
    loud = loud._replace(noise=np.full_like(loud.noise, 2**30))
    nobody = loud._replace(batches=np.full_like(loud.batches, -1))
    ours, alone = (np.asarray(trained(PLAN, given).message.vector) for given in (loud, nobody))
    np.testing.assert_allclose(ours, alone, rtol=0.05)


@pytest.mark.parametrize(
    "made",
    [
        plan(algorithm=fr.scaffold()),
        plan(COUNTED, fr.chain(fr.weight_uniformly(), fr.clip(1.0)), algorithm=fr.adaptive_clip(0.5)),
        plan(algorithm=fr.fednova(), **SHUFFLED),
    ],
    ids=["scaffold", "adaptive_clip", "fednova in epochs"],
)
def test_whatever_leaves_a_client_hangs_on_its_examples_by_noisy_sums_alone(made, monkeypatch):
    """Update, auxiliary values, state and whether it is finite: where the noisy sums are the same, so are they, to the bit."""
    drawn, others = drawn_for(made, 0), people([7, SIZE, 5], seed=9)

    def alike() -> bool:
        found = (jax.tree.leaves(trained(made, drawn, whose)) for whose in (POPULATION, others))
        return all(np.array_equal(one, other) for one, other in zip(*found, strict=True))

    assert not alike()
    real, noisy = client.released, noise_of(made).coordinates
    monkeypatch.setattr(client, "released", lambda total, *rest: real(total.at[:noisy].set(0), *rest))
    assert alike()


def test_in_epochs_every_example_is_in_one_batch_of_each():
    order = jnp.asarray(np.random.default_rng(1).permutation(SIZE), jnp.int32)
    room = Shapes.of(local(**SHUFFLED), stages_of(plan(**SHUFFLED)), SIZE).room
    batches = [np.asarray(places_of(jnp.int32(i), order, jnp.int32(SIZE), BATCH, room)) for i in range(2)]
    seen = np.concatenate([batch[batch >= 0] for batch in batches])
    assert sorted(seen.tolist()) == list(range(SIZE))
    assert [int((batch >= 0).sum()) for batch in batches] == [BATCH, SIZE - BATCH]


def test_in_epochs_the_model_moves_by_what_every_step_releases():
    """Without noise, and with one batch an epoch, it is gradient descent on clipped gradients."""
    made = plan(steps=None, rate=None, epochs=3, batch_size=SIZE)
    drawn = drawn_for(made, 0)
    quiet = drawn._replace(noise=np.zeros_like(drawn.noise))
    everybody = quiet._replace(batches=np.tile(np.arange(SIZE), (3, 1)))
    found = np.asarray(trained(made, quiet).message.vector)
    np.testing.assert_allclose(found, flat_of(by_hand(made, everybody, SIZE)), atol=2e-5)


def test_the_exported_program_takes_the_noise_as_an_argument():
    client, drawn = POPULATION.client(1), drawn_for(PLAN, 0)
    program = PLAN.program({"x": ((FEATURES,), np.float32), "y": ((), np.int32)}, SIZE)
    key = np.asarray(jax.random.key_data(jax.random.key(0)))
    given_ = {
        "params": np.asarray(PLAN.layout.flatten(PARAMS)),
        "round": np.int32(1),
        "size": np.int32(SIZE),
        **{name: client[name] for name in ("x", "y")},
        "client_key": key,
        "shared_key": key,
        **drawn._asdict(),
    }
    assert [one.name for one in program.arguments][-2:] == ["noise", "batches"]
    vector = program.exported.call(*(given_[one.name] for one in program.arguments))[0]
    np.testing.assert_allclose(np.asarray(vector), np.asarray(TRAINED.message.vector), atol=1e-5)


# -- what it spends -------------------------------------------------------------------------------------------


def test_the_noise_is_the_least_that_keeps_the_budget():
    asked = fr.chain(fr.clip(CLIP), fr.gaussian_noise())
    made = plan(BUDGET, examples=asked).protection
    assert made is not None
    least = calibrate(epsilon=3.0, delta=1e-3, steps=10 * STEPS, batches=PoissonBatches(RATE))
    assert made.release == Release("gaussian", least, steps=STEPS)
    epochs = plan(BUDGET, examples=asked, **SHUFFLED).protection
    assert epochs is not None
    spent = epsilon(epochs.release.multiplier, steps=2 * 10, delta=1e-3, batches=ShuffledBatches(1)).epsilon
    assert 0.999 * 3.0 < spent <= 3.0 * (1 + 1e-6)
    assert (made.participation, epochs.participation) == (PoissonSampled(RATE), AtMost())
    turns = plan(BUDGET, examples=asked, cohort=fr.cohort.in_turn(2, separation=5), **SHUFFLED).protection
    assert turns is not None
    assert turns.release.multiplier == pytest.approx(epochs.release.multiplier / math.sqrt(5), rel=1e-3)


@pytest.mark.parametrize("participation", [PoissonSampled(0.3), AtMost()])
def test_a_round_that_left_twice_is_twice_as_many_steps(participation):
    """Batches are drawn anew when a round is run again: it is no second look at one sample."""
    one = Release("gaussian", 2.0, steps=5)
    accountant = Accountant(participation, 1e-3, "example")
    twice, apart = accountant.spent({(one, one): 1, one: 2}), accountant.spent({one: 4})
    batches = PoissonBatches(0.3) if participation != AtMost() else ShuffledBatches(1)
    assert twice.epsilon == pytest.approx(apart.epsilon, rel=1e-9)
    assert apart.epsilon == pytest.approx(
        epsilon(2.0, steps=20, delta=1e-3, batches=batches).epsilon, rel=1e-9
    )
    assert (apart.unit, apart.relation) == ("example", batches.relation)
    assert "example" in apart.sampling


def test_only_gaussian_noise_is_counted_by_steps():
    with pytest.raises(PlanError, match="steps"):
        Accountant(AtMost(), 1e-3).spent({Release("correlated", 2.0, 4, steps=3): 1})


# -- what is refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: plan(privacy=None), "no budget"),
        (lambda: plan(privacy=fr.Budget(3.0, 1e-3, rounds=3)), "a budget for every device"),
        (lambda: plan(examples=None, rate=None), "no stages for examples"),
        (lambda: plan(examples=fr.clip(1.0)), "no noise"),
        (lambda: plan(examples=fr.chain(fr.clip(1.0), fr.correlated_noise(1.0, bands=2))), "correlated"),
        (lambda: plan(examples=fr.chain(fr.clip(1.0), fr.distributed_noise(multiplier=1.0))), "skellam"),
        (lambda: plan(examples=fr.chain(STAGES, fr.secure_sum(32))), "a secure sum"),
        (lambda: plan(examples=fr.gaussian_noise(1.0)), "clip"),
        (lambda: plan(aggregation=STAGES), "noise in it, and noise in every local step"),
        (lambda: plan(aggregation=fr.chain(fr.weight_by_examples(bound=100))), "weighted by examples"),
        (lambda: plan(aggregation=fr.chain(fr.weight_by_examples())), "weighted by examples"),
        (lambda: plan(BUDGET, examples=fr.chain(fr.clip(1.0), fr.gaussian_noise(1.0)), steps=None), "with epochs"),
        (lambda: plan(rate=None), "no rate, with a fixed number of noisy steps"),
        (lambda: local(rate=1.5), "a number in"),
        (lambda: local(examples="clip"), "stages, such as"),
        (lambda: fr.LocalTraining(optax.sgd(0.1), steps=3, rate=0.1), "without stages for examples"),
        (lambda: fr.Budget(3.0, 1e-3, unit="row"), "'device' or 'example'"),
        (lambda: fr.Budget(3.0, 1e-3, population=40, unit="example"), "none: examples"),
        (
            lambda: plan(fr.Budget(3.0, 1e-3, unit="example"), examples=fr.chain(fr.clip(1.0), fr.gaussian_noise())),
            "without rounds",
        ),
    ],
)  # fmt: skip
def test_what_does_not_add_up_is_refused(make, words):
    with pytest.raises(PlanError, match=words):
        make()


def test_plans_differ_by_their_examples_stages():
    other = replace(PLAN, local=local(examples=fr.chain(fr.clip(CLIP), fr.gaussian_noise(1.6))))
    assert other.digest() != PLAN.digest()
    told = PLAN.describe()
    assert told["protection"]["unit"] == "example"
    assert told["protection"]["steps"] == STEPS
    assert told["local"]["rate"] == RATE
    assert told["local"]["examples"] == [
        {"clip": {"norm": CLIP}},
        {"gaussian_noise": {"multiplier": 1.5, "auxiliary_share": 0.05}},
    ]
