"""What a participant's own training gives back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

Measure = float | tuple[float, float]


@dataclass(frozen=True)
class Fitted:
    """What a participant's training gives.

    Attributes:
        model: the trained parameters by name, in the shapes in which they came.
        examples: how many examples it was trained on.
        loss: the mean loss of the examples, best along the first pass over them, as devices measure it.
        metrics: of each of the task's metrics the mean over the examples. One with weights of its own, such as recall, is a pair: the sum
            of its weighted values, and the sum of its weights.
        weight: how much the participant counts; by default the number of examples.
    """

    model: Mapping[str, np.ndarray]
    examples: int
    loss: Measure
    metrics: Mapping[str, Measure] = field(default_factory=dict)
    weight: float | None = None


Fit = Callable[[dict[str, np.ndarray], int], Fitted]
