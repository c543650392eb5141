"""Multi-label classification: an example may have any number of labels."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from fairyring.core.errors import ModelError
from fairyring.task.adapters import as_model
from fairyring.task.given_metrics import AnyMetric, merge_metrics
from fairyring.task.metric import Batch, Metric, weight_of
from fairyring.task.partly import Where
from fairyring.task.task import Task, unit_interval
from fairyring.task.validation import Column


def multi_label(
    model: Any,
    *,
    inputs: str = "x",
    labels: str = "y",
    prepare: Callable[[jax.Array], jax.Array] | None = None,
    metrics: Mapping[str, AnyMetric] | None = None,
    columns: tuple[str, ...] = (),
    loss_bound: float = 100.0,
    where: Where | None = None,
    name: str = "multi_label",
) -> Task:
    """Predict which of L labels an example has: sigmoid cross-entropy on logits `[B, L]`.

    A label is predicted if its logit is above 0. Metrics: `label_accuracy`, the fraction of labels that are right;
    `exact_match`, whether all labels are right; `f1`, the F1 score of an example, 2 tp / (2 tp + fp + fn), which
    is 1 if the example has no label and none is predicted. All are means over examples (scikit-learn's
    `average="samples"`). Micro and macro F1 are not means over examples: give `metrics={"macro_f1": fr.metrics.f1()}`.

    Args:
        model: see `as_model`. Its outputs are logits `[B, L]`, without a sigmoid.
        inputs: the column that the model reads.
        labels: the column of labels, `[L]` per row: 0 or 1, or booleans.
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

    def loss(logits: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
        logits, present = logits.astype(jnp.float32), batch[labels].astype(jnp.float32)
        # -log sigmoid with the sign of the label, in the form that does not overflow.
        terms = jnp.maximum(logits, 0.0) - logits * present + jnp.log1p(jnp.exp(-jnp.abs(logits)))
        return terms.mean(axis=1), weight_of(batch, logits.shape[0])

    def metric(of: Callable[[jax.Array, jax.Array], jax.Array]) -> Metric:
        def measure(logits: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
            value = of(logits > 0, batch[labels].astype(bool))
            return value.astype(jnp.float32), weight_of(batch, logits.shape[0])

        return Metric(measure, 1.0)

    def f1(predicted: jax.Array, present: jax.Array) -> jax.Array:
        right = (predicted & present).sum(axis=1)
        count = predicted.sum(axis=1) + present.sum(axis=1)
        return jnp.where(count == 0, 1.0, 2.0 * right / jnp.maximum(count, 1))

    def check(data: Mapping[str, Column], outputs: Callable[[], Any]) -> None:
        column, shape = data[labels], getattr(outputs(), "shape", ())
        if len(shape) != 2:
            raise ModelError(
                "model",
                given=f"outputs of shape (B, {', '.join(map(str, shape[1:]))})",
                expected="logits of shape (B, labels)",
                do="Return one number per label for every example.",
            )
        column.require_shape(shape[1:], do="Give one 0 or 1 for each output of the model.")
        column.require(
            lambda values: (values == 0) | (values == 1),
            expected="0 or 1",
            do="Convert lists of labels to rows of 0 and 1.",
        )

    means, pooled = merge_metrics(
        {
            "label_accuracy": metric(lambda predicted, present: (predicted == present).mean(axis=1)),
            "exact_match": metric(lambda predicted, present: (predicted == present).all(axis=1)),
            "f1": metric(f1),
        },
        metrics,
    )
    return Task(
        name=name,
        loss_bound=loss_bound,
        model=as_model(model, where),
        takes_logits=True,
        loss=loss,
        metrics=means,
        pooled=pooled,
        inputs=inputs,
        columns=(inputs, labels, *columns),
        prepare=prepare or unit_interval,
        data_checks=(check,),
    )
