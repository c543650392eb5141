"""Whoever conducts a run is killed: another goes on with its session or its sum, and the run has the bits of one that was not."""

import time

import jax
import numpy as np
import pytest
from msgspec.structs import replace

import fairyring as fr
from fairyring.rounds.coordinator import Coordinator
from fairyring.service.runner import Runner
from fairyring.service.storage import Sessions
from tests.service.rehearsals import Rehearsal
from tests.simulation.private_runs import ENTROPY, people, plan, run

pytestmark = pytest.mark.optimised

PEOPLE = people(3)


class Killed(BaseException):
    """The process ends here."""


def once(patch, owner, name, *, after: bool, at: int):
    """`owner.name` ends its process the `at`-th time that it is called, before or after it did what it does."""
    honest, calls = getattr(owner, name), []

    def call(self, *given, **named):
        calls.append(name)
        if len(calls) == at and not after:
            raise Killed
        value = honest(self, *given, **named)
        if len(calls) == at and after:
            raise Killed
        return value

    patch.setattr(owner, name, call)
    return calls


POINTS = {
    "session opened": (Runner, "_open", True),
    "sum fetched": (Sessions, "result", True),
    "accepted": (Coordinator, "accept", True),
    "recorded": (Coordinator, "record", True),
    "forgotten": (Sessions, "forget", False),
}


@pytest.mark.dealt(3, "point")
@pytest.mark.parametrize("point", POINTS)
def test_a_run_goes_on_to_the_same_bits(point, tmp_path, monkeypatch):
    given = plan(fr.distributed_noise("skellam", 1.5, shares=2), cohort=3, secure={"minimum_cohort": 3})
    simulated = run(given, 2, PEOPLE, secure_sum="protocol", evaluate_every=1, run=tmp_path / "simulated")
    owner, name, after = POINTS[point]
    monkeypatch.setattr("tests.service.rehearsals.traceback.print_exc", lambda: None)
    calls = once(monkeypatch, owner, name, after=after, at=2)
    with Rehearsal(tmp_path, given, PEOPLE, seed=5, entropy=ENTROPY, rounds=2) as served:
        run_id = served.submit()
        until = time.monotonic() + 120
        while (state := served.service.storage.runs.get(run_id).state) not in ("finished", "failed"):
            assert time.monotonic() < until, served.conductors
            time.sleep(0.02)
        assert state == "finished"
        assert len(calls) >= 2
        assert len(served.conductors) == 2
        assert isinstance(served.conductors[0].error, Killed)
        coordinator = served.conductors[-1].runner.coordinator
        for ours, theirs in zip(
            jax.tree.leaves(coordinator.state), jax.tree.leaves(simulated.state), strict=True
        ):
            np.testing.assert_array_equal(np.asarray(ours), theirs)
        for ours, theirs in zip(coordinator.records, simulated.records, strict=True):
            without = {"seconds": 0.0, "epsilon": None}
            assert replace(ours, **without) == replace(theirs, **without)
            assert ours.epsilon >= theirs.epsilon  # what a crash interrupted counts as released
        # Nobody was asked twice for one round, and every report is in a sum.
        for agent in served.agents:
            assert agent._ledger.totals().contributions == 2
        sessions = served.service.storage.sessions.of_run(run_id)
        assert [one.outcome for one in sessions] == ["summed"] * 2
        assert all(one.forgotten for one in sessions)
