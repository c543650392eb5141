"""Several labels for each image: is the digit even, is it prime, is it above four, does it have a closed loop?"""

import numpy as np
import optax

import fairyring as fr


def properties(digit: np.ndarray) -> np.ndarray:
    sets = [(0, 2, 4, 6, 8), (2, 3, 5, 7), (5, 6, 7, 8, 9), (0, 6, 8, 9)]
    return np.stack([np.isin(digit, members) for members in sets], axis=1).astype(np.float32)


def with_properties(people: fr.Population) -> fr.Population:
    columns, client = people.rows()
    return fr.Population.from_arrays({"x": columns["x"], "y": properties(columns["y"])}, client=client)


population, test = map(with_properties, fr.load("digits", clients=50))

plan = fr.Plan(
    fr.multi_label(fr.zoo.two_nn(features=64, hidden=100, classes=4)),
    local=fr.LocalTraining(optax.sgd(0.3), epochs=2, batch_size=10),
    cohort=10,
    server=fr.fedadam(0.01),
)
rounds = 60

if __name__ == "__main__":
    run = fr.simulate(plan, population, rounds=rounds, seed=0, test=test)
    held_out = run.records[-1].test
    for name, value in {"loss": held_out.loss, **held_out.metrics}.items():
        print(f"held-out {name} {value:.3f}")
