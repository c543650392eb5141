"""What do clipping and noise add to a round?

    python benchmarks/private_rounds.py [--work c2] [--work 2nn] [--cycles 9] [--quick] [--json FILE]

The same rounds under several aggregations, in one process and in turns: each simulation runs some rounds, then waits
until every other one has run as many. A variant is held against the plain one (all clients weigh the same, nothing
else happens to an update) of the same turn, so that a machine that is busy for a while slows both; the number kept is
the median of these ratios. CPU time of all threads is told beside the wall's: it shows work that a second core hides,
and other programs on the machine change it less.

Runs keep their ledger in memory; what one on disk costs a round is measured by itself, at the end. The target: a C2
round with a clip and central Gaussian noise costs at most 1.1 times as much as a plain one.
"""

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optax
from _machine import introduce, keep

import fairyring as fr

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))

from work import LEARNING_RATE, WORKS, Work, data

PLAIN = "plain"
TARGET = "clip, gaussian noise"
TARGETS = {"c2": 1.10}
TURN = {"c2": 1, "2nn": 25}  # rounds a turn: a short one would begin with everybody else's data in the caches
CLIP = 0.5
DELTA = 1e-5


def variants() -> dict[str, tuple[Any, bool]]:
    """Aggregations by name, and whether they are noisy."""
    clip, weigh = fr.clip(CLIP), fr.weight_uniformly()
    return {
        PLAIN: (fr.chain(weigh), False),
        "clip": (fr.chain(clip, weigh), False),
        TARGET: (fr.chain(clip, fr.gaussian_noise()), True),
        f"{TARGET}, secure sum": (fr.chain(clip, fr.gaussian_noise(), fr.secure_sum(32)), True),
        "clip, rotate, skellam, secure sum": (
            fr.chain(clip, fr.rotate(), fr.distributed_noise("skellam"), fr.secure_sum(32)),
            True,
        ),
        "clip, correlated noise": (fr.chain(clip, fr.correlated_noise()), True),
    }


def people(work: Work) -> Any:
    """The work's population."""
    x, y = data(work)
    rows = {"x": x.reshape(-1, *work.shape), "y": y.reshape(-1)}
    return fr.Population.from_arrays(rows, client=np.repeat(np.arange(work.clients), work.examples))


def plan(work: Work, aggregation: Any, noisy: bool, rounds: int) -> Any:
    """The work's plan with another aggregation."""
    model = fr.zoo.c2() if work.convolutional else fr.zoo.two_nn(features=784, hidden=200, classes=62)
    return fr.Plan(
        fr.classification(model, loss_bound=10.0),
        local=fr.LocalTraining(optax.sgd(LEARNING_RATE), epochs=1, batch_size=work.batch),
        aggregation=aggregation,
        cohort=fr.cohort.in_turn(work.cohort, separation=work.clients // work.cohort),
        privacy=fr.Budget(8.0, DELTA, rounds=rounds) if noisy else None,
    )


@dataclass
class Runner:
    """One simulation in a thread of its own, which runs only while it has its turn.

    Args:
        start: runs the simulation, and calls what it is given after each round, with the round's record.
        turn: rounds a turn.
    """

    start: Callable[[Callable[[dict[str, Any]], None]], object]
    turn: int
    rounds: list[tuple[float, float]] = field(default_factory=list)  # seconds of the wall, of the CPU
    failure: BaseException | None = None

    def __post_init__(self) -> None:
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._before = 0.0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def take_turn(self) -> None:
        """Let it run its rounds; raises what it raised."""
        self._go.release()
        self._back.acquire()
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        self._wait()
        try:
            self.start(self._note)
        except BaseException as failure:
            self.failure = failure
        self._back.release()

    def _note(self, record: fr.RoundRecord) -> None:
        now = time.process_time()
        self.rounds.append((record.seconds, now - self._before))
        self._before = now
        if len(self.rounds) % self.turn == 0:
            self._back.release()
            self._wait()

    def _wait(self) -> None:
        self._go.acquire()
        self._before = time.process_time()


def measure(name: str, cycles: int, processors: int) -> dict[str, dict[str, float]]:
    """Run one work under all aggregations, in turns; seconds of a round and ratios to the plain one's, by aggregation."""
    work, turn = WORKS[name], TURN[name]
    population, rounds = people(work), (cycles + 1) * turn
    runners = {}
    for variant, (aggregation, noisy) in variants().items():
        made = plan(work, aggregation, noisy, rounds)
        runners[variant] = Runner(
            lambda note, made=made: fr.simulate(
                made, population, rounds=rounds, on_round=note, processors=processors
            ),
            turn,
        )
    for _ in range(cycles + 2):  # after the last turn a run still has to end
        for runner in runners.values():
            runner.take_turn()
    # The first turn pays for compiling, and the first round of a long turn for cold caches.
    cold = 1 if turn > 1 else 0

    def turns(variant: str, kind: int) -> list[float]:
        rows = np.array(runners[variant].rounds).reshape(cycles + 1, turn, 2)[1:, cold:, kind]
        return np.median(rows, axis=1).tolist()

    results = {}
    for variant in runners:
        wall, cpu = (
            statistics.median(a / b for a, b in zip(turns(variant, kind), turns(PLAIN, kind), strict=True))
            for kind in (0, 1)
        )
        results[variant] = {
            "seconds": statistics.median(turns(variant, 0)),
            "ratio": wall,
            "cpu_seconds": statistics.median(turns(variant, 1)),
            "cpu_ratio": cpu,
        }
    return results


def ledger_seconds(rounds: int) -> dict[str, float]:
    """Median seconds that reserving and releasing a round takes, by where the ledger is."""
    from fairyring.privacy.accounting import Accountant
    from fairyring.privacy.ledger import Ledger, Promise
    from fairyring.privacy.participation import AtMost
    from fairyring.privacy.release import Release

    participation = AtMost(None, 2)
    release = Release("gaussian", 20.0)

    def timed(path: Path | None) -> float:
        accountant = Accountant(participation, DELTA)
        accountant.fits({release: rounds}, 8.0)
        ledger = Ledger(path, Promise("0" * 64, 8.0, DELTA, participation), accountant=accountant)
        seconds = []
        for round in range(1, rounds + 1):
            began = time.perf_counter()
            ledger.release(ledger.reserve(round, release), bytes(32))
            seconds.append(time.perf_counter() - began)
        ledger.close()
        return statistics.median(seconds)

    with tempfile.TemporaryDirectory() as folder:
        return {"in memory": timed(None), "on disk": timed(Path(folder) / "ledger.sqlite")}


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--work", action="append", choices=list(TURN))
    arguments.add_argument("--cycles", type=int, default=9, help="turns of every variant that count")
    arguments.add_argument("--processors", type=int, default=2)
    arguments.add_argument("--quick", action="store_true", help="three turns")
    arguments.add_argument("--json", type=Path, help="write the results here")
    options = arguments.parse_args()
    cycles = 3 if options.quick else options.cycles
    here = introduce(
        f"{fr.__version__}, {options.processors} cores used; medians of {cycles} turns, ratios to plain of the same turn"
    )
    works = {}
    for name in options.work or list(TURN):
        works[name] = measure(name, cycles, options.processors)
        title = f"{name}, {WORKS[name].parameters:,} parameters"
        print(f"\n{title:36}{'ms a round':>12}{'ratio':>8}{'CPU ms':>10}{'ratio':>8}")
        for variant, row in works[name].items():
            line = f"  {variant:34}{1e3 * row['seconds']:12.1f}{row['ratio']:8.3f}"
            line += f"{1e3 * row['cpu_seconds']:10.1f}{row['cpu_ratio']:8.3f}"
            if variant == TARGET and name in TARGETS:
                met = row["ratio"] <= TARGETS[name]
                line += f"  target {TARGETS[name]:.2f}: {'met' if met else 'MISSED'}"
            print(line, flush=True)
    ledger = ledger_seconds(30 if options.quick else 200)
    print("\na round's two ledger entries: " + ", ".join(f"{1e3 * s:.2f} ms {k}" for k, s in ledger.items()))
    keep(options.json, here, works=works, ledger=ledger)


if __name__ == "__main__":
    main()
