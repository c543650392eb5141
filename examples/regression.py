"""Predict the progression of diabetes after a year, over 20 clinics of very different sizes."""

import equinox as eqx
import numpy as np
import optax
from sklearn.datasets import load_diabetes

import fairyring as fr

x, y = load_diabetes(return_X_y=True)
x = (x / x.std(0)).astype(np.float32)
y = ((y - y.mean()) / y.std()).astype(np.float32)  # in standard deviations
patients = fr.partition.quantity_skew({"x": x, "y": y}, clients=20, alpha=1.0, seed=0)
population, test = patients.split_within(0.75, seed=0)

plan = fr.Plan(
    fr.regression(lambda key: eqx.nn.Linear(10, "scalar", key=key)),
    local=fr.LocalTraining(optax.sgd(0.02), epochs=1, batch_size=8),
    cohort=10,
)
rounds = 40

if __name__ == "__main__":
    run = fr.simulate(plan, population, rounds=rounds, seed=0, test=test)
    held_out = run.records[-1].test
    for name, value in {"loss": held_out.loss, **held_out.metrics}.items():
        print(f"held-out {name} {value:.3f}")
