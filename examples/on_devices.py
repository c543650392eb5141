"""A plan for devices: 20 of them, whose updates are added under masks, with noise that each device adds a share of.

fairyring train examples/on_devices.py      in a simulation
fairyring up examples/on_devices.py         a service and 20 devices on this machine
"""

import optax

import fairyring as fr

population, test = fr.load("digits", clients=20, alpha=1.0)

plan = fr.Plan(
    fr.classification(fr.zoo.two_nn(features=64, hidden=64, classes=10), loss_bound=5.0),
    local=fr.LocalTraining(optax.sgd(0.1), epochs=2, batch_size=10),
    cohort=fr.cohort.in_turn(10, separation=2),
    aggregation=fr.chain(
        fr.clip(1.0), fr.distributed_noise(), fr.secure_sum(modulus_bits=24, minimum_cohort=8)
    ),
    privacy=fr.Budget(epsilon=50.0, delta=1e-3, rounds=20),
)
secure_sum = "protocol"
rounds = 20

if __name__ == "__main__":
    run = fr.simulate(plan, population, rounds=rounds, test=test, secure_sum="protocol")
    print(f"held-out accuracy {run.records[-1].test.metrics['accuracy']:.3f}")
    print(f"epsilon spent {run.header['privacy']['spent']:.2f}")
