"""Run by the kill tests in a process of its own: a run that can be killed and resumed.

python -m tests.simulation.training FOLDER ALGORITHM ROUNDS [resume]
"""

import sys
from functools import cache

import optax

import fairyring as fr
from tests.learning.linear import people, task


@cache
def plan_of(name: str) -> fr.Plan:
    """One object: what was traced of a plan is kept with it, for all runs of it."""
    averaging = {"aggregation": fr.chain(fr.clip(0.5), fr.quantize(bits=12), fr.secure_sum())}
    scaffold = {"algorithm": fr.scaffold(), "aggregation": fr.chain()}
    return fr.Plan(
        task(),
        local=fr.LocalTraining(optax.sgd(0.2), epochs=1, batch_size=4),
        server=fr.fedavgm(0.7),
        cohort=5,
        **{"averaging": averaging, "scaffold": scaffold}[name],
    )


def main() -> None:
    folder, name, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
    fr.simulate(
        plan_of(name),
        people([7, 12, 4, 9, 31, 2, 5, 8]),
        test=people([5, 6], seed=9),
        rounds=rounds,
        evaluate_every=10,
        checkpoint_every=3,
        seed=11,
        run=folder,
        resume="resume" in sys.argv,
        dropout=0.2,
        on_round=lambda record: print(record.round, flush=True),
    )


if __name__ == "__main__":
    main()
