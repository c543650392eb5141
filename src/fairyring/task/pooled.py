"""Metrics that are no mean over examples: computed from sums over the examples of all clients."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fairyring.task.metric import Batch, weight_of

Statistic = Callable[[Any, Batch], jax.Array]
"""`(outputs, batch) -> [B, k]`: what an example adds to k sums."""
Finish = Callable[[np.ndarray], Any]
"""`sums [..., k] -> value [...]`, or a table `[..., *shape]`, for any number of leading axes."""


class PooledMetric(NamedTuple):
    """A metric of evaluations that is computed from sums over examples, such as the area under a ROC curve or F1.

    Sums add over examples and over clients, so the value is that of all examples together, as if they lay in one place. In training
    there is no such value, because each batch is judged by another model: pooled metrics are no part of training records, and
    nothing of them travels with an update.

    Attributes:
        statistic: `(outputs, batch) -> [B, k]` in jax.numpy: what each example adds to k sums. It is multiplied by the example's
            weight, the column `weight` if there is one.
        finish: `sums [..., k] -> value [...]` in NumPy, for any number of leading axes: the value from the sums, which are float64. It
            is called with the sums of all examples, with those of each client, and with those of resampled clients. NaN says
            that there is no value.
        higher_is_better: as of a `Metric`.
        table: whether a value is an array instead of a number. A table is in `Evaluation.tables` only; a number is also recorded,
            and can end a run or choose a setting.
    """

    statistic: Statistic
    finish: Finish
    higher_is_better: bool | None = None
    table: bool = False


def statistics_of(
    pooled: Mapping[str, PooledMetric], outputs: Any, batch: Batch, examples: int
) -> list[jax.Array]:
    """The weighted statistic of each metric: float32 `[examples, k]`; zeros for an example of weight 0."""
    weight = weight_of(batch, examples)[:, None]
    found = (jnp.asarray(one.statistic(outputs, batch)).astype(jnp.float32) for one in pooled.values())
    return [jnp.where(weight > 0, statistic * weight, 0.0) for statistic in found]


def finished(metric: PooledMetric, sums: np.ndarray) -> np.ndarray:
    """The values from sums `[..., k]`: float64 `[...]`, or tables `[..., *shape]`; a division by zero gives no warning."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        return np.asarray(metric.finish(np.asarray(sums, np.float64)), np.float64)
