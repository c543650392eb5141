"""The means of a round's loss and metrics as they are recorded, and how much noise is in them."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from fairyring.core.errors import PlanError
from fairyring.learning.plan import Plan
from fairyring.rounds.spending import Spending

# What a round's record says besides the means of loss and metrics: a metric by such a name would be written over.
TAKEN = frozenset(
    [
        "round",
        "clients",
        "sampled",
        "dropped",
        "nonfinite",
        "aborted",
        "canaries",
        "examples",
        "seconds",
        "test",
        "bytes_up",
        "bytes_down",
        "snr",
        "noise",
        "noise_std",
        "lost_in_noise",
        "epsilon",
        "empirical_epsilon",
        "empirical_epsilon_lower",
        "loss",
    ]
)

# Of its range: what one knows of a value in it without looking deviates as much.
LOST = 12**-0.5


def check_names(metrics: Iterable[str]) -> None:
    """Raise `PlanError` if a metric has a name that a round's record uses for something else."""
    taken = sorted(TAKEN & set(metrics))
    if taken:
        raise PlanError(
            "metrics",
            given=f"one named {taken[0]!r}, as is a column of every round's record",
            expected=f"names other than {', '.join(sorted(TAKEN))}",
            do=f"Call it {'my_' + taken[0]!r}.",
        )


def recorded(
    plan: Plan,
    auxiliary: np.ndarray,
    clients: int,
    session: int,
    spending: Spending | None,
    *,
    released: bool,
) -> dict[str, Any]:
    """The means of a round, for its record.

    Of a private plan they are noisy, and cut to the range the value can have; with them come `noise_std`, the standard
    deviation of the noise in each before that, and `lost_in_noise`, the names of those it says nothing of.

    Args:
        plan: what ran.
        auxiliary: `[weight, means...]` as it was decoded.
        clients: how many are in the sum.
        session: how many were asked.
        spending: of a private plan.
        released: whether there was a sum.
    """
    names = ["loss", *plan.task.metrics]
    if not released:
        return dict.fromkeys(names, float("nan"))
    means = {name: float(auxiliary[1 + j]) for j, name in enumerate(names)}
    if spending is None:
        return means
    # By place: what an algorithm sends beside them may have the name of a metric.
    bounds = {auxiliary.name: auxiliary.bound for auxiliary in plan.auxiliaries[1 : 1 + len(names)]}
    means = {name: min(max(mean, 0.0), bounds[name]) for name, mean in means.items()}
    if spending.by_steps:  # each is a mean over many noisy steps of many clients
        return means
    noise = spending.noise.auxiliary_std(float(auxiliary[0]), spending.deviation(clients, session))
    deviations = dict(zip(names, noise, strict=False))  # what an algorithm sends beside them comes after
    lost = [name for name, deviation in deviations.items() if deviation > LOST * bounds[name]]
    return {**means, "noise_std": deviations, **({"lost_in_noise": lost} if lost else {})}
