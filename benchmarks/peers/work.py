"""The work on which simulators are compared, as plain data: NumPy only, the same in every system's environment.

Four federated-averaging works: uniform cohorts, one local epoch reshuffled each time, SGD 0.1 on the device, the
average of the clients weighted by their examples, learning rate 1 on the server, nothing evaluated while the clock
runs. Examples are drawn from a seed: each class is a random pattern under noise, so a loss that falls shows learning.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

LEARNING_RATE = 0.1
SERVER_LEARNING_RATE = 1.0
SEED = 20


@dataclass(frozen=True)
class Work:
    """One work.

    Attributes:
        name: `lr`, `2nn`, `c1` or `c2`.
        shape: of one example, channels last.
        hidden: widths of the dense layers between input and classes; empty for the CNNs.
        convolutional: conv3x3-32, conv3x3-64 (valid, ReLU), maxpool 2, dropout .25, dense 128, dropout .5, dense.
        classes: outputs.
        clients: population.
        examples: of each client.
        cohort: clients a round.
        batch: examples a step; the last batch of an epoch may be smaller.
    """

    name: str
    shape: tuple[int, ...]
    hidden: tuple[int, ...]
    convolutional: bool
    classes: int
    clients: int
    examples: int
    cohort: int
    batch: int

    @property
    def examples_a_round(self) -> int:
        """Examples all clients of a cohort train on in one round."""
        return self.cohort * self.examples

    @property
    def parameters(self) -> int:
        """Numbers in the model, weights and biases."""
        widths, before = (self.shape[0], *self.hidden, self.classes), 0
        if self.convolutional:
            height, width, channels = self.shape
            widths = (64 * ((height - 4) // 2) * ((width - 4) // 2), 128, self.classes)
            before = (9 * channels + 1) * 32 + (9 * 32 + 1) * 64
        return before + sum((a + 1) * b for a, b in pairwise(widths))

    def same_model(self, parameters: int) -> None:
        """Stop where a system's model is not the work's: speeds of different models say nothing."""
        if parameters != self.parameters:
            raise SystemExit(
                f"{self.name}: the model has {parameters} parameters, the work's {self.parameters}"
            )


WORKS = {
    work.name: work
    for work in (
        Work("lr", (784,), (), False, 62, 200, 50, 20, 10),
        Work("2nn", (784,), (200, 200), False, 62, 200, 50, 20, 10),
        Work("c1", (32, 32, 3), (), True, 10, 100, 50, 50, 10),
        Work("c2", (28, 28, 1), (), True, 62, 100, 50, 50, 20),
    )
}


def data(work: Work) -> tuple[np.ndarray, np.ndarray]:
    """Examples float32 `[clients, examples, *shape]` and labels int32 `[clients, examples]`."""
    rng = np.random.default_rng(SEED)
    patterns = rng.random((work.classes, *work.shape), np.float32)
    labels = rng.integers(0, work.classes, (work.clients, work.examples), np.int32)
    examples = rng.random((work.clients, work.examples, *work.shape), np.float32)
    examples *= 0.6
    for client in range(work.clients):
        examples[client] += 0.4 * patterns[labels[client]]
    return examples, labels


def judged(work: Work) -> tuple[np.ndarray, np.ndarray]:
    """At most 1000 of the examples, on which the loss is taken before and after, outside the clock."""
    examples, labels = data(work)
    clients = max(1, 1000 // work.examples)
    return examples[:clients].reshape(-1, *work.shape), labels[:clients].reshape(-1)


def line(
    work: Work,
    system: str,
    version: str,
    threads: int,
    processes: int,
    warmup: int,
    seconds: list[float],
    losses: tuple[float, float],
    settings: str,
) -> dict:
    """What each `run_*.py` prints, as one line of JSON."""
    return {
        "system": system,
        "version": version,
        "work": work.name,
        "threads": threads,
        "processes": processes,
        "rounds": len(seconds),
        "warmup_rounds": warmup,
        "seconds_per_round": [round(s, 6) for s in seconds],
        "examples_per_second": round(work.examples_a_round / float(np.median(seconds)), 1),
        "train_loss_first": round(losses[0], 4),
        "train_loss_last": round(losses[1], 4),
        "settings": settings,
    }
