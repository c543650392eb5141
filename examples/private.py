"""Learn digits with a model that reveals next to nothing about any one client: noise, a budget, a ledger.

Each client adds its share of the noise before the masks, so the server sees a noisy sum and nothing else. `privacy=`
says what is promised; how much noise that needs is computed when the plan is made.

python examples/private.py                 needs the extra fairyring[privacy]
fairyring train examples/private.py        the same, with a ledger on disk and a report
"""

import optax

import fairyring as fr

population, test = fr.load("digits", clients=1000, alpha=0.3)

plan = fr.Plan(
    fr.classification(fr.zoo.logistic_regression(features=64, classes=10), loss_bound=5.0),
    local=fr.LocalTraining(optax.sgd(2.0), epochs=1, batch_size=10),
    cohort=fr.cohort.in_turn(
        100, separation=10
    ),  # a client comes again after ten rounds, so six times in sixty
    server=fr.fedavgm(momentum=0.9),
    aggregation=fr.chain(fr.clip(0.5), fr.rotate(), fr.distributed_noise(), fr.secure_sum(16)),
    privacy=fr.Budget(epsilon=8.0, delta=1e-5, rounds=60),
)
rounds = 60

if __name__ == "__main__":
    run = fr.simulate(plan, population, rounds=rounds, seed=0, test=test)
    print(run.header["privacy"]["statement"])
    print(f"epsilon spent {run.header['privacy']['spent']:.2f}, of {run.header['privacy']['epsilon']:g}")
    print(f"held-out accuracy {run.records[-1].test.metrics['accuracy']:.3f}")
