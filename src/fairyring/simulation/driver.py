"""The simulation driver: rounds, evaluations, checkpoints and callbacks, around the compiled engine."""

import hashlib
import os
import platform
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from fairyring._version import __version__
from fairyring.core.errors import BudgetSpent, PlanError, PrivacyWarning, RunMismatch, TrainingDiverged
from fairyring.core.keys import Purpose, root, shared
from fairyring.core.record import Held, RunFolder, restore_state
from fairyring.learning.plan import Plan
from fairyring.learning.server import ServerState
from fairyring.population import Population
from fairyring.privacy.canaries import Audit, Canaries
from fairyring.privacy.mechanism import DirectCheck
from fairyring.privacy.participation import AtMost
from fairyring.simulation.artefacts import outside
from fairyring.simulation.assembly import assemble
from fairyring.simulation.audit_in_run import SCORES, audited, check_audit, scores_of
from fairyring.simulation.cautions import warnings_of
from fairyring.simulation.claims import check_claims, check_examples
from fairyring.simulation.draws import Draw, Draws
from fairyring.simulation.evaluate import Evaluation, Evaluator
from fairyring.simulation.history import HISTORY, History, new_course
from fairyring.simulation.machine import machine
from fairyring.simulation.masked import MaskedSums
from fairyring.simulation.means import recorded
from fairyring.simulation.ran import Ran, contradicts
from fairyring.simulation.rounds import Done, Rounds
from fairyring.simulation.run import Run, checkpoint_arrays, write_head
from fairyring.simulation.spending import Earlier, Spending, check_entropy
from fairyring.simulation.statement import guarantee, statement
from fairyring.simulation.states import FOLDER, ClientStates, check_states, delete_states, has_table
from fairyring.simulation.stopping import EarlyStopping
from fairyring.simulation.target import target
from fairyring.simulation.transcripts import Transcripts
from fairyring.simulation.watching import Watch

CHECKPOINT_SECONDS = 10.0
ABORTED_IDEAL = "masking", "fewer clients reported than a sum may be of"

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
    dropout: float = 0.0,
    secure_sum: SecureSum = "ideal",
    audit: Canaries | DirectCheck | None = None,
    entropy: bytes | None = None,
    keep_client_states: bool = False,
    stop: EarlyStopping | None = None,
    on_round: Callable[[dict[str, Any]], object] | None = None,
    devices: int | None = None,
    together: int | None = None,
) -> Run:
    """Run a plan over a population on this machine.

    The result depends on plan, population, seed and dropout alone: neither on how clients are batched, nor on how
    many devices share them (bitwise for integer sums, to float tolerance otherwise), nor on interruptions. The noise of
    a private plan does not come from the seed: two runs differ in it.

    A private plan's rounds are reserved in a ledger before they start. A round that would spend more than the budget
    does not start, and ends the run.

    Args:
        plan: what to run.
        population: the clients; those without examples are never sampled.
        rounds: how many rounds.
        seed: of all randomness.
        test: clients to evaluate on.
        evaluate_every: rounds between evaluations on `test`; about twenty in a run without it.
        run: a new folder to keep the run in; without it nothing is written.
        resume: go on with the run in folder `run`, to the same bits as one that was never interrupted. But a private round that a
            crash cut off is run again under other noise, and counts twice. A run that has had more rounds than `rounds` keeps them.
        checkpoint_every: rounds between checkpoints; without it about every ten seconds, and at the end.
        dropout: probability that a sampled client vanishes before it reports; under the masked protocol, at any point
            of it, and with the same probability also after its input is in.
        secure_sum: how a plan's `secure_sum()` is computed. `"ideal"`: integers are added, which protects nothing.
            `"protocol"`: every client and the server run the masked protocol with real messages, checked and
            counted. The model is bitwise the same, unless clients that vanish after their input leave too few to
            unmask it: such a round is recorded as aborted and changes nothing.
        audit: so many canaries take the places of clients, of at most half of them, and what they give away is set
            against what the plan promises. They cost accuracy: an audited run is for judging the plan. What is added to
            each sum is compared with the law that is claimed, too; with `fr.privacy.DirectCheck()` that alone, which
            changes nothing in the run.
        entropy: 32 secret bytes that all noise of a private plan is made from, in place of the operating system's. For
            tests: whoever knows them can take the noise off, and so nothing is promised.
        keep_client_states: keep what an algorithm's clients remember (SCAFFOLD's control variates) also when a private run
            is over. Their examples can be read off it. Without it, it is deleted with the secret of the noise, and such a
            run cannot be resumed for more rounds. Plans without a budget keep it in any case.
        stop: when to stop early.
        on_round: called with every round's record.
        devices: on a CPU, use so many cores; elsewhere at most so many accelerators. All without it.
        together: clients vectorised together on a device.

    Returns:
        The run.

    Raises:
        PlanError, PopulationError, ModelError: plan and population do not fit together.
        TrainingDiverged: in some round of a plan without a budget no client's update was finite.
        RunError: the run folder cannot be used.
        BudgetSpent: not even the first round is within the budget.
        LedgerMismatch, LedgerDamaged: the run folder's ledger cannot be used.

    Warns:
        PrivacyWarning: delta is not below one over the number of clients; or a round's noise is longer than a mean
            update as long as the clip. The run's header has the same words, under privacy.
    """
    simulation = _Simulation(
        plan, population, rounds, seed, test, evaluate_every, run, resume, checkpoint_every, dropout, secure_sum, audit,
        entropy, keep_client_states, stop, on_round, target(plan.layout.size, devices=devices, together=together),
    )  # fmt: skip
    return simulation.go()


class _Simulation:
    """One run while it is running."""

    def __init__(
        self,
        plan,
        population,
        rounds,
        seed,
        test,
        evaluate_every,
        run,
        resume,
        checkpoint_every,
        dropout,
        secure_sum,
        audit,
        entropy,
        keep_client_states,
        stop,
        on_round,
        on,
    ) -> None:
        for name, value in (
            ("rounds", rounds),
            ("evaluate_every", evaluate_every),
            ("checkpoint_every", checkpoint_every),
        ):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise PlanError(
                    name, given=repr(value), expected="a whole number >= 1", do=f"Set {name}=1 or more."
                )
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
                given=repr(secure_sum)
                + ("" if plan.bound.signal.masking else ", for a plan without a secure sum"),
                expected="'ideal', or 'protocol' for a plan whose aggregation ends in secure_sum()",
                do="End the plan's chain with quantize(...) and secure_sum().",
            )
        examined = {"training": plan.task.check(population)}
        if test is not None:
            examined["test"] = plan.task.check(test)
        canaries = check_audit(audit, plan)
        check_entropy(entropy)
        self.plan, self.population, self.rounds, self.seed = plan, population, rounds, seed
        self.test, self.stop, self.on_round = test, stop, on_round
        self.examined, self.secure_sum, self.dropout = examined, secure_sum, dropout
        self.kept, self.keep_states = run is not None, keep_client_states
        self.entropy_given = entropy is not None
        self.evaluate_every = evaluate_every or max(1, rounds // 20)
        self.checkpoint_every = checkpoint_every
        self.draws = Draws(plan.rule, population, seed, dropout, canaries)
        if plan.protection is not None:
            check_claims(plan, self.draws, rounds, protocol=secure_sum == "protocol")
        if plan.example_stages is not None:
            check_examples(plan, np.asarray(population.sizes)[self.draws.eligible])
        self.cautions = warnings_of(plan, len(self.draws.eligible), rounds, int(np.sum(population.sizes)))
        self.root = root(seed)
        self.metrics: list[dict[str, Any]] = []
        self.participation = np.zeros(len(population), np.int32)
        self.tested: Evaluation | None = None
        self.tested_before = False  # by an earlier part of the run, as its record says
        self.tested_at = 0
        self.seconds = 0.0
        sizes = np.asarray(population.sizes)
        self.sizes = sizes
        self.engine, rows, first, own = assemble(plan, population, self.root, on)
        self.has_states = bool(jax.tree.leaves(own))
        self.evaluator = Evaluator(plan.task, test, on) if test is not None else None
        self.prints = {"plan": plan.fingerprint(), "population": population.fingerprint()}
        text = f"{self.prints['plan']} {self.prints['population']} {seed} {dropout}"
        text += f" {canaries} canaries" if canaries else ""
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()
        self.header = {
            "fairyring": __version__,
            "status": "running",
            "seed": seed,
            "rounds": rounds,
            "dropout": dropout,
            "fingerprint": self.fingerprint,
            "fingerprints": self.prints,
            "versions": {
                "python": platform.python_version(),
                **{name: version(name) for name in ("jax", "jaxlib", "numpy", "optax")},
            },
            "machine": machine(on.devices),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": 0.0,
            "compile_seconds": 0.0,
            "secure_sum": secure_sum if plan.bound.signal.masking else None,
            "canaries": self.draws.canaries,
            "privacy": plan.protection.describe() | {"warnings": self.cautions} if plan.protection else None,
        }
        self._state_privacy(None)
        self.summary = {
            **population.describe(),
            "test": test.describe() if test is not None else None,
        }
        self.watch = Watch(plan) if audit is not None and plan.protection is not None else None
        self.false_alarm = (audit if isinstance(audit, DirectCheck) else DirectCheck()).false_alarm
        self.audit = None
        self.found: dict[str, Any] | None = None  # by audits, of what this process ran
        if isinstance(audit, Canaries) and plan.protection is not None:
            directions = shared(self.root, Purpose.CANARY)
            known = isinstance(plan.protection.participation, AtMost)
            taking_part = Canaries(self.draws.canaries, audit.confidence)
            self.audit = Audit(plan.update_layout.size, directions, taking_part, known=known)
        self.folder: RunFolder | None = None
        self.held: Held | None = None
        self.round = 0
        self.ended = False  # all that a run leaves has been written
        self.earlier: Earlier | None = None
        self.history: History | None = None
        self.transcript: bytes | None = None  # of the last round's secure sum
        if secure_sum == "protocol" and run is not None:
            self.header[HISTORY] = new_course(plan)
        self.spending: Spending | None = None
        masks = MaskedSums(plan.terms) if secure_sum == "protocol" and plan.terms else None
        try:
            told = self._open(run, resume, first, own)
            self.header["rounds"] = self.rounds = max(rounds, self.round)
            if plan.protection is not None:
                place = self.folder.path if self.folder else None
                self.spending = Spending(plan, place, entropy, self.earlier)
                self.entropy_given = self.entropy_given or self.spending.entropy_given
            if self.folder is not None and resume:
                self._state_privacy(None)
                more = self.round < self.rounds
                # Only now: until the ledger was found to be theirs, these rounds were what told of it. And what the
                # record says of an end that is no longer one goes before anything more is released.
                if more or len(self.folder.metrics()) > len(self.metrics):
                    self.folder.cut_metrics(self.round)
                if (
                    more and self.header.get(HISTORY) is None
                ):  # a history does it when it takes the run up, and no sooner
                    self.folder.write("run.json", self.header)
            self.transcripts = Transcripts(self.folder, self.spending) if self.folder else None
            if masks is not None and self.folder is not None and self.header[HISTORY] is not None:
                self.history = History(self.folder, self.header, masks, self.round, told)
            self.each = Rounds(self.engine, rows, self.draws, self.root, self.states, masks, self.watch)
            for caution in self.cautions:
                warnings.warn(caution, PrivacyWarning, stacklevel=3)
        except BaseException:
            self._let_go()
            raise

    # -- the run folder -----------------------------------------------------------------------------------

    def _open(self, run: Any, resume: bool, first: ServerState, own: Tree) -> str | None:
        """Make the run folder, or go on from its last checkpoint; returns the head of its history then."""
        if run is None and resume:
            raise PlanError(
                "resume",
                given="no run folder",
                expected="run=, the folder of the run",
                do="Give run= the folder to resume.",
            )
        path, private = Path(run) / FOLDER if run is not None else None, self.plan.protection is not None

        def states() -> ClientStates | None:
            return ClientStates(len(self.population), own, path, private=private) if self.has_states else None

        if run is not None and resume:
            self.folder = RunFolder.open(run)
            self.held = self.folder.hold()
            self.folder.tidy()
            if private:
                self.folder.close_to_others()
            saved = self.folder.read("run.json")
            self._same(saved)
            self.earlier = self._earlier(saved)
            found = self.folder.last_checkpoint(self.fingerprint)
            over = found is not None and found[0] >= self.rounds and not has_table(Path(run))
            if self.has_states and found is not None and not over:
                check_states(Path(run), private=private)
            self.states = None if over else states()
            if found is not None:
                self.round, arrays, facts = found
                self.participation = arrays.pop("participation")
                stripped = {name.removeprefix("server/"): array for name, array in arrays.items()}
                self.state = self._placed(restore_state(first, stripped))
                self.metrics = self.folder.metrics(upto=self.round)
                self.seconds = facts["seconds"]
                self.earlier = self.earlier._replace(head=facts.get("ledger"))
                # The checkpoint comes before the record of the end, which may be missing.
                if facts.get("audit") is not None and not contradicts(self.header.get("audit")):
                    self.header["audit"] = facts["audit"]
                if self.states is not None:
                    self.states.recover(facts, self.round)
                return facts.get(HISTORY)
        elif run is not None:
            self.folder = RunFolder.create(run, private=private)
            self.held = self.folder.hold()
            write_head(self.folder, self.header, self.plan, self.summary)
        if not (run is not None and resume):
            self.states = states()
        if self.states is not None:
            self.states.recover({"journal": 0, "journal_rows": 0}, 0)
        self.state = self._placed(first)
        return None

    def _earlier(self, header: dict[str, Any]) -> Earlier:
        """What the folder of a resumed run tells of its rounds."""
        assert self.folder is not None
        over = header["status"] == "finished" or header.get("stopped_by") == "budget"
        shown = (record for record in self.folder.metrics() if "aborted" not in record)
        return Earlier(frozenset(int(record["round"]) for record in shown), over, None)

    def _let_go(self) -> None:
        """Close what is open; the folder is somebody else's to write again."""
        try:
            if self.spending is not None:
                self.spending.close(finished=self.ended and self._over())
        finally:
            if self.held is not None:
                self.held.release()

    def _placed(self, state: ServerState) -> ServerState:
        """`state` on the first device, where the server is."""
        return jax.device_put(state, self.engine.devices[0])

    def _same(self, header: dict[str, Any]) -> None:
        given = {
            **self.prints,
            **{name: self.header[name] for name in ("seed", "dropout", "secure_sum", "canaries")},
        }
        saved = {
            **header["fingerprints"],
            **{name: header.get(name, 0) for name in given if name not in self.prints},
        }
        versions = {k: v for k, v in header["versions"].items() if self.header["versions"].get(k) != v}
        for name, value in given.items():
            if saved[name] != value:
                also = (
                    f" (the run was made with {versions}, which alone can change a plan's fingerprint)"
                    if versions
                    else ""
                )
                raise RunMismatch(
                    f"run folder {self.folder.path if self.folder else ''}",
                    given=f"a run of another {name}: {str(saved[name])[:12]}",
                    expected=f"{name} {str(value)[:12]}",
                    do=f"Resume with the {name} the run was started with, or start a new run folder{also}.",
                )
        self.header["started"] = header["started"]
        if HISTORY in self.header:
            self.header[HISTORY] = header.get(HISTORY)
        # The secret that a resumed run finds in its folder is no less known than it was.
        self.entropy_given = self.entropy_given or header.get("entropy") == "given"
        # Also in rounds that are run again, whose records go.
        told = (one["names"] for one in header.get("outside", ()))
        self.tested_before = any("metrics.jsonl: test.*" in names for names in told)
        if header.get("audit") is not None:  # what was found stays found
            self.header["audit"] = header["audit"]

    def _state_privacy(self, spent: dict[str, Any] | None, *, over: bool = False) -> None:
        """Put into the run's record what is to be said of its privacy; `spent` is what the ledger says at the end."""
        plan, sizes = self.plan, self.sizes[self.sizes > 0]
        has_states = self.has_states and self.kept
        deleted = over and not self.keep_states
        tested = self.test is not None or self.tested_before or any("test" in one for one in self.metrics)
        has = {
            "states": has_states and not deleted,
            "masks": self.secure_sum == "protocol",
            "test": tested,
            "open": self.kept and not over,
        }
        ran = Ran(
            plan,
            len(sizes),
            (int(sizes.min(initial=1 << 62)), int(sizes.max(initial=0))),
            int(sizes.sum()),
            dropout=self.dropout,
            secure_sum=self.secure_sum,
            examined=self.examined,
            tested=tested,
            stops=self.stop is not None,
            entropy_given=self.entropy_given,
            canaries=self.draws.canaries,
            states="none" if not has_states else "deleted" if deleted else "kept",
            folder=self.kept,
            outside=outside([name for name, there in has.items() if there]) if plan.protection else (),
            rounds=self.metrics,
            spent=spent,
            audit=self.header.get("audit"),
        )
        self.header["assumptions"] = statement(ran)
        if plan.protection is not None:
            self.header["entropy"] = "given" if self.entropy_given else "system"
            self.header["outside"] = ran.outside
            told = {"statement": guarantee(ran), "why_nothing": ran.why_nothing}
            self.header["privacy"] |= {**(spent or {}), **told}

    def _facts(self) -> dict[str, Any]:
        facts = {"fingerprint": self.fingerprint, "seconds": self.seconds}
        if self.spending is not None:
            facts["ledger"] = self.spending.head
        if self.header.get("audit") is not None:
            facts["audit"] = self.header["audit"]
        if self.history is not None:
            facts |= self.history.facts
        return facts | (self.states.facts if self.states is not None else {})

    def _checkpoint(self) -> None:
        if self.folder is None:
            return
        if self.states is not None:
            self.states.flush()
        self.folder.checkpoint(self.round, checkpoint_arrays(self.state, self.participation), self._facts())
        if self.states is not None:
            self.states.settle(self.round)

    # -- the rounds ---------------------------------------------------------------------------------------

    def go(self) -> Run:
        """All rounds that are left."""
        try:
            return self._go()
        finally:
            try:
                over = self.spending is not None and self.ended and self._over() and not self.keep_states
                if over and self.folder is not None:
                    delete_states(self.folder.path)
            finally:
                self._let_go()

    def _over(self) -> bool:
        """Nothing of this run is left to be run, and nothing of it to be run again."""
        if self.spending is not None and self.spending.released_after(self.round):
            return False
        return self.header["status"] == "finished" or self.header.get("stopped_by") == "budget"

    def _go(self) -> Run:
        began = time.perf_counter()
        self._warm()
        self.header["compile_seconds"] = round(time.perf_counter() - began, 3)
        saved = time.perf_counter()
        stopped = self._stops()
        while self.round < self.rounds and not stopped:
            began = time.perf_counter()
            try:
                record = self._run(self.draws.of(self.round + 1))
            except BudgetSpent:
                if not self.round:
                    raise
                self.header["stopped_by"] = "budget"
                break
            record["seconds"] = time.perf_counter() - began
            self.seconds += record["seconds"]
            self.round += 1
            due = self.round % self.evaluate_every == 0 or self.round == self.rounds
            if due and self.spending is not None:
                record |= self._judge()
            due = due and self.test is not None
            if due:
                record["test"] = self._evaluate()
            self.metrics.append(record)
            if self.folder is not None:
                self.folder.append_metrics([record])
            if self.history is not None:
                self.history.add(record, self.transcript, self.each.model(self.state))
            if self._checkpoint_due(saved):
                self._checkpoint()
                saved = time.perf_counter()
            if self.on_round is not None:
                self.on_round(record)
            stopped = due and self._stops()
        return self._end()

    def _warm(self) -> None:
        """Compile."""
        if self.round < self.rounds:
            self.each.warm(self.state, self.round)

    def _checkpoint_due(self, saved: float) -> bool:
        if self.round == self.rounds:
            return True
        if self.checkpoint_every is not None:
            return self.round % self.checkpoint_every == 0
        return time.perf_counter() - saved > CHECKPOINT_SECONDS

    def _run(self, draw: Draw) -> dict[str, Any]:
        """A round: the next state, and the round's record."""
        noise = None
        if self.spending is not None:
            canaries = len(draw.canaries)
            session = len(draw.sampled) + canaries
            noise = self.spending.begin(draw.round, len(draw.staying) + canaries, session)
        previous = self.history.before(self.each.model(self.state)) if self.history else None
        done = self.each.run(self.state, draw, noise, previous)
        self.state = done.state
        if self.audit is not None and done.mean is not None:
            # The mean is a sum over its weight, and a canary's part in it so much the smaller.
            self.audit.record(done.mean, draw.canaries - len(self.population), 1.0 / float(done.side[0]))
        staying = len(draw.staying)
        # Under a budget a run that ends would tell what its models do not: such clients are counted as zeros, and it goes on.
        if staying and len(done.faulty) == staying and self.spending is None:
            self._diverged(draw)
        self.participation[np.setdiff1d(draw.staying, done.faulty, assume_unique=True)] += 1
        counts = done.heard >= self.plan.fewest or done.mean is not None
        session = len(draw.sampled) + len(draw.canaries)
        means = recorded(self.plan, done.side, done.heard, session, self.spending, released=counts)
        aborted = (done.summed.aborted if done.summed else None) or (None if counts else ABORTED_IDEAL)
        if done.summed is not None and self.transcripts is not None:
            self.transcript = self.transcripts.keep(draw.round, done.summed)
        return {
            "round": draw.round,
            **means,
            "clients": done.heard if counts else 0,
            "sampled": len(draw.sampled),
            "dropped": len(draw.sampled) - staying,
            "nonfinite": len(done.faulty),
            **({"aborted": aborted} if aborted and self.plan.fewest > 1 else {}),
            **({"canaries": len(draw.canaries)} if self.audit is not None else {}),
            **(self._signal(draw, done) if self.spending is not None else {}),
            "examples": int(self.sizes[draw.staying].sum()),
            "bytes_up": staying * self.plan.bytes_up if done.traffic is None else done.traffic.up,
            "bytes_down": len(draw.sampled) * self.plan.bytes_down
            if done.traffic is None
            else len(draw.sampled) * (self.plan.bytes_down - self.plan.traffic.down) + done.traffic.down,
        }

    def _signal(self, draw: Draw, done: Done) -> dict[str, float]:
        """How far a private round's update stands out of its noise."""
        assert self.spending is not None
        session = len(draw.sampled) + len(draw.canaries)
        return self.spending.signal(done.mean, float(done.side[0]), done.heard, session)

    def _diverged(self, draw: Draw) -> None:
        clients = [self.population.ids[c] for c in draw.staying[:5]]
        raise TrainingDiverged(
            f"round {draw.round}",
            given=f"no finite update from any of {len(draw.staying)} clients (first: {', '.join(map(str, clients))})",
            expected="at least one finite update",
            do="Lower the learning rate, clip gradients in the local optimiser (optax.clip_by_global_norm), or look at those clients' data.",
        )

    # -- judging and ending -------------------------------------------------------------------------------

    def _judge(self) -> dict[str, float]:
        """What the rounds so far have spent, and what canaries gave away."""
        assert self.spending is not None
        judged = {"epsilon": self.spending.spent().epsilon}
        # Before the last checkpoint, which keeps what was found should the end not be written.
        found = self._audited() if self.round == self.rounds else None
        if found is not None and self.audit is not None:
            judged |= {"empirical_epsilon": found["empirical"], "empirical_epsilon_lower": found["lower"]}
        return judged

    def _audited(self) -> dict[str, Any] | None:
        """What audits found of what this process ran; None without one. They go over all releases again, so once.

        The run's record has it, unless an earlier process's audit contradicts the claim: no later one takes that back.
        """
        if self.watch is None or self.spending is None or not len(self.watch):
            return None
        if self.found is None:
            self.found = audited(self.audit, self.watch, self.spending, self.false_alarm)
            # A promise that was refuted stays so, whatever is found of later rounds.
            if not contradicts(self.header.get("audit")):
                self.header["audit"] = self.found
        return self.found

    def _evaluate(self) -> dict[str, float]:
        assert self.evaluator is not None
        self.tested, self.tested_at = self.evaluator(self.state.params), self.round
        return self.tested.means

    def _stops(self) -> bool:
        if self.stop is None:
            return False
        return self.stop.judge([r["test"][self.stop.metric] for r in self.metrics if "test" in r])

    def _end(self) -> Run:
        if self.test is not None and self.tested_at != self.round:
            self._evaluate()
        done = self.round >= self.rounds
        self.header |= {"status": "finished" if done else "stopped", "seconds": round(self.seconds, 3)}
        found = self._audited()
        if self.spending is not None:
            self._state_privacy(self.spending.summary(), over=self._over())
        result = Run(
            self.plan, jax.tree.map(np.asarray, self.state), self.metrics, self.header, self.summary,
            self.participation, self.sizes, self.tested, self.folder.path if self.folder else None, self._facts(),
        )  # fmt: skip
        if self.audit is not None and found is not None:
            result.canary_scores = scores_of(self.audit)
        if self.folder is not None and not (self.history is not None and self.history.untouched):
            if self.history is not None:
                self.history.before(self.each.model(self.state))
            if found is not None:
                self.folder.write_arrays(SCORES, {"scores": result.canary_scores})
            if not done:
                self._checkpoint()
            self.folder.write_arrays("clients.safetensors", result.client_arrays())
            self.folder.write("run.json", self.header)  # the last: it says that the rest is there
            if self.history is not None:
                self.history.end()
        self.ended = True
        return result
