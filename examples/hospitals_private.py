"""Four hospitals predict heart disease together, and the model reveals next to nothing about any one patient.

Four clients are too few to hide one of them. But each holds many patients, so every hospital clips the gradient of each
patient and adds noise to the sum in every local step. What leaves a hospital is already private; masks hide it as well.
Needs the data set `heart-disease`: `fairyring data heart-disease` says where it comes from.

python examples/hospitals_private.py       needs the extra fairyring[privacy]
"""

import numpy as np
import optax

import fairyring as fr

population, test = fr.load("heart-disease")
features = population.shape("x")[0]

plan = fr.Plan(
    fr.classification(fr.zoo.logistic_regression(features=features, classes=2), loss_bound=3.0),
    local=fr.LocalTraining(
        optax.sgd(0.5),
        steps=5,
        rate=0.1,  # each patient is in a step's batch by a coin of its own
        batch_size=24,  # about as many as that selects in the largest hospital
        examples=fr.chain(fr.clip(1.0), fr.gaussian_noise()),
    ),
    cohort=4,
    aggregation=fr.chain(fr.weight_uniformly(), fr.clip(8.0), fr.quantize(bits=16), fr.secure_sum(20)),
    privacy=fr.Budget(epsilon=4.0, delta=1e-4, rounds=10, unit="example"),
)
rounds = 10


def area_under_curve(scores: np.ndarray, sick: np.ndarray) -> float:
    """How often a patient with the disease scores higher than one without it; nan where all or none have it."""
    apart = scores[sick][:, None] - scores[~sick]
    return float(np.mean((apart > 0) + 0.5 * (apart == 0))) if apart.size else float("nan")


if __name__ == "__main__":
    run = fr.simulate(plan, population, rounds=rounds, seed=0, test=test)
    accuracy = run.evaluate(test).client_metrics["accuracy"]
    for i, hospital in enumerate(test.ids):
        patients = test.client(i)
        logits = np.asarray(plan.task.forward(run.state.params, {"x": patients["x"]}, None))
        area = area_under_curve(logits[:, 1] - logits[:, 0], patients["y"] == 1)
        print(f"{hospital:12}  {len(patients['y']):3} patients  accuracy {accuracy[i]:.3f}  AUC {area:.3f}")
    print(run.header["privacy"]["statement"])
    print(f"epsilon spent {run.header['privacy']['spent']:.2f}, of {run.header['privacy']['epsilon']:g}")
    print(f"held-out accuracy {run.records[-1].test.metrics['accuracy']:.3f}")
