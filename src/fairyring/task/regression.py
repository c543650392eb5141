"""Regression: one or several numbers per example."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fairyring.core.errors import ModelError
from fairyring.task.adapters import as_model
from fairyring.task.given_metrics import AnyMetric, merge_metrics
from fairyring.task.metric import Batch, Metric, weight_of
from fairyring.task.partly import Where
from fairyring.task.task import Task, unit_interval
from fairyring.task.validation import Column


def regression(
    model: Any,
    *,
    inputs: str = "x",
    labels: str = "y",
    prepare: Callable[[jax.Array], jax.Array] | None = None,
    metrics: Mapping[str, AnyMetric] | None = None,
    columns: tuple[str, ...] = (),
    loss_bound: float = 100.0,
    where: Where | None = None,
    name: str = "regression",
) -> Task:
    """Predict numbers: mean squared error, with the mean absolute error as the metric `mae`.

    The value of an example is the mean over its numbers. An error can be arbitrarily large, so `mae` has no
    bound; if a plan sums integers, give `metrics={"mae": clamp(task.metrics["mae"], 10.0)}`. The root mean squared
    error and R² are not means over examples: give `metrics={"rmse": fr.metrics.rmse(), "r2": fr.metrics.r2()}`.

    Args:
        model: see `as_model`. Its outputs have the shape of the labels, `[B, ...]`; `[B]` and `[B, 1]` match.
        inputs: the column that the model reads.
        labels: the column of numbers to predict.
        prepare: applied to a batch of inputs inside the compiled program. By default uint8 is scaled to [0, 1].
        metrics: further metrics: name -> `Metric`, `PooledMetric`, or a function `(outputs, batch) -> value [B]`.
        columns: further columns that these metrics read.
        loss_bound: the largest loss of a client that an integer sum carries; larger ones are clipped to it. See `Task`.
            Under differential privacy the noise grows with it.
        where: which parameters are trained, by their names, such as ``"head.*"``; by default all. See `as_model`.
        name: the task's name in the plan's record.

    Raises:
        ModelError: the model cannot be trained.
    """

    def mean_of(error: Callable[[jax.Array], jax.Array]) -> Callable[..., tuple[jax.Array, jax.Array]]:
        def measure(outputs: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
            # [B] against [B, 1] would broadcast to [B, B] silently.
            outputs = outputs.reshape(outputs.shape[0], -1).astype(jnp.float32)
            targets = batch[labels].reshape(outputs.shape).astype(jnp.float32)
            return error(outputs - targets).mean(axis=1), weight_of(batch, outputs.shape[0])

        return measure

    def check(data: Mapping[str, Column], outputs: Callable[[], Any]) -> None:
        shape, expected = getattr(outputs(), "shape", None), data[labels].shape
        if shape is None or _without_ones(shape[1:]) != _without_ones(expected):
            raise ModelError(
                "model",
                given="a structure" if shape is None else f"outputs of shape {shape[1:]} per example",
                expected=f"shape {expected}, as in column {labels!r}",
                do="Make the last layer as wide as the labels.",
            )
        if data[labels].dtype.kind == "f":
            data[labels].require(np.isfinite, expected="finite numbers", do="Drop or fill in missing values.")

    means, pooled = merge_metrics({"mae": Metric(mean_of(jnp.abs), math.inf)}, metrics)
    return Task(
        name=name,
        loss_bound=loss_bound,
        model=as_model(model, where),
        loss=mean_of(jnp.square),
        metrics=means,
        pooled=pooled,
        inputs=inputs,
        columns=(inputs, labels, *columns),
        prepare=prepare or unit_interval,
        data_checks=(check,),
    )


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without a last axis of length 1: (1,) and () count as the same, and so do (3, 1) and (3,)."""
    return shape[:-1] if shape and shape[-1] == 1 else shape
