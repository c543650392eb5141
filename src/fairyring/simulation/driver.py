"""The simulation driver: a thin loop that computes the rounds of a coordinator on this machine."""

import os
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from fairyring.core.checks import callable_or_none, whole_number
from fairyring.core.errors import PlanError, PrivacyWarning
from fairyring.core.keys import root
from fairyring.evaluation import Evaluation, Evaluator
from fairyring.learning.plan import Plan
from fairyring.lowering import hardware
from fairyring.population import Population
from fairyring.privacy.canaries import Canaries
from fairyring.privacy.mechanism import DirectCheck
from fairyring.records.folder import RunFolder
from fairyring.records.layout import STATES
from fairyring.records.round_record import Means, RoundRecord
from fairyring.records.states import ClientStates
from fairyring.records.store import Nowhere, Store
from fairyring.rounds.auditing import RunAudit, check_audit
from fairyring.rounds.cautions import warnings_of
from fairyring.rounds.cohorts import CohortSampler
from fairyring.rounds.coordinator import Coordinator
from fairyring.rounds.feasibility import check_example_counts, check_participation
from fairyring.rounds.header import new_header
from fairyring.rounds.privacy_context import PrivacyContext
from fairyring.rounds.secret import check_entropy
from fairyring.rounds.settings import RunDescription, RunSettings
from fairyring.rounds.stopping import EarlyStopping
from fairyring.rounds.timetable import Timetable
from fairyring.rounds.total import Total
from fairyring.rounds.worker import Work, Worker
from fairyring.simulation.ahead import AheadWorker
from fairyring.simulation.assembly import Assembly, assemble
from fairyring.simulation.debug import DebugWorker
from fairyring.simulation.feed import Resident
from fairyring.simulation.machine import machine
from fairyring.simulation.masked import MaskedSums, total_of
from fairyring.simulation.run import Run
from fairyring.simulation.worker import CompiledWorker

SecureSum = Literal["ideal", "protocol"]

Tree = Any


def simulate(
    plan: Plan,
    population: Population,
    *,
    rounds: int,
    seed: int = 0,
    test: Population | None = None,
    evaluate_every: int | None = None,
    run: str | os.PathLike[str] | None = None,
    resume: bool = False,
    checkpoint_every: int | None = None,
    dropout: float | str = 0.0,
    secure_sum: SecureSum = "ideal",
    audit: Canaries | DirectCheck | None = None,
    entropy: bytes | None = None,
    keep_client_states: bool = False,
    stop: EarlyStopping | None = None,
    on_round: Callable[[RoundRecord], object] | None = None,
    processors: int | Sequence[int] | None = None,
    clients_per_batch: int | None = None,
    engine: Literal["compiled", "debug"] = "compiled",
) -> Run:
    """Run a plan over a population on this machine.

    The result depends only on plan, population, seed and dropout. It does not depend on how clients are batched, on how
    many processors share them (bitwise for integer sums, up to float rounding otherwise), or on interruptions. The noise
    of a private plan does not come from the seed, so it differs between two runs.

    The rounds of a private plan are reserved in a ledger before they start. A round that would spend more than the
    budget does not start, and the run ends.

    Args:
        plan: what to run.
        population: the clients; those without examples are never sampled.
        rounds: the number of rounds.
        seed: of all randomness except a private plan's noise.
        test: clients to evaluate on.
        evaluate_every: rounds between evaluations on `test`; by default there are about twenty in a run.
        run: a new folder to keep the run in; by default nothing is written.
        resume: continue the run in the folder `run`; the result has the same bits as that of a run that was never
            interrupted. Only a private round that a crash cut short is run again with fresh noise, and counts twice. A run
            that already has more rounds than `rounds` keeps them.
        checkpoint_every: rounds between checkpoints; by default there is one about every ten seconds, and at the end.
        dropout: probability that a sampled client vanishes before it reports; or the name of the client attribute with each
            client's own, which promises that count on sampling do not allow. Under the masked protocol it vanishes at any
            point before its input is sent, and one that has sent it vanishes afterwards with the same probability.
        secure_sum: how a plan's `secure_sum()` is computed. `"ideal"`: integers are added, which protects nothing.
            `"protocol"`: every client and the server run the masked protocol with real messages, which are checked and
            counted. The model is bitwise the same, unless so many clients vanish after sending their input that the
            sum cannot be unmasked: such a round is recorded as aborted and changes nothing.
        audit: `fr.privacy.Canaries(n)` puts `n` canaries in the places of clients, of at most half of them, and compares
            what they reveal with what the plan promises. Canaries cost accuracy, so an audited run serves to judge the
            plan. What is added to each sum is also compared with the distribution that is claimed.
            `fr.privacy.DirectCheck()` makes only this comparison, which does not change the run.
        entropy: 32 secret bytes from which all noise of a private plan is generated, instead of the operating system's
            entropy. For tests: whoever knows them can remove the noise, so nothing is promised.
        keep_client_states: keep the clients' own states (SCAFFOLD's control variates) after a private run has ended.
            Clients' examples can be reconstructed from them. By default they are deleted together with the secret of the
            noise, and the run cannot be resumed for more rounds. Plans without a budget always keep them.
        stop: when to stop early.
        on_round: called with the record of every round, an `fr.RoundRecord`.
        processors: how many processors of this machine to use, or which ones, counted from 0: cores where JAX runs on a CPU,
            otherwise accelerators, of which no more are used than there are. By default all of them, but only one for rounds so
            small that several would mostly wait for each other.
        clients_per_batch: how many clients are vectorised in one batch on a processor; by default 1 on a CPU and 16 on an
            accelerator.
        engine: `"debug"` computes one client after another in plain Python, without compiling, so that a loss, a model or
            a metric can print arrays and stop at `breakpoint()`. It is much slower; the numbers differ only in float
            rounding.

    Returns:
        The run.

    Raises:
        PlanError, PopulationError, ModelError: an option, the plan or the population is invalid, or they do not match.
        TrainingDiverged: in a round of a plan without a budget, no client's update was finite.
        RunError: the run folder cannot be used.
        BudgetSpent: even the first round would exceed the budget.
        LedgerMismatch, LedgerDamaged: the run folder's ledger cannot be used.

    Warns:
        PrivacyWarning: delta is not below one over the number of clients; or the norm of a round's noise is larger than
            that of a mean update clipped to the clip norm. The run's header has the same text, under `privacy`.
    """
    rounds = whole_number("rounds", rounds)
    if evaluate_every is not None:
        evaluate_every = whole_number("evaluate_every", evaluate_every)
    if checkpoint_every is not None:
        checkpoint_every = whole_number("checkpoint_every", checkpoint_every)
    callable_or_none("on_round", on_round, expected="a function of a round's record")
    key = root(seed)
    _check_options(plan, population, secure_sum, test, stop, run, resume, engine)
    rows_checked = {"training": plan.task.validate(population)}
    on = hardware(plan.layout.size, processors=processors, clients_per_batch=clients_per_batch)
    evaluator = Evaluator(plan.task, test, on) if test is not None else None
    if evaluator is not None:
        rows_checked["test"] = evaluator.rows_checked
    canaries = check_audit(audit, plan)
    check_entropy(entropy)
    cohorts = CohortSampler(plan.rule, population, seed, dropout, canaries)
    sizes = np.asarray(population.sizes)
    if plan.protection is not None:
        check_participation(plan, cohorts, rounds, protocol=secure_sum == "protocol")
    if plan.example_stages is not None:
        check_example_counts(plan, sizes[cohorts.eligible])
    cautions = warnings_of(plan, len(cohorts.eligible), rounds, int(np.sum(sizes)))
    parts = assemble(plan, population, key, on, as_needed=processors is None)
    masks = MaskedSums(plan.terms) if secure_sum == "protocol" and plan.terms else None
    header = new_header(
        plan,
        population.fingerprint(),
        columns=plan.task.columns_of(population),
        rounds=rounds,
        seed=int(seed),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine(parts.engine.processors),
        dropout=dropout,
        secure_sum=secure_sum if plan.bound.spec.masking else None,
        canaries=cohorts.canaries,
        test=test.fingerprint() if test is not None else None,
        warnings=cautions,
    )
    with_examples = sizes[sizes > 0]
    context = PrivacyContext(
        plan,
        len(with_examples),
        (int(with_examples.min(initial=1 << 62)), int(with_examples.max(initial=0))),
        int(sizes.sum()),
        dropout=dropout,
        secure_sum=secure_sum,
        rows_checked=rows_checked,
        tested=test is not None,
        stops=stop is not None,
        entropy_given=entropy is not None,
        canaries=cohorts.canaries,
    )
    summary = {**population.describe(), "test": test.describe() if test is not None else None}
    store = _store(plan, run, resume)
    coordinator = Coordinator(
        parts.program,
        parts.first,
        population,
        RunDescription(header, context, summary),
        RunSettings(
            Timetable(rounds, evaluate_every or max(1, rounds // 20), checkpoint_every, stop),
            entropy,
            RunAudit(audit, plan, cohorts.canaries, len(population), key) if audit is not None else None,
            keep_client_states,
        ),
        store=store,
        resume=resume,
        states=_states(plan, parts, len(population), store.path) if parts.has_states else None,
        signers=masks,
    )
    with coordinator:
        for caution in cautions:
            warnings.warn(caution, PrivacyWarning, stacklevel=2)
        worker: Worker
        if engine == "debug":
            worker = DebugWorker(plan, population, key, coordinator.states)
        elif parts.rounds_at_once > 1 and isinstance(parts.rows, Resident):
            last, most = coordinator.timetable.rounds, parts.rounds_at_once
            worker = AheadWorker(parts.engine, parts.program, parts.rows, cohorts, last, most)
        else:
            worker = CompiledWorker(parts.engine, parts.rows, cohorts, key, coordinator.states)
        driver = _Driver(coordinator, worker, cohorts, masks, evaluator)
        return driver.go(on_round, summary)


class _Driver:
    """Computes the rounds that the coordinator of a run asks for."""

    def __init__(
        self,
        coordinator: Coordinator,
        worker: Worker,
        cohorts: CohortSampler,
        masks: MaskedSums | None,
        evaluator: Evaluator | None,
    ) -> None:
        self.coordinator, self.worker, self.cohorts = coordinator, worker, cohorts
        self.masks, self.evaluator = masks, evaluator
        self.tested: Evaluation | None = None
        self.tested_at = 0

    def go(self, on_round: Callable[[RoundRecord], object] | None, summary: Mapping[str, Any]) -> Run:
        """All rounds that are left."""
        run = self.coordinator
        began = time.perf_counter()
        self._warm()
        run.header["compile_seconds"] = round(time.perf_counter() - began, 3)
        while run.goes_on:
            work = run.open(self.cohorts.of(run.round + 1))
            if work is None:
                break
            if not run.accept(work, self._total(work)):
                break
            record = run.record(self._test() if run.evaluates else None)
            if on_round is not None:
                on_round(record)
        if self.tested_at != run.round:
            self._test()
        run.end(self.tested.by_client() if self.tested is not None else None)
        return Run(
            run.plan, jax.tree.map(np.asarray, run.state), run.records, run.header, dict(summary),
            run.participation, np.asarray(run.clients.sizes), self.tested, run.recorder.store.path, run.facts(),
            run.spending.ledger.entries() if run.spending is not None else (), run.scores,
        )  # fmt: skip

    def _warm(self) -> None:
        """Compile everything that the remaining rounds need, by a round without clients whose result is dropped."""
        run = self.coordinator
        if run.round < run.timetable.rounds:
            total = self.worker.warm(run.state, run.round)
            if total.advanced is None:
                parts = total.parts if self.masks is None else (run.program.sums(),)
                run.program.warm(run.state, parts)

    def _total(self, work: Work) -> Total:
        """Compute the total of a round: a plain sum, or one under masks."""
        run = self.coordinator
        watch = run.audit.watch if run.audit is not None else None
        if self.masks is not None:
            dropout_points = self.cohorts.dropout_points(work.cohort)
            return total_of(
                self.masks, self.worker, run.program.sums, work, run.model(), dropout_points, watch
            )
        if watch is not None:  # before the round, which changes what clients remember
            deque(watch.passing(self.worker.encoded(work, [], keep=False)), 0)
        return self.worker.accumulate(work)

    def _test(self) -> Means | None:
        """Means on the test population, if there is one."""
        if self.evaluator is None:
            return None
        self.tested, self.tested_at = self.evaluator(self.coordinator.state.params), self.coordinator.round
        return self.tested.means


def _store(plan: Plan, run: str | os.PathLike[str] | None, resume: bool) -> Store:
    """Where the run is stored."""
    if run is None:
        return Nowhere()
    if not resume:
        return RunFolder.create(run, private=plan.protection is not None)
    folder = RunFolder.open(run)
    if plan.protection is not None:
        folder.close_to_others()
    return folder


def _states(plan: Plan, parts: Assembly, clients: int, folder: Path | None) -> Callable[[], ClientStates]:
    path = folder / STATES if folder is not None else None
    return lambda: ClientStates(clients, parts.own, path, private=plan.protection is not None)


def _check_options(
    plan: Plan,
    population: object,
    secure_sum: object,
    test: Population | None,
    stop: EarlyStopping | None,
    run: object,
    resume: bool,
    engine: object,
) -> None:
    """Raise `PlanError` unless the options of a run are of the right kind, and fit each other."""
    kinds = {
        "plan": (plan, Plan, "fr.Plan(...)"),
        "population": (population, Population, "a population, such as fr.Population.from_arrays(...)"),
        "test": (test, Population | None, "a population to evaluate on"),
        "stop": (stop, EarlyStopping | None, "fr.EarlyStopping(...)"),
        "run": (run, str | os.PathLike | None, "a folder's path"),
    }
    for name, (value, kind, expected) in kinds.items():
        if not isinstance(value, kind):
            raise PlanError(name, given=repr(value)[:80], expected=expected, do=f"Give {name}= one of those.")
    if stop is not None and (test is None or stop.metric not in ("loss", *plan.task.metrics)):
        raise PlanError(
            "early stopping",
            given=f"metric {stop.metric!r}" if test is not None else "no test population",
            expected=f"a test population and one of {['loss', *plan.task.metrics]}",
            do="Give test=, and a metric of the task.",
        )
    if secure_sum not in ("ideal", "protocol") or (secure_sum == "protocol" and plan.terms is None):
        raise PlanError(
            "secure_sum",
            given=repr(secure_sum) + ("" if plan.bound.spec.masking else ", for a plan without a secure sum"),
            expected="'ideal', or 'protocol' for a plan whose aggregation ends in secure_sum()",
            do="End the plan's chain with quantize(...) and secure_sum().",
        )
    if run is None and resume:
        raise PlanError(
            "resume",
            given="no run folder",
            expected="run=, the folder of the run",
            do="Give run= the folder to resume.",
        )
    if engine not in ("compiled", "debug"):
        raise PlanError(
            "engine",
            given=repr(engine),
            expected="'compiled' or 'debug'",
            do="Leave it out, except to debug a loss or a model.",
        )
