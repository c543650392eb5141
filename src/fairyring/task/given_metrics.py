"""The metrics that a user gives to a task, beside the task's own."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp

from fairyring.core.errors import PlanError
from fairyring.task.metric import Batch, Measure, Metric, weight_of
from fairyring.task.pooled import PooledMetric

AnyMetric = Metric | PooledMetric | Callable[..., Any]
"""A metric as it is given to a task; a function `(outputs, batch) -> value [B]` is a mean over examples."""


def merge_metrics(
    own: Mapping[str, Metric], extra: Mapping[str, AnyMetric] | None
) -> tuple[Mapping[str, Metric], Mapping[str, PooledMetric]]:
    """The metrics of a task together with a user's, which replace those of the same name: means, and pooled ones.

    Args:
        own: the metrics of the task.
        extra: name -> `Metric`, `PooledMetric`, or a function `(outputs, batch) -> value [B]`. The values of a function have the
            weights of the examples, and no bound.

    Raises:
        PlanError: a name is reserved, or a metric is none of these.
    """
    metrics: dict[str, Metric] = dict(own)
    pooled: dict[str, PooledMetric] = {}
    for name, metric in (extra or {}).items():
        if name in ("loss", "weight", ""):
            raise PlanError(
                f"metric {name!r}",
                given="a reserved name",
                expected="any name except loss and weight",
                do="Rename it.",
            )
        if isinstance(metric, PooledMetric):
            metrics.pop(name, None)
            pooled[name] = metric
            continue
        if not isinstance(metric, Metric):
            if not callable(metric):
                raise PlanError(
                    f"metric {name!r}",
                    given=type(metric).__name__,
                    expected="a Metric, a PooledMetric, or a function (outputs, batch) -> value [B]",
                    do="Wrap it in a function.",
                )
            metric = Metric(_weighted(metric), math.inf)
        metrics[name] = metric
    return MappingProxyType(metrics), MappingProxyType(pooled)


def _weighted(function: Callable[..., Any]) -> Measure:
    def measure(outputs: Any, batch: Batch) -> tuple[jax.Array, jax.Array]:
        value = jnp.asarray(function(outputs, batch)).astype(jnp.float32)
        return value, weight_of(batch, value.shape[0] if value.ndim else 1)

    return measure
