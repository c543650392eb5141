"""Classify handwritten digits over 100 clients, each with mostly a few of the ten digits.

python examples/digits.py
fairyring train examples/digits.py        the same, with progress and a report
"""

import optax

import fairyring as fr

population, test = fr.load("digits", clients=100, alpha=0.3)

plan = fr.Plan(
    fr.classification(fr.zoo.two_nn(features=64, hidden=200, classes=10)),
    local=fr.LocalTraining(optax.sgd(0.1), epochs=1, batch_size=10),
    cohort=20,
    server=fr.fedavgm(momentum=0.9),
)
rounds = 100

if __name__ == "__main__":
    run = fr.simulate(plan, population, rounds=rounds, seed=0, test=test)
    print(f"held-out accuracy {run.records[-1].test.metrics['accuracy']:.3f}")
