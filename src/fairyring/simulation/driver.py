"""The simulation driver: rounds, evaluations, checkpoints and callbacks, around the compiled engine."""

import hashlib
import os
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fairyring._version import __version__
from fairyring.core.errors import PlanError, RunMismatch, TrainingDiverged
from fairyring.core.keys import NOBODY, Purpose, of_client, of_round, root
from fairyring.core.record import RunFolder, restore_state
from fairyring.core.threads import available_cores
from fairyring.learning.device import Broadcast
from fairyring.learning.local import Workload
from fairyring.learning.plan import Plan
from fairyring.population import Population
from fairyring.simulation.draws import Draw, Draws
from fairyring.simulation.engine import Engine
from fairyring.simulation.evaluate import Evaluation, Evaluator
from fairyring.simulation.feed import Resident, Streamed, feed
from fairyring.simulation.promises import assumptions
from fairyring.simulation.run import Run, checkpoint_arrays, write_head
from fairyring.simulation.states import ClientStates
from fairyring.simulation.stopping import EarlyStopping
from fairyring.simulation.target import Device, target

ROUNDS_A_CALL = 64
CALL_SECONDS = 0.5  # a call of the compiled program takes about so long, so that progress is seen
CHECKPOINT_SECONDS = 10.0


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
    stop: EarlyStopping | None = None,
    on_round: Callable[[dict[str, Any]], object] | None = None,
    devices: int | None = None,
    together: int | None = None,
) -> Run:
    """Run a plan over a population on this machine.

    The result depends on plan, population, seed and dropout alone: neither on how clients are batched, nor on how
    many devices share them (bitwise for integer sums, to float tolerance otherwise), nor on interruptions.

    Args:
        plan: what to run.
        population: the clients; those without examples are never sampled.
        rounds: how many rounds.
        seed: of all randomness.
        test: clients to evaluate on.
        evaluate_every: rounds between evaluations on `test`; about twenty in a run without it.
        run: a new folder to keep the run in; without it nothing is written.
        resume: go on with the run in folder `run`, to the same bits as one that was never interrupted.
        checkpoint_every: rounds between checkpoints; without it about every ten seconds, and at the end.
        dropout: probability that a sampled client vanishes before it reports.
        stop: when to stop early.
        on_round: called with every round's record.
        devices: use at most so many devices.
        together: clients vectorised together on a device.

    Returns:
        The run.

    Raises:
        PlanError, PopulationError, ModelError: plan and population do not fit together.
        TrainingDiverged: in some round no client's update was finite.
        RunError: the run folder cannot be used.
    """
    simulation = _Simulation(
        plan, population, rounds, seed, test, evaluate_every, run, resume, checkpoint_every, dropout, stop, on_round,
        target(plan.layout.size, devices=devices, together=together),
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
        examined = {"training": plan.task.check(population)}
        if test is not None:
            examined["test"] = plan.task.check(test)
        self.plan, self.population, self.rounds, self.seed = plan, population, rounds, seed
        self.test, self.stop, self.on_round = test, stop, on_round
        self.evaluate_every = evaluate_every or max(1, rounds // 20)
        self.checkpoint_every = checkpoint_every
        self.draws = Draws(plan.rule, population, seed, dropout)
        self.root = root(seed)
        self.metrics: list[dict[str, Any]] = []
        self.participation = np.zeros(len(population), np.int32)
        self.tested: Evaluation | None = None
        self.tested_at = 0
        self.seconds = 0.0
        sizes = np.asarray(population.sizes)
        self.sizes = sizes
        self.capacity = min(ROUNDS_A_CALL, max(1, (1 << 15) // plan.rule.most), rounds)
        workload = Workload.of(sizes, plan.local, unroll=on.unroll)
        self.engine = Engine(
            plan,
            workload,
            len(population),
            on.devices,
            rewrite=on.rewrite,
            align=on.align,
            together=on.together,
            options=on.options,
        )
        mine = jax.eval_shape(plan.algorithm.mine, plan.params_shape)
        self.feed = feed(
            population, plan.task.reads(population), self.engine, mine=mine, capacity=self.capacity
        )
        self.evaluator = Evaluator(plan.task, test, on.devices, on.rewrite) if test is not None else None
        first = plan.first_state(of_client(of_round(self.root, 0), NOBODY, Purpose.INIT))
        self.prints = {"plan": plan.fingerprint(), "population": population.fingerprint()}
        text = f"{self.prints['plan']} {self.prints['population']} {seed} {dropout}"
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
            "machine": _machine(on.devices),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": 0.0,
            "compile_seconds": 0.0,
            "assumptions": assumptions(plan, dropout, examined),
        }
        self.summary = {
            **population.describe(),
            "test": test.describe() if test is not None else None,
        }
        self.folder: RunFolder | None = None
        self.round = 0
        self._open(run, resume, first)
        self.first_round = self.round

    # -- the run folder -----------------------------------------------------------------------------------

    def _open(self, run: Any, resume: bool, first: Any) -> None:
        if run is None and resume:
            raise PlanError(
                "resume",
                given="no run folder",
                expected="run=, the folder of the run",
                do="Give run= the folder to resume.",
            )
        own = jax.tree.map(np.asarray, self.plan.algorithm.mine(first.params))
        has_states = bool(jax.tree.leaves(own))
        path = Path(run) / "clients" if run is not None else None
        if run is not None and resume:
            self.folder = RunFolder.open(run)
            self._same(self.folder.read("run.json"))
            self.states = ClientStates(len(self.population), own, path) if has_states else None
            found = self.folder.last_checkpoint(self.fingerprint)
            if found is not None:
                self.round, arrays, facts = found
                self.participation = arrays.pop("participation")
                stripped = {name.removeprefix("server/"): array for name, array in arrays.items()}
                self.state = self.engine.alike(restore_state(first, stripped))
                self.metrics = self.folder.cut_metrics(self.round)
                self.seconds = facts["seconds"]
                if self.states is not None:
                    self.states.recover(facts, self.round)
                return
            self.folder.cut_metrics(0)
        elif run is not None:
            self.folder = RunFolder.create(run)
            write_head(self.folder, self.header, self.plan, self.summary)
        if not (run is not None and resume):
            self.states = ClientStates(len(self.population), own, path) if has_states else None
        if self.states is not None:
            self.states.begin(0)
        self.state = self.engine.alike(first)

    def _same(self, header: dict[str, Any]) -> None:
        given = {**self.prints, "seed": self.seed, "dropout": self.header["dropout"]}
        saved = {**header["fingerprints"], "seed": header["seed"], "dropout": header["dropout"]}
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

    def _facts(self) -> dict[str, Any]:
        facts = {"fingerprint": self.fingerprint, "seconds": self.seconds}
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
        began = time.perf_counter()
        self._warm()
        self.header["compile_seconds"] = round(time.perf_counter() - began, 3)
        pace = 1  # rounds a call
        saved = time.perf_counter()
        stopped = self._stops()
        while self.round < self.rounds and not stopped:
            until = self._next_pause()
            numbers = range(self.round + 1, min(until, self.round + pace) + 1)
            draws = [self.draws.of(number) for number in numbers]
            began = time.perf_counter()
            records = self._run(draws)
            spent = time.perf_counter() - began
            each = spent / len(draws)
            if spent < CALL_SECONDS / 2:
                pace = min(2 * pace, self.capacity)
            self.seconds += spent
            for record in records:
                record["seconds"] = each
            self.round += len(draws)
            due = self.test is not None and (
                self.round % self.evaluate_every == 0 or self.round == self.rounds
            )
            if due:
                records[-1]["test"] = self._evaluate()
            self.metrics += records
            if self.folder is not None:
                self.folder.append_metrics(records)
            if self._checkpoint_due(saved):
                self._checkpoint()
                saved = time.perf_counter()
            for record in records:
                if self.on_round is not None:
                    self.on_round(record)
            stopped = due and self._stops()
        return self._end()

    def _warm(self) -> None:
        """Compile: a call of no rounds."""
        if self.round >= self.rounds:
            return
        if isinstance(self.feed, Resident):
            self._call([])
        else:
            self._stream([Draw(self.round, np.zeros(0, np.int64), np.zeros(0, np.int64))])

    def _next_pause(self) -> int:
        """The next round after which something other than a round is due."""
        pauses = [self.rounds]
        if self.test is not None:
            pauses.append((self.round // self.evaluate_every + 1) * self.evaluate_every)
        if self.checkpoint_every is not None:
            pauses.append((self.round // self.checkpoint_every + 1) * self.checkpoint_every)
        return min(pauses)

    def _checkpoint_due(self, saved: float) -> bool:
        if self.round == self.rounds:
            return True
        if self.checkpoint_every is not None:
            return self.round % self.checkpoint_every == 0
        return time.perf_counter() - saved > CHECKPOINT_SECONDS

    def _run(self, draws: list[Draw]) -> list[dict[str, Any]]:
        side, reported, faulty = self._call(draws) if isinstance(self.feed, Resident) else self._stream(draws)
        names = ["loss", *self.plan.task.metrics]
        records = []
        for i, draw in enumerate(draws):
            staying, heard = len(draw.staying), int(reported[i])
            if staying and not heard:
                self._diverged(draw)
            self.participation[np.setdiff1d(draw.staying, faulty[i], assume_unique=True)] += 1
            means = {name: float(side[i, 1 + j]) if heard else float("nan") for j, name in enumerate(names)}
            records.append(
                {
                    "round": draw.round,
                    **means,
                    "clients": heard,
                    "sampled": len(draw.sampled),
                    "dropped": len(draw.sampled) - staying,
                    "nonfinite": staying - heard,
                    "examples": int(self.sizes[draw.staying].sum()),
                    "bytes_up": staying * self.plan.bytes_up,
                    "bytes_down": len(draw.sampled) * self.plan.bytes_down,
                }
            )
        return records

    def _call(self, draws: list[Draw]) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """Whole rounds in one call of the compiled program."""
        assert isinstance(self.feed, Resident)
        members, dealt = self.feed.rounds([draw.staying for draw in draws])
        first = draws[0].round if draws else 0
        self.state, side, reported, finite = self.engine.rounds(
            self.state, self.feed.columns, members, np.int32(first), np.int32(len(draws)), self.root
        )
        ok = np.asarray(finite)
        faulty = []
        for r, parts in enumerate(dealt):
            bad = [part[~ok[r, d, : len(part)]] for d, part in enumerate(parts)]
            faulty.append(np.concatenate(bad))
        return np.asarray(side), np.asarray(reported), faulty

    def _stream(self, draws: list[Draw]) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """Rounds whose clients are fetched piece by piece."""
        assert isinstance(self.feed, Streamed)
        sides, counts, faulty = [], [], []
        for draw in draws:
            sums = self.engine.nothing()
            broadcast = Broadcast(self.state.params, self.state.shared, np.int32(draw.round))
            key = of_round(self.root, draw.round)
            waiting: list[tuple[list[np.ndarray], jax.Array]] = []
            bad: list[np.ndarray] = []
            for piece in self.feed.pieces(draw.staying):
                mine = self._fetch(piece.clients)
                sums, mine, finite = self.engine.accumulate(
                    sums, broadcast, piece.columns, piece.members, mine, key
                )
                self._store(piece.clients, mine)
                waiting.append((piece.clients, finite))
                if len(waiting) > 1:  # fetch the next piece while this one is computed, but no further ahead
                    bad += _faulty(*waiting.pop(0))
            for pair in waiting:
                bad += _faulty(*pair)
            self.state, (side, heard) = self.engine.finish(self.state, sums, np.int32(draw.round), self.root)
            sides.append(np.asarray(side))
            counts.append(int(heard))
            faulty.append(np.concatenate(bad) if bad else np.zeros(0, np.int64))
        return np.stack(sides), np.array(counts), faulty

    def _fetch(self, parts: list[np.ndarray]) -> Any:
        assert isinstance(self.feed, Streamed)
        if self.states is None:
            return ()
        stacks = [self.states.read(part, self.feed.room) for part in parts]
        return self.engine.spread(jax.tree.map(lambda *leaves: np.stack(leaves), *stacks))

    def _store(self, parts: list[np.ndarray], mine: Any) -> None:
        if self.states is None:
            return
        fetched = jax.tree.map(np.asarray, mine)
        for d, part in enumerate(parts):
            if len(part):
                self.states.write(part, jax.tree.map(lambda leaf, d=d: leaf[d], fetched))

    def _diverged(self, draw: Draw) -> None:
        clients = [self.population.ids[c] for c in draw.staying[:5]]
        raise TrainingDiverged(
            f"round {draw.round}",
            given=f"no finite update from any of {len(draw.staying)} clients (first: {', '.join(map(str, clients))})",
            expected="at least one finite update",
            do="Lower the learning rate, clip gradients in the local optimiser (optax.clip_by_global_norm), or look at those clients' data.",
        )

    # -- judging and ending -------------------------------------------------------------------------------

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
        result = Run(
            self.plan, jax.tree.map(np.asarray, self.state), self.metrics, self.header, self.summary,
            self.participation, self.sizes, self.tested, self.folder.path if self.folder else None, self._facts(),
        )  # fmt: skip
        if self.folder is not None:
            if not done:
                self._checkpoint()
            self.folder.write("run.json", self.header)
            self.folder.write_arrays("clients.safetensors", result.client_arrays())
        return result


def _faulty(parts: list[np.ndarray], finite: jax.Array) -> list[np.ndarray]:
    ok = np.asarray(finite)
    return [part[~ok[d, : len(part)]] for d, part in enumerate(parts)]


def _machine(devices: list[Device]) -> dict[str, Any]:
    memory = (
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else None
    )
    return {
        "cpu": _processor(),
        "cores": available_cores(),
        "memory_gib": round(memory, 1) if memory else None,
        "system": f"{platform.system()} {platform.machine()}",
        "devices": [f"{device.device_kind} {device.id}" for device in devices],
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
