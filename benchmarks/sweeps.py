"""How long is the wait for an answer? A first run, fifteen runs of a sweep, and a second process.

    python benchmarks/sweeps.py [--repeats 3] [--json FILE]

Each turn has a new folder of compiled programs, and three fresh processes with it:

- `first`: the README's quickstart, 20 rounds, alone; compilation included;
- `sweep`: five rates and three seeds of it by `fr.sweep`, in a process of its own with an empty folder of programs;
- `again`: the first run once more, in a process that finds its programs in the folder.

Then the same for the first round of the CNN C2: cold, and in a second process. Prints the machine, and for each the median seconds from the
call, and from the start of Python, beside what it may take.
"""

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

from _machine import introduce, keep

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))

from timing import fresh_process

PROGRAM = """
import json, sys, time
import numpy as np
import optax
import fairyring as fr

kind = sys.argv[1]
if kind in ("c2", "c2 again"):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100 * 50, 28, 28, 1)).astype(np.float32)
    y = rng.integers(0, 62, len(x)).astype(np.int32)
    population = fr.Population.from_arrays({"x": x, "y": y}, client=np.repeat(np.arange(100), 50))
    plan = fr.Plan(fr.classification(fr.zoo.c2()), fr.LocalTraining(optax.sgd(0.1), batch_size=20), cohort=20)
    began = time.perf_counter()
    fr.simulate(plan, population, rounds=1)
else:
    population, test = fr.load("digits", clients=100, alpha=0.3)

    def plan(rate):
        return fr.Plan(
            fr.classification(fr.zoo.two_nn(features=64, hidden=200, classes=10)),
            local=fr.LocalTraining(optax.sgd(rate), epochs=1, batch_size=10),
            cohort=20,
            server=fr.fedavgm(momentum=0.9),
        )

    began = time.perf_counter()
    if kind == "sweep":
        rates = [0.03, 0.05, 0.1, 0.2, 0.3]
        grid = {"local.optimizer.learning_rate": rates}
        fr.sweep(plan(0.1), grid, population, rounds=20, test=test, seeds=3)
    else:
        fr.simulate(plan(0.1), population, rounds=20, test=test)
print(json.dumps(time.perf_counter() - began))
"""


def timed(kind: str, folder: str) -> tuple[float, float]:
    """Seconds of the call, and from the start of Python."""
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    return fresh_process(PROGRAM, kind, env=environment | {"FAIRYRING_PROGRAMS": folder})


def main() -> None:
    """Time everything and print."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--json", type=Path, help="write the results here")
    options = arguments.parse_args()
    here = introduce("seconds")
    turns: dict[str, list[tuple[float, float]]] = {}
    for _ in range(options.repeats):
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            for kind, folder in (
                ("first", one),
                ("sweep", other),
                ("again", one),
                ("c2", one),
                ("c2 again", one),
            ):
                turns.setdefault(kind, []).append(timed(kind, folder))
    medians = {
        kind: [statistics.median(column) for column in zip(*all_, strict=True)]
        for kind, all_ in turns.items()
    }
    first = medians["first"][0]
    limits = {"sweep": 2.5 * first, "c2": 8.0, "c2 again": 2.0}
    print(f"{'':10}{'call':>8}{'process':>9}{'of first':>10}{'may take':>10}")
    for kind, (call, process) in medians.items():
        limit = limits.get(kind)
        shown = f"{limit:10.2f}  {'met' if call <= limit else 'missed'}" if limit else ""
        print(f"{kind:10}{call:8.2f}{process:9.2f}{call / first:10.2f}{shown}")
    calls = {kind: call for kind, (call, _) in medians.items()}
    keep(options.json, here, seconds=calls, ratios={kind: call / first for kind, call in calls.items()})


if __name__ == "__main__":
    main()
