"""Send 8-bit integers that are summed under masks, and compare with 32-bit floats sent in the clear.

A clipped update is rotated (so that no coordinate stands out), rounded at random to 8 bits, and summed modulo 2^16. Then three
rounds are run again with every message of the masked protocol: the model has the same bits.
"""

import jax
import numpy as np
import optax

import fairyring as fr

population, test = fr.load("digits", clients=100, alpha=0.5)
local = fr.LocalTraining(optax.sgd(0.1), epochs=1, batch_size=10)
task = fr.classification(fr.zoo.two_nn(features=64, hidden=200, classes=10))

plain = fr.Plan(
    task, local=local, cohort=20, server=fr.fedavgm(momentum=0.9), aggregation=fr.weight_uniformly()
)
plan = fr.Plan(
    task,
    local=local,
    cohort=20,
    server=fr.fedavgm(momentum=0.9),
    aggregation=fr.chain(
        fr.weight_uniformly(), fr.clip(1.0), fr.rotate(), fr.quantize(bits=8), fr.secure_sum(16)
    ),
)
rounds = 60

if __name__ == "__main__":
    for name, each in {"floats": plain, "8 bits": plan}.items():
        run = fr.simulate(each, population, rounds=rounds, seed=0, test=test)
        print(
            f"{name}  {each.bytes_up / 1024:5.0f} KiB up  held-out accuracy {run.records[-1].test.metrics['accuracy']:.3f}"
        )
    ideal, masked = (
        fr.simulate(plan, population, rounds=3, seed=0, dropout=0.1, secure_sum=how)
        for how in ("ideal", "protocol")
    )
    pairs = zip(*(jax.tree.leaves(run.params) for run in (ideal, masked)), strict=True)
    same = all(np.array_equal(a, b) for a, b in pairs)
    print(f"under masks  the same bits: {same}, clients in the last sum {masked.records[-1].clients}")
    print(plan.describe()["secure_sum"]["says"])
