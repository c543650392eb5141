"""Several rounds in one program are the rounds that are computed one by one."""

from functools import cache
from types import SimpleNamespace

import jax
import numpy as np
import optax
import pytest

import fairyring as fr
from fairyring.core.cores import available_cores
from fairyring.simulation import ahead, assembly
from fairyring.simulation.assembly import Assembly
from tests.learning.linear import people, task

SIZES = [7, 12, 4, 9, 31, 2, 0, 5, 8]
ROUNDS = 7


@pytest.fixture
def one_by_one(monkeypatch):
    """Rounds one by one, from here on."""
    return lambda: monkeypatch.setattr(Assembly, "rounds_at_once", 1)


@pytest.fixture
def computed(monkeypatch):
    """How many rounds each program run computed."""
    counts: list[int] = []
    run = ahead.AheadWorker._run

    def counted(self, state, number, cohorts):
        counts.append(len(cohorts))
        return run(self, state, number, cohorts)

    monkeypatch.setattr(ahead.AheadWorker, "_run", counted)
    return counts


def plan(optimizer=None, **parts):
    local = fr.LocalTraining(optimizer or optax.sgd(0.2), batch_size=4)
    return fr.Plan(task(), **({"local": local, "cohort": 4} | parts))


@cache
def simple():
    """One plan for many runs: what was traced of it is kept with it."""
    return plan()


def go(given, **options):
    return fr.simulate(given, people(SIZES), **({"rounds": ROUNDS, "seed": 3, "processors": 1} | options))


def told(run):
    """All that a run says, without times."""
    records = [
        (record.round, record.loss, record.metrics, record.clients, record.nonfinite, record.test)
        for record in run.records
    ]
    return records, jax.tree.map(np.asarray, run.state), run.participation.tolist()


PLANS = {
    "momentum": lambda: plan(optax.sgd(0.2, momentum=0.5), server=fr.fedavgm(0.7)),
    "Adam on the server": lambda: plan(server=fr.fedadam(0.1)),
    "FedProx": lambda: plan(algorithm=fr.fedprox(0.3)),
    "FedNova": lambda: plan(algorithm=fr.fednova()),
    "Poisson": lambda: plan(cohort=fr.cohort.poisson(rate=0.3, maximum=8)),
    "in turn": lambda: plan(cohort=fr.cohort.in_turn(2, separation=2)),
    "a schedule": lambda: plan(lambda r: optax.sgd(0.2 * 0.9**r)),
    "rotated, of few bits": lambda: plan(
        aggregation=fr.chain(fr.clip(1.0), fr.rotate(), fr.quantize(bits=8))
    ),
    "updates that are not finite": lambda: plan(optax.sgd(1e30)),
}


@pytest.mark.parametrize("name", PLANS)
def test_the_bits_are_those_of_rounds_one_by_one(name, one_by_one, computed):
    given, options = PLANS[name](), {"dropout": 0.1, "test": people([5, 6], seed=9), "evaluate_every": 3}
    together = told(go(given, **options))
    assert computed == [0, ROUNDS]
    one_by_one()
    np.testing.assert_equal(together, told(go(given, **options)))
    assert len(computed) == 2


def test_a_run_in_several_parts_has_the_same_bits(monkeypatch, computed):
    at_once = go(simple())
    monkeypatch.setattr(assembly, "ROUNDS", 4)
    np.testing.assert_equal(told(go(simple())), told(at_once))
    assert computed[2:] == [0, 4, 3]


def test_states_kept_at_once_are_few_where_they_are_large(monkeypatch, computed):
    monkeypatch.setattr(assembly, "STATE_BYTES", 2 * 4 * 18)  # of a model of 18 numbers
    go(simple())
    assert computed == [0, 2, 2, 2, 1]


def test_rounds_that_take_long_by_themselves_stay_apart(monkeypatch, computed):
    """Whoever stops a run, or watches it, waits for little more than a round."""
    go(simple(), rounds=40)
    assert computed == [0, 32, 8]
    monkeypatch.setattr(assembly, "SMALL_ROUND", assembly.work_of_round(simple(), people(SIZES)) / 10)
    go(simple(), rounds=5)
    assert computed[3:] == [0, 2, 2, 1]
    monkeypatch.setattr(assembly, "SMALL_ROUND", 1)
    go(simple(), rounds=5)
    assert len(computed) == 7


def test_an_interrupted_run_goes_on(tmp_path, one_by_one):
    class Interrupted(Exception):
        pass

    def interrupt(record):
        if record.round == 5:
            raise Interrupted

    folder = tmp_path / "run"
    with pytest.raises(Interrupted):
        go(simple(), run=folder, checkpoint_every=2, on_round=interrupt)
    resumed = go(simple(), run=folder, resume=True)
    one_by_one()
    np.testing.assert_equal(told(resumed), told(go(simple())))


def test_a_run_that_stops_early_has_the_model_of_its_last_round(one_by_one):
    options = {
        "test": people([5, 6], seed=9),
        "evaluate_every": 1,
        "stop": fr.EarlyStopping("accuracy", patience=2),
        "rounds": 30,
    }
    stopped = go(simple(), **options)
    assert stopped.rounds < 30
    one_by_one()
    np.testing.assert_equal(told(stopped), told(go(simple(), **options)))


def test_the_seconds_of_a_round_are_its_share(monkeypatch):
    seconds = []
    compute = ahead.AheadWorker._compute

    def slowly(self, work):
        times = iter([0.0, 70.0])
        with monkeypatch.context() as patch:
            patch.setattr(ahead, "time", SimpleNamespace(perf_counter=lambda: next(times)))
            compute(self, work)
        seconds.extend(total.seconds_elsewhere for _, _, total in self._ready)

    monkeypatch.setattr(ahead.AheadWorker, "_compute", slowly)
    go(simple())
    assert seconds == [60.0] + [-10.0] * 6  # 70 seconds for 7 rounds, all of them in the first one's call


def test_no_round_takes_a_time_below_zero():
    run = go(simple(), rounds=40)
    assert min(record.seconds for record in run.records) > 0


def test_small_rounds_have_one_processor_unless_others_are_named():
    def machine(given, **options):
        return len(fr.simulate(given, people(SIZES), rounds=1, **options).header["machine"]["devices"])

    assert machine(simple()) == 1
    assert machine(simple(), processors=2) == 2
    wide = fr.classification(fr.zoo.two_nn(features=5, hidden=2000, classes=3))
    assert machine(fr.Plan(wide, simple().local, cohort=4)) == available_cores()


@pytest.mark.parametrize(
    "given",
    [
        plan(algorithm=fr.scaffold()),
        plan(aggregation=fr.chain(fr.clip(1.0), fr.quantize(bits=8), fr.secure_sum(16))),
    ],
)
def test_what_happens_between_rounds_keeps_them_apart(given, computed):
    go(given)
    assert not computed
