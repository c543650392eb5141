"""What does a Ray cluster cost, and what would a large one give?

    python benchmarks/scale.py [--repeats 3] [--json FILE]

1. Rounds of the CNN C2 with 50 clients, and of logistic regression with 10^3, 10^4 and 10^5 clients: in this process, and on a Ray cluster
   of one node on this machine, with the same processors. They take turns. Prints milliseconds a round, and how much longer Ray takes.
2. A model of a round of a large cluster, from what was measured here and assumptions that are printed: a node's rate of clients, the bytes that are sent and added
   up, and a network of 10 Gbit/s.
"""

import argparse
import math
import statistics
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import optax
from _machine import introduce, keep

import fairyring as fr

NETWORK = 10e9 / 8  # bytes a second, of each node
NODES, CLIENTS = 100, 10_000_000


def c2(clients: int) -> tuple[fr.Plan, fr.Population]:
    """C2 with 50 examples a client."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100 * 50, 28, 28, 1)).astype(np.float32)
    y = rng.integers(0, 62, len(x)).astype(np.int32)
    population = fr.Population.from_arrays({"x": x, "y": y}, client=np.repeat(np.arange(100), 50))
    plan = fr.Plan(
        fr.classification(fr.zoo.c2()), fr.LocalTraining(optax.sgd(0.1), batch_size=20), cohort=clients
    )
    return plan, population


def logistic(clients: int) -> tuple[fr.Plan, fr.Population]:
    """Logistic regression on 784 features, 10 examples a client, every client in every round."""
    rng = np.random.default_rng(0)
    shared = min(clients, 2000)  # as many clients have rows of their own; the others have theirs again
    x = rng.normal(size=(shared * 10, 784)).astype(np.float32)
    y = rng.integers(0, 10, len(x)).astype(np.int32)
    starts = 10 * (np.arange(clients) % shared)
    population = fr.Population({"x": x, "y": y}, starts, np.full(clients, 10))
    model = fr.zoo.logistic_regression(features=784, classes=10)
    return fr.Plan(
        fr.classification(model), fr.LocalTraining(optax.sgd(0.1), batch_size=10), cohort=clients
    ), population


WORKS = {
    "C2, 50 clients": (c2, 50, 6),
    "logistic regression, 10^3 clients": (logistic, 1_000, 30),
    "logistic regression, 10^4 clients": (logistic, 10_000, 10),
    "logistic regression, 10^5 clients": (logistic, 100_000, 4),
}


def milliseconds(plan: fr.Plan, population: fr.Population, rounds: int, engine: Any) -> float:
    """The median of a round's, by the times between records, without the first two."""
    times: list[float] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"engine": engine, "on_round": lambda _: times.append(time.perf_counter())}
        fr.simulate(plan, population, rounds=rounds + 2, processors=2, **options)
    return 1e3 * statistics.median(np.diff(times[1:]))


def large_cluster(rate: float, parameters: int, overhead: float) -> None:
    """Print the model of a large cluster's round.

    Args:
        rate: clients a second on a node.
        parameters: of the model, 4 bytes each.
        overhead: seconds of a round on one node beside its computation.
    """
    size = 4 * parameters
    levels = math.ceil(math.log2(NODES))
    # The model reaches the nodes, and sums come back, by trees: each level sends it once more.
    parts = {
        "clients": CLIENTS / NODES / rate,
        "the model to all nodes": levels * size / NETWORK,
        "sums, two by two": levels * size / NETWORK,
        "Ray, as measured on one node": overhead,
    }
    print(
        f"\nA round of {CLIENTS:,} clients on {NODES} such nodes, with 10 Gbit/s each, if no node waits for another (assumed; the parts were measured "
        "here or computed):"
    )
    for name, seconds in (parts | {"all": sum(parts.values())}).items():
        print(f"  {name:32}{seconds:10.2f} s")


def main() -> None:
    """Measure, and print."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--work", action="append", choices=list(WORKS))
    arguments.add_argument("--json", type=Path, help="write the results here")
    options = arguments.parse_args()
    here = introduce("milliseconds a round")
    engines, works = {"here": "compiled", "ray": fr.ray(processors=2)}, {}
    print(f"{'':36}{'here':>10}{'Ray':>10}{'ratio':>8}")
    for name in options.work or WORKS:
        make, clients, rounds = WORKS[name]
        plan, population = make(clients)
        turns = [
            {way: milliseconds(plan, population, rounds, engine) for way, engine in engines.items()}
            for _ in range(options.repeats)
        ]
        medians = {way: statistics.median(turn[way] for turn in turns) for way in engines}
        ratio = statistics.median(turn["ray"] / turn["here"] for turn in turns)
        works[name] = {
            "milliseconds": medians,
            "ratio": ratio,
            "turns": turns,
            "clients": clients,
            "parameters": plan.layout.size,
        }
        print(f"{name:36}{medians['here']:10.1f}{medians['ray']:10.1f}{ratio:7.2f}x", flush=True)
        keep(options.json, here, works=works)
    last = works[list(works)[-1]]
    rate = last["clients"] / last["milliseconds"]["here"] * 1e3
    first = next(iter(works.values()))["milliseconds"]
    large_cluster(rate, last["parameters"], max(0.0, first["ray"] - first["here"]) / 1e3)


if __name__ == "__main__":
    main()
