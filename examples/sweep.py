"""Which learning rate? Three rates and three seeds, chosen on some clients and judged on others.

python examples/sweep.py
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
rates = {"local.optimizer.learning_rate": [0.01, 0.1, 0.3]}
sweep = fr.sweep(plan, rates, population, rounds=30, test=test, choose_by="accuracy")
print(sweep)
