"""What does a round cost that hardly computes anything?

    python benchmarks/small_rounds.py [--rounds 1000] [--repeats 3] [--json FILE]

Logistic regression on 64 features with 10 classes, batches of 10, 20 examples a client, on cohorts of 5 and of 20 clients. Three ways
take turns: `ahead`, many rounds in one program, which is the default; `alone`, one core and a program a round; `all`, all cores and a
program a round. Prints the median of the turns' milliseconds a round, after two rounds of warming up, and how much longer than
`ahead` the others take.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import optax
from _machine import introduce, keep

import fairyring as fr
from fairyring.core.cores import available_cores
from fairyring.simulation.assembly import Assembly

WAYS = {"ahead": None, "alone": 1, "all": available_cores()}  # and the processors of each
COHORTS = (5, 20)


def people() -> fr.Population:
    """100 clients of 20 examples."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 64)).astype(np.float32)
    return fr.Population.from_arrays(
        {"x": x, "y": rng.integers(0, 10, 2000)}, client=np.repeat(np.arange(100), 20)
    )


def milliseconds(plan: fr.Plan, population: fr.Population, way: str, rounds: int) -> float:
    """A round's, by the time from the second record to the last."""
    times: list[float] = []
    options: dict[str, Any] = {"processors": WAYS[way]} if WAYS[way] else {}
    at_once = Assembly.rounds_at_once if way == "ahead" else 1
    with mock.patch.object(Assembly, "rounds_at_once", at_once):
        fr.simulate(
            plan,
            population,
            rounds=rounds + 2,
            on_round=lambda _: times.append(time.perf_counter()),
            **options,
        )
    return 1e3 * (times[-1] - times[1]) / (len(times) - 2)


def main() -> None:
    """Let the ways take turns, and print."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=1000)
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--json", type=Path, help="write the results here")
    options = arguments.parse_args()
    here = introduce("milliseconds a round")
    population, results = people(), {}
    print(f"{'cohort':8}" + "".join(f"{way:>10}" for way in WAYS) + f"{'alone':>10}{'all':>8}  as a ratio")
    for cohort in COHORTS:
        model = fr.zoo.logistic_regression(features=64, classes=10)
        plan = fr.Plan(fr.classification(model), fr.LocalTraining(optax.sgd(0.1)), cohort=cohort)
        turns = [
            {way: milliseconds(plan, population, way, options.rounds) for way in WAYS}
            for _ in range(options.repeats)
        ]
        medians = {way: statistics.median(one[way] for one in turns) for way in WAYS}
        ratios = {
            way: statistics.median(one[way] / one["ahead"] for one in turns) for way in ("alone", "all")
        }
        results[str(cohort)] = {"milliseconds": medians, "ratios": ratios}
        print(
            f"{cohort:<8}"
            + "".join(f"{medians[way]:10.3f}" for way in WAYS)
            + f"{ratios['alone']:9.1f}x{ratios['all']:7.1f}x"
        )
    keep(options.json, here, **results)


if __name__ == "__main__":
    main()
