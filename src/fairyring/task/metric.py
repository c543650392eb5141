"""A metric: one value and one weight for each example, so that means over any grouping of clients agree."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fairyring.core.errors import PlanError

Batch = Mapping[str, jax.Array]
Measure = Callable[[Any, Batch], tuple[jax.Array, jax.Array]]
"""`(outputs, batch) -> (value [B], weight [B])`: each example's value and how much it counts in a mean."""


class Metric(NamedTuple):
    """A metric whose mean over examples means something.

    Attributes:
        measure: `(outputs, batch) -> (value [B], weight [B])`.
        bound: values lie in `[0, bound]`; `inf` where no bound is known. Sums of integers (quantised, masked)
            need a finite one: see `clamp`.
    """

    measure: Measure
    bound: float


def clamp(metric: Metric, bound: float) -> Metric:
    """`metric` with its values cut to `[0, bound]`, so that an integer sum can carry it."""
    if not (math.isfinite(bound) and bound > 0):
        raise PlanError(
            "bound", given=bound, expected="a finite number above 0", do="Give the largest value."
        )

    def measure(outputs: Any, batch: Batch) -> tuple[jax.Array, jax.Array]:
        value, weight = metric.measure(outputs, batch)
        return jnp.clip(value, 0.0, bound), weight

    return Metric(measure, bound)


def weight_of(batch: Batch, examples: int) -> jax.Array:
    """What each example counts: the column `weight` where there is one, else 1. Float32 `[B]`."""
    weight = batch.get("weight")
    return jnp.ones((examples,), jnp.float32) if weight is None else weight.astype(jnp.float32)


def with_extra(
    own: Mapping[str, Metric], extra: Mapping[str, Metric | Callable[..., Any]] | None
) -> Mapping[str, Metric]:
    """A task's own metrics and a user's. One of the same name takes the place of the task's.

    Args:
        own: the metrics of the task.
        extra: name -> `Metric`, or -> a function `(outputs, batch) -> value [B]`, which is weighted as the
            examples are and has no bound.

    Raises:
        PlanError: a name that means something else, or a metric that is neither.
    """
    metrics = dict(own)
    for name, metric in (extra or {}).items():
        if name in ("loss", "weight", ""):
            raise PlanError(
                f"metric {name!r}",
                given="a name that is taken",
                expected="another name than loss and weight",
                do="Rename it.",
            )
        if not isinstance(metric, Metric):
            if not callable(metric):
                raise PlanError(
                    f"metric {name!r}",
                    given=type(metric).__name__,
                    expected="a Metric, or a function (outputs, batch) -> value [B]",
                    do="Wrap it in a function.",
                )
            metric = Metric(_weighted(metric), math.inf)
        metrics[name] = metric
    return MappingProxyType(metrics)


def _weighted(function: Callable[..., Any]) -> Measure:
    def measure(outputs: Any, batch: Batch) -> tuple[jax.Array, jax.Array]:
        value = jnp.asarray(function(outputs, batch)).astype(jnp.float32)
        return value, weight_of(batch, value.shape[0] if value.ndim else 1)

    return measure
