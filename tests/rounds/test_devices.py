"""Fake devices and a server that pass each other bytes, through the same coordinator as a simulation: the same run to the bit."""

from typing import Any

import jax
import msgspec
import numpy as np
import pytest

import fairyring as fr
from fairyring.core.errors import BudgetSpent, RunError
from fairyring.core.keys import NOBODY, Purpose, of_client, of_round, root, shared
from fairyring.lowering import hardware
from fairyring.population import Population
from fairyring.records.store import Store
from fairyring.rounds.cohorts import CohortSampler
from fairyring.rounds.coordinator import Coordinator
from fairyring.rounds.header import new_header
from fairyring.rounds.privacy_context import PrivacyContext
from fairyring.rounds.server_program import ServerProgram
from fairyring.rounds.settings import RunDescription, RunSettings
from fairyring.rounds.spending import RoundNoise
from fairyring.rounds.timetable import Timetable
from fairyring.rounds.total import SecureSumResult, Total
from fairyring.rounds.worker import Work
from fairyring.secagg import Device, Identity, MemoryLog, Server, Session, Traffic
from tests.simulation.private_runs import ENTROPY, ledger, people, plan, run

pytestmark = pytest.mark.optimised

ROUNDS, SEED = 3, 5
PLAN = plan(fr.distributed_noise("skellam", 1.5, shares=2), cohort=3, secure={"minimum_cohort": 3})
PEOPLE = people(4)
KEY = root(SEED)


class FakeDevice:
    """A device: its own examples, the plan's exported program, and its part of the masked protocol."""

    def __init__(self, client: int) -> None:
        self.client, self.identity = client, Identity.generate()
        self.rows = PEOPLE.client(client)
        columns = {name: (rows.shape[1:], rows.dtype) for name, rows in self.rows.items()}
        self.program = PLAN.program(columns, len(self.rows["y"]))
        self.train = jax.jit(self.program.exported.call, compiler_options=dict(hardware(1).options))

    def join(self, session: Session) -> bytes:
        self.secagg = Device(session, self.identity, MemoryLog())
        return self.secagg.start()

    def vector(self, params: bytes, number: int) -> np.ndarray:
        """Local training, from the model as it came."""
        round_key = of_round(KEY, number)
        keys = jax.random.fold_in(round_key, self.client), shared(round_key, Purpose.SHARED)
        given: dict[str, Any] = {
            "params": np.frombuffer(params, np.float32),
            "round": np.int32(number),
            "size": np.int32(len(self.rows["y"])),
            **self.rows,
            **dict(zip(("client_key", "shared_key"), map(jax.random.key_data, keys), strict=True)),
        }
        results = self.train(*(given[argument.name] for argument in self.program.arguments))
        return np.asarray(results[0])


class FakeService:
    """A server that asks devices for sums, and knows nothing but the coordinator's work and their messages."""

    def __init__(self, devices: dict[int, FakeDevice]) -> None:
        self.devices, self.up, self.down = devices, 0, 0

    def total(self, coordinator: Coordinator, work: Work) -> Total:
        terms, model = PLAN.terms, coordinator.model()
        assert terms is not None
        assert work.noise is not None
        session = Session(terms, work.cohort.round, model, work.previous)
        self.server = Server(session, MemoryLog())
        asked = [self.devices[client] for client in work.cohort.sampled.tolist()]
        self.known = {device.identity.public: device for device in asked}
        self.up = self.down = 0
        for device in asked:
            self._take(device.join(session))
        self._turn()  # who is there
        self._turn()  # their sealed shares
        self._turn()
        params = np.asarray(PLAN.layout.flatten(work.state.params)).tobytes()
        for device in asked:
            vector = device.vector(params, work.cohort.round)
            noisy = work.noise.share(device.client, terms.modulus_bits, vector)
            self._take(device.secagg.contribute(noisy))
        self._turn()  # who is in the sum
        self._turn()
        self._turn()
        result, traffic = self.server.result, Traffic(self.up, self.down)
        assert result is not None
        summed = SecureSumResult(
            result.sum.astype(np.uint32), result.count, traffic, None, result.transcript, exhibit=None
        )
        sums = coordinator.program.sums(summed.vector, summed.count)
        return Total((sums,), np.zeros(0, np.int64), summed)

    def _take(self, message: bytes) -> None:
        self.up += len(message)
        self.server.receive(message)

    def _turn(self) -> None:
        for to, message in self.server.close():
            self.down += len(message)
            answer = self.known[to].secagg.receive(message)
            if answer is not None:
                self._take(answer)


def coordinated(population: Population, store: Store | None = None) -> Coordinator:
    """A coordinator as a service makes one: it knows the plan, and of the clients how many examples they have."""
    columns = PLAN.task.columns_of(population)
    header = new_header(
        PLAN, population.fingerprint(), columns=columns, rounds=ROUNDS, seed=SEED,
        started="", machine={}, secure_sum="protocol",
    )  # fmt: skip
    program = ServerProgram(
        PLAN, len(population), KEY, hardware(1, processors=1).processors[0], hardware(1).options
    )
    first = PLAN.first_state(of_client(of_round(KEY, 0), NOBODY, Purpose.INIT))
    context = PrivacyContext(PLAN, len(population), (3, 4), 14, secure_sum="protocol", entropy_given=True)
    return Coordinator(
        program,
        first,
        population,
        RunDescription(header, context, {}),
        RunSettings(Timetable(ROUNDS, 1), entropy=ENTROPY),
        store=store,
        now=lambda: 0.0,
    )


def test_devices_that_pass_messages_make_the_run_of_a_simulation(tmp_path):
    folder = tmp_path / "run"
    simulated = run(PLAN, ROUNDS, PEOPLE, secure_sum="protocol", evaluate_every=1, run=folder)
    cohorts, service = (
        CohortSampler(PLAN.rule, PEOPLE, SEED),
        FakeService({c: FakeDevice(c) for c in range(4)}),
    )
    with coordinated(PEOPLE) as coordinator:
        while coordinator.goes_on:
            work = coordinator.open(cohorts.of(coordinator.round + 1))
            assert work is not None
            coordinator.accept(work, service.total(coordinator, work))
            coordinator.record()
        coordinator.end()
        assert coordinator.spending is not None
        entries = [(r.round, r.digest, r.release) for r in coordinator.spending.ledger.reservations()]
    for ours, theirs in zip(
        jax.tree.leaves(coordinator.state), jax.tree.leaves(simulated.state), strict=True
    ):
        np.testing.assert_array_equal(np.asarray(ours), theirs)
    for ours, theirs in zip(coordinator.records, simulated.records, strict=True):
        assert msgspec.structs.replace(ours, seconds=0.0) == msgspec.structs.replace(theirs, seconds=0.0)
    assert entries == [(r.round, r.digest, r.release) for r in ledger(folder).reservations.values()]
    assert [number for number, _, _ in entries] == [1, 2, 3]
    assert coordinator.header["privacy"]["spent"] == simulated.header["privacy"]["spent"]


@pytest.mark.parametrize("place", ["the server half", "keeping the sum", "the record"])
def test_accepting_a_round_again_after_it_failed_halfway_counts_it_once(place, tmp_path, monkeypatch):
    """The same run comes of it: model, participation, records and ledger."""
    folder = tmp_path / "run"
    simulated = run(PLAN, ROUNDS, PEOPLE, secure_sum="protocol", evaluate_every=1, run=folder)
    cohorts, service = (
        CohortSampler(PLAN.rule, PEOPLE, SEED),
        FakeService({c: FakeDevice(c) for c in range(4)}),
    )

    def full(*_, **__):
        raise OSError("no space left on device")

    with coordinated(PEOPLE) as coordinator:
        owner, name = {
            "the server half": (coordinator.program, "finish_noisy"),
            "keeping the sum": (coordinator.recorder, "keep_sum"),
            "the record": (coordinator, "_recorded"),
        }[place]
        assert coordinator.spending is not None
        while coordinator.goes_on:
            cohort = cohorts.of(coordinator.round + 1)
            work = coordinator.open(cohort)
            assert work is not None
            total = service.total(coordinator, work)
            with monkeypatch.context() as patch:
                patch.setattr(owner, name, full)
                for _ in range(2):
                    with pytest.raises(OSError, match="no space"):
                        coordinator.accept(work, total)
            assert coordinator.round == cohort.round - 1
            if place != "the server half":
                with pytest.raises(RunError, match="which is not accepted"):
                    coordinator.open(cohort)
            for _ in range(2):
                assert coordinator.accept(work, total)
            coordinator.record()
        entries = [(r.round, r.digest) for r in coordinator.spending.ledger.reservations()]
    for ours, theirs in zip(
        jax.tree.leaves(coordinator.state), jax.tree.leaves(simulated.state), strict=True
    ):
        np.testing.assert_array_equal(np.asarray(ours), theirs)
    np.testing.assert_array_equal(coordinator.participation, simulated.participation)
    for ours, theirs in zip(coordinator.records, simulated.records, strict=True):
        assert msgspec.structs.replace(ours, seconds=0.0) == msgspec.structs.replace(theirs, seconds=0.0)
    assert entries == [(r.round, r.digest) for r in ledger(folder).reservations.values()]


def test_a_round_that_would_spend_too_much_is_refused_as_often_as_it_is_accepted(monkeypatch):
    cohorts, service = (
        CohortSampler(PLAN.rule, PEOPLE, SEED),
        FakeService({c: FakeDevice(c) for c in range(4)}),
    )

    def spent(*_, **__):
        raise BudgetSpent("round", given="more", expected="less", do="Stop.")

    with coordinated(PEOPLE) as coordinator:
        for number in (1, 2):
            work = coordinator.open(cohorts.of(number))
            assert work is not None
            total = service.total(coordinator, work)
            if number == 1:
                assert coordinator.accept(work, total)
                coordinator.record()
        with monkeypatch.context() as patch:
            patch.setattr(RoundNoise, "release", spent)
            assert not coordinator.accept(work, total)
        assert not coordinator.accept(work, total)
        assert (coordinator.round, coordinator.goes_on) == (1, False)
        assert coordinator.header["stopped_by"] == "budget"
