"""How many examples do attacks read off a round? By cohort and by what a plan does to updates.

    python benchmarks/reconstruction.py [--targets 12] [--cohorts 3 10 20 60 150]

Digits of 200 clients, the zoo's 2NN, one local epoch of SGD unless said otherwise. Each target is a round of its own from the
first model. For each cohort and plan: of how many rounds the reading that the attack itself ranks first is an example of that
round, exactly; how many different examples all its readings give away, of how many that took part; how many readings the
attack was sure of, and how many of those are wrong; what a blind guess reads exactly on average; the median mean squared
error of the reading and of the blind guess, and the seconds it took. Every number but the last depends on nothing but the
seed, where no noise is added.
"""

import argparse
import time

import optax
from _machine import introduce

import fairyring as fr
from fairyring.audit.attack import reconstruct
from fairyring.core.errors import PlanError


def plans(cohort: int, clients: int) -> dict[str, fr.Plan]:
    """What is attacked, by name."""
    task = fr.classification(fr.zoo.two_nn(features=64, hidden=200, classes=10), loss_bound=5.0)
    once = fr.LocalTraining(optax.sgd(0.1), epochs=1, batch_size=10)
    five = fr.LocalTraining(optax.sgd(0.1), epochs=5, batch_size=10)
    small = fr.LocalTraining(optax.sgd(0.1), epochs=1, batch_size=2)
    plain = fr.chain(fr.clip(1.0))
    masked = fr.chain(fr.weight_uniformly(), fr.clip(1.0), fr.quantize(bits=16), fr.secure_sum())
    coarse = fr.chain(
        fr.weight_uniformly(), fr.clip(1.0), fr.rotate(), fr.quantize(bits=8), fr.secure_sum(16)
    )
    found = {
        "clip": fr.Plan(task, once, cohort, plain),
        "clip, 5 epochs": fr.Plan(task, five, cohort, plain),
        "clip, batches of 2": fr.Plan(task, small, cohort, plain),
        "clip, 16 bits, masks": fr.Plan(task, once, cohort, masked),
        "clip, 16 bits, masks, 5 epochs": fr.Plan(task, five, cohort, masked),
        "clip, rotate, 8 bits, masks": fr.Plan(task, once, cohort, coarse),
    }
    flat = fr.classification(fr.zoo.logistic_regression(features=64, classes=10), loss_bound=5.0)
    found["clip, no hidden layer"] = fr.Plan(flat, once, cohort, plain)
    if cohort > 3:
        turns = clients // cohort
        rule = fr.cohort.in_turn(cohort, separation=turns) if turns > 1 else cohort
        found["clip, noise, epsilon 8"] = fr.Plan(
            task,
            once,
            rule,
            fr.chain(fr.clip(0.5), fr.gaussian_noise()),
            privacy=fr.Budget(8.0, 1e-5, rounds=12),
        )
    return found


def main() -> None:
    """Attack each plan and print."""
    arguments = argparse.ArgumentParser(description="How many examples do attacks read off a round?")
    arguments.add_argument("--targets", type=int, default=12)
    arguments.add_argument("--clients", type=int, default=200)
    arguments.add_argument("--cohorts", type=int, nargs="+", default=[3, 10, 20, 60, 150])
    options = arguments.parse_args()
    population, _ = fr.load("digits", clients=options.clients, alpha=0.3)
    introduce(f"{options.targets} rounds each")
    print(
        f"{'cohort':>6}  {'plan':32}{'exact':>9}{'distinct':>13}{'sure':>6}{'wrong':>6}{'chance':>8}{'mse':>9}"
        f"{'blind':>9}{'s':>6}"
    )
    for cohort in options.cohorts:
        for name, plan in plans(cohort, options.clients).items():
            began = time.perf_counter()
            try:
                found = reconstruct(plan, population, targets=options.targets)
            except PlanError as error:
                print(f"{cohort:6}  {name:32}{error}")
                continue
            taken, reads = time.perf_counter() - began, found.reads
            print(
                f"{cohort:6}  {name:32}{f'{reads.exact} of {reads.targets}':>9}"
                f"{f'{reads.distinct} of {reads.examples}':>13}{reads.sure:6}{reads.wrong:6}"
                f"{reads.targets * reads.chance:8.2g}{found.error['protected']:9.2g}{found.error['blind']:9.2g}"
                f"{taken:6.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
