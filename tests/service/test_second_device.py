"""A device that shares no code with fairyring takes part in rounds beside fairyring's own."""

import threading
from contextlib import contextmanager
from functools import cache

import jax
import numpy as np
import optax
import pytest

import fairyring as fr
from fairyring.device.training import _complete, model_values
from fairyring.messages import Invitation
from fairyring.publishing import package
from fairyring.secagg import Identity
from tests.device.plans import invitation
from tests.service.rehearsals import InProcess, Rehearsal
from tests.service.second_device import LogisticRegression, SecondDevice, fold_in
from tests.simulation.private_runs import people, task

SEED, CLIENTS, SECOND, BITS = 5, 5, (3, 4), 8
PEOPLE = people(CLIENTS, features=20)


@cache
def plan(*last: fr.aggregation.Stage) -> fr.Plan:
    stages = fr.weight_uniformly(), fr.clip(1.0), fr.quantize(bits=BITS), *last
    local = fr.LocalTraining(optax.sgd(0.2), epochs=1, batch_size=8)
    return fr.Plan(task(20), local=local, cohort=CLIENTS, aggregation=fr.chain(*stages))


MASKED = fr.secure_sum(24, minimum_cohort=3)


def rehearsed(_, invited) -> tuple[int, int]:
    """The key that a rehearsal draws."""
    return fold_in(fold_in((0, SEED), invited["round"]), invited["place"])


def second(client: int) -> LogisticRegression:
    rows = PEOPLE.client(client)
    return LogisticRegression(np.asarray(rows["x"]), np.asarray(rows["y"]), rehearsed)


@contextmanager
def in_place(served: Rehearsal, clients, authors=None):
    """Second devices in place of some of the agents, with their keys."""
    devices = []
    for client in clients:
        agent = served.agents[client]
        agent.stopping.set()
        served.threads[client].join(30)
        folder = served.folder / f"second{client}"
        folder.mkdir()
        (folder / "key").write_bytes(agent._folder.identity.private_bytes())
        trusted = [served.author.public] if authors is None else authors
        devices.append(SecondDevice(served.service.url, folder, second(client), trusted))
    threads = [threading.Thread(target=device.run, daemon=True) for device in devices]
    for thread in threads:
        thread.start()
    try:
        yield devices
    finally:
        for device in devices:
            device.stopping = True
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        for device in devices:
            device.http.close()


@pytest.mark.parametrize("masked", [True, False])
def test_a_second_device_computes_what_the_program_computes(masked, tmp_path):
    """To one level of the quantiser, whose rounding a compiler's last digit may turn."""
    given = plan(MASKED) if masked else plan()
    columns = given.task.columns_of(PEOPLE)
    packed = package(given, Identity.generate(), name="a plan", rounds=1, columns=columns, examples=4)
    manifest, digest = packed.manifest, packed.manifest.programs["jax"]
    program = tmp_path / digest.hex()
    program.write_bytes(packed.blobs[digest])
    state = given.first_state(jax.random.key(1))
    arrays = [np.asarray(leaf) for leaf in jax.tree.leaves(state.params)]
    levels = different = 0
    for client in range(CLIENTS):
        invited: Invitation = invitation(manifest, place=client)
        as_read = {"round": invited.round, "place": invited.place}
        rows = PEOPLE.client(client)
        values = {
            **{name: np.asarray(rows[name]) for name in ("x", "y")},
            **model_values(manifest, arrays),
            "round": np.int32(1),
            "client_key": np.array(rehearsed(None, as_read), np.uint32),
            "shared_key": np.array(invited.shared_key, np.uint32),
        }
        ours = InProcess().train(manifest, "jax", program, _complete(manifest, values))
        document = {
            "document": manifest.document,
            "terms": manifest.terms,
            "message": {"modulus_bits": manifest.message.modulus_bits, "cohort": CLIENTS},
        }
        vector, sides = second(client)(document, arrays, as_read)
        modulus = 1 << (24 if masked else 32)
        off = (vector.astype(np.int64) - ours.vector.astype(np.int64) + modulus // 2) % modulus - modulus // 2
        assert np.abs(off).max() <= 1
        different += np.count_nonzero(off)
        levels += len(off)
        np.testing.assert_allclose(sides, ours.auxiliary, rtol=1e-5)
    assert different < 0.02 * levels


@pytest.mark.parametrize("masked", [True, False])
def test_second_devices_and_ours_make_sums_together(masked, tmp_path):
    given, rounds = plan(MASKED) if masked else plan(), 3
    simulated = fr.simulate(given, PEOPLE, rounds=rounds, seed=SEED, processors=1, run=tmp_path / "simulated")
    with (
        Rehearsal(tmp_path, given, PEOPLE, seed=SEED, entropy=None, rounds=rounds) as served,
        in_place(served, SECOND) as devices,
    ):
        run = served.submit()
        stored = served.wait(run)
        assert stored.state == "finished"
        sessions = served.service.storage.sessions.of_run(run)
        assert [session.outcome for session in sessions] == ["summed"] * rounds
        for session in sessions:
            reports = served.service.storage.sessions.reports(session.id)
            assert {report.device for report in reports if report.outcome == "summed"} == set(served.keys)
        coordinator = served.conductors[-1].runner.coordinator
        # A level that is rounded otherwise moves the mean by a fifth of a level.
        level = 1.0 / (2 ** (BITS - 1) - 1)
        for ours, theirs in zip(
            jax.tree.leaves(coordinator.state.params), jax.tree.leaves(simulated.state.params), strict=True
        ):
            np.testing.assert_allclose(np.asarray(ours), theirs, atol=rounds * len(SECOND) * level / CLIENTS)
            assert np.mean(np.abs(np.asarray(ours) - theirs) > 1e-5) < 0.05
        for ours, theirs in zip(coordinator.records, simulated.records, strict=True):
            assert ours.clients == theirs.clients == CLIENTS
            assert ours.loss == pytest.approx(theirs.loss, rel=1e-2)
    for device in devices:
        assert device.ends == ["summed"] * rounds
        assert len(device.ledger.read_text().splitlines()) == rounds


def test_a_second_device_refuses_what_it_should(tmp_path):
    """An author whom it does not trust: it leaves for good, and the others finish without it."""
    given = plan(MASKED)
    with (
        Rehearsal(tmp_path, given, PEOPLE, seed=SEED, entropy=None, rounds=2) as served,
        in_place(served, SECOND[:1], authors=[bytes(32)]) as (device,),
    ):
        run = served.submit()
        assert served.wait(run).state == "finished"
        sessions = served.service.storage.sessions.of_run(run)
        sums = [served.service.storage.sessions.reports(session.id) for session in sessions]
        assert [sum(report.outcome == "summed" for report in reports) for reports in sums] == [
            CLIENTS - 1
        ] * 2
    assert device.ends == ["left: untrusted_author"]
    assert not device.ledger.exists()
