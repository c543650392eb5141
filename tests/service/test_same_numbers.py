"""A service and devices over sockets give the run of a simulation that draws the same: model, records and ledger, to the bit."""

import jax
import msgspec
import numpy as np
import pytest

import fairyring as fr
from tests.service.rehearsals import Rehearsal
from tests.simulation.private_runs import ENTROPY, ledger, people, plan, run

pytestmark = pytest.mark.optimised

PEOPLE = people(4)


def of_ledger(folder):
    return [(r.round, r.digest, r.release) for r in ledger(folder).reservations.values()]


def same(served: Rehearsal, run_id: str, simulated: fr.Run) -> None:
    coordinator = served.conductors[-1].runner.coordinator
    for ours, theirs in zip(
        jax.tree.leaves(coordinator.state), jax.tree.leaves(simulated.state), strict=True
    ):
        np.testing.assert_array_equal(np.asarray(ours), theirs)
    for ours, theirs in zip(coordinator.records, simulated.records, strict=True):
        assert msgspec.structs.replace(ours, seconds=0.0) == msgspec.structs.replace(theirs, seconds=0.0)


@pytest.mark.parametrize("noise", ["devices", "server"])
def test_masked_rounds_over_sockets_are_those_of_a_simulation(noise, tmp_path):
    """The devices' noise comes from each of them, the server's from the coordinator."""
    stage = fr.distributed_noise("skellam", 1.5, shares=2) if noise == "devices" else fr.gaussian_noise(1.5)
    given = plan(stage, cohort=3, secure={"minimum_cohort": 3})
    simulated = run(given, 3, PEOPLE, secure_sum="protocol", evaluate_every=1, run=tmp_path / "simulated")
    with Rehearsal(tmp_path, given, PEOPLE, seed=5, entropy=ENTROPY, rounds=3) as served:
        run_id = served.submit()
        assert served.wait(run_id).state == "finished"
        same(served, run_id, simulated)
        assert of_ledger(served.service.runs / run_id) == of_ledger(tmp_path / "simulated")
        funnel = served.service.storage.runs.get(run_id).progress["funnel"]
        assert {funnel[stage] for stage in ("checked_in", "invited", "advertising", "masking", "summed")} == {
            3
        }
        sessions = served.service.storage.sessions.of_run(run_id)
        assert [one.outcome for one in sessions] == ["summed"] * 3
        for one in sessions:
            reports = served.service.storage.sessions.reports(one.id)
            assert [report.outcome for report in reports] == ["summed"] * 3
            assert (
                served.service.storage.sessions.result(one.id) is None
            )  # nobody's masked vector, nor the sum, is kept
    for agent in served.agents:
        assert agent.status.why_not == ()


def test_a_run_of_devices_says_what_is_true_of_devices(tmp_path):
    """Not what is true of a simulation, where one process has all secrets and draws who comes."""
    given = plan(
        fr.distributed_noise("skellam", 1.5, shares=2),
        cohort=fr.cohort.in_turn(3, separation=1),
        secure={"minimum_cohort": 3},
    )
    with Rehearsal(tmp_path, given, PEOPLE, seed=5, entropy=ENTROPY, rounds=1) as served:
        run_id = served.submit()
        assert served.wait(run_id).state == "finished"
        header = served.conductors[-1].runner.coordinator.header
    said = {one["title"]: one["text"] for one in header["assumptions"]}
    assert "One process played all parties" not in said
    assert "Nobody drops out" not in said
    assert "not at random" in said["Who drops out"]
    assert "not there in time" in said["Who takes part"]
