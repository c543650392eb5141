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
    # An update is kept short, rounded to 10 bits a number, and added to the others under masks.
    aggregation=fr.chain(fr.clip(2.0), fr.quantize(bits=10), fr.secure_sum(modulus_bits=16)),
)
secure_sum = "protocol"  # every message of the masked protocol is made, sent and checked
dropout = 0.05  # of the clients asked vanish at some point
rounds = 100
