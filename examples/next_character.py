"""Predict the next character of Shakespeare; each speaker of the plays is a client.

Needs the data set `shakespeare`: `fairyring data shakespeare` says where it comes from.
"""

import numpy as np
import optax

import fairyring as fr

population, test = fr.load("shakespeare", length=40)

plan = fr.Plan(
    fr.next_token(fr.zoo.lstm(vocabulary=80, embedding=8, units=64, layers=1), labels="y"),
    local=fr.LocalTraining(
        optax.chain(optax.clip_by_global_norm(5.0), optax.sgd(3.0)), steps=10, batch_size=10
    ),
    cohort=10,
)
rounds = 40

if __name__ == "__main__":
    run = fr.simulate(plan, population, rounds=rounds, seed=0, test=test, evaluate_every=rounds)
    space = np.mean(test.rows()[0]["y"] == 1)  # the commonest character, token 1
    print(f"always a space {space:.3f}")
    print(f"held-out accuracy {run.records[-1].test.metrics['accuracy']:.3f}")
