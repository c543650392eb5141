"""The demonstration: scikit-learn's handwritten digits over 100 clients, each with mostly a few of the ten digits.

A file for `fairyring train` like any other; `fairyring demo` runs it.
"""

import optax

import fairyring as fr

digits = fr.load("digits")
train, held_out = digits.split_within(0.8, seed=0)

population = fr.partition.dirichlet(train.rows()[0], clients=100, label="y", alpha=0.3, seed=0)
test = fr.partition.uniform(held_out.rows()[0], clients=20, seed=0)

plan = fr.Plan(
    fr.classification(fr.zoo.two_nn(64, 10)),
    local=fr.LocalTraining(optax.sgd(0.1), epochs=5, batch_size=10),
    cohort=20,
)
rounds = 60
