"""Four participants whose training is a command: this file again, called with a folder. It could as well be an R script.

In the folder are the model and the number of the round; the command leaves the trained model there, and says how it went.

    fairyring up examples/participant_command.py     a service and the four of them on this machine
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def train(rows: Path, folder: Path) -> None:
    """Logistic regression by hand, with NumPy alone."""
    with np.load(rows) as own, np.load(folder / "model.npz") as given:
        x, y = own["x"].reshape(-1, 64) / 255.0, own["y"]
        model = {name: given[name].astype(float) for name in given.files}
    weights, biases = (next(a for a in model.values() if a.ndim == ndim) for ndim in (2, 1))
    first = softmax(x @ weights + biases)
    for _ in range(20):
        error = (softmax(x @ weights + biases) - np.eye(10)[y]) / len(x)
        weights -= 1.0 * x.T @ error
        biases -= 1.0 * error.sum(0)
    np.savez(folder / "fitted.npz", **{name: array.astype(np.float32) for name, array in model.items()})
    loss = float(-np.log(np.maximum(first[np.arange(len(y)), y], 1e-12)).mean())
    said = {"examples": len(x), "loss": loss, "metrics": {"accuracy": float(np.mean(first.argmax(1) == y))}}
    (folder / "fitted.json").write_text(json.dumps(said))


if __name__ == "__main__" and len(sys.argv) == 3:
    train(Path(sys.argv[1]), Path(sys.argv[2]))
    raise SystemExit

# What follows is the plan, which the command does not need.
import optax  # noqa: E402

import fairyring as fr  # noqa: E402
from fairyring.device import Participant  # noqa: E402

population, test = fr.load("digits", clients=4, alpha=10.0)
_folder = tempfile.TemporaryDirectory()  # each participant's own examples


def participant(client: int) -> Participant:
    rows = Path(_folder.name) / f"{client}.npz"
    np.savez(rows, **{name: np.asarray(column) for name, column in population.client(client).items()})
    return Participant.of_command([sys.executable, __file__, str(rows)])


plan = fr.Plan(
    fr.classification(fr.zoo.logistic_regression(features=64, classes=10)),
    local=fr.LocalTraining(optax.sgd(0.1), epochs=1, batch_size=16),  # of participants without their own
    cohort=4,
    aggregation=fr.chain(fr.clip(10.0), fr.quantize(bits=12), fr.secure_sum(modulus_bits=24)),
)
participants = [participant(client) for client in range(4)]
rounds = 10

if __name__ == "__main__":
    from fairyring.cli import main

    raise SystemExit(main(["up", __file__]))
