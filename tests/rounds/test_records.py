"""A round's record: whose columns are whose."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fairyring as fr
from fairyring.core.errors import BudgetSpent, PlanError, RunError
from fairyring.core.keys import root
from fairyring.lowering import hardware
from fairyring.records.folder import RunFolder
from fairyring.rounds.coordinator import Coordinator
from fairyring.rounds.draws import Draw
from fairyring.rounds.due import Timetable
from fairyring.rounds.header import new_header
from fairyring.rounds.means import TAKEN, recorded
from fairyring.rounds.program import ServerProgram
from fairyring.rounds.ran import Ran
from fairyring.rounds.spending import RoundNoise, Spending
from fairyring.rounds.total import Total
from tests.learning.linear import people, task
from tests.simulation import private_runs


def ones(outputs, batch):
    return jnp.ones(outputs.shape[0]), jnp.ones(outputs.shape[0])


def plan(name: str) -> fr.Plan:
    named = replace(task(), metrics={name: fr.Metric(ones, 1.0)})
    return fr.Plan(named, fr.LocalTraining(optax.sgd(0.1)), cohort=2)


@pytest.mark.parametrize("name", sorted(TAKEN))
def test_a_metric_that_would_be_written_over_is_refused(name):
    with pytest.raises(PlanError, match=f"named '{name}'"):
        fr.simulate(plan(name), people([3, 4]), rounds=1)


def test_the_columns_of_a_record_are_those_that_are_taken():
    run = fr.simulate(plan("mine"), people([3, 4]), test=people([3]), rounds=1)
    assert run.metrics[0]["mine"] == run.metrics[0]["test"]["mine"] == 1.0
    assert set(run.metrics[0]) - {"mine"} <= TAKEN


def test_a_metric_has_its_own_range_though_an_algorithm_sends_something_of_that_name():
    private = private_runs.plan(fr.gaussian_noise(1.5), algorithm=fr.adaptive_clip(0.5))
    named = replace(private, task=replace(private.task, metrics={"within_clip": fr.Metric(ones, 5.0)}))
    spending = Spending(named, None)
    record = recorded(named, np.array([10.0, 1.0, 3.0]), 10, 10, spending, released=True)
    spending.close(finished=True)
    assert record["within_clip"] == 3.0


def test_no_round_is_opened_after_one_that_could_not_be_recorded(tmp_path, monkeypatch):
    given, clients, on = plan("mine"), people([3, 4]), hardware(1, processors=1)
    program = ServerProgram(given, 2, root(0), on.processors[0], on.options)
    columns = given.task.columns_of(clients)
    run = Coordinator(
        given, program, given.first_state(jax.random.key(0)), clients,
        header=new_header(given, "", columns=columns, rounds=3, seed=0, started="", machine={}),
        ran=Ran(given, 2, (3, 4)), summary={}, timetable=Timetable(3, 1), store=RunFolder.create(tmp_path / "run"),
    )  # fmt: skip
    everybody, nobody = np.arange(2), np.zeros(0, np.int64)

    def full(*_):
        raise OSError("no space left on device")

    with run:
        work = run.open(Draw(1, everybody, everybody))
        assert work is not None
        run.accept(work, Total((program.sums(),), nobody))
        with monkeypatch.context() as patch:
            patch.setattr(run.keeping, "add", full)
            with pytest.raises(OSError, match="no space"):
                run.record()
        with pytest.raises(RunError, match="is not recorded"):
            run.open(Draw(2, everybody, everybody))
        run.record()
        assert run.open(Draw(2, everybody, everybody)) is not None
    assert [record["round"] for record in run.records] == [1]


def test_early_stopping_goes_on_after_a_value_that_is_no_number(tmp_path):
    def lost(outputs, batch):
        return jnp.where(batch["x"][:, 0] > 100, jnp.nan, 0.5), jnp.ones(outputs.shape[0])

    far = {"x": np.full((3, 5), 1e3, np.float32), "y": np.zeros(3, np.int32)}
    test = fr.Population.from_arrays(far, client=np.zeros(3, int), clients=np.arange(1))
    given = replace(plan("mine"), task=replace(task(), metrics={"mine": fr.Metric(lost, 1.0)}))
    options = {"test": test, "evaluate_every": 1, "stop": fr.EarlyStopping("mine", patience=2)}
    fr.simulate(given, people([3, 4]), rounds=1, run=tmp_path / "run", **options)
    resumed = fr.simulate(given, people([3, 4]), rounds=4, run=tmp_path / "run", resume=True, **options)
    assert resumed.rounds == 2
    assert resumed.header["status"] == "stopped"


@pytest.mark.parametrize("cut_off", [1, 2])
def test_a_round_that_would_spend_too_much_as_it_came_ends_the_run_unreleased(cut_off, monkeypatch):
    """What came is other than what was reserved, and the ledger withholds it."""
    real = RoundNoise.release

    def release(noise, *given, **more):
        if noise.round == cut_off:
            raise BudgetSpent("round", given="more", expected="less", do="Stop.")
        return real(noise, *given, **more)

    monkeypatch.setattr(RoundNoise, "release", release)
    given = private_runs.plan(fr.gaussian_noise(1.5), bits=None)
    if cut_off == 1:
        with pytest.raises(BudgetSpent):
            private_runs.run(given, 3)
        return
    run = private_runs.run(given, 3)
    assert (run.rounds, run.header["status"], run.header["stopped_by"]) == (1, "stopped", "budget")
