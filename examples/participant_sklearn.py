"""Four hospitals train with scikit-learn, and only a masked update leaves each of them.

fairyring up examples/participant_sklearn.py     a service and the four of them on this machine
"""

import numpy as np
import optax
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss

import fairyring as fr
from fairyring.device import Fitted, Participant

population, test = fr.load("digits", clients=4, alpha=10.0)
CLASSES = np.arange(10)


def hospital(client: int) -> Participant:
    rows = population.client(client)
    x, y = np.asarray(rows["x"]).reshape(-1, 64) / 255.0, np.asarray(rows["y"])

    def fit(model: dict[str, np.ndarray], round: int) -> Fitted:
        weights, biases = (next(a for a in model.values() if a.ndim == ndim) for ndim in (2, 1))
        estimator = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.02, alpha=0.0)
        estimator.partial_fit(x, y, CLASSES)  # makes its arrays
        estimator.coef_ = np.ascontiguousarray(weights.T, dtype=float)
        estimator.intercept_ = biases.astype(float)
        shown = estimator.predict_proba(x)
        estimator.partial_fit(x, y)
        trained = {2: estimator.coef_.T, 1: estimator.intercept_}
        return Fitted(
            {name: trained[array.ndim] for name, array in model.items()},
            len(x),
            log_loss(y, shown, labels=CLASSES),
            {"accuracy": float(np.mean(shown.argmax(1) == y))},
        )

    return Participant(fit)


plan = fr.Plan(
    fr.classification(fr.zoo.logistic_regression(features=64, classes=10)),
    local=fr.LocalTraining(optax.sgd(0.1), epochs=1, batch_size=16),  # of participants without their own
    cohort=4,
    aggregation=fr.chain(fr.clip(10.0), fr.quantize(bits=12), fr.secure_sum(modulus_bits=24)),
)
participants = [hospital(client) for client in range(4)]
rounds = 10

if __name__ == "__main__":
    from fairyring.cli import main

    raise SystemExit(main(["up", __file__]))
