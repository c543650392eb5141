"""The simulation driver: rounds, evaluations, checkpoints and callbacks, around the compiled engine."""

import hashlib
import os
import platform
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import msgspec
import numpy as np

from fairyring._version import __version__
from fairyring.core.cores import available_cores
from fairyring.core.errors import PlanError, RunMismatch, TrainingDiverged
from fairyring.core.keys import NOBODY, Purpose, of_client, of_round, root
from fairyring.core.packing import pack_words
from fairyring.core.record import KEPT, RunFolder, restore_state
from fairyring.core.vector import digest
from fairyring.learning.device import Broadcast
from fairyring.learning.local import Workload
from fairyring.learning.plan import Plan
from fairyring.learning.server import ServerState
from fairyring.population import Population
from fairyring.secagg import Traffic
from fairyring.simulation.draws import Draw, Draws
from fairyring.simulation.engine import Engine
from fairyring.simulation.evaluate import Evaluation, Evaluator
from fairyring.simulation.feed import Piece, feed
from fairyring.simulation.masked import MaskedSums, Summed
from fairyring.simulation.program import Device, handed
from fairyring.simulation.promises import assumptions
from fairyring.simulation.run import Run, checkpoint_arrays, write_head
from fairyring.simulation.states import ClientStates
from fairyring.simulation.stopping import EarlyStopping
from fairyring.simulation.target import target

CHECKPOINT_SECONDS = 10.0
TRANSCRIPTS = "secure_sum"
EXHIBIT = "exhibit.safetensors"
EXHIBITED = 1 << 16  # numbers of a vector that are shown
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
        dropout: probability that a sampled client vanishes before it reports; under the masked protocol, at any point
            of it, and with the same probability also after its input is in.
        secure_sum: how a plan's `secure_sum()` is computed. `"ideal"`: integers are added, which protects nothing.
            `"protocol"`: every client and the server run the masked protocol with real messages, checked and
            counted. The model is bitwise the same, unless clients that vanish after their input leave too few to
            unmask it: such a round is recorded as aborted and changes nothing.
        stop: when to stop early.
        on_round: called with every round's record.
        devices: on a CPU, use so many cores; elsewhere at most so many accelerators. All without it.
        together: clients vectorised together on a device.

    Returns:
        The run.

    Raises:
        PlanError, PopulationError, ModelError: plan and population do not fit together.
        TrainingDiverged: in some round no client's update was finite.
        RunError: the run folder cannot be used.
    """
    simulation = _Simulation(
        plan, population, rounds, seed, test, evaluate_every, run, resume, checkpoint_every, dropout, secure_sum, stop,
        on_round, target(plan.layout.size, devices=devices, together=together),
    )  # fmt: skip
    return simulation.go()


class _Done(NamedTuple):
    """A round that has been run."""

    state: ServerState
    side: np.ndarray
    heard: int
    faulty: np.ndarray  # clients whose update was not finite
    traffic: Traffic | None  # of all clients, where it was counted
    aborted: tuple[str, str] | None  # the stage at which a secure sum ended without one, and why


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
        self.plan, self.population, self.rounds, self.seed = plan, population, rounds, seed
        self.test, self.stop, self.on_round = test, stop, on_round
        self.evaluate_every = evaluate_every or max(1, rounds // 20)
        self.checkpoint_every = checkpoint_every
        self.masked = MaskedSums(plan.terms) if secure_sum == "protocol" else None
        self.draws = Draws(plan.rule, population, seed, dropout)
        self.root = root(seed)
        self.metrics: list[dict[str, Any]] = []
        self.participation = np.zeros(len(population), np.int32)
        self.tested: Evaluation | None = None
        self.tested_at = 0
        self.seconds = 0.0
        sizes = np.asarray(population.sizes)
        self.sizes = sizes
        self.engine = Engine(plan, Workload.of(sizes, plan.local, unroll=on.unroll), len(population), on)
        self.roots = [jax.device_put(self.root, device) for device in on.devices]
        mine = jax.eval_shape(plan.algorithm.mine, plan.params_shape)
        self.feed = feed(population, plan.task.reads(population), self.engine, mine=mine)
        self.evaluator = Evaluator(plan.task, test, on) if test is not None else None
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
            "secure_sum": secure_sum if plan.bound.signal.masking else None,
            "assumptions": assumptions(plan, dropout, examined, secure_sum),
        }
        self.summary = {
            **population.describe(),
            "test": test.describe() if test is not None else None,
        }
        self.folder: RunFolder | None = None
        self.round = 0
        self.exhibited = False
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
                self.state = self._placed(restore_state(first, stripped))
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
        self.state = self._placed(first)

    def _placed(self, state: ServerState) -> ServerState:
        """`state` on the first device, where the server is."""
        return jax.device_put(state, self.engine.devices[0])

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
        saved = time.perf_counter()
        stopped = self._stops()
        while self.round < self.rounds and not stopped:
            began = time.perf_counter()
            record = self._run(self.draws.of(self.round + 1))
            record["seconds"] = time.perf_counter() - began
            self.seconds += record["seconds"]
            self.round += 1
            due = self.test is not None and (
                self.round % self.evaluate_every == 0 or self.round == self.rounds
            )
            if due:
                record["test"] = self._evaluate()
            self.metrics.append(record)
            if self.folder is not None:
                self.folder.append_metrics([record])
            if self._checkpoint_due(saved):
                self._checkpoint()
                saved = time.perf_counter()
            if self.on_round is not None:
                self.on_round(record)
            stopped = due and self._stops()
        return self._end()

    def _warm(self) -> None:
        """Compile: a round of nobody, whose result is dropped."""
        if self.round < self.rounds:
            self._train(Draw(self.round, np.zeros(0, np.int64), np.zeros(0, np.int64)))

    def _checkpoint_due(self, saved: float) -> bool:
        if self.round == self.rounds:
            return True
        if self.checkpoint_every is not None:
            return self.round % self.checkpoint_every == 0
        return time.perf_counter() - saved > CHECKPOINT_SECONDS

    def _run(self, draw: Draw) -> dict[str, Any]:
        """A round: the next state, and the round's record."""
        done = self._train(draw) if self.masked is None else self._train_masked(draw)
        self.state = done.state
        staying = len(draw.staying)
        if staying and len(done.faulty) == staying:
            self._diverged(draw)
        self.participation[np.setdiff1d(draw.staying, done.faulty, assume_unique=True)] += 1
        counts = done.heard >= self.plan.fewest
        names = ["loss", *self.plan.task.metrics]
        means = {name: float(done.side[1 + j]) if counts else float("nan") for j, name in enumerate(names)}
        aborted = done.aborted or (None if counts else ABORTED_IDEAL)
        return {
            "round": draw.round,
            **means,
            "clients": done.heard if counts else 0,
            "sampled": len(draw.sampled),
            "dropped": len(draw.sampled) - staying,
            "nonfinite": len(done.faulty),
            **({"aborted": aborted} if aborted and self.plan.fewest > 1 else {}),
            "examples": int(self.sizes[draw.staying].sum()),
            "bytes_up": staying * self.plan.bytes_up if done.traffic is None else done.traffic.up,
            "bytes_down": len(draw.sampled) * self.plan.bytes_down
            if done.traffic is None
            else len(draw.sampled) * (self.plan.bytes_down - self.plan.traffic.down) + done.traffic.down,
        }

    def _train(self, draw: Draw) -> _Done:
        """A round whose updates are added as they are."""
        sent = self._sent(draw)
        sums = [self.engine.nothing(place) for place in range(len(sent))]
        waiting: deque[list[tuple[np.ndarray, Tree, jax.Array]]] = deque()
        bad: list[np.ndarray] = []
        for pieces in self.feed.pieces(draw.staying):
            waiting.append(self._accumulate(pieces, sums, sent))
            if len(waiting) > 1:  # fetch the next piece while this one is computed, but no further ahead
                bad += self._settle(waiting.popleft())
        self.draws.of(draw.round + 1)  # while other devices are still at work
        for judged in waiting:
            bad += self._settle(judged)
        return self._finish(draw, sums, np.concatenate(bad))

    def _train_masked(self, draw: Draw) -> _Done:
        """A round whose updates go through the masked protocol, each as a message of its own."""
        assert self.masked is not None
        sent, bad = self._sent(draw), []
        model = digest(jax.tree.leaves((self.state.params, self.state.shared)))
        self.draws.of(draw.round + 1)

        def vectors() -> Iterator[tuple[int, np.ndarray | None]]:
            width = len(sent)
            for first in range(0, len(draw.staying), width):
                for pieces in self.feed.pieces(draw.staying[first : first + width]):
                    sums = [self.engine.nothing(place) for place in range(width)]
                    judged = self._accumulate(pieces, sums, sent)
                    faulty = np.concatenate(self._settle(judged))
                    bad.append(faulty)
                    for place, piece in enumerate(pieces):
                        for client in piece.clients.tolist():  # one, or none
                            yield client, None if client in faulty else np.asarray(sums[place][0].vector)

        summed = self.masked.run(draw, self.draws.leaving(draw), model, vectors())
        total = [self.engine.nothing(place) for place in range(len(sent))]
        if summed.vector is not None:
            message = total[0][0]._replace(vector=summed.vector)
            total[0] = jax.device_put((message, np.int32(summed.count)), self.engine.devices[0])
        self._keep(draw.round, summed)
        return self._finish(
            draw, total, np.concatenate([np.zeros(0, np.int64), *bad]), summed.traffic, summed.aborted
        )

    def _keep(self, number: int, summed: Summed) -> None:
        """Write what anyone may check of a round's secure sum."""
        if self.folder is None:
            return
        if summed.transcript is not None and summed.vector is not None:
            name = TRANSCRIPTS + "/round-{:06d}.{}"
            bits = summed.transcript.terms.modulus_bits
            self.folder.write_bytes(name.format(number, "msgpack"), msgspec.msgpack.encode(summed.transcript))
            self.folder.write_bytes(name.format(number, "sum"), pack_words(summed.vector, bits))
            self.folder.remove(name.format(number - KEPT, "sum"))
        if summed.exhibit is not None and not self.exhibited:
            shown = {
                "clear": summed.exhibit.clear[:EXHIBITED],
                "received": summed.exhibit.received[:EXHIBITED],
            }
            self.folder.write_arrays(EXHIBIT, shown)
            self.exhibited = True

    def _sent(self, draw: Draw) -> list[Broadcast]:
        """What the clients on each device receive."""
        own = Broadcast(self.state.params, self.state.shared, np.int32(draw.round))
        return [own, *(handed(own, device) for device in self.engine.devices[1:])]

    def _accumulate(
        self, pieces: list[Piece], sums: list[Tree], sent: list[Broadcast]
    ) -> list[tuple[np.ndarray, Tree, jax.Array]]:
        """Start a piece on every device; `sums` are replaced. Returns `(clients, new states, who was finite)` of each."""
        judged = []
        for place, piece in reversed(list(enumerate(pieces))):  # the first core is this thread's own
            mine = self._fetch(piece.clients, place)
            sums[place], mine, finite = self.engine.accumulate(
                place, sums[place], sent[place], piece.columns, piece.members, mine, self.roots[place]
            )
            judged.append((piece.clients, mine, finite))
        return judged

    def _finish(
        self,
        draw: Draw,
        sums: list[Tree],
        faulty: np.ndarray,
        traffic: Traffic | None = None,
        aborted: tuple[str, str] | None = None,
    ) -> _Done:
        """The server's half of a round."""
        parts = (sums[0], *(handed(part, self.engine.devices[0]) for part in sums[1:]))
        state, side, heard = self.engine.finish(0, self.state, parts, np.int32(draw.round), self.roots[0])
        return _Done(state, np.asarray(side), int(heard), faulty, traffic, aborted)

    def _fetch(self, clients: np.ndarray, place: int) -> Tree:
        """States of a piece's clients, on their device."""
        if self.states is None:
            return ()
        return jax.device_put(self.states.read(clients, self.feed.room), self.engine.devices[place])

    def _settle(self, judged: list[tuple[np.ndarray, Tree, jax.Array]]) -> list[np.ndarray]:
        """Keep the new states of a piece's clients on every device; returns those whose update was not finite."""
        bad = []
        for clients, mine, finite in judged:
            if self.states is not None and len(clients):
                self.states.write(clients, jax.tree.map(np.asarray, mine))
            bad.append(clients[~np.asarray(finite)[: len(clients)]])
        return bad

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


def _machine(devices: list[Device]) -> dict[str, Any]:
    memory = (
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else None
    )
    return {
        "cpu": _processor(),
        "cores": available_cores(),
        "memory_gib": round(memory, 1) if memory else None,
        "system": f"{platform.system()} {platform.machine()}",
        "devices": [device.device_kind for device in devices],
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
