"""Regression: one or several numbers an example."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fairyring.core.errors import ModelError
from fairyring.task.adapters import as_model
from fairyring.task.validate import Column
from fairyring.task.metric import Batch, Metric, weight_of, with_extra
from fairyring.task.task import Task, unit_interval


def regression(
    model: Any,
    *,
    inputs: str = "x",
    labels: str = "y",
    prepare: Callable[[jax.Array], jax.Array] | None = None,
    metrics: Mapping[str, Metric | Callable[..., Any]] | None = None,
    columns: tuple[str, ...] = (),
    loss_bound: float = 100.0,
    name: str = "regression",
) -> Task:
    """Learn numbers: mean squared error, and mean absolute error as the metric `mae`.

    The value of an example is the mean over its numbers. An error has no largest value, so `mae` has no
    bound; where integers are summed, give `metrics={"mae": clamp(task.metrics["mae"], 10.0)}`. The root of
    the mean squared error and R² are no means over examples, and so are left to whoever has the predictions.

    Args:
        model: see `as_model`. Outputs `[B, ...]` of the shape of the labels; `[B]` and `[B, 1]` go together.
        inputs: the column the model reads.
        labels: the column of numbers to learn.
        prepare: applied to a batch of inputs inside the compiled program. Default: uint8 to [0, 1].
        metrics: more metrics, name -> `Metric` or function `(outputs, batch) -> value [B]`.
        columns: columns that these metrics read besides.
        loss_bound: where a sum of integers carries the loss of a client, larger ones are cut to this; see `Task`. Under
            differential privacy noise grows with it.
        name: as the plan's record shows it.

    Raises:
        ModelError: the model cannot be trained here.
    """

    def mean_of(error: Callable[[jax.Array], jax.Array]) -> Callable[..., tuple[jax.Array, jax.Array]]:
        def measure(outputs: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
            # [B] against [B, 1] would broadcast to [B, B] without a word.
            outputs = outputs.reshape(outputs.shape[0], -1).astype(jnp.float32)
            targets = batch[labels].reshape(outputs.shape).astype(jnp.float32)
            return error(outputs - targets).mean(axis=1), weight_of(batch, outputs.shape[0])

        return measure

    def rule(found: Mapping[str, Column], outputs: Callable[[], Any]) -> None:
        shape, wanted = getattr(outputs(), "shape", None), found[labels].shape
        if shape is None or _without_ones(shape[1:]) != _without_ones(wanted):
            raise ModelError(
                "model",
                given="a structure" if shape is None else f"outputs of shape {shape[1:]} an example",
                expected=f"shape {wanted}, as column {labels!r}",
                do="Make the last layer as wide as there are numbers to learn.",
            )
        if found[labels].dtype.kind == "f":
            found[labels].require(
                np.isfinite, expected="finite numbers", do="Drop or fill in what is missing."
            )

    return Task(
        name=name,
        loss_bound=loss_bound,
        model=as_model(model),
        loss=mean_of(jnp.square),
        metrics=with_extra({"mae": Metric(mean_of(jnp.abs), math.inf)}, metrics),
        inputs=inputs,
        columns=(inputs, labels, *columns),
        prepare=prepare or unit_interval,
        data_checks=(rule,),
    )


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(1,) and () are the same to us; (3, 1) and (3,) too."""
    return shape[:-1] if shape and shape[-1] == 1 else shape
