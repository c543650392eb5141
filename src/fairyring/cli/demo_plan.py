"""The demonstration: scikit-learn's handwritten digits over 100 clients, each with mostly a few of the ten digits.

A file for `fairyring train` like any other; `fairyring demo` runs it.
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
