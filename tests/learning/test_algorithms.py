"""Algorithms against slow references in NumPy float64, written from the papers."""

import numpy as np
import optax
import pytest

import fairyring as fr
from tests.learning.linear import as_float64, batches, close, gradient, mapped, people, task

SIZES = [7, 12, 4, 9]
RATE, BATCH, ROUNDS = 0.3, 4, 5
EVERYBODY = [[0, 1, 2, 3]]


def simulated(
    algorithm=None, aggregation=None, epochs=2, cohorts=None, population=None, optimizer=None, rounds=ROUNDS
):
    population = population or people(SIZES)
    parts = {} if algorithm is None else {"algorithm": algorithm}
    plan = fr.Plan(
        task(),
        local=fr.LocalTraining(optimizer or optax.sgd(RATE), epochs=epochs, batch_size=BATCH, shuffle=False),
        aggregation=aggregation or fr.chain(fr.weight_by_examples()),
        cohort=fr.cohort.fixed(cohorts or EVERYBODY),
        **parts,
    )
    run = fr.simulate(plan, population, rounds=rounds, seed=3)
    from fairyring.core.keys import NOBODY, Purpose, of_client, of_round, root

    start = as_float64(plan.task.model.init(of_client(of_round(root(3), 0), NOBODY, Purpose.INIT)))
    clients = [population.client(i) for i in range(len(population))]
    return run, start, [(c["x"].astype(np.float64), c["y"]) for c in clients]


def test_fedavg_is_the_papers():
    run, w, clients = simulated()
    total = sum(SIZES)
    for _ in range(ROUNDS):
        new = mapped(np.zeros_like, w)
        for x, y in clients:
            local = dict(w)
            for bx, by in batches(x, y, BATCH, 2):
                local = mapped(lambda p, g: p - RATE * g, local, gradient(local, bx, by))
            share = len(y) / total
            new = mapped(lambda n, p, share=share: n + share * p, new, local)
        w = new
    close(run.params, w)


def test_one_client_with_all_data_is_plain_training():
    population = people([23])
    run, w, ((x, y),) = simulated(cohorts=[[0]], population=population, epochs=3, rounds=4)
    for _ in range(4):
        for bx, by in batches(x, y, BATCH, 3):
            w = mapped(lambda p, g: p - RATE * g, w, gradient(w, bx, by))
    close(run.params, w)


def test_equal_clients_with_one_full_batch_step_are_centralised_gradient_descent():
    population = people([8, 8, 8])
    plan = fr.Plan(
        task(),
        local=fr.LocalTraining(optax.sgd(RATE), batch_size=8),
        aggregation=fr.chain(),
        cohort=fr.cohort.fixed([[0, 1, 2]]),
    )
    run = fr.simulate(plan, population, rounds=10, seed=3)
    _, w, clients = simulated(cohorts=[[0]], population=population, rounds=1)
    x, y = (np.concatenate([c[i] for c in clients]) for i in range(2))
    for _ in range(10):
        w = mapped(lambda p, g: p - RATE * g, w, gradient(w, x, y))
    close(run.params, w)


def test_fedprox_is_the_papers():
    mu = 0.4
    run, w, clients = simulated(fr.fedprox(mu))
    plain, _, _ = simulated()
    total = sum(SIZES)
    for _ in range(ROUNDS):
        new = mapped(np.zeros_like, w)
        for x, y in clients:
            local = dict(w)
            for bx, by in batches(x, y, BATCH, 2):
                g = mapped(lambda g, p, p0: g + mu * (p - p0), gradient(local, bx, by), local, w)
                local = mapped(lambda p, g: p - RATE * g, local, g)
            share = len(y) / total
            new = mapped(lambda n, p, share=share: n + share * p, new, local)
        w = new
    close(run.params, w)
    assert np.abs(np.asarray(run.params["w"]) - np.asarray(plain.params["w"])).max() > 1e-3


def test_fedprox_without_pull_is_averaging():
    run, _, _ = simulated(fr.fedprox(0.0))
    plain, _, _ = simulated()
    np.testing.assert_array_equal(run.params["w"], plain.params["w"])


def test_scaffold_is_the_papers_option_two():
    """Karimireddy et al. 2020, Algorithm 1 with option II, over changing cohorts so that memory matters."""
    cohorts = [[0, 1], [2, 3], [0, 3], [1, 2, 3]]
    run, w, clients = simulated(fr.scaffold(), fr.chain(), cohorts=cohorts, rounds=6)
    c = mapped(np.zeros_like, w)
    mine = [mapped(np.zeros_like, w) for _ in clients]
    for r in range(6):
        members = cohorts[r % len(cohorts)]
        moves, changes = [], []
        for i in members:
            x, y = clients[i]
            local, steps = dict(w), 0
            for bx, by in batches(x, y, BATCH, 2):
                g = mapped(lambda g, ci, c: g - ci + c, gradient(local, bx, by), mine[i], c)
                local = mapped(lambda p, g: p - RATE * g, local, g)
                steps += 1
            new = mapped(lambda ci, c, x0, yi, k=steps: ci - c + (x0 - yi) / (k * RATE), mine[i], c, w, local)
            moves.append(mapped(np.subtract, local, w))
            changes.append(mapped(np.subtract, new, mine[i]))
            mine[i] = new
        w = mapped(lambda p, *d: p + sum(d) / len(d), w, *moves)
        c = mapped(lambda c, *d: c + sum(d) / len(clients), c, *changes)
    close(run.params, w, rtol=1e-4, atol=1e-5)
    close(run.state.algorithm, c, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_fednova_is_the_papers(momentum):
    """Wang et al. 2020, equations 6 to 8, with the a_i of SGD and of SGD with momentum."""
    optimizer = optax.sgd(RATE, momentum=momentum or None)
    run, w, clients = simulated(fr.fednova(momentum=momentum), optimizer=optimizer)
    total = sum(SIZES)
    for _ in range(ROUNDS):
        directions, taus, shares = [], [], []
        for x, y in clients:
            local, velocity, steps = dict(w), mapped(np.zeros_like, w), 0
            for bx, by in batches(x, y, BATCH, 2):
                velocity = mapped(lambda v, g: momentum * v + g, velocity, gradient(local, bx, by))
                local = mapped(lambda p, v: p - RATE * v, local, velocity)
                steps += 1
            # a_i: what the j-th gradient counts in the sum of the client's moves.
            a = [sum(momentum**k for k in range(steps - j)) for j in range(steps)]
            tau = sum(a)
            directions.append(mapped(lambda p, p0, tau=tau: (p - p0) / tau, local, w))
            taus.append(tau)
            shares.append(len(y) / total)
        effective = sum(s * t for s, t in zip(shares, taus, strict=True))
        for share, direction in zip(shares, directions, strict=True):
            pull = effective * share
            w = mapped(lambda p, d, pull=pull: p + pull * d, w, direction)
    close(run.params, w, rtol=1e-4, atol=1e-5)


def _adaptive(m, d, v):
    m = 0.8 * m + 0.2 * d
    return m, v, 0.1 * m / (np.sqrt(v) + 1e-2)


@pytest.mark.parametrize(
    ("server", "step"),
    [
        (fr.fedavgm(0.5, momentum=0.7), lambda m, v, d: (0.7 * m + d, v, 0.5 * (0.7 * m + d))),
        # Reddi et al. 2021, Algorithm 2; m starts at 0 and v at tau**2.
        (
            fr.fedadagrad(0.1, tau=1e-2),
            lambda m, v, d: (m, v + d * d, 0.1 * d / (np.sqrt(v + d * d) + 1e-2)),
        ),
        (
            fr.fedadam(0.1, b1=0.8, b2=0.9, tau=1e-2, bias_correction=False),
            lambda m, v, d: _adaptive(m, d, 0.9 * v + 0.1 * d * d),
        ),
        (
            fr.fedyogi(0.1, b1=0.8, b2=0.9, tau=1e-2),
            lambda m, v, d: _adaptive(m, d, v - 0.1 * d * d * np.sign(v - d * d)),
        ),
    ],
)
def test_server_optimisers_follow_minus_the_mean_delta(server, step):
    population = people([8])
    plan = fr.Plan(
        task(),
        local=fr.LocalTraining(optax.sgd(RATE), batch_size=8),
        cohort=1,
        server=server,
        aggregation=fr.chain(),
    )
    run = fr.simulate(plan, population, rounds=4, seed=3)
    _, w, ((x, y),) = simulated(cohorts=[[0]], population=population, rounds=1)
    m, v = mapped(np.zeros_like, w), mapped(lambda p: np.full_like(p, 1e-4), w)
    for _ in range(4):
        delta = mapped(lambda g: -RATE * g, gradient(w, x, y))
        for name in w:
            m[name], v[name], move = step(m[name], v[name], delta[name])
            w[name] = w[name] + move
    close(run.params, w, rtol=1e-4, atol=1e-5)


def test_a_schedule_over_rounds_and_one_over_local_steps():
    population = people([8])
    rates = lambda r: 0.4 / r  # noqa: E731
    plan = fr.Plan(
        task(),
        local=fr.LocalTraining(lambda r: optax.sgd(rates(r)), epochs=2, batch_size=8),
        cohort=1,
        aggregation=fr.chain(),
    )
    run = fr.simulate(plan, population, rounds=3, seed=3)
    _, w, ((x, y),) = simulated(cohorts=[[0]], population=population, rounds=1)
    for r in (1, 2, 3):
        for _ in range(2):
            w = mapped(lambda p, g, r=r: p - rates(r) * g, w, gradient(w, x, y))
    close(run.params, w)


def test_a_fixed_number_of_steps_wraps_around():
    population = people([5])
    plan = fr.Plan(
        task(),
        local=fr.LocalTraining(optax.sgd(RATE), steps=4, batch_size=3, shuffle=False),
        cohort=1,
        aggregation=fr.chain(),
    )
    run = fr.simulate(plan, population, rounds=1, seed=3)
    _, w, ((x, y),) = simulated(cohorts=[[0]], population=population, rounds=1)
    for s in range(4):
        rows = [(3 * s + j) % 5 for j in range(3)]
        w = mapped(lambda p, g: p - RATE * g, w, gradient(w, x[rows], y[rows]))
    close(run.params, w)
