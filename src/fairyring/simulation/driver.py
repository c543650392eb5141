"""The simulation driver: a thin loop that computes the rounds of a coordinator on this machine."""

import os
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from fairyring.core.checks import whole_number
from fairyring.core.cores import machine
from fairyring.core.digest import digest
from fairyring.core.errors import PrivacyWarning, TrainingWarning
from fairyring.core.keys import of_first_model, root
from fairyring.core.program import begin
from fairyring.learning.plan import Plan
from fairyring.lowering import hardware
from fairyring.population import Population
from fairyring.privacy.canaries import Canaries
from fairyring.privacy.mechanism import DirectCheck
from fairyring.records.folder import RunFolder
from fairyring.records.layout import INIT, STATES
from fairyring.records.models import model_arrays
from fairyring.records.round_record import Means, RoundRecord
from fairyring.records.states import ClientStates
from fairyring.records.store import Nowhere, Store
from fairyring.records.stored_states import StoredStates
from fairyring.rounds.auditing import RunAudit, check_audit
from fairyring.rounds.cautions import clipping_caution, stopping_caution, warnings_of
from fairyring.rounds.cohorts import CohortSampler
from fairyring.rounds.coordinator import Coordinator
from fairyring.rounds.feasibility import check_example_counts, check_participation
from fairyring.rounds.header import new_header
from fairyring.rounds.keeping import Keeping, Kept
from fairyring.rounds.privacy_context import PrivacyContext
from fairyring.rounds.progress import LiveProgress
from fairyring.rounds.secret import check_entropy
from fairyring.rounds.settings import RunDescription, RunSettings
from fairyring.rounds.stopping import EarlyStopping
from fairyring.rounds.timetable import Timetable
from fairyring.rounds.total import Total
from fairyring.rounds.worker import Work, Worker
from fairyring.runs import Run, StartsFrom, init_in, starting_params
from fairyring.simulation.ahead import AheadWorker
from fairyring.simulation.assembly import Assembly, assemble
from fairyring.simulation.debug import DebugWorker
from fairyring.simulation.elsewhere import Elsewhere, Start
from fairyring.simulation.feed import Resident
from fairyring.simulation.masked import MaskedSums, total_of
from fairyring.simulation.options import check_options, takes_params
from fairyring.simulation.testing import TestPopulations, Tests
from fairyring.simulation.worker import CompiledWorker
from fairyring.tracking import Delivery, Track, TrackedRun, Tracker, trackers_from

SecureSum = Literal["ideal", "protocol"]

Tree = Any


def simulate(
    plan: Plan,
    population: Population,
    *,
    rounds: int,
    seed: int = 0,
    test: TestPopulations | None = None,
    evaluate_every: int | None = None,
    run: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    init: StartsFrom | None = None,
    keep: Kept = None,
    checkpoint_every: int | None = None,
    dropout: float | str = 0.0,
    secure_sum: SecureSum = "ideal",
    audit: Canaries | DirectCheck | None = None,
    entropy: bytes | None = None,
    keep_client_states: bool = False,
    stop: EarlyStopping | None = None,
    on_round: Callable[..., object] | None = None,
    track: Track | None = None,
    verbose: bool = False,
    processors: int | Sequence[int] | None = None,
    clients_per_batch: int | None = None,
    engine: Literal["compiled", "debug"] | Elsewhere = "compiled",
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
        test: clients to evaluate on, or several populations by name. Of several the first is the one that `stop` and `keep` judge by; a
            round's record has the means on it in `test`, and those on each in `tests`.
        evaluate_every: rounds between evaluations on `test`; by default there are about twenty in a run.
        run: a new folder to keep the run in; by default nothing is written.
        resume: continue the run in the folder `run`; the result has the same bits as that of a run that was never
            interrupted. Only a private round that a crash cut short is run again with fresh noise, and counts twice. A run
            that already has more rounds than `rounds` keeps them.
        overwrite: delete a run that is in the folder `run`. One that has a ledger is not deleted: what it spent stays spent.
        init: the model to start from, instead of the plan's own: a run or a model of one, the path of a run folder or of a safetensors
            file with arrays by name, or parameters as the plan's model has them. It is kept in the run folder.
        keep: which models to keep, beside the last one, of those in rounds that are followed by an evaluation: ``"all"``, so many of the last ones, or
            ``"best"``, the one with the best loss on `test`, or with the best metric of `stop`. `run.at(round)` and `run.best()`
            give them. A run that is resumed goes on as it was to keep them, and what was kept before stays.
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
        on_round: called with the record of every round, an `fr.RoundRecord`; and with the model's parameters after it, if it takes two
            arguments.
        track: where to send the numbers of every round while the run goes on: ``"csv:FOLDER"``, ``"tensorboard:FOLDER"``, ``"mlflow:URI"``,
            ``"wandb:PROJECT"``, a tracker of `fairyring.tracking` or one of your own, or several of them. They get what `run.table()` has, and the
            plan. One that is slow or fails neither slows nor stops the run.
        verbose: show the progress: a bar in a terminal or a notebook, and lines elsewhere.
        processors: how many processors of this machine to use, or which ones, counted from 0: cores where JAX runs on a CPU,
            otherwise accelerators, of which no more are used than there are. By default all of them, but only one for rounds so
            small that several would mostly wait for each other.
        clients_per_batch: how many clients are vectorised in one batch on a processor; by default 1 on a CPU and 16 on an
            accelerator.
        engine: `"debug"` computes one client after another in plain Python, without compiling, so that a loss, a model or
            a metric can print arrays and stop at `breakpoint()`. It is much slower; the numbers differ only in float
            rounding. `fr.ray()` shares clients among the nodes of a Ray cluster.

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
        TrainingWarning: in each of the first rounds a clip cut nearly all updates to less than half; or early stopping ended the run
            because its metric was not a finite number. The run's header has the same text, under `cautions`.
        TrackerWarning: a tracker has not taken all numbers.
    """
    rounds = whole_number("rounds", rounds)
    if evaluate_every is not None:
        evaluate_every = whole_number("evaluate_every", evaluate_every)
    if checkpoint_every is not None:
        checkpoint_every = whole_number("checkpoint_every", checkpoint_every)
    with_params = takes_params(on_round)
    key = root(seed)
    trackers = trackers_from(track) if track is not None else []
    check_options(plan, population, secure_sum, test, stop, run, resume, overwrite, engine)
    if init is None:
        begin(plan.task.model.init, of_first_model(key))
    keeping = None
    if keep is not None:
        by, declared = stop.metric if stop else "loss", plan.task.higher_is_better
        keeping = Keeping.of(keep, best_by=by, tested=test is not None, declared=declared)
    rows_checked = {"training": plan.task.validate(population)}
    on = hardware(plan.layout.size, processors=processors, clients_per_batch=clients_per_batch)
    tests = Tests(test, plan.task, on) if test is not None else None
    rows_checked |= tests.rows_checked if tests is not None else {}
    canaries = check_audit(audit, plan)
    check_entropy(entropy)
    cohorts = CohortSampler(plan.rule, population, seed, dropout, canaries)
    sizes = np.asarray(population.sizes)
    if plan.protection is not None:
        check_participation(plan, cohorts, rounds, protocol=secure_sum == "protocol")
    if plan.example_stages is not None:
        check_example_counts(plan, sizes[cohorts.eligible])
    cautions = warnings_of(plan, len(cohorts.eligible), rounds, int(np.sum(sizes)))
    store = _store(plan, run, resume)
    given = starting_params(init, plan) if init is not None else init_in(store.path, plan)
    elsewhere = None if isinstance(engine, str) else engine
    parts = assemble(
        plan,
        population,
        key,
        on,
        as_needed=processors is None and elsewhere is None,
        elsewhere=elsewhere is not None,
        init=given,
    )
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
        test=tests.fingerprint() if tests is not None else None,
        init=digest(jax.tree.leaves(given)).hex() if given is not None else None,
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
        init_given=given is not None,
        entropy_given=entropy is not None,
        canaries=cohorts.canaries,
    )
    summary = {**population.describe(), **(tests.describe() if tests is not None else {"test": None})}
    if run is not None and not resume:
        store = RunFolder.create(run, private=plan.protection is not None, overwrite=overwrite)
    if given is not None and not resume:
        store.write_arrays(INIT, model_arrays(given))
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
            keeping,
        ),
        store=store,
        resume=resume,
        states=_states(plan, parts, len(population), store.path) if parts.has_states else None,
        signers=masks,
    )
    with coordinator, ExitStack() as stack:
        for caution in cautions:
            warnings.warn(caution, PrivacyWarning, stacklevel=2)
        worker: Worker
        if elsewhere is not None:
            start = Start(
                plan,
                population,
                parts.engine,
                cohorts,
                key,
                coordinator.states,
                parts.own if parts.has_states else (),
                clients_per_batch,
            )
            worker = stack.enter_context(elsewhere.worker(start))
        elif engine == "debug":
            worker = DebugWorker(plan, population, key, coordinator.states)
        elif parts.rounds_at_once > 1 and isinstance(parts.rows, Resident):
            last, most = coordinator.timetable.rounds, parts.rounds_at_once
            worker = AheadWorker(parts.engine, parts.program, parts.rows, cohorts, last, most)
        else:
            assert parts.rows is not None
            last = coordinator.timetable.rounds
            worker = CompiledWorker(parts.engine, parts.rows, cohorts, key, coordinator.states, last)
        driver = _Driver(coordinator, worker, cohorts, masks, tests)
        watching: list[Callable[[RoundRecord], object]] = [
            stack.enter_context(delivery) for delivery in _deliveries(trackers, coordinator)
        ]
        if verbose:
            watching.append(stack.enter_context(LiveProgress(None, coordinator.timetable.rounds)))
        if on_round is not None:
            watching.append(_with_params(on_round, coordinator) if with_params else on_round)
        return driver.go(watching, summary, given)


class _Driver:
    """Computes the rounds that the coordinator of a run asks for."""

    def __init__(
        self,
        coordinator: Coordinator,
        worker: Worker,
        cohorts: CohortSampler,
        masks: MaskedSums | None,
        tests: Tests | None,
    ) -> None:
        self.coordinator, self.worker, self.cohorts = coordinator, worker, cohorts
        self.masks, self.tests = masks, tests
        self.tested_at = 0

    def go(
        self,
        watching: Sequence[Callable[[RoundRecord], object]],
        summary: Mapping[str, Any],
        given: Tree | None,
    ) -> Run:
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
            record = run.record(*(self._test() if run.evaluates else (None, None)))
            self._caution()
            for watch in watching:
                watch(record)
        if self.tested_at != run.round:
            self._test()
        tests = self.tests
        run.end(tests.by_client() if tests is not None else None)
        return Run(
            run.plan, jax.tree.map(np.asarray, run.state), run.records, run.header, dict(summary),
            run.participation, np.asarray(run.clients.sizes), tests.first if tests is not None else None,
            run.recorder.store.path, run.facts(),
            run.spending.ledger.entries() if run.spending is not None else (), run.scores,
            tests.evaluations if tests is not None and tests.named else {}, run.recorder.store, given,
        )  # fmt: skip

    def _caution(self) -> None:
        """Say once, and in the header, what hampers training."""
        run = self.coordinator
        last = not run.goes_on
        found = []
        # A run that was resumed may have said it before.
        if not run.header.get("cautions") and (run.round == 3 or (last and run.round < 3)):
            found.append(clipping_caution(run.plan, run.records))
        if last and run.round < run.timetable.rounds:
            tests = [record.test for record in run.records if record.test is not None]
            found.append(stopping_caution(run.timetable.stop, tests))
        for caution in found:
            if caution is not None:
                run.header.setdefault("cautions", []).append(caution)
                warnings.warn(caution, TrainingWarning, stacklevel=4)  # at whoever called simulate

    def _warm(self) -> None:
        """Compile everything that the remaining rounds need, by a round without clients whose result is dropped."""
        run = self.coordinator
        if run.round < run.timetable.rounds:
            # These are compiled while the worker's own program, which is the largest, is traced and compiled.
            if self.tests is not None:
                self.tests.begin(run.state.params)
            if parts := self.worker.parts if self.masks is None else 1:
                run.program.begin(run.state, parts)
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

    def _test(self) -> tuple[Means | None, dict[str, Means] | None]:
        """Means on the test population, and on each of several with names; None where there is none."""
        if self.tests is None:
            return None, None
        means, self.tested_at = self.tests(self.coordinator.state.params), self.coordinator.round
        return means, self.tests.means()


def _store(plan: Plan, run: str | os.PathLike[str] | None, resume: bool) -> Store:
    """Where a run that is resumed is stored; a new one has no folder before all of its options are found to be valid."""
    if run is None or not resume:
        return Nowhere()
    folder = RunFolder.open(run)
    if plan.protection is not None:
        folder.close_to_others()
    return folder


def _deliveries(trackers: Sequence[Tracker], run: Coordinator) -> list[Delivery]:
    """One for each tracker of a run."""
    if not trackers:
        return []
    tracked = TrackedRun.of(run.header, run.plan.describe(), run.recorder.store.path, run.round)
    return [Delivery(tracker, tracked) for tracker in trackers]


def _with_params(on_round: Callable[..., object], run: Coordinator) -> Callable[[RoundRecord], object]:
    """A function of a round's record that calls another with the parameters, too."""
    return lambda record: on_round(record, jax.tree.map(np.asarray, run.state.params))


def _states(plan: Plan, parts: Assembly, clients: int, folder: Path | None) -> Callable[[], ClientStates]:
    if folder is None:
        return lambda: ClientStates(clients, parts.own)
    return lambda: StoredStates(clients, parts.own, folder / STATES, private=plan.protection is not None)
