"""What does (8, 1e-5)-differential privacy for every device cost in accuracy, by cohort size?

    FAIRYRING_DATA=... python benchmarks/private_accuracy.py [--quick] [--seed 0] [--rounds 100]

MNIST by writer: a device is a writer, and the test writers are none of the training writers. All cohorts are in turn,
so a device takes part once in `population // cohort` rounds, and no amplification by sampling is claimed. Three columns
of accuracy from the same plan, seed and rounds: a clip alone, which is the limit; with independent noise in every
round; with noise correlated over rounds, which partly cancels. The table has two parts:

- As it is: the population there is, and the noise that keeps the promise to it. These runs are (8, 1e-5)-private.
- Computed as if the population were 10^6: a run of a smaller cohort whose mean carries the noise that the mean of the
  claimed cohort would. Its noise multiplier is calibrated for a population of 10^6 in turn and then scaled by simulated
  cohort / claimed cohort. The run itself promises nothing: its budget is infinite. It shows what noise of that size
  costs; the larger cohort would also average out more of the difference between clients.

The SNR is the median over the last tenth of the rounds, of the length of the true mean over the length of the noise,
as a run's record reckons it. From one noisy vector of d numbers nothing below (2 / d)^(1/4) can be told from 0: there
a round drowns, though the sum of all rounds does not.

Both columns take the same steps: larger in part (b), where there is little noise. It is one seed: differences of a
hundredth between noisy runs say nothing.
"""

import argparse
import hashlib
import json
import math
import os
import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

import optax

import fairyring as fr
from fairyring.privacy.accounting import calibrate
from fairyring.privacy.correlated import choose_bands
from fairyring.privacy.participation import AtMost
from fairyring.privacy.release import Release

EPSILON, DELTA = 8.0, 1e-5
LIMIT, INDEPENDENT, CORRELATED = "limit", "independent", "correlated"
AS_IF = 10**6
CLAIMED = (1_000, 5_000, 20_000)
COHORTS = (20, 50, 100)
SIMULATED = 50  # of a claimed cohort
HIDDEN = 64
CLIP = 0.5
LOCAL_RATE = 0.1
SERVER_RATE, SERVER_RATE_AS_IF = 1.0, 2.0
ROUNDS = 100


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        accuracy: of the last model on the test writers' examples.
        multiplier: of the noise, as claimed: not scaled to a smaller cohort.
        snr: of the last rounds.
        least_snr: below which an SNR cannot be told from 0.
        epsilon: that the run itself spent, by its ledger; None where it promised nothing.
        seconds: it took.
    """

    accuracy: float
    multiplier: float = 0.0
    snr: float | None = None
    least_snr: float = 0.0
    epsilon: float | None = None
    seconds: float = 0.0


def noise(column: str, multiplier: float | None = None, bands: int | None = None) -> Any:
    """A column's noise stage."""
    if column == INDEPENDENT:
        return fr.gaussian_noise(multiplier)
    return fr.correlated_noise(multiplier, bands=bands)


def claimed_noise(column: str, cohort: int, rounds: int) -> tuple[float, int]:
    """Multiplier and bands that keep the promise to a population of 10^6, of which so many are in a round."""
    separation = AS_IF // cohort
    participation = AtMost(-(-rounds // separation), separation)
    bands = 0
    if column == CORRELATED:
        bands = choose_bands(rounds, participation.maximum(rounds), separation)
    mechanism = "correlated" if column == CORRELATED else "gaussian"
    multiplier = calibrate(
        epsilon=EPSILON,
        delta=DELTA,
        rounds=rounds,
        participation=participation,
        release=lambda z: Release(mechanism, z, bands),
    )
    return multiplier, bands


def run(data: Any, aggregation: Any, cohort: int, step: float, rounds: int, seed: int, budget: Any) -> Any:
    """Train for so many rounds, the server taking steps of `step` along the mean update."""
    model = fr.zoo.two_nn(features=784, hidden=HIDDEN, classes=10)
    plan = fr.Plan(
        fr.classification(model, loss_bound=5.0),
        local=fr.LocalTraining(optax.sgd(LOCAL_RATE), epochs=1, batch_size=10),
        aggregation=aggregation,
        server=fr.fedavg(step),
        cohort=fr.cohort.in_turn(cohort, separation=len(data.train) // cohort),
        privacy=budget,
    )
    # The table can be had again: a run that is to protect somebody takes its noise from the operating system.
    entropy = hashlib.sha256(f"private_accuracy {seed}".encode()).digest() if budget else None
    return fr.simulate(
        plan, data.train, test=data.test, rounds=rounds, evaluate_every=rounds, seed=seed, entropy=entropy
    )


def outcome(
    data: Any, column: str, cohort: int, claimed: int | None, step: float, rounds: int, seed: int
) -> Outcome:
    """One number of the table: a column, for a real cohort, or for a claimed one that stands for."""
    began = time.perf_counter()
    clip, budget = fr.clip(CLIP), None
    multiplier = 0.0
    if column == LIMIT:
        aggregation = fr.chain(clip, fr.weight_uniformly())
    elif claimed is None:
        aggregation = fr.chain(clip, noise(column))
        budget = fr.Budget(EPSILON, DELTA, rounds=rounds)
    else:
        multiplier, bands = claimed_noise(column, claimed, rounds)
        scaled = multiplier * cohort / claimed
        aggregation = fr.chain(clip, noise(column, scaled, bands or None))
        budget = fr.Budget(math.inf, DELTA, rounds=rounds)
    done = run(data, aggregation, cohort, step, rounds, seed, budget)
    found = {"accuracy": done.tested.metrics["accuracy"], "seconds": time.perf_counter() - began}
    if column == LIMIT:
        return Outcome(**found)
    last = [record.snr for record in done.records[-max(1, rounds // 10) :]]
    if claimed is None:
        multiplier = done.plan.protection.release.multiplier
        found["epsilon"] = done.header["privacy"]["spent"]
    least = (2 / done.plan.layout.size) ** 0.25
    return Outcome(multiplier=multiplier, snr=statistics.median(last), least_snr=least, **found)


def line(name: str, separation: int, limit: Outcome, private: dict[str, Outcome]) -> str:
    """A line of the table."""
    text = f"{name:>8}{separation:>8}{limit.accuracy:>8.4f}"
    for column in (INDEPENDENT, CORRELATED):
        got = private[column]
        seen = got.snr is not None and got.snr >= got.least_snr
        snr = f"{got.snr:.2f}" if seen else f"<{got.least_snr:.2f}"
        text += f"{got.accuracy:>13.4f}{limit.accuracy - got.accuracy:>8.4f}{got.multiplier:>8.3f}{snr:>8}"
    return text


def main() -> None:
    """Run and print."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--quick", action="store_true", help="40 rounds, one row of each part")
    arguments.add_argument("--rounds", type=int, default=None)
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    rounds = options.rounds or (40 if options.quick else ROUNDS)
    began, data = time.perf_counter(), fr.load("mnist-writers")
    writers, results = len(data.train), []
    print(
        f"MNIST by writer, 2NN of {HIDDEN}; {rounds} rounds, clip {CLIP}, local rate {LOCAL_RATE}, seed "
        f"{options.seed}; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n"
        f"({EPSILON:g}, {DELTA:g}) for one device, no amplification by sampling; z: noise multiplier a round"
    )
    head = f"{'cohort':>8}{'apart':>8}{'limit':>8}"
    head += "".join(f"{column:>13}{'cost':>8}{'z':>8}{'SNR':>8}" for column in (INDEPENDENT, CORRELATED))

    def row(cohort: int, claimed: int | None, step: float, limit: Outcome) -> None:
        private = {
            column: outcome(data, column, cohort, claimed, step, rounds, options.seed)
            for column in (INDEPENDENT, CORRELATED)
        }
        separation = (AS_IF if claimed else writers) // (claimed or cohort)
        suffix = f"  as if 10^6, simulated with {cohort}" if claimed else ""
        print(line(f"{claimed or cohort:,}", separation, limit, private) + suffix, flush=True)
        results.append(
            {
                "cohort": claimed or cohort,
                "simulated": cohort,
                "as_if": AS_IF if claimed else None,
                "separation": separation,
                LIMIT: asdict(limit),
                **{column: asdict(got) for column, got in private.items()},
            }
        )

    cohorts, claims = ((SIMULATED,), CLAIMED[:1]) if options.quick else (COHORTS, CLAIMED)
    print(
        f"\n(a) As it is: {writers} writers in turn, server rate {SERVER_RATE:g}; these runs keep the promise\n{head}",
        flush=True,
    )
    for cohort in cohorts:
        row(cohort, None, SERVER_RATE, outcome(data, LIMIT, cohort, None, SERVER_RATE, rounds, options.seed))
    print(
        f"\n(b) Computed as if the population were 10^6, server rate {SERVER_RATE_AS_IF:g}; "
        f"these runs promise nothing\n{head}",
        flush=True,
    )
    limit = outcome(data, LIMIT, SIMULATED, None, SERVER_RATE_AS_IF, rounds, options.seed)
    for claimed in claims:
        row(SIMULATED, claimed, SERVER_RATE_AS_IF, limit)
    print(f"\n{time.perf_counter() - began:.0f} s")
    print(json.dumps({"rounds": rounds, "seed": options.seed, "writers": writers, "rows": results}))


if __name__ == "__main__":
    main()
