"""Multi-label: any number of labels an example."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from fairyring.core.errors import ModelError
from fairyring.task.adapters import as_model
from fairyring.task.validate import Column
from fairyring.task.metric import Batch, Metric, weight_of, with_extra
from fairyring.task.task import Task, unit_interval


def multi_label(
    model: Any,
    *,
    inputs: str = "x",
    labels: str = "y",
    prepare: Callable[[jax.Array], jax.Array] | None = None,
    metrics: Mapping[str, Metric | Callable[..., Any]] | None = None,
    columns: tuple[str, ...] = (),
    loss_bound: float = 100.0,
    name: str = "multi_label",
) -> Task:
    """Learn which of L labels an example has: sigmoid cross-entropy on logits `[B, L]`.

    Metrics, a label counting as predicted where its logit is above 0: `label_accuracy`, the share of labels
    that are right; `exact_match`, whether all are; `f1`, the F1 score of an example, 2 tp / (2 tp + fp + fn),
    1 where it has no label and none is predicted. All are means over examples (scikit-learn's
    `average="samples"`); F1 over a whole population (micro, macro) is not one, and so cannot be added up
    client by client.

    Args:
        model: see `as_model`. Its outputs are logits `[B, L]`, no sigmoid.
        inputs: the column the model reads.
        labels: the column of labels, `[L]` a row: 0 or 1, or booleans.
        prepare: applied to a batch of inputs inside the compiled program. Default: uint8 to [0, 1].
        metrics: more metrics, name -> `Metric` or function `(outputs, batch) -> value [B]`.
        columns: columns that these metrics read besides.
        loss_bound: where a sum of integers carries the loss of a client, larger ones are cut to this; see `Task`. Under
            differential privacy noise grows with it.
        name: as the plan's record shows it.

    Raises:
        ModelError: the model cannot be trained here.
    """

    def loss(logits: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
        logits, there = logits.astype(jnp.float32), batch[labels].astype(jnp.float32)
        # -log sigmoid of the right sign, in the form that never overflows.
        terms = jnp.maximum(logits, 0.0) - logits * there + jnp.log1p(jnp.exp(-jnp.abs(logits)))
        return terms.mean(axis=1), weight_of(batch, logits.shape[0])

    def metric(of: Callable[[jax.Array, jax.Array], jax.Array]) -> Metric:
        def measure(logits: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
            value = of(logits > 0, batch[labels].astype(bool))
            return value.astype(jnp.float32), weight_of(batch, logits.shape[0])

        return Metric(measure, 1.0)

    def f1(predicted: jax.Array, there: jax.Array) -> jax.Array:
        right = (predicted & there).sum(axis=1)
        named = predicted.sum(axis=1) + there.sum(axis=1)
        return jnp.where(named == 0, 1.0, 2.0 * right / jnp.maximum(named, 1))

    def rule(found: Mapping[str, Column], outputs: Callable[[], Any]) -> None:
        column, shape = found[labels], getattr(outputs(), "shape", ())
        if len(shape) != 2:
            raise ModelError(
                "model",
                given=f"outputs of shape (B, {', '.join(map(str, shape[1:]))})",
                expected="logits of shape (B, labels)",
                do="Return one number for each label and example.",
            )
        column.require_shape(shape[1:], do="Give one 0 or 1 for each output of the model.")
        column.require(
            lambda values: (values == 0) | (values == 1),
            expected="0 or 1",
            do="Turn lists of labels into rows of 0 and 1.",
        )

    return Task(
        name=name,
        loss_bound=loss_bound,
        model=as_model(model),
        loss=loss,
        metrics=with_extra(
            {
                "label_accuracy": metric(lambda predicted, there: (predicted == there).mean(axis=1)),
                "exact_match": metric(lambda predicted, there: (predicted == there).all(axis=1)),
                "f1": metric(f1),
            },
            metrics,
        ),
        inputs=inputs,
        columns=(inputs, labels, *columns),
        prepare=prepare or unit_interval,
        data_checks=(rule,),
    )
