"""The demonstration: scikit-learn's handwritten digits on 1,000 clients, trained privately.

It is an ordinary file for `fairyring train`; `fairyring demo` runs it.
"""

import optax

import fairyring as fr

# Each client has one or two images, mostly of a few of the ten digits.
population, test = fr.load("digits", clients=1000, alpha=0.3)

plan = fr.Plan(
    fr.classification(fr.zoo.logistic_regression(features=64, classes=10), loss_bound=5.0),
    local=fr.LocalTraining(optax.sgd(2.0), epochs=1, batch_size=10),
    # A client takes part once in ten rounds, so in 6 of 60. Knowing when it does costs no privacy.
    cohort=fr.cohort.in_turn(100, separation=10),
    server=fr.fedavgm(momentum=0.9),
    # Each client clips, rotates, rounds and perturbs its update; the updates are added by secure aggregation.
    aggregation=fr.chain(
        fr.clip(0.5), fr.rotate(), fr.distributed_noise(), fr.secure_sum(modulus_bits=16, minimum_cohort=88)
    ),
    privacy=fr.Budget(epsilon=8.0, delta=1e-5, rounds=60),
)
secure_sum = "protocol"  # all messages of the masked protocol are made, sent and checked
dropout = 0.05  # the probability that a client vanishes at some point of a round
rounds = 60
