"""Machines give the run that one machine gives, to the bit where whole numbers are summed, whoever is lost and whoever comes."""

import jax
import numpy as np
import optax
import pytest

import fairyring as fr
from fairyring.distributed import placement
from tests.distributed.local_cluster import LocalMachines
from tests.learning.linear import people, task
from tests.simulation import private_runs
from tests.simulation import test_example_budget as example_budget

SIZES = [7, 12, 4, 9, 31, 2, 5, 8, 6, 3]
PEOPLE, TEST = people(SIZES), people([5, 6], seed=9)
TWO = {"a": 1, "b": 1}


def plan(**options) -> fr.Plan:
    chain = fr.chain(fr.clip(0.5), fr.quantize(bits=12), fr.secure_sum())
    usual = {"cohort": 6, "aggregation": chain, "server": fr.fedavgm(0.7)}
    return fr.Plan(task(), fr.LocalTraining(optax.sgd(0.2), batch_size=4), **(usual | options))


def run(plan: fr.Plan, engine: object = "compiled", rounds: int = 5, **options) -> fr.Run:
    return fr.simulate(plan, PEOPLE, rounds=rounds, test=TEST, seed=3, engine=engine, **options)


def same(one: fr.Run, other: fr.Run, *, exact: bool = True) -> None:
    compare = (
        np.testing.assert_array_equal if exact else lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-6)
    )
    jax.tree.map(compare, one.params, other.params)
    assert one.participation.tolist() == other.participation.tolist()
    for a, b in zip(one.records, other.records, strict=True):
        assert (a.round, a.clients, a.nonfinite, a.bytes_up) == (b.round, b.clients, b.nonfinite, b.bytes_up)
        assert a.loss == (b.loss if exact else pytest.approx(b.loss, 1e-4))


@pytest.mark.parametrize("nodes", [{"a": 1}, TWO, {"a": 2, "b": 1, "c": 1}], ids=len)
def test_integer_sums_have_the_same_bits(nodes: dict[str, int]) -> None:
    same(run(plan()), run(plan(), LocalMachines(nodes)))


def test_float_sums_are_the_same_up_to_rounding() -> None:
    same(
        run(plan(aggregation=fr.chain())), run(plan(aggregation=fr.chain()), LocalMachines(TWO)), exact=False
    )


def test_blocks_are_on_one_machine_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "REPLICATED_BYTES", 0)
    monkeypatch.setattr(placement, "BLOCK_BYTES", 500)
    machines = LocalMachines({"a": 1, "b": 1, "c": 1})
    same(run(plan()), run(plan(), machines))
    fetched = list(machines.cluster.fetched.values())
    assert sum(map(len, fetched)) == len(set.union(*fetched)) > 3


@pytest.mark.parametrize("secure_sum", ["ideal", "protocol"])
def test_a_machine_that_is_lost_costs_its_round_and_nothing_else(secure_sum) -> None:
    machines = LocalMachines(TWO, losses={2, 3})
    with pytest.warns(fr.PerformanceWarning, match="Round 2 is computed again, because a machine was lost"):
        lost = run(plan(), machines, secure_sum=secure_sum)
    same(run(plan(), secure_sum=secure_sum), lost)
    assert machines.cluster.losses == set()


def test_machines_come_and_go() -> None:
    times = [{"a": 1}, {"a": 1}, {"a": 1, "b": 1}, {"b": 1, "c": 1}, {"c": 1}]
    machines = LocalMachines(lambda asked: times[min(asked, 4)])
    same(run(plan()), run(plan(), machines))
    assert [sorted(parts) for _, parts in machines.cluster.computed][-3:] == [["b", "c"], ["c"], ["c"]]


def test_clients_states_stay_with_the_driver_over_losses_and_resuming(tmp_path) -> None:
    scaffold = plan(algorithm=fr.scaffold(), aggregation=fr.chain())
    alone = run(scaffold, rounds=6)
    with pytest.warns(fr.PerformanceWarning):
        run(scaffold, LocalMachines(TWO, losses={3}), rounds=4, run=tmp_path / "run")
    resumed = run(scaffold, LocalMachines({"c": 1}), rounds=6, run=tmp_path / "run", resume=True)
    same(alone, resumed, exact=False)


def test_noise_of_private_steps_is_drawn_by_the_driver() -> None:
    plan, options = example_budget.PLAIN, {"rounds": 2, "entropy": bytes(32)}
    alone = fr.simulate(plan, example_budget.CLIENTS, **options)
    there = fr.simulate(plan, example_budget.CLIENTS, **options, engine=LocalMachines(TWO))
    same(alone, there, exact=False)


def test_canaries_are_planted_by_the_driver() -> None:
    plan, people = (
        private_runs.plan(fr.gaussian_noise(1.5), features=30),
        private_runs.people(60, features=30),
    )
    options = {"rounds": 3, "entropy": bytes(32), "audit": fr.privacy.Canaries(30)}
    one, other = (fr.simulate(plan, people, **options, engine=e) for e in ("compiled", LocalMachines(TWO)))
    same(one, other)
    assert one.header["audit"] == other.header["audit"]
    assert one.header["canaries"] == 30


def test_without_machines_a_run_ends_with_an_error_and_can_go_on(tmp_path) -> None:
    none = LocalMachines(lambda asked: {} if asked > 2 else TWO)
    with pytest.raises(fr.RunError, match="round 3: given no machine that computes it"):
        run(plan(), none, run=tmp_path / "run", checkpoint_every=1)
    same(run(plan()), run(plan(), LocalMachines(TWO), run=tmp_path / "run", resume=True))


def test_a_round_that_loses_machines_for_ever_is_given_up() -> None:
    cursed = LocalMachines(TWO, losses={1}, forever=True)
    with pytest.warns(fr.PerformanceWarning), pytest.raises(fr.RunError, match="lost in round 1"):
        run(plan(), cursed)
    assert cursed.cluster.asked == 11  # once to compile, and ten attempts


@pytest.mark.parametrize("engine", ["ray", None, fr.simulate])
def test_what_is_no_engine_is_refused(engine: object) -> None:
    with pytest.raises(fr.PlanError, match=r"engine: .* expected 'compiled', 'debug' or fr.ray\(...\)"):
        run(plan(), engine)
