"""Metrics: one value and one weight per example, so that means over any grouping of clients agree."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fairyring.core.errors import PlanError

Batch = Mapping[str, jax.Array]
Measure = Callable[[Any, Batch], tuple[jax.Array, jax.Array]]
"""`(outputs, batch) -> (value [B], weight [B])`: the value of each example, and its weight in a mean."""


class Metric(NamedTuple):
    """A metric that is a weighted mean over examples.

    Attributes:
        measure: `(outputs, batch) -> (value [B], weight [B])`.
        bound: values lie in `[0, bound]`; `inf` if no bound is known. Integer sums (quantised, masked)
            need a finite bound: see `clamp`.
        higher_is_better: whether a larger value is the better one. None to go by the name: one that ends with loss, error,
            mse, mae, rmse or perplexity is an error, and any other metric is better the larger it is.
        weight_bound: None if the weights are those of the examples: `weight_of(batch, B)`, or a constant multiple. Otherwise the
            metric has weights of its own, such as recall, in which only the examples of a class count. This is then the largest
            weight, as a multiple of the example's: 1.0 for recall; `inf` if no bound is known. Its weights travel with a client's
            update, as a second number: without it, a mean over clients would not be the mean over their examples.
    """

    measure: Measure
    bound: float
    higher_is_better: bool | None = None
    weight_bound: float | None = None


def clamp(metric: Metric, bound: float) -> Metric:
    """`metric` with its values clipped to `[0, bound]`, so that an integer sum can carry it.

    Raises:
        PlanError: `bound` is not a finite number above 0.
    """
    if not (math.isfinite(bound) and bound > 0):
        raise PlanError(
            "bound", given=bound, expected="a finite number above 0", do="Give the metric's largest value."
        )

    def measure(outputs: Any, batch: Batch) -> tuple[jax.Array, jax.Array]:
        value, weight = metric.measure(outputs, batch)
        return jnp.clip(value, 0.0, bound), weight

    return metric._replace(measure=measure, bound=bound)


def weight_of(batch: Batch, examples: int) -> jax.Array:
    """The weight of each example, float32 `[B]`: the column `weight` if there is one, otherwise 1."""
    weight = batch.get("weight")
    return jnp.ones((examples,), jnp.float32) if weight is None else weight.astype(jnp.float32)
