"""What an algorithm may do with a client, by algorithms that nobody ships, against NumPy in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fairyring as fr
from fairyring.aggregation.contract import Auxiliary
from fairyring.core.errors import PlanError
from fairyring.core.keys import of_round
from fairyring.learning.algorithm import Algorithm, Report
from fairyring.learning.device import Broadcast, personal_half
from fairyring.learning.local import Workload
from tests.learning.linear import as_float64, batches, close, gradient, mapped, people, task
from tests.learning.test_algorithms import BATCH, RATE, SIZES, simulated


def algorithm(device, **parts):
    """One whose device half is `device(client, received)`: an update."""
    return Algorithm("mine", lambda client, received, *_: Report(device(client, received)), **parts)


def trained(w, x, y, epochs=1, rate=RATE):
    for bx, by in batches(x, y, BATCH, epochs):
        w = mapped(lambda p, g: p - rate * g, w, gradient(w, bx, by))
    return w


def mean_of(updates):
    return mapped(lambda *leaves: sum(leaves) / len(leaves), *updates)


def test_a_mean_over_all_examples():
    """Gradient descent on the clients' whole losses: means of batches count by how many examples they hold."""
    full = algorithm(
        lambda client, w: mapped(lambda g: -RATE * g, client.mean(lambda batch: batch.gradient(w)))
    )
    run, w, clients = simulated(full, fr.chain(), rounds=3)
    for _ in range(3):
        w = mapped(
            lambda p, d: p + d, w, mean_of([mapped(lambda g: -RATE * g, gradient(w, *c)) for c in clients])
        )
    close(run.params, w)


def test_the_loss_of_a_round_is_that_of_the_first_pass():
    def device(client, w):
        client.mean(lambda batch: batch.loss(w))
        return client.sgd(w).delta

    plain, _, _ = simulated(rounds=1, aggregation=fr.chain())
    run, w, clients = simulated(algorithm(device), fr.chain(), rounds=1)

    def loss(x, y):
        logits = x @ w["w"] + w["b"]
        return float(np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(y)), y]))

    assert loss_of(run) == pytest.approx(np.mean([loss(*client) for client in clients]), rel=1e-5)
    assert loss_of(run) > loss_of(plain)  # along the way it falls


def loss_of(run):
    return run.records[0].loss


def test_a_total_by_columns():
    """Sums of rows by class: each example once, places without one left out by the mask."""

    def device(client, w):
        def sums(batch):
            chosen = jax.nn.one_hot(batch["y"], w["w"].shape[1]) * batch.mask[:, None]
            return {"w": batch["x"].T @ chosen, "b": chosen.sum(0)}

        return client.total(sums)

    with pytest.raises(PlanError, match=r"reads the column 'y'.*update=lambda params"):
        simulated(algorithm(device), fr.chain(), rounds=1)
    run, w, clients = simulated(algorithm(device, update=lambda params: params), fr.chain(), rounds=1)
    chosen = [np.eye(w["w"].shape[1])[y] for _, y in clients]
    sums = [{"w": x.T @ c, "b": c.sum(0)} for (x, _), c in zip(clients, chosen, strict=True)]
    close(run.params, mapped(lambda p, d: p + d, w, mean_of(sums)))


@pytest.mark.parametrize("traced", [False, True])
def test_epochs_steps_and_an_optimiser_of_ones_own(traced):
    count = jnp.int32 if traced else int

    def device(client, w):
        one = client.sgd(w, optimizer=optax.sgd(0.1), epochs=count(3))
        return client.sgd(one.params, optimizer=optax.sgd(0.2), steps=count(5)).params

    run, w, clients = simulated(
        algorithm(device, server=lambda mean, state, facts: (mean.update, state)), fr.chain(), rounds=1
    )
    updates = []
    for x, y in clients:
        local = trained(dict(w), x, y, epochs=3, rate=0.1)
        for s in range(5):
            rows = [(BATCH * s + j) % len(y) for j in range(BATCH)]
            local = mapped(lambda p, g: p - 0.2 * g, local, gradient(local, x[rows], y[rows]))
        updates.append(local)
    close(run.params, mapped(lambda p, d: p + d, w, mean_of(updates)))


def test_the_same_numbers_given_as_arguments_are_the_same_bits():
    plain, _, _ = simulated(fr.scaffold(), fr.chain())
    named = algorithm(lambda client, w: client.sgd(w, optimizer=optax.sgd(RATE), epochs=2).delta)
    averaged, _, _ = simulated(aggregation=fr.chain())
    run, _, _ = simulated(named, fr.chain())
    np.testing.assert_array_equal(run.params["w"], averaged.params["w"])
    assert np.abs(np.asarray(run.params["w"]) - np.asarray(plain.params["w"])).max() > 0


def test_each_call_shuffles_anew():
    def device(client, w):
        first, second = client.sgd(w).delta, client.sgd(w).delta
        return {"first": first, "gap": jax.tree.map(jnp.subtract, first, second)}

    def run(given, **local):
        plan = fr.Plan(
            task(),
            local=fr.LocalTraining(optax.sgd(RATE), batch_size=BATCH, **local),
            aggregation=fr.chain(),
            cohort=fr.cohort.fixed([[0]]),
            **({} if given is None else {"algorithm": given}),
        )
        return fr.simulate(plan, people([11]), rounds=1, seed=3)

    for part, expected in (("first", 0), ("gap", None)):
        taken = algorithm(device, server=lambda mean, state, facts, part=part: (mean.update[part], state))
        still = np.asarray(run(taken, shuffle=False).params["w"])
        moved = np.asarray(run(taken).params["w"])
        if expected is not None:
            np.testing.assert_array_equal(moved, run(None).params["w"])
        else:
            assert np.abs(moved - still).max() > 1e-5


def test_a_gradient_taken_in_a_loop():
    """Three steps of an inner loop on each batch: what is recorded is the loss before them, taken outside."""

    def device(client, w):
        def inner(params, batch):
            batch.loss(params)
            moved = jax.lax.fori_loop(
                0, 3, lambda _, p: mapped(lambda a, g: a - 0.1 * g, p, batch.gradient(p)), params
            )
            return mapped(jnp.subtract, params, moved)

        return client.sgd(w, inner, optimizer=optax.sgd(1.0)).delta

    run, w, clients = simulated(algorithm(device), fr.chain(), rounds=1, epochs=1)
    updates = []
    for x, y in clients:
        local = dict(w)
        for bx, by in batches(x, y, BATCH, 1):
            for _ in range(3):
                local = mapped(lambda p, g: p - 0.1 * g, local, gradient(local, bx, by))
        updates.append(local)
    close(run.params, mean_of(updates))
    assert 0 < loss_of(run) < 10

    def without(client, w):
        return client.sgd(w, lambda p, batch: p, mean_gradient=True).gradient

    with pytest.raises(PlanError, match=r"does not call batch\.gradient"):
        simulated(algorithm(without), fr.chain(), rounds=1)


def test_the_model_a_client_uses():
    """Fine-tuning: three epochs from the received model, on the client alone."""

    def personal(client, received, server_state, client_state):
        return client.sgd(received, epochs=3).params

    given, population = algorithm(lambda client, w: client.sgd(w).delta, personal=personal), people(SIZES)
    local = fr.LocalTraining(optax.sgd(RATE), batch_size=BATCH, shuffle=False)
    workload = Workload.of(np.asarray(population.sizes), local)
    rows, offsets = population.gather(np.arange(len(SIZES)))
    params = task().model.init(jax.random.key(0))
    for half, expected in ((given, 3), (fr.fedprox(0.1), 0)):
        use = jax.jit(personal_half(task(), local, half, workload))
        for client in (0, 2):
            got = use(
                Broadcast(params, (), jnp.int32(1)),
                {name: jnp.asarray(column) for name, column in rows.items()},
                jnp.int32(offsets[client]),
                jnp.int32(SIZES[client]),
                (),
                of_round(jax.random.key(1), 1),
            )
            own = population.client(client)
            start = as_float64(params)
            close(got, trained(start, own["x"].astype(float), own["y"], expected) if expected else start)


def twice(client, w):
    return client.sgd(client.sgd(w).params).delta


def in_a_loop(client, w):
    """Traced once: without a check it would run twice with the same noise, and the difference would have none."""
    return jax.lax.fori_loop(0, 2, lambda i, p: client.sgd(p).params, w)


def side_by_side(client, w):
    starts = mapped(lambda a: jnp.stack([a, a + 1]), w)
    deltas = jax.vmap(lambda start: client.sgd(start).delta)(starts)
    return mapped(lambda d: d[1] - d[0], deltas)


def seen_before(client, w):
    getattr(client, "seen", None)
    return in_a_loop(client, w)


def looped(client, w):
    def inner(params, batch):
        return jax.lax.fori_loop(0, 2, lambda _, p: batch.gradient(p), params)

    return client.sgd(w, inner).delta


def elsewhere(client, w):
    return client.sgd(w, lambda p, batch: batch.gradient(mapped(lambda a: 2 * a, p))).delta


@pytest.mark.parametrize(
    "device",
    [
        twice,
        in_a_loop,
        side_by_side,
        seen_before,
        looped,
        elsewhere,
        lambda client, w: client.sgd(w, epochs=2).delta,
        lambda client, w: client.sgd(w, steps=2).delta,
        lambda client, w: client.mean(lambda batch: batch.gradient(w)),
        lambda client, w: client.total(lambda batch: batch.gradient(w)),
        lambda client, w: client.sgd(w, lambda p, b: mapped(lambda g: b.mask[0] * g, b.gradient(p))).delta,
        lambda client, w: client.sgd(w, lambda p, b: mapped(lambda g: b.loss(p) * g, b.gradient(p))).delta,
        lambda client, w: client.sgd(w, lambda p, b: mapped(lambda g: b["x"][0, 0] * g, p)).delta,
    ],
)
def test_where_noise_protects_examples_nothing_else_is_told(device):
    """Every way past the noisy gradient of a step is refused before anything runs."""
    plan = partial(
        fr.Plan,
        task(),
        local=fr.LocalTraining(
            optax.sgd(RATE),
            steps=2,
            batch_size=2,
            rate=0.5,
            examples=fr.chain(fr.clip(1.0), fr.gaussian_noise()),
        ),
        cohort=2,
        aggregation=fr.chain(),
        privacy=fr.Budget(20.0, 1e-3, rounds=2, unit="example"),
    )
    with pytest.raises(PlanError, match=r"noise protects examples"):
        fr.simulate(plan(algorithm=algorithm(device, update=lambda params: params)), people(SIZES), rounds=1)


@pytest.mark.parametrize("given", [{"epochs": 1.5}, {"epochs": -1}, {"steps": -1}])
def test_no_number_of_epochs_or_steps_is_refused(given):
    with pytest.raises(
        PlanError, match=rf"client\.sgd {next(iter(given))}: given {next(iter(given.values()))}"
    ):
        simulated(algorithm(lambda client, w: client.sgd(w, **given).delta, update=lambda w: w), rounds=1)


def test_epochs_and_steps_together_are_refused():
    with pytest.raises(PlanError, match=r"epochs and steps"):
        simulated(algorithm(lambda client, w: client.sgd(w, epochs=1, steps=1).delta), rounds=1)


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("local", [{"epochs": 2}, {"steps": 3}])
def test_no_steps_at_all(traced, local):
    """A client that takes none stays where it is, and still counts by its examples."""
    none = jnp.int32(0) if traced else 0

    def device(client, w):
        first = client.sgd(w, epochs=none, mean_gradient=True)
        second = client.sgd(w, steps=none, mean_gradient=True)
        return mapped(
            lambda a, b, c, d: a + b + c + d + 1, *(t for one in (first, second) for t in one[1::2])
        )

    plan = fr.Plan(
        task(),
        local=fr.LocalTraining(optax.sgd(RATE), batch_size=BATCH, **local),
        cohort=fr.cohort.fixed([[0, 1, 2, 3]]),
        algorithm=algorithm(device, server=lambda mean, state, facts: (mean.update, state)),
        server=optax.sgd(1.0),
    )
    run = fr.simulate(plan, people(SIZES), rounds=1, seed=3)
    assert run.records[0].nonfinite == 0
    _, start, _ = simulated(rounds=1)
    close(run.params, mapped(lambda a: a + 1, start))


def test_a_pass_that_asks_for_no_loss_is_not_the_one_recorded():
    def device(client, w):
        client.total(lambda batch: batch.mask.sum())
        return client.sgd(w).delta

    plain, _, _ = simulated(rounds=1)
    run, _, _ = simulated(algorithm(device), rounds=1)
    assert loss_of(run) == loss_of(plain)


def test_training_in_a_loop_of_ones_own():
    """Each turn trains on from where the last one ended."""

    def device(client, w):
        end = jax.lax.fori_loop(0, 3, lambda i, p: client.sgd(p).params, w)
        return mapped(jnp.subtract, end, w)

    run, w, clients = simulated(algorithm(device), fr.chain(), rounds=1, epochs=1)
    ends = [trained(dict(w), x, y, epochs=3) for x, y in clients]
    close(run.params, mean_of(ends))
    assert loss_of(run) == 0  # none of its passes counts


def hooked(gradient):
    return algorithm(lambda client, w: client.sgd(w, lambda p, batch: gradient(p, batch, w)).delta)


def bounded(bound, of=lambda combined, facts: combined.auxiliary[0]):
    def device(client, w, *_):
        return Report(client.sgd(w).delta, auxiliary=(jnp.float32(1), jnp.float32(2)))

    def server(combined, state, facts):
        return mapped(lambda d: d * of(combined, facts), combined.update), state

    return Algorithm("mine", device, server, auxiliary=(Auxiliary("a", bound), Auxiliary("b", 1.0)))


@pytest.mark.parametrize(
    "different",
    [
        [  # towards the received model, and away from it: the same at the first step
            hooked(lambda p, b, w: mapped(lambda g, x, y: g + x - y, b.gradient(p), p, w)),
            hooked(lambda p, b, w: mapped(lambda g, x, y: g + y - x, b.gradient(p), p, w)),
        ],
        [hooked(lambda p, b, w: b.gradient(p)), hooked(lambda p, b, w: b.gradient(w))],
        [hooked(lambda p, b, w, by=by: jax.grad(lambda q: by * b.loss(q))(p)) for by in (2, 3)],
        [
            algorithm(lambda client, w, given=given: client.sgd(w, **given).delta)
            for given in ({}, {"epochs": 1}, {"epochs": 2}, {"steps": 1}, {"steps": 2})
        ],
        [  # none of which looks at the gradient
            algorithm(lambda client, w, given=given: client.sgd(w, lambda p, b: p, **given).delta)
            for given in ({}, {"epochs": 1}, {"steps": 1})
        ],
        [
            algorithm(lambda client, w, by=by: mapped(lambda a: a * by(client.sgd(w)), w))
            for by in (lambda trained: trained.steps, lambda trained: 2.0)
        ],
        [
            algorithm(lambda client, w: client.mean(lambda b: b.gradient(w))),
            algorithm(lambda client, w: client.total(lambda b: b.gradient(w))),
        ],
        [
            algorithm(
                lambda client, w: client.sgd(w).delta,
                personal=lambda client, w, s, own, n=n: client.sgd(w, epochs=n).params,
            )
            for n in (1, 3)
        ],
        [
            algorithm(
                lambda client, w, by=by: client.total(lambda b: mapped(lambda a: by * a * b["x"].sum(), w)),
                update=lambda params: params,
            )
            for by in (1, 2)
        ],
        [
            bounded(1.0),
            bounded(2.0),
            bounded(1.0, lambda combined, facts: combined.auxiliary[1]),
            bounded(1.0, lambda combined, facts: facts.fraction),
        ],
    ],
)
def test_algorithms_that_compute_something_else_have_another_digest(different):
    population = people(SIZES)
    plans = [
        fr.Plan(task(), local=fr.LocalTraining(optax.sgd(RATE), batch_size=BATCH), cohort=2, algorithm=one)
        for one in different
    ]
    digests = [plan.digest(plan.task.columns_of(population)) for plan in plans]
    assert len(set(digests)) == len(different)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (  # of the same size: its numbers would be read in another order
            algorithm(
                lambda client, w: mapped(jnp.transpose, client.sgd(w).delta), update=lambda params: params
            ),
            "update of a report",
        ),
        (
            Algorithm("mine", lambda client, w, *_: Report(client.sgd(w).delta), client_state=lambda w: w),
            "client_state of a report",
        ),
        (
            Algorithm(
                "mine",
                lambda client, w, s, own: Report(client.sgd(w).delta, own + 0.5),
                client_state=lambda w: jnp.int32(1),
            ),
            "client_state of a report",
        ),
        (
            Algorithm("mine", lambda client, w, *_: Report(client.sgd(w).delta, auxiliary=(jnp.float32(1),))),
            "auxiliary of a report",
        ),
    ],
)
def test_a_report_that_is_not_what_the_algorithm_says_is_refused(given, words):
    with pytest.raises(PlanError, match=words):
        simulated(given, fr.chain(), rounds=1)


@pytest.mark.parametrize(
    ("server", "words"),
    [
        (lambda mean, state, facts: (mapped(jnp.sum, mean.update), state), "delta of its server half"),
        (lambda mean, state, facts: (mean.update, ()), "server_state of its server half"),
        (lambda mean, state, facts: (mean.update, state + jnp.zeros(3)), "server_state of its server half"),
    ],
)
def test_a_server_half_that_gives_other_shapes_is_refused(server, words):
    half = algorithm(lambda client, w: client.sgd(w).delta, server=server)
    with pytest.raises(PlanError, match=words):
        simulated(half._replace(server_state=lambda w: jnp.float32(0)), fr.chain(), rounds=1)


def test_a_state_in_a_short_kind_of_float_stays_one():
    """SCAFFOLD's gradients are divided by a float32."""

    def init(key):
        return mapped(lambda leaf: leaf.astype(jnp.bfloat16), task().model.init(key))

    given = fr.classification((init, lambda p, x: x.astype(jnp.bfloat16) @ p["w"] + p["b"]))
    plan = fr.Plan(
        given,
        local=fr.LocalTraining(optax.sgd(0.1), batch_size=BATCH),
        cohort=2,
        aggregation=fr.chain(),
        algorithm=Algorithm(
            "mine",
            lambda client, w, s, own: Report(
                client.sgd(w).delta, client_state=client.sgd(w, mean_gradient=True).gradient
            ),
            client_state=lambda w: mapped(jnp.zeros_like, w),
        ),
    )
    assert fr.simulate(plan, people(SIZES), rounds=2, seed=0).records[1].nonfinite == 0
