"""The contract of workers: the same rounds through each of them."""

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fairyring as fr
from fairyring.core.errors import PlanError
from fairyring.core.keys import root
from fairyring.lowering import hardware
from fairyring.records.states import ClientStates
from fairyring.rounds.cohorts import CohortSampler
from fairyring.rounds.worker import Work, Worker
from fairyring.simulation.assembly import assemble
from fairyring.simulation.debug import DebugWorker
from fairyring.simulation.worker import CompiledWorker
from tests.learning.linear import CLASSES, people, task
from tests.learning.linear import apply as linear
from tests.learning.linear import init as linear_init
from tests.simulation import private_runs as private

SIZES = [3, 2, 3, 3, 2, 3]
PEOPLE = people(SIZES)
LOCAL = fr.LocalTraining(optax.sgd(0.2, momentum=0.5), epochs=1, batch_size=2)
WHOLE_NUMBERS = fr.chain(fr.clip(0.5), fr.quantize(bits=12), fr.secure_sum())


def plan(**parts: Any) -> fr.Plan:
    return fr.Plan(task(), **({"local": LOCAL, "cohort": 4} | parts))


PLANS = {
    "plain": plan(),
    "whole numbers": plan(aggregation=WHOLE_NUMBERS),
    "scaffold": plan(algorithm=fr.scaffold(), aggregation=fr.chain()),
    "fednova": plan(algorithm=fr.fednova(momentum=0.5)),
    "steps": plan(local=fr.LocalTraining(optax.adam(0.05), steps=3, batch_size=2)),
}
WORKERS = ["compiled", "debug"]


def worker(
    kind: str, given: fr.Plan, population: fr.Population, cohorts: CohortSampler
) -> tuple[Worker, Any]:
    key = root(3)
    parts = assemble(given, population, key, hardware(given.layout.size, processors=1))
    states = ClientStates(len(population), parts.own) if parts.has_states else None
    made = {
        "compiled": lambda: CompiledWorker(parts.engine, parts.rows, cohorts, key, states),
        "debug": lambda: DebugWorker(given, population, key, states),
    }
    return made[kind](), parts.first


@pytest.mark.parametrize("kind", WORKERS)
def test_a_sum_is_that_of_all_who_are_in_it(kind):
    given = PLANS["whole numbers"]
    cohorts = CohortSampler(given.rule, PEOPLE, 3, 0.3)
    does, first = worker(kind, given, PEOPLE, cohorts)
    work, faulty = Work(cohorts.of(1), first), [np.zeros(0, np.int64)]
    vectors = dict(does.encoded(work, faulty, keep=False))
    assert list(vectors) == cohorts.of(1).staying.tolist()
    total = does.accumulate(work)
    (sums,) = total.parts
    assert int(sums.reported) == len(vectors)
    np.testing.assert_array_equal(np.asarray(sums.message.vector), sum(vectors.values()))
    assert not len(total.faulty)
    nobody = does.warm(first, 0)
    assert int(nobody.parts[0].reported) == 0
    assert not np.asarray(nobody.parts[0].message.vector).any()


@pytest.mark.parametrize("kind", WORKERS)
def test_a_look_ahead_leaves_what_clients_remember(kind):
    given = PLANS["scaffold"]
    cohorts = CohortSampler(given.rule, PEOPLE, 3)
    does, first = worker(kind, given, PEOPLE, cohorts)
    before = dict(does.encoded(Work(cohorts.of(1), first), [], keep=False))
    again = dict(does.encoded(Work(cohorts.of(1), first), [], keep=True))
    after = dict(does.encoded(Work(cohorts.of(1), first), [], keep=True))
    for client, vector in before.items():
        np.testing.assert_array_equal(vector, again[client])
        assert not np.array_equal(vector, after[client])


@pytest.mark.dealt(2, "name")
@pytest.mark.parametrize("name", PLANS)
def test_workers_agree(name):
    runs = [
        fr.simulate(PLANS[name], PEOPLE, rounds=2, seed=3, dropout=0.2, processors=1, engine=kind)
        for kind in WORKERS
    ]
    one, two = runs
    for a, b in zip(jax.tree.leaves(one.state), jax.tree.leaves(two.state), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)
    assert [record.clients for record in one.records] == [record.clients for record in two.records]
    for a, b in zip(one.records, two.records, strict=True):
        assert a.loss == pytest.approx(b.loss, rel=1e-3)
    np.testing.assert_array_equal(one.participation, two.participation)


def test_noisy_local_steps_are_those_of_the_compiled_worker():
    given = fr.Plan(
        private.task(4),
        local=fr.LocalTraining(
            optax.sgd(0.2),
            steps=2,
            batch_size=2,
            rate=0.5,
            examples=fr.chain(fr.clip(1.0), fr.gaussian_noise()),
        ),
        cohort=3,
        aggregation=fr.chain(),
        privacy=fr.Budget(20.0, 1e-3, rounds=2, unit="example"),
    )
    population = private.people(6, 3, 4)
    one, two = (private.run(given, 2, population, engine=kind) for kind in WORKERS)
    for a, b in zip(jax.tree.leaves(one.state), jax.tree.leaves(two.state), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_an_audited_run_has_its_canaries_in_every_worker():
    given, population = private.plan(fr.gaussian_noise(1.5), features=26, cohort=6), private.people(60, 2, 26)
    audit = fr.privacy.Canaries(30)
    one, two = (private.run(given, 1, population, audit=audit, engine=kind) for kind in WORKERS)
    np.testing.assert_allclose(one.canary_scores, two.canary_scores, atol=1e-2)
    assert [r.canaries for r in one.records] == [r.canaries for r in two.records]


def test_a_loss_can_be_looked_into(capsys, monkeypatch):
    """It sees plain arrays, once for each batch, and can stop there."""
    stops: list[Any] = []
    monkeypatch.setattr(sys, "breakpointhook", lambda: stops.append(sys._getframe(1).f_locals["outputs"]))
    looked = fr.classification((linear_init, lambda params, x: _seen(linear(params, x))))
    given = fr.Plan(looked, local=fr.LocalTraining(optax.sgd(0.1), batch_size=2, shuffle=False), cohort=1)
    one = people([5])
    fr.simulate(given, one, rounds=1, engine="debug")
    concrete = [outputs for outputs in stops if isinstance(outputs, jax.Array) and not _traced(outputs)]
    # The first batch starts from the first model.
    params = given.task.model.init(first_key())
    expected = linear(params, jnp.asarray(one.client(0)["x"][:2]))
    np.testing.assert_allclose(concrete[-3], expected, rtol=1e-5)
    assert [len(outputs) for outputs in concrete[-3:-1]] == [2, 2]
    assert concrete[-3].shape == (2, CLASSES)
    assert capsys.readouterr().out.count("outputs of a batch") >= 3


def _seen(outputs: Any) -> Any:
    print("outputs of a batch", type(outputs).__name__)
    breakpoint()
    return outputs


def _traced(value: Any) -> bool:
    return isinstance(value, jax.core.Tracer)


def first_key() -> jax.Array:
    from fairyring.core.keys import NOBODY, Purpose, of_client, of_round

    return of_client(of_round(root(0), 0), NOBODY, Purpose.INIT)


def test_an_engine_there_is_not_is_refused():
    with pytest.raises(PlanError, match=r"'compiled', 'debug' or fr.ray"):
        fr.simulate(PLANS["plain"], PEOPLE, rounds=1, engine="fast")  # type: ignore[arg-type]
