"""The coordinator: what happens to every round of a run, whoever computes its sum and wherever it is kept.

    run = Coordinator(program, ...)                a new run, or one that is resumed
    while run.goes_on:
        work = run.open(cohort)                    reserve the round in the ledger; say what to compute
        run.accept(work, total)                    release the total, run the server half
        run.record(test)                           record the round, save a checkpoint if it is due
    run.end()

It opens no socket and waits for nobody. Clock and store are arguments, and the caller computes the total, so a simulation, a
service that waits for phones and a test all run the same code. What must survive a crash is written before it has an effect: a
round is reserved before it is computed, noted in the ledger as released before it is shown, and recorded before the next is opened.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Self

import jax
import msgspec
import numpy as np

from fairyring.core.digest import digest
from fairyring.core.errors import BudgetSpent, RunError, TrainingDiverged
from fairyring.learning.plan import Plan
from fairyring.learning.server import ServerState
from fairyring.records.round_record import Aborted, Means, RoundRecord
from fairyring.records.states import ClientStates
from fairyring.records.store import Nowhere, Store
from fairyring.rounds.artefacts import outside
from fairyring.rounds.cohorts import Clients, RoundCohort
from fairyring.rounds.history import Signers
from fairyring.rounds.keeping import NONE, Keeping
from fairyring.rounds.means import training_means
from fairyring.rounds.privacy_context import contradicts
from fairyring.rounds.privacy_statement import guarantee, statement
from fairyring.rounds.recorder import Recorder
from fairyring.rounds.release import Released, release
from fairyring.rounds.server_program import ServerProgram
from fairyring.rounds.settings import RunDescription, RunSettings
from fairyring.rounds.spending import RunSpending
from fairyring.rounds.total import Total
from fairyring.rounds.worker import Work

ABORTED_IDEAL = Aborted("masking", "fewer clients reported than a sum may be of")


class Coordinator:
    """The life of one run.

    Args:
        program: the server half of the plan that runs, compiled.
        first: the server's state before the first round.
        clients: as far as the server knows them. There may be more of them in a later round.
        description: what is known of the run before its first round.
        settings: how it is run.
        store: where its record is kept; None to keep none.
        resume: go on with the run that is kept there.
        states: opens the states of clients, where the algorithm has them and this process keeps them.
        signers: devices that sign the run's history; None without the masked protocol.
        now: a monotonic clock, in seconds.

    Attributes:
        state: the server's state after the last round.
        round: how many rounds are over.
        records: a record for each round.
        participation: how often each client reported, int32 `[clients]`.
        header: what `run.json` is written from.
        seconds: that all rounds took together.

    Raises:
        RunError: the store cannot be used, or holds another run.
        LedgerMismatch, LedgerDamaged: its ledger cannot be used.
    """

    def __init__(
        self,
        program: ServerProgram,
        first: ServerState,
        clients: Clients,
        description: RunDescription,
        settings: RunSettings,
        *,
        store: Store | None = None,
        resume: bool = False,
        states: Callable[[], ClientStates] | None = None,
        signers: Signers | None = None,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        plan, timetable = program.plan, settings.timetable
        header, context = description.header, description.context
        self.plan, self.program, self.clients, self.header = plan, program, clients, header
        self.timetable, self.audit, self.now = timetable, settings.audit, now
        self.keeping, self._kept_before = settings.keeping or NONE, 0
        context = replace(context, keeps_best=self.keeping.best_by is not None)
        self._context, self._has_states, self._keep_states = context, states is not None, settings.keep_states
        self._sizes = np.asarray(clients.sizes)
        self.spending: RunSpending | None = None
        self._digested: tuple[ServerState, bytes] | None = None
        self._stopped = self._ended = False  # ended: everything a run leaves behind has been written
        self._released: Released | None = None  # of a round that is released and not yet accepted
        self._pending: RoundRecord | None = None  # the record of a round that is accepted
        self.recorder = Recorder(store or Nowhere(), header, plan, states, signers)
        try:
            self.records: list[RoundRecord] = []
            self._say_privacy(None)
            if resume:
                restored = self.recorder.resume(first, len(clients), timetable.rounds)
                self._context = replace(
                    context,
                    entropy_given=context.entropy_given or restored.entropy_given,
                    tested=context.tested or restored.tested,
                )
                before = Keeping.saved(restored.keep, plan.task.higher_is_better)
                self.keeping = settings.keeping or before
                self._context = replace(self._context, keeps_best=self.keeping.best_by is not None)
                if self.keeping.describe() != before.describe():  # what was to be kept until here stays
                    self._kept_before = restored.round
                self._say_keeping()
            else:
                self._say_keeping()
                restored = self.recorder.begin(first, len(clients), description.population)
            self.round, self.participation = restored.round, restored.participation
            self.records, self.seconds = restored.records, restored.seconds
            self.state = program.placed(restored.state)
            # A run that has had more rounds than are asked for keeps them.
            self.timetable = replace(timetable, rounds=max(timetable.rounds, self.round))
            header["rounds"] = self.timetable.rounds
            if plan.protection is not None:
                self.spending = RunSpending(
                    plan,
                    self.recorder.store.path,
                    settings.entropy,
                    restored.earlier,
                    plan_digest=header["fingerprints"]["plan"],
                )
                given = self._context.entropy_given or self.spending.entropy_given
                self._context = replace(self._context, entropy_given=given)
            if resume:
                self._say_privacy(None)
            self.recorder.go_on(restored, self.spending, more=self.round < self.timetable.rounds)
            self._stopped = self.timetable.stops(self.records, self.plan.task.higher_is_better)
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
        return self.recorder.states

    @property
    def goes_on(self) -> bool:
        """Whether there is another round to be opened."""
        return self.round < self.timetable.rounds and not self._stopped

    @property
    def over(self) -> bool:
        """Whether the run has no rounds left, and none that must be run again."""
        if self.spending is not None and self.spending.released_after(self.round):
            return False
        return self.header["status"] == "finished" or self.header.get("stopped_by") == "budget"

    def model(self) -> bytes:
        """Digest of the part of the state that clients receive. It is computed once for each state."""
        if self._digested is None or self._digested[0] is not self.state:
            self._digested = self.state, digest(jax.tree.leaves((self.state.params, self.state.algorithm)))
        return self._digested[1]

    # -- a round --------------------------------------------------------------------------------------------

    def open(self, cohort: RoundCohort) -> Work | None:
        """Open the next round for a cohort.

        Returns:
            What is to be computed; None where the budget allows no more rounds, which ends the run.

        Raises:
            BudgetSpent: not even the first round is within the budget.
            RunError: another round is to be opened, accepted or recorded first.
        """
        open_end = ", which is not recorded" if self._pending is not None else ""
        if self._released is not None:
            open_end = ", and after the release of the next one, which is not accepted"
        if open_end or cohort.round != self.round + 1:
            raise RunError(
                f"round {cohort.round}",
                given=f"opened after round {self.round}{open_end}",
                expected="rounds one after the other, each accepted and recorded before the next is opened",
                do="Call accept and record again where they failed, then open the next round.",
            )
        self._meet_new_clients()
        self._opened, noise = self.now(), None
        if self._saved is None:
            self._saved = self._opened
        if self.spending is not None:
            canaries = len(cohort.canaries)
            try:
                staying = min(len(cohort.staying), self.plan.rule.maximum) + canaries
                noise = self.spending.begin(cohort.round, staying, self._session(cohort))
            except BudgetSpent as error:
                self._end_by_budget(error)
                return None
        previous = self.recorder.history.before(self.model()) if self.recorder.history else None
        return Work(cohort, self.state, noise, previous)

    def _meet_new_clients(self) -> None:
        """Clients that joined since the last round have not reported yet."""
        more = len(self.clients) - len(self.participation)
        if more > 0:
            self.participation = np.pad(self.participation, (0, more))
            self._sizes = np.asarray(self.clients.sizes)

    def _session(self, cohort: RoundCohort) -> int:
        """How many may be in a sum: those that were asked, of whom a plan's cohort sets the most."""
        return min(len(cohort.sampled), self.plan.rule.maximum) + len(cohort.canaries)

    def accept(self, work: Work, total: Total) -> bool:
        """Release a round's total, and go on from it. The model does not change where the round was aborted or too few reported.

        It may be called again for the same round, whether it succeeded or failed halfway: a round is released once and counts
        once.

        Returns:
            Whether it was accepted; False where that would spend more than is left, which ends the run.

        Raises:
            BudgetSpent: so it is in the first round, where no run is left to end.
            TrainingDiverged: no client's update was finite, in a plan without a budget.
            PrivacyError: the round was released before, with another result.
        """
        if work.cohort.round <= self.round:
            return True
        if self.header.get("stopped_by") == "budget":
            return False
        try:
            released = self._release(work, total)
        except BudgetSpent as error:
            self._end_by_budget(error)
            return False
        staying = work.cohort.staying
        # With a budget the run goes on and counts such clients as zeros: that it stopped would tell what its models do not.
        if len(staying) and len(total.faulty) == len(staying) and self.spending is None:
            self._diverged(work.cohort)
        if total.summed is not None:
            self.recorder.keep_sum(work.cohort.round, total.summed)
        self._pending = self._recorded(work.cohort, total, released)
        # Nothing fails from here on: all that counts rounds goes up together.
        self.state, self._released = released.state, None
        self.participation[np.setdiff1d(staying, total.faulty, assume_unique=True)] += 1
        self.seconds += self._pending.seconds
        self.round += 1
        return True

    def _release(self, work: Work, total: Total) -> Released:
        """Release a round's total, unless that was done: what was released first stands."""
        if self._released is None:
            released = release(self.program, work.state, work.cohort, total, work.noise)
            if self.audit is not None and released.vector is not None:
                self.audit.released(work.cohort, released)
            self._released = released
        return self._released

    @property
    def evaluates(self) -> bool:
        """Whether the round that was accepted is to be evaluated before it is recorded."""
        return self.timetable.evaluates(self.round)

    def record(self, test: Means | None = None, tests: dict[str, Means] | None = None) -> RoundRecord:
        """Record the round that was accepted, with means of loss and metrics on held-out data, and on several sets of them by name.

        It may be called again where it failed halfway: a round is recorded once, as it was when that succeeded.
        """
        record = self._pending
        assert record is not None, "a round that was accepted"
        if not self.records or self.records[-1].round < self.round:
            if self.evaluates and self.spending is not None:
                record = msgspec.structs.replace(record, **self._spent())
            if test is not None:
                record = msgspec.structs.replace(record, test=test, tests=tests)
            self.recorder.add(record, self.model)
            if self.evaluates and self.keeping.keeps([*self.records, record]):
                self.recorder.keep_model(self.round, self.state.params)
            self.records.append(record)
            self._stopped = self._stopped or (
                test is not None and self.timetable.stops(self.records, self.plan.task.higher_is_better)
            )
        record = self.records[-1]
        if self.timetable.saves(self.round, self.now() - (self._saved or 0.0)):
            self._checkpoint()
            self._saved = self.now()
        self._pending = None  # only now may the next be opened
        return record

    # -- the end --------------------------------------------------------------------------------------------

    def end(self, by_client: Mapping[str, np.ndarray] | None = None) -> None:
        """Write what is known at the end.

        Args:
            by_client: what an evaluation measured for each of its clients, by name.
        """
        done = self.round >= self.timetable.rounds
        self.header |= {"status": "finished" if done else "stopped", "seconds": round(self.seconds, 3)}
        result = self._audit_result()
        if self.spending is not None:
            self._say_privacy(self.spending.summary(), over=self.over)
        if self.recorder.store.keeps and not self.recorder.untouched:
            scores = self.scores if result is not None else None
            by_client = {**self.by_client(), **(by_client or {})}
            self.recorder.end(by_client, scores, self.model, None if done else self._checkpoint)
        elif not self.recorder.store.keeps:
            self._drop_models()
        self._ended = True

    @property
    def scores(self) -> np.ndarray:
        """How far each canary of an audit stood out, float32 `[n]`; empty without one."""
        scores = self.audit.scores() if self.audit is not None else None
        return np.zeros(0, np.float32) if scores is None else scores

    def by_client(self) -> dict[str, np.ndarray]:
        """What the coordinator knows of each client: how often it reported, and how many examples it has; int32 `[clients]` each."""
        return {"participation": self.participation, "examples": np.asarray(self._sizes, np.int32)}

    def facts(self) -> dict[str, Any]:
        """A checkpoint's plain values."""
        facts: dict[str, Any] = {"fingerprint": self.header["fingerprint"], "seconds": self.seconds}
        if self.spending is not None:
            facts["ledger"] = self.spending.head
        return self.recorder.facts(facts)

    def close(self) -> None:
        """Close ledger and store, however the run ended. Once a private run is over, its secret and its clients' states are deleted."""
        try:
            if self.spending is not None and self._ended and self.over and not self._keep_states:
                self.recorder.forget_states()
        finally:
            try:
                if self.spending is not None:
                    self.spending.close(finished=self._ended and self.over)
            finally:
                self.recorder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- what is recorded -----------------------------------------------------------------------------------

    def _recorded(self, cohort: RoundCohort, total: Total, released: Released) -> RoundRecord:
        plan, spending, session = self.plan, self.spending, self._session(cohort)
        asked, staying, reported = len(cohort.sampled), len(cohort.staying), released.reported
        clipped, update_norm = _clipping(plan, total)
        training = training_means(
            plan, released.auxiliary, reported, session, spending, released=released.counts
        )
        signal = (
            spending.signal_to_noise(released.mean, float(released.auxiliary[0]), reported, session)
            if spending
            else None
        )
        traffic, audited = total.traffic, self.audit is not None and self.audit.has_canaries
        return RoundRecord(
            round=cohort.round,
            loss=training.means.loss,
            metrics=training.means.metrics,
            clients=reported if released.counts else 0,
            sampled=asked,
            dropped=asked - staying,
            nonfinite=len(total.faulty),
            examples=int(self._sizes[cohort.staying].sum()),
            bytes_up=staying * plan.bytes_up if traffic is None else traffic.up,
            bytes_down=asked * plan.bytes_down
            if traffic is None
            else asked * (plan.bytes_down - plan.traffic.down) + traffic.down,
            seconds=self.now() - self._opened - total.seconds_elsewhere,
            aborted=self._aborted(total, released) if plan.minimum_cohort > 1 else None,
            canaries=len(cohort.canaries) if audited else 0,
            noise_std=training.noise_std,
            lost_in_noise=training.lost,
            at_bound=training.at_bound,
            clipped=clipped,
            update_norm=update_norm,
            snr=signal.ratio if signal else None,
            noise=signal.noise if signal else None,
        )

    def _aborted(self, total: Total, released: Released) -> Aborted | None:
        """Why a round had no sum."""
        if total.summed is not None and total.summed.aborted is not None:
            return Aborted(*total.summed.aborted)
        return None if released.counts else ABORTED_IDEAL

    def _spent(self) -> dict[str, float]:
        """Fields of a record: what the rounds so far have spent, and at the end what canaries gave away."""
        assert self.spending is not None
        spent = {"epsilon": self.spending.spent().epsilon}
        # Before the last checkpoint, which keeps the result in case the end is never written.
        result = self._audit_result() if self.round == self.timetable.rounds else None
        if result is not None and self.audit is not None and self.audit.has_canaries:
            spent |= {"empirical_epsilon": result["empirical"], "empirical_epsilon_lower": result["lower"]}
        return spent

    def _audit_result(self) -> dict[str, Any] | None:
        """The result of the audit of the rounds that this process ran, which goes into the header; None without one.

        Where the audit of an earlier process contradicts the guarantee, its result stays: no later audit takes it back.
        """
        if self.audit is None or self.spending is None:
            return None
        result = self.audit.result(self.spending)
        if result is not None and not contradicts(self.header.get("audit")):
            self.header["audit"] = result
        return result

    def _say_privacy(self, spent: dict[str, Any] | None, *, over: bool = False) -> None:
        """Put the privacy statement into the header.

        Args:
            spent: `RunSpending.summary` at the end; None before.
            over: the run has no rounds left.
        """
        plan, keeps = self.plan, self.recorder.store.keeps
        deleted = over and not self._keep_states
        tested = self._context.tested or any(record.test is not None for record in self.records)
        present = {
            "states": self._has_states and keeps and not deleted,
            "masks": self._context.secure_sum == "protocol",
            "test": tested,
            "init": self._context.init_given,
            "open": keeps and not over,
        }
        context = replace(
            self._context,
            states="none" if not (self._has_states and keeps) else "deleted" if deleted else "kept",
            tested=tested,
            folder=keeps,
            outside=outside([name for name, is_present in present.items() if is_present])
            if plan.protection
            else (),
            rounds=self.records,
            spent=spent,
            audit=self.header.get("audit"),
        )
        self.header["assumptions"] = statement(context)
        if plan.protection is not None:
            self.header["entropy"] = "given" if context.entropy_given else "system"
            self.header["outside"] = context.outside
            self.header["privacy"] |= spent or {}
            self.header["privacy"] |= {"statement": guarantee(context), "why_nothing": context.why_nothing}

    # -- checkpoints, and early ends ----------------------------------------------------------------------------------------

    def _checkpoint(self) -> None:
        self.recorder.checkpoint(self.round, self.state, self.participation, self.facts())
        self._drop_models()  # what a resumed run has to have is there

    def _say_keeping(self) -> None:
        if self.keeping.describe() != NONE.describe():
            self.header["keep"] = self.keeping.describe()

    def _drop_models(self) -> None:
        self.recorder.drop_models(self.keeping, self.records, since=self._kept_before)

    def _end_by_budget(self, error: BudgetSpent) -> None:
        """End the run, since the next round would spend more than is left; in the first round raise the error."""
        if not self.round:
            raise error
        self.header["stopped_by"], self._stopped = "budget", True

    def _diverged(self, cohort: RoundCohort) -> None:
        clients = [self.clients.ids[c] for c in cohort.staying[:5]]
        self.recorder.say_failed("training diverged")
        raise TrainingDiverged(
            f"round {cohort.round}",
            given=f"no finite update from any of {len(cohort.staying)} clients (first: {', '.join(map(str, clients))})",
            expected="at least one finite update",
            do="Lower the learning rate, clip gradients in the local optimiser (optax.clip_by_global_norm), or look at those clients' data.",
        )


def _clipping(plan: Plan, total: Total) -> tuple[float | None, float | None]:
    """What share of the updates was clipped, and the median of their norms before; None where that is not measured."""
    norms, clip = total.relative_norms, plan.clip
    if norms is None or not len(norms) or clip is None or clip.clips_to is None:
        return None, None
    return float(np.mean(norms > 1)), float(np.median(norms)) * clip.clips_to
