"""The coordinator: what happens to every round of a run, whoever computes its sum and wherever it is kept.

    run = Coordinator(plan, program, ...)          a new run, or one that is taken up
    while run.goes_on:
        work = run.open(cohort)                    reserved in the ledger; what to compute, and from what
        run.accept(work, total)                    released, the server's half, what is to be recorded
        run.record(test)                           recorded, and what is due saved
    run.end()

It opens no socket, and waits for nobody. The clock, the store and whoever makes the total are its arguments, so a simulation,
a service that waits for phones and a test run the same one. What must survive is written before it has an effect: a round is
reserved before it is computed, in the ledger as released before it is shown, and recorded before the next is opened.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Self

import jax
import msgspec
import numpy as np

from fairyring.core.errors import BudgetSpent, RunError, TrainingDiverged
from fairyring.core.vector import digest
from fairyring.learning.plan import Plan
from fairyring.learning.server import ServerState
from fairyring.population import Population
from fairyring.records.round_record import Aborted, Means, RoundRecord
from fairyring.records.states import ClientStates
from fairyring.records.store import Nowhere, Store
from fairyring.rounds.artefacts import outside
from fairyring.rounds.auditing import RunAudit
from fairyring.rounds.draws import Draw
from fairyring.rounds.due import Timetable
from fairyring.rounds.history import Signers
from fairyring.rounds.keeping import Keeping
from fairyring.rounds.means import training_means
from fairyring.rounds.program import ServerProgram
from fairyring.rounds.ran import Ran, contradicts
from fairyring.rounds.release import Released, release
from fairyring.rounds.spending import Spending
from fairyring.rounds.statement import guarantee, statement
from fairyring.rounds.stopping import EarlyStopping
from fairyring.rounds.total import Total
from fairyring.rounds.worker import Work

ABORTED_IDEAL = Aborted("masking", "fewer clients reported than a sum may be of")


class Coordinator:
    """The life of one run.

    Args:
        plan: what runs.
        program: the plan's server half, compiled.
        first: the server's state before the first round.
        clients: the population, as far as the server knows it: ids and sizes of clients.
        header: of the run's record; see `fairyring.rounds.header`.
        ran: what else is known of the run, on which what it says of its privacy rests.
        summary: the population in numbers, for the record.
        timetable: when it does what.
        store: where its record is kept.
        resume: take up the run that is kept there.
        states: opens what its clients remember, where they do and this process keeps it.
        keep_states: keep that when a private run is over, too.
        signers: devices that sign the run's history; None where no masked protocol runs.
        entropy: 32 secret bytes that all noise is made from; None for fresh ones.
        audit: goes along.
        stop: when to stop early.
        now: seconds of a clock that never goes back.

    Attributes:
        state: the server's, after the last round.
        round: how many are over.
        records: of each round.
        participation: how often each client reported, `[clients]`.
        header: of the record.
        seconds: the rounds took, in all.

    Raises:
        RunError: the store cannot be used, or holds another run.
        LedgerMismatch, LedgerDamaged: its ledger cannot be used.
    """

    def __init__(
        self,
        plan: Plan,
        program: ServerProgram,
        first: ServerState,
        clients: Population,
        *,
        header: dict[str, Any],
        ran: Ran,
        summary: Mapping[str, Any],
        timetable: Timetable,
        store: Store | None = None,
        resume: bool = False,
        states: Callable[[], ClientStates] | None = None,
        keep_states: bool = False,
        signers: Signers | None = None,
        entropy: bytes | None = None,
        audit: RunAudit | None = None,
        stop: EarlyStopping | None = None,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.plan, self.program, self.clients, self.header = plan, program, clients, header
        self.timetable, self.stop, self.audit, self.now = timetable, stop, audit, now
        self._ran, self._has_states, self._keep_states = ran, states is not None, keep_states
        self._sizes = np.asarray(clients.sizes)
        self.spending: Spending | None = None
        self._digested: tuple[ServerState, bytes] | None = None
        self._stopped = self._ended = False  # ended: all that a run leaves has been written
        self._pending: RoundRecord | None = None  # the record of a round that is accepted
        self.keeping = Keeping(store or Nowhere(), header, plan, states, signers)
        try:
            self.records: list[RoundRecord] = []
            self._say_privacy(None)
            if resume:
                restored = self.keeping.take_up(first, len(clients), timetable.rounds)
                self._ran = replace(
                    ran,
                    entropy_given=ran.entropy_given or restored.entropy_given,
                    tested=ran.tested or restored.tested,
                )
            else:
                restored = self.keeping.begin(first, len(clients), summary)
            self.round, self.participation = restored.round, restored.participation
            self.records, self.seconds = restored.records, restored.seconds
            self.state = program.placed(restored.state)
            # A run that has had more rounds keeps them.
            self.timetable = replace(timetable, rounds=max(timetable.rounds, self.round))
            header["rounds"] = self.timetable.rounds
            if plan.protection is not None:
                self.spending = Spending(
                    plan,
                    self.keeping.store.path,
                    entropy,
                    restored.earlier,
                    plan_digest=header["fingerprints"]["plan"],
                )
                given = self._ran.entropy_given or self.spending.entropy_given
                self._ran = replace(self._ran, entropy_given=given)
            if resume:
                self._say_privacy(None)
            self.keeping.go_on(restored, self.spending, more=self.round < self.timetable.rounds)
            self._stopped = self._stops()
        except BaseException:
            self.close()
            raise
        self._opened = now()
        self._saved: float | None = (
            None  # when the last checkpoint was; the clock starts with the first round
        )

    @property
    def states(self) -> ClientStates | None:
        """What clients remember, where this process keeps it."""
        return self.keeping.states

    @property
    def goes_on(self) -> bool:
        """Whether there is another round to be opened."""
        return self.round < self.timetable.rounds and not self._stopped

    @property
    def over(self) -> bool:
        """Whether nothing of this run is left to be run, and nothing of it to be run again."""
        if self.spending is not None and self.spending.released_after(self.round):
            return False
        return self.header["status"] == "finished" or self.header.get("stopped_by") == "budget"

    def model(self) -> bytes:
        """Digest of what clients receive of the state: asked for after a round and before the next, computed once."""
        if self._digested is None or self._digested[0] is not self.state:
            self._digested = self.state, digest(jax.tree.leaves((self.state.params, self.state.shared)))
        return self._digested[1]

    # -- a round --------------------------------------------------------------------------------------------

    def open(self, draw: Draw) -> Work | None:
        """Open the next round, for a cohort: what is to be computed.

        Returns:
            The work; None where the budget allows no more rounds, which ends the run.

        Raises:
            BudgetSpent: not even the first round is within the budget.
            RunError: it is not its turn.
        """
        if self._pending is not None or draw.round != self.round + 1:
            raise RunError(
                f"round {draw.round}",
                given=f"opened after round {self.round}"
                + (", which is not recorded" if self._pending else ""),
                expected="rounds one after the other, each accepted and recorded before the next",
                do="Open round after round.",
            )
        self._opened, noise = self.now(), None
        if self._saved is None:
            self._saved = self._opened
        if self.spending is not None:
            canaries = len(draw.canaries)
            try:
                noise = self.spending.begin(draw.round, len(draw.staying) + canaries, _session(draw))
            except BudgetSpent as error:
                self._end_by_budget(error)
                return None
        previous = self.keeping.history.before(self.model()) if self.keeping.history else None
        return Work(draw, self.state, noise, previous)

    def accept(self, work: Work, total: Total) -> bool:
        """Release a round's total, and go on from it; where it was aborted or is of too few, nothing changes.

        A round that was accepted before is not accepted again: whoever is not sure to have been heard may repeat it.

        Returns:
            Whether it was; False where that would spend more than is left, which ends the run.

        Raises:
            BudgetSpent: so it is in the first round.
            TrainingDiverged: in a plan without a budget no client's update was finite.
            PrivacyError: the round was released before, with another result.
        """
        if work.draw.round <= self.round:
            return True
        watch = self.audit.watch if self.audit is not None else None
        try:
            released = release(self.program, work.state, work.draw, total, work.noise, watch)
        except BudgetSpent as error:
            self._end_by_budget(error)
            return False
        self.state = released.state
        if self.audit is not None and released.mean is not None:
            self.audit.released(work.draw, released.mean, float(released.side[0]))
        staying = work.draw.staying
        # Under a budget a run that ends would tell what its models do not: such clients are counted as zeros, and it goes on.
        if len(staying) and len(total.faulty) == len(staying) and self.spending is None:
            self._diverged(work.draw)
        self.participation[np.setdiff1d(staying, total.faulty, assume_unique=True)] += 1
        if total.summed is not None:
            self.keeping.keep_sum(work.draw.round, total.summed)
        self._pending = self._recorded(work.draw, total, released)
        self.seconds += self._pending.seconds
        self.round += 1
        return True

    @property
    def evaluates(self) -> bool:
        """Whether the round that was accepted is to be evaluated before it is recorded."""
        return self.timetable.evaluates(self.round)

    def record(self, test: Means | None = None) -> RoundRecord:
        """Record the round that was accepted, with means of loss and metrics on held-out data; returns its record."""
        record = self._pending
        assert record is not None, "a round that was accepted"
        if self.evaluates and self.spending is not None:
            record = msgspec.structs.replace(record, **self._spent())
        if test is not None:
            record = msgspec.structs.replace(record, test=test)
        self.keeping.add(record, self.model)
        self.records.append(record)
        self._pending = None  # only now may the next be opened
        if self.timetable.saves(self.round, self.now() - (self._saved or 0.0)):
            self._checkpoint()
            self._saved = self.now()
        self._stopped = self._stopped or (test is not None and self._stops())
        return record

    # -- the end --------------------------------------------------------------------------------------------

    def end(self, by_client: Mapping[str, np.ndarray] | None = None) -> None:
        """Write what is known at the end; `by_client` is what an evaluation has told of each client of its own."""
        done = self.round >= self.timetable.rounds
        self.header |= {"status": "finished" if done else "stopped", "seconds": round(self.seconds, 3)}
        found = self._found()
        if self.spending is not None:
            self._say_privacy(self.spending.summary(), over=self.over)
        if self.keeping.store.keeps and not self.keeping.untouched:
            scores = self.scores if found is not None else None
            by_client = {**self.by_client(), **(by_client or {})}
            self.keeping.end(by_client, scores, self.model, None if done else self._checkpoint)
        self._ended = True

    @property
    def scores(self) -> np.ndarray:
        """How far each canary of an audit stood out, float32 `[n]`; empty without one."""
        found = self.audit.scores() if self.audit is not None else None
        return np.zeros(0, np.float32) if found is None else found

    def by_client(self) -> dict[str, np.ndarray]:
        """What the coordinator knows of each client: in how many rounds it reported, and how many examples it has."""
        return {"participation": self.participation, "examples": np.asarray(self._sizes, np.int32)}

    def facts(self) -> dict[str, Any]:
        """A checkpoint's plain values."""
        facts: dict[str, Any] = {"fingerprint": self.header["fingerprint"], "seconds": self.seconds}
        if self.spending is not None:
            facts["ledger"] = self.spending.head
        return self.keeping.facts(facts)

    def close(self) -> None:
        """Let go of ledger and store, however it ended. Once a private run is over, and kept, its secrets go."""
        try:
            if self.spending is not None and self._ended and self.over and not self._keep_states:
                self.keeping.forget_states()
        finally:
            try:
                if self.spending is not None:
                    self.spending.close(finished=self._ended and self.over)
            finally:
                self.keeping.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- what is recorded -----------------------------------------------------------------------------------

    def _recorded(self, draw: Draw, total: Total, released: Released) -> RoundRecord:
        plan, spending, session = self.plan, self.spending, _session(draw)
        asked, staying, reported = len(draw.sampled), len(draw.staying), released.reported
        training = training_means(plan, released.side, reported, session, spending, released=released.counts)
        signal = (
            spending.signal(released.mean, float(released.side[0]), reported, session) if spending else None
        )
        traffic, audited = total.traffic, self.audit is not None and self.audit.has_canaries
        return RoundRecord(
            round=draw.round,
            loss=training.means.loss,
            metrics=training.means.metrics,
            clients=reported if released.counts else 0,
            sampled=asked,
            dropped=asked - staying,
            nonfinite=len(total.faulty),
            examples=int(self._sizes[draw.staying].sum()),
            bytes_up=staying * plan.bytes_up if traffic is None else traffic.up,
            bytes_down=asked * plan.bytes_down
            if traffic is None
            else asked * (plan.bytes_down - plan.traffic.down) + traffic.down,
            seconds=self.now() - self._opened,
            aborted=self._aborted(total, released) if plan.fewest > 1 else None,
            canaries=len(draw.canaries) if audited else 0,
            noise_std=training.noise_std,
            lost_in_noise=training.lost,
            snr=signal.ratio if signal else None,
            noise=signal.noise if signal else None,
        )

    def _aborted(self, total: Total, released: Released) -> Aborted | None:
        """Why a round had no sum."""
        if total.summed is not None and total.summed.aborted is not None:
            return Aborted(*total.summed.aborted)
        return None if released.counts else ABORTED_IDEAL

    def _spent(self) -> dict[str, float]:
        """What the rounds so far have spent, and at the end what canaries gave away."""
        assert self.spending is not None
        spent = {"epsilon": self.spending.spent().epsilon}
        # Before the last checkpoint, which keeps what was found should the end not be written.
        found = self._found() if self.round == self.timetable.rounds else None
        if found is not None and self.audit is not None and self.audit.has_canaries:
            spent |= {"empirical_epsilon": found["empirical"], "empirical_epsilon_lower": found["lower"]}
        return spent

    def _found(self) -> dict[str, Any] | None:
        """What the audit found of what this process ran; None without one. The header has it.

        But where an earlier process's audit contradicts the promise, that stays: no later one takes it back.
        """
        if self.audit is None or self.spending is None:
            return None
        found = self.audit.found(self.spending)
        if found is not None and not contradicts(self.header.get("audit")):
            self.header["audit"] = found
        return found

    def _say_privacy(self, spent: dict[str, Any] | None, *, over: bool = False) -> None:
        """Put into the header what is to be said of the run's privacy; `spent` is what the ledger says at the end."""
        plan, keeps = self.plan, self.keeping.store.keeps
        deleted = over and not self._keep_states
        tested = self._ran.tested or any(record.test is not None for record in self.records)
        there = {
            "states": self._has_states and keeps and not deleted,
            "masks": self._ran.secure_sum == "protocol",
            "test": tested,
            "open": keeps and not over,
        }
        ran = replace(
            self._ran,
            states="none" if not (self._has_states and keeps) else "deleted" if deleted else "kept",
            tested=tested,
            folder=keeps,
            outside=outside([name for name, is_there in there.items() if is_there])
            if plan.protection
            else (),
            rounds=self.records,
            spent=spent,
            audit=self.header.get("audit"),
        )
        self.header["assumptions"] = statement(ran)
        if plan.protection is not None:
            self.header["entropy"] = "given" if ran.entropy_given else "system"
            self.header["outside"] = ran.outside
            told = {"statement": guarantee(ran), "why_nothing": ran.why_nothing}
            self.header["privacy"] |= {**(spent or {}), **told}

    # -- what is due ----------------------------------------------------------------------------------------

    def _checkpoint(self) -> None:
        self.keeping.checkpoint(self.round, self.state, self.participation, self.facts())

    def _stops(self) -> bool:
        return self.stop is not None and self.stop.judge([r.test for r in self.records if r.test is not None])

    def _end_by_budget(self, error: BudgetSpent) -> None:
        """A round would spend more than is left: the run ends, unless it never began."""
        if not self.round:
            raise error
        self.header["stopped_by"], self._stopped = "budget", True

    def _diverged(self, draw: Draw) -> None:
        clients = [self.clients.ids[c] for c in draw.staying[:5]]
        raise TrainingDiverged(
            f"round {draw.round}",
            given=f"no finite update from any of {len(draw.staying)} clients (first: {', '.join(map(str, clients))})",
            expected="at least one finite update",
            do="Lower the learning rate, clip gradients in the local optimiser (optax.clip_by_global_norm), or look at those clients' data.",
        )


def _session(draw: Draw) -> int:
    """How many were asked."""
    return len(draw.sampled) + len(draw.canaries)
