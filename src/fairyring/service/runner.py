"""A run of a service: the same coordinator as in a simulation, whose sums come from sessions with devices."""

import math
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import msgspec
import numpy as np

from fairyring.aggregation.contract import Message
from fairyring.core.cores import machine
from fairyring.core.errors import FairyringError, LeaseLost, PlanError, RunError, StorageError
from fairyring.core.files import OWNER, replace_file
from fairyring.core.keys import Purpose, of_first_model, of_round, root, shared
from fairyring.learning.plan import Plan
from fairyring.lowering import hardware
from fairyring.messages import delta, model_bytes, read_manifest
from fairyring.privacy.participation import FixedSize, PoissonSampled
from fairyring.records.folder import RunFolder
from fairyring.records.layout import RUN
from fairyring.records.round_record import Means
from fairyring.rounds.cohorts import CohortSampler, RoundCohort
from fairyring.rounds.coordinator import Coordinator
from fairyring.rounds.feasibility import check_participation
from fairyring.rounds.header import new_header
from fairyring.rounds.privacy_context import PrivacyContext
from fairyring.rounds.server_program import ServerProgram, Sums
from fairyring.rounds.settings import RunDescription, RunSettings
from fairyring.rounds.timetable import Timetable
from fairyring.rounds.total import SecureSumResult, Total
from fairyring.rounds.worker import Work
from fairyring.secagg import Traffic, Transcript
from fairyring.secagg.server import Phase
from fairyring.service.blobs import Blobs
from fairyring.service.choosing import Chooser
from fairyring.service.facts import SessionFacts, SumOfReports
from fairyring.service.options import RunOptions
from fairyring.service.roll import Roll
from fairyring.service.snapshots import finite, means_of, plain_means
from fairyring.service.storage import Lease, Run, State, Storage, StoredSession
from fairyring.simulation import Tests

LEASE_SECONDS = 15.0
LONGEST_PAUSE = 5.0  # seconds after a session without a sum
KEPT_MODELS = 3  # so many of the last models stay, for devices that have one of them


class Cancelled(Exception):
    """An operator has cancelled the run."""


class Runner:
    """Conducts one run, from where it stands to its end.

    Args:
        storage, blobs: of the service.
        run: what was submitted.
        plan: of it.
        test: clients to evaluate on; None for none.
        runs: the folder of the runs' folders.
        owner: a name that no other process has.
        poll: seconds between two looks at a session, at least.
        opened: is called when a session is there to be served; a service in another process looks for it.

    Raises:
        LeaseLost: another process conducts the run.
        RunError: the plan is not the one that was signed.
        PlanError: the plan cannot be run with these devices.
    """

    def __init__(
        self,
        storage: Storage,
        blobs: Blobs,
        run: Run,
        plan: Plan,
        test: Any,
        runs: Path,
        *,
        owner: str,
        poll: float = 0.01,
        opened: Callable[[], object] = lambda: None,
    ) -> None:
        self._opened = opened
        self.storage, self.blobs, self.run, self.plan, self.poll = storage, blobs, run, plan, poll
        self.options = RunOptions.read(run.settings)
        self.manifest = read_manifest(blobs.get(run.manifest))
        columns = {c.name: (c.shape, np.dtype(c.dtype)) for c in self.manifest.columns}
        if bytes.fromhex(plan.digest(columns)) != self.manifest.plan:
            raise RunError(
                f"run {run.id}",
                given="a plan whose digest is not that of the signed manifest",
                expected="the plan as its author signed it, and the versions of JAX that it was signed with",
                do="Submit it again from this version.",
            )
        lease = storage.leases.acquire(f"run {run.id}", owner, LEASE_SECONDS)
        if lease is None:
            raise LeaseLost(
                f"run {run.id}",
                given="one that another process conducts",
                expected="one process a run",
                do="Wait until it has ended.",
            )
        self.lease: Lease = lease
        self._lost = threading.Event()
        self._stop = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name=f"lease of run {run.id}", daemon=True)
        self._keeper.start()
        self.failures: Counter[str] = Counter()
        self._without_sum = 0  # sessions, since the last that had one
        self.funnel: Mapping[str, int] = {}
        self._models: list[tuple[bytes, bytes, list[bytes]]] = []  # digest, bytes, blobs that are about it
        try:
            self._assemble(test, runs, columns)
        except BaseException:
            self.close()
            raise

    def _assemble(self, test: Any, runs: Path, columns: Mapping[str, Any]) -> None:
        plan, options = self.plan, self.options
        self.key = root(options.seed)
        on = hardware(plan.layout.size, processors=1)
        self._roll = runs / f"{self.run.id}.roll"
        self.roll = Roll(self._first_keys(self._roll), options.sizes)
        self.chooser = Chooser(self.storage, self.run.id, plan.rule.maximum, options.invite)
        masked = plan.terms is not None
        self.cohorts: CohortSampler | None = None
        if options.selection == "plan":
            self.cohorts = CohortSampler(plan.rule, self.roll, options.seed)
            if plan.protection is not None:
                check_participation(plan, self.cohorts, options.rounds, protocol=masked)
        else:
            _refuse_sampling(plan)
        tests = Tests(test, plan.task, on) if test is not None else None
        self.tests = tests
        program = ServerProgram(plan, len(self.roll), self.key, on.processors[0], on.options)
        header = new_header(
            plan,
            f"devices of a service, run {self.run.id}",
            columns=columns,
            rounds=options.rounds,
            seed=options.seed,
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=machine(on.processors),
            secure_sum="protocol" if masked else None,
            test=tests.fingerprint() if tests is not None else None,
        )
        sizes = self.roll.sizes
        context = PrivacyContext(
            plan,
            len(self.roll),
            (int(sizes.min()), int(sizes.max())) if self.roll.known_sizes and len(sizes) else None,
            int(sizes.sum()),
            secure_sum="protocol",
            tested=tests is not None,
            entropy_given=options.entropy is not None,
            selection=options.selection,
        )
        folder = runs / self.run.id
        resume = (folder / RUN).is_file()
        private = plan.protection is not None
        store = (
            RunFolder.open(folder) if resume else RunFolder.create(folder, private=private, overwrite=False)
        )
        every = options.evaluate_every or max(1, options.rounds // 20)
        self.coordinator = Coordinator(
            program,
            plan.first_state(of_first_model(self.key)),
            self.roll,
            RunDescription(
                header, context, {**self.roll.describe(), **(tests.describe() if tests else {"test": None})}
            ),
            RunSettings(
                Timetable(options.rounds, every, 1),
                bytes.fromhex(options.entropy) if options.entropy is not None else None,
            ),
            store=store,
            resume=resume,
        )

    # -- its life ---------------------------------------------------------------------------------------------

    def go(self, on_round: Callable[[Any], object] = lambda record: None) -> State:
        """All rounds that are left. Returns the state that the run ends in."""
        with self.coordinator as run:
            earlier = self._begun_before(run)
            why = "restarted: the process that conducts the run has begun anew"
            keep = earlier.id if earlier is not None else None
            self.storage.sessions.clear(self.run.id, why, keep=keep, lease=self.lease)
            state: State = "finished"
            self._say("running")
            try:
                while run.goes_on:
                    self._obey()
                    record = self._round(run, earlier)
                    earlier = None
                    if record is None:
                        break
                    self._say("running")
                    on_round(record)
            except Cancelled:
                state = "cancelled"
            run.end(self.tests.by_client() if self.tests is not None and self.tests.evaluations else None)
            self._progress_now = self._progress()
        return state

    def end(self, state: State) -> None:
        """Say how the run has ended, once all that it leaves behind is written."""
        self.storage.sessions.clear(self.run.id, "the run is over", lease=self.lease)
        self.storage.runs.update(
            self.run.id,
            state,
            self._progress_now,
            lease=self.lease,
        )

    def close(self) -> None:
        """Give the lease back."""
        self._stop.set()
        with suppress(FairyringError):
            self.storage.leases.release(self.lease)
        self._keeper.join(timeout=5.0)

    def _begun_before(self, run: Coordinator) -> StoredSession | None:
        """A session of the next round that another process began: its devices need not report again. Its sum may be there already."""
        if not run.goes_on:
            return None
        for stored in reversed(self.storage.sessions.of_run(self.run.id)):
            if stored.round != run.round + 1 or stored.forgotten or stored.outcome == "aborted":
                continue
            facts = SessionFacts.read(stored.facts)
            known = facts.places.items() <= {key: place for place, key in enumerate(self.roll.keys)}.items()
            if known and facts.manifest == self.run.manifest.hex() and facts.context == run.model().hex():
                return stored
        return None

    def _round(self, run: Coordinator, earlier: StoredSession | None) -> Any:
        """One round, tried again if it ends without a sum; None where the budget allows no more."""
        number = run.round + 1
        for left in range(self.options.tries - 1, -1, -1):
            cohort = self._cohort(number, earlier)
            work = run.open(cohort)
            if work is None:
                return None
            session = earlier.id if earlier is not None else self._open(run, work)
            earlier = None
            total, staying = self._session(run, work, session)
            summed = total.summed
            aborted = summed is not None and summed.aborted is not None
            aborted = aborted or (summed is None and not len(staying))
            self._without_sum = self._without_sum + 1 if aborted else 0
            if aborted:  # what went wrong may be over in a moment, or may go wrong again at once
                self._stop.wait(min(LONGEST_PAUSE, 0.05 * 2**self._without_sum))
            if aborted and left:
                if work.noise is not None:
                    work.noise.cancel(seen=summed is not None and summed.seen)
                self.storage.sessions.forget(session)
                continue
            work = work._replace(cohort=cohort._replace(staying=staying))
            if not run.accept(work, total):
                return None
            means: Means | None = None
            several: dict[str, Means] | None = None
            if run.evaluates and self.tests is not None:
                means, several = self.tests(run.state.params), self.tests.means()
            record = run.record(means, several)
            # Only now: whoever goes on from here needs the sum no more.
            self.storage.sessions.forget(session)
            return record
        raise AssertionError("the last try is accepted or ends the run")

    # -- one session ------------------------------------------------------------------------------------------

    def _open(self, run: Coordinator, work: Work) -> bytes:
        """Open a session for a round."""
        session = secrets.token_bytes(16)
        facts = self._facts(run, work)
        self.storage.sessions.open(self.run.id, work.cohort.round, session, facts.plain(), lease=self.lease)
        # Another run that has the same model may have deleted it before this session named it.
        self.blobs.put(self._models[-1][1])
        self._opened()
        return session

    def _session(self, run: Coordinator, work: Work, session: bytes) -> tuple[Total, np.ndarray]:
        """The total of a round from its session, and the places of the devices that are in it."""
        pause = self.poll
        looked = time.monotonic()
        while True:
            try:
                stored = self.storage.sessions.get(session)
            except StorageError:  # the session waits for the database, too
                self._still_conducting()
                continue
            assert stored is not None
            if stored.outcome is not None:
                break
            time.sleep(pause)
            pause = min(0.05, pause * 1.1)
            if time.monotonic() - looked > 0.5:
                looked = time.monotonic()
                try:
                    with suppress(StorageError):
                        self._obey(pausing=False)
                except Cancelled:
                    self._abort(session, "cancelled: by an operator")
                    raise
        self.failures.update(stored.progress.get("failures", {}))
        self.funnel = stored.progress.get("funnel", {})
        places = [
            self.roll.place(report.device)
            for report in self.storage.sessions.reports(session)
            if report.outcome == "summed"
        ]
        total = self._total(
            run, stored.outcome, stored.reason, self.storage.sessions.result(session), len(places)
        )
        self.chooser.heard(work.cohort.round, [self.roll.keys[p] for p in places], stored.outcome)
        return total, np.array(sorted(places), np.int64)

    def _total(self, run: Coordinator, outcome: str, reason: str, result: bytes | None, count: int) -> Total:
        program, nobody = run.program, np.zeros(0, np.int64)
        if outcome != "summed" or result is None:
            if self.plan.terms is None:
                return Total((program.sums(),), nobody)
            phase, _, why = reason.partition(": ")
            phase = phase if phase in set(Phase) else str(Phase.ADVERTISING)
            summed = SecureSumResult(None, 0, Traffic(0, 0), (phase, why or reason), None, None)
            return Total((program.sums(None, 0),), nobody, summed)
        total = msgspec.msgpack.decode(result, type=SumOfReports)
        if self.plan.terms is None:
            spec = self.plan.bound.spec
            vector = np.frombuffer(total.vector, np.int32 if spec.integer else np.float32)
            message = Message(vector, np.frombuffer(total.auxiliary, np.float32))
            sums = jax.device_put(Sums(message, np.int32(count)), program.processor)
            return Total((sums,), nobody)
        vector = np.frombuffer(total.vector, "<u4").astype(np.uint32)
        transcript = msgspec.msgpack.decode(total.transcript, type=Transcript)
        summed = SecureSumResult(vector, count, Traffic(total.up, total.down), None, transcript, None)
        return Total((program.sums(vector, count),), nobody, summed)

    def _facts(self, run: Coordinator, work: Work) -> SessionFacts:
        options, number = self.options, work.cohort.round
        words = np.asarray(jax.random.key_data(shared(of_round(self.key, number), Purpose.SHARED)))
        model, earlier = self._broadcast(work)
        return SessionFacts(
            number,
            self.run.manifest.hex(),
            model.hex(),
            earlier,
            run.model().hex(),
            work.previous.hex() if work.previous is not None else None,
            (int(words[0]), int(words[1])),
            work.noise.number if work.noise is not None else 0,
            {self.roll.keys[place].hex(): place for place in work.cohort.sampled.tolist()},
            max(1, self.plan.minimum_cohort),
            self.plan.rule.maximum,
            options.seconds,
            options.stage_seconds,
        )

    def _broadcast(self, work: Work) -> tuple[bytes, dict[str, str]]:
        """Put the model where devices find it, with what changed from models that they may have. Old ones are deleted."""
        state = work.state
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves((state.params, state.algorithm))]
        data = model_bytes(leaves)
        digest = self.blobs.put(data)
        if self._models and self._models[-1][0] == digest:
            return digest, self._earlier
        changes = []
        self._earlier: dict[str, str] = {}
        for old, before, _ in self._models:
            change = delta(before, data)
            if old != digest and len(change) < 0.9 * len(data):
                changes.append(self.blobs.put(change))
                self._earlier[old.hex()] = changes[-1].hex()
        self._models.append((digest, data, [digest, *changes]))
        needed: set[bytes] = {digest}
        if len(self._models) > KEPT_MODELS:
            for other in self.storage.sessions.unfinished():
                facts = SessionFacts.read(other.facts)
                needed.update(map(bytes.fromhex, (facts.model, *facts.earlier.values())))
        while len(self._models) > KEPT_MODELS:
            gone = self._models.pop(0)[2]
            for blob in set(gone) - needed - {blob for _, _, blobs in self._models for blob in blobs}:
                self.blobs.delete(blob)
        return digest, self._earlier

    # -- who takes part ---------------------------------------------------------------------------------------

    def _first_keys(self, path: Path) -> list[bytes]:
        """The clients of the run when it was begun. A process that goes on with it finds the same in the same places."""
        if self.options.devices is not None:
            return self._keys()
        if not path.exists():
            replace_file(path, b"".join(self._keys()), mode=OWNER)
        kept = path.read_bytes()
        return [kept[at : at + 32] for at in range(0, len(kept), 32)]

    def _meet(self, keys: list[bytes]) -> None:
        """Note those that were enrolled since, after all others."""
        before = len(self.roll)
        self.roll.add(keys)
        if len(self.roll) > before:
            replace_file(self._roll, b"".join(self.roll.keys), mode=OWNER)

    def _keys(self) -> list[bytes]:
        if self.options.devices is not None:
            return [bytes.fromhex(key) for key in self.options.devices]
        enrolled = sorted(self.storage.devices.all(), key=lambda device: (device.enrolled, device.key))
        return [device.key for device in enrolled if device.revoked is None]

    def _cohort(self, number: int, earlier: StoredSession | None) -> RoundCohort:
        if self.cohorts is not None:
            return self.cohorts.of(number)
        if earlier is not None:
            invited = SessionFacts.read(earlier.facts).places
            self.chooser.invited(invited.keys())
            places = np.array(sorted(invited.values()), np.int64)
            return RoundCohort(number, places, places)
        if self.options.devices is None:
            self._meet(self._keys())
        while True:
            self._obey()
            chosen = self.chooser.choose(set(self.roll.keys))
            if chosen:
                break
            time.sleep(0.1)
        places = np.array(sorted(self.roll.place(key) for key in chosen), np.int64)
        return RoundCohort(number, places, places)

    # -- what others want, and are told ---------------------------------------------------------------------

    def _obey(self, *, pausing: bool = True) -> None:
        """Wait while the run is to pause.

        Raises:
            Cancelled: it is to end.
            LeaseLost: another process conducts it now.
        """
        said = False
        while True:
            self._still_conducting()
            now = self.storage.runs.get(self.run.id)
            if now is None or now.wanted == "cancel":
                raise Cancelled
            if now.wanted != "pause" or not pausing:
                break
            if not said:
                self._say("paused")
                said = True
            time.sleep(0.2)
        if said:
            self._say("running")

    def _still_conducting(self) -> None:
        if self._lost.is_set():
            raise LeaseLost(
                f"run {self.run.id}",
                given="a lease that was lost",
                expected="one process a run",
                do="Another process goes on with it.",
            )

    def _say(self, state: State) -> None:
        self.storage.runs.update(
            self.run.id,
            state,
            self._progress(),
            lease=self.lease,
        )

    def _progress(self) -> dict[str, Any]:
        run = self.coordinator
        records = run.records
        last = records[-1] if records else None
        test = next((record.test for record in reversed(records) if record.test is not None), None)
        lost = last is not None and last.lost_in_noise is not None and last.lost_in_noise.loss
        recent = records[-20:]
        seconds = sum(record.seconds for record in recent)
        spent = run.spending.spent().epsilon if run.spending is not None and records else None
        return {
            "round": run.round,
            "rounds": run.timetable.rounds,
            "cohort": self.plan.rule.maximum,
            "loss": finite(last.loss) if last is not None and not lost else None,
            "metrics": means_of(test) or (plain_means(last.metrics) if last is not None else {}),
            "epsilon": finite(spent),
            "bytes_up": sum(record.bytes_up for record in records),
            "bytes_down": sum(record.bytes_down for record in records),
            "seconds": run.seconds,
            "rounds_per_hour": 3600 * len(recent) / seconds if seconds > 0 else None,
            "failures": dict(self.failures),
            "funnel": dict(self.funnel),
        }

    def _abort(self, session: bytes, reason: str) -> None:
        with suppress(RunError):  # it has ended meanwhile
            self.storage.sessions.end(session, "aborted", reason=reason, lease=self.lease)

    def _keep(self) -> None:
        """Renew the lease for as long as the run goes on."""
        last = time.monotonic()
        while not self._stop.wait(LEASE_SECONDS / 5):
            try:
                if not self.storage.leases.renew(self.lease, LEASE_SECONDS):
                    self._lost.set()
                    return
                last = time.monotonic()
            except FairyringError:
                if time.monotonic() - last > LEASE_SECONDS:
                    self._lost.set()
                    return


def _refuse_sampling(plan: Plan) -> None:
    """Raise `PlanError` where a promise rests on who is sampled, and devices select themselves."""
    protection = plan.protection
    if protection is None or math.isinf(protection.budget.epsilon):
        return
    if (
        isinstance(protection.participation, PoissonSampled | FixedSize)
        and protection.budget.unit == "device"
    ):
        raise PlanError(
            "selection",
            given="'available', for a guarantee that counts on sampling",
            expected="'plan': devices that are there when they are needed are no sample of all devices",
            do="Use cohort=fr.cohort.in_turn(size, separation=...), or selection 'plan'.",
        )
