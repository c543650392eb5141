"""The means of a round's loss and metrics as they are recorded, and how much noise is in them."""

import math
from typing import NamedTuple

import numpy as np

from fairyring.learning.plan import Plan
from fairyring.records.round_record import LostInNoise, Means
from fairyring.rounds.spending import RunSpending

# Of its range: what one knows of a value in it without looking deviates as much.
LOST = 12**-0.5


class TrainingMeans(NamedTuple):
    """The means of a round's training, for its record.

    Attributes:
        means: of the loss and of each metric; NaN where there was no sum.
        noise_std: standard deviation of the noise in each; None without noise, and where it is in every local step.
        lost: which of them say nothing because of it; None where all of them say something.
        at_bound: names of those that were probably cut, with commas; None where none was.
    """

    means: Means
    noise_std: Means | None = None
    lost: LostInNoise | None = None
    at_bound: str | None = None


def training_means(
    plan: Plan,
    auxiliary: np.ndarray,
    clients: int,
    session: int,
    spending: RunSpending | None,
    *,
    released: bool,
) -> TrainingMeans:
    """The means of a round's training. Those of a private plan are noisy, and cut to the range the value can have.

    Args:
        plan: what ran.
        auxiliary: `[weight, means...]` as it was decoded; see `Measured.coordinates` for the means.
        clients: how many are in the sum.
        session: how many were asked.
        spending: of a private plan.
        released: whether there was a sum.
    """
    measured = plan.measured
    metrics = measured.names[1:]

    def by_name(values: list[float]) -> Means:
        # A file has no infinity: what is not finite is NaN at once, so that a resumed run has the same records.
        loss, *rest = (value if math.isfinite(value) else math.nan for value in values)
        return Means(loss, dict(zip(metrics, rest, strict=True)))

    # Where the sum has no weight, no example counted, and there is no mean. Under noise that would be told by the weight alone.
    if not released or (spending is None and float(auxiliary[0]) <= 0.0):
        return TrainingMeans(by_name([math.nan] * len(measured.names)))
    travelled = len(measured.coordinates)  # what an algorithm sends beside them comes after
    decoded = [float(mean) for mean in auxiliary[1 : 1 + travelled]]
    means = measured.values(decoded, holds_bounds=plan.bound.spec.holds_bounds)
    if spending is None:
        cut = _cut(plan, means) if plan.bound.spec.holds_bounds else []
        return TrainingMeans(by_name(means), at_bound=", ".join(cut) or None)
    means = [min(max(mean, 0.0), bound) for mean, bound in zip(means, measured.bounds, strict=True)]
    if spending.by_steps:  # each is a mean over many noisy steps of many clients
        return TrainingMeans(by_name(means))
    noise = spending.noise.auxiliary_std(float(auxiliary[0]), spending.deviation(clients, session))
    deviations = measured.deviations(decoded, noise[:travelled], means)
    # The deviation of a quotient is unknown where noise has left no weight: it is lost, too.
    loss, *rest = (
        not deviation <= LOST * bound for deviation, bound in zip(deviations, measured.bounds, strict=True)
    )
    lost = LostInNoise(loss, dict(zip(metrics, rest, strict=True)))
    return TrainingMeans(
        by_name(means), by_name(deviations), lost if loss or any(lost.metrics.values()) else None
    )


def _cut(plan: Plan, means: list[float]) -> list[str]:
    """Measures of which clients' values were probably cut to their bound, as far as their mean tells.

    A loss that is bounded for the sake of a sum has half of its bound only if some clients' are at it, or near. A rate may well be 1.
    """
    measured, better = plan.measured, plan.task.higher_is_better
    found = []
    for name, mean, bound in zip(measured.names, means, measured.bounds, strict=True):
        is_rate = bound == 1.0 and better[name]
        most = 0.5 if name == "loss" else 0.999
        if math.isfinite(bound) and mean >= most * bound and not is_rate:
            found.append(name)
    return found
