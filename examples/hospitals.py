"""Four hospitals predict heart disease together; no patient's record leaves its hospital.

All four take part in every round. For comparison, each also learns alone.
Needs the data set `heart-disease`: `fairyring data heart-disease` says where it comes from.
"""

import numpy as np
import optax

import fairyring as fr

population, test = fr.load("heart-disease")
features = population.shape("x")[0]

plan = fr.Plan(
    fr.classification(fr.zoo.logistic_regression(features=features, classes=2)),
    local=fr.LocalTraining(optax.sgd(0.05), epochs=2, batch_size=16),
    cohort=4,
)
rounds = 30

if __name__ == "__main__":
    together = fr.simulate(plan, population, rounds=rounds, seed=0, test=test)
    shared = together.evaluate(test).client_metrics["accuracy"]
    alone = fr.override(plan, {"cohort": "1"})
    for i, hospital in enumerate(population.ids):
        own = fr.simulate(alone, population.select(np.array([i])), rounds=rounds, seed=0)
        mine = own.evaluate(test.select(np.array([i]))).client_metrics["accuracy"][0]
        print(f"{hospital:12}  alone {mine:.3f}  together {shared[i]:.3f}")
    print(f"held-out accuracy {together.records[-1].test.metrics['accuracy']:.3f}")
