"""How long until the first round is done? From the start of Python, compilation included.

    python benchmarks/first_round.py [--repeats 3]

Each work runs in a fresh process without a compilation cache. Prints the machine, and for each work the median
seconds from the start of the process to the end of round one, beside the 10 s it may take.
"""

import argparse
import json
import os
import statistics
import sys
from pathlib import Path

from _machine import introduce

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))

from timing import fresh_process

LIMIT = 10.0
COLD = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
COLD["FAIRYRING_PROGRAMS"] = "none"
PROGRAM = """
import json, sys
import numpy as np
import optax
import fairyring as fr

name, shape, classes = sys.argv[1], tuple(json.loads(sys.argv[2])), int(sys.argv[3])
models = {"lr": fr.zoo.logistic_regression, "2nn": fr.zoo.two_nn, "c1": fr.zoo.c1, "c2": fr.zoo.c2}
rng = np.random.default_rng(0)
x = rng.normal(size=(100 * 50, *shape)).astype(np.float32)
y = rng.integers(0, classes, len(x)).astype(np.int32)
people = fr.Population.from_arrays({"x": x, "y": y}, client=np.repeat(np.arange(100), 50))
local = fr.LocalTraining(optax.sgd(0.1), batch_size=20 if name == "c2" else 10)
plan = fr.Plan(fr.classification(models[name]()), local, cohort=20)
run = fr.simulate(plan, people, rounds=1)
print(json.dumps({"compile": run.header["compile_seconds"], "round": run.header["seconds"]}))
"""
WORKS = {"lr": ([784], 62), "2nn": ([784], 62), "c1": ([32, 32, 3], 10), "c2": ([28, 28, 1], 62)}


def main() -> None:
    """Time each work and print."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--repeats", type=int, default=3)
    options = arguments.parse_args()
    introduce("seconds")
    print(f"{'work':6}{'first round':>13}{'compile':>10}{'round':>8}{'limit':>8}")
    for name, (shape, classes) in WORKS.items():
        turns = [
            fresh_process(PROGRAM, name, json.dumps(shape), str(classes), env=COLD)
            for _ in range(options.repeats)
        ]
        total = statistics.median(seconds for _, seconds in turns)
        inner = {key: statistics.median(told[key] for told, _ in turns) for key in ("compile", "round")}
        verdict = "met" if total <= LIMIT else "missed"
        print(
            f"{name:6}{total:13.2f}{inner['compile']:10.2f}{inner['round']:8.2f}{LIMIT:8.1f}  {verdict}",
            flush=True,
        )


if __name__ == "__main__":
    main()
