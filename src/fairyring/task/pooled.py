"""Metrics that are no mean over examples: computed from sums over the examples of all clients."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fairyring.task.metric import Batch, weight_of


@partial(jax.tree_util.register_dataclass, data_fields=["places", "values"], meta_fields=["length"])
@dataclass(frozen=True)
class Sparse:
    """What examples add to many sums, if each adds to few of them, such as a count to one bin of a histogram.

    Attributes:
        places: which sums an example adds to, from 0 to length - 1: int32 `[B, s]`.
        values: what it adds to each: float32 `[B, s]`.
        length: the number of sums.
    """

    places: jax.Array
    values: jax.Array
    length: int


Statistic = Callable[[Any, Batch], jax.Array | Sparse]
"""`(outputs, batch) -> [B, k]`, or the same as `Sparse`: what each example adds to k sums."""
Finish = Callable[[np.ndarray], Any]
"""`sums [..., k] -> value [...]`, or a table `[..., *shape]`, for any number of leading axes."""


class PooledMetric(NamedTuple):
    """A metric of evaluations that is computed from sums over examples, such as the area under a ROC curve or F1.

    Sums add over examples and over clients, so the value is that of all examples together, as if they lay in one place. In training
    there is no such value, because each batch is judged by another model: pooled metrics are no part of training records, and
    nothing of them travels with an update.

    Attributes:
        statistic: `(outputs, batch) -> [B, k]` in jax.numpy: what each example adds to k sums; or a `fairyring.task.Sparse`. It is
            multiplied by the example's weight, the column `weight` if there is one.
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
) -> list[Sparse]:
    """The weighted statistic of each metric, of so many examples; an example of weight 0 adds 0."""
    weight = weight_of(batch, examples)[:, None]
    found: list[Sparse] = []
    for metric in pooled.values():
        given = metric.statistic(outputs, batch)
        if not isinstance(given, Sparse):
            places = jnp.broadcast_to(jnp.arange(given.shape[1], dtype=jnp.int32), given.shape)
            given = Sparse(places, given, given.shape[1])
        values = jnp.where(weight > 0, given.values.astype(jnp.float32) * weight, 0.0)
        found.append(Sparse(given.places.astype(jnp.int32), values, given.length))
    return found


def finished(metric: PooledMetric, sums: np.ndarray) -> np.ndarray:
    """The values from sums `[..., k]`: float64 `[...]`, or tables `[..., *shape]`; a division by zero gives no warning."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        return np.asarray(metric.finish(np.asarray(sums, np.float64)), np.float64)
