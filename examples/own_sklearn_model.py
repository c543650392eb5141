"""Use your own model: scikit-learn's logistic regression, trained over clients and handed back to scikit-learn."""

import optax
from sklearn.linear_model import LogisticRegression

import fairyring as fr

estimator = LogisticRegression(C=10.0)
population, test = fr.load("digits", clients=50)

plan = fr.Plan(
    # C weighs the penalty against a sum over all examples, so how many there are must be known.
    fr.from_sklearn(
        estimator, features=64, classes=10, examples=population.examples, prepare=lambda x: x / 255.0
    ),
    local=fr.LocalTraining(optax.sgd(0.5), epochs=1, batch_size=10),
    cohort=10,
    server=fr.fedavgm(momentum=0.9),
)
rounds = 60

if __name__ == "__main__":
    run = fr.simulate(plan, population, rounds=rounds, seed=0, test=test)
    print(f"held-out accuracy {run.records[-1].test.metrics['accuracy']:.3f}")

    run.into(estimator)
    pixels = test.columns["x"].reshape(-1, 64) / 255.0
    print(f"the same in scikit-learn {estimator.score(pixels, test.columns['y']):.3f}")
