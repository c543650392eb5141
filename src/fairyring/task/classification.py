"""Classification: each example belongs to one of several classes."""

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
from fairyring.task.validation import Column, DataCheck


def classification(
    model: Any,
    classes: int | None = None,
    *,
    inputs: str = "x",
    labels: str = "y",
    prepare: Callable[[jax.Array], jax.Array] | None = None,
    metrics: Mapping[str, AnyMetric] | None = None,
    columns: tuple[str, ...] = (),
    loss_bound: float = 100.0,
    where: Where | None = None,
    name: str = "classification",
) -> Task:
    """Classify examples: softmax cross-entropy on logits `[B, classes]`, with the metric `accuracy`.

    Args:
        model: see `as_model`. Its outputs are logits, without a softmax.
        classes: the number of classes. By default the model's number of outputs; if given, the two are compared.
        inputs: the column that the model reads.
        labels: the column of labels, one per example: whole numbers from 0 to classes - 1.
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
        return cross_entropy(logits, batch[labels]), weight_of(batch, logits.shape[0])

    def accuracy(logits: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
        return is_argmax(logits, batch[labels]).astype(jnp.float32), weight_of(batch, logits.shape[0])

    means, pooled = merge_metrics({"accuracy": Metric(accuracy, 1.0)}, metrics)
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
        data_checks=(_check_labels(labels, classes),),
    )


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """`-log softmax(logits)[label]`: logits `[..., classes]`, whole numbers `[...]` -> float32 `[...]`."""
    logits = logits.astype(jnp.float32)
    # A comparison instead of a gather: its gradient fuses with the softmax's, while that of a gather is a scatter.
    right = jnp.arange(logits.shape[-1]) == labels[..., None].astype(jnp.int32)
    return jax.nn.logsumexp(logits, axis=-1) - jnp.where(right, logits, 0.0).sum(axis=-1)


def is_argmax(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Whether the label is the argmax of the logits, `argmax(logits) == label`; False where a logit is NaN.

    It is written with comparisons because XLA does not vectorise argmax on a CPU.
    """
    places = jnp.arange(logits.shape[-1])
    labels = labels[..., None].astype(jnp.int32)
    own = jnp.where(places == labels, logits, 0).sum(axis=-1, keepdims=True)
    beaten = jnp.where(places < labels, logits < own, logits <= own)
    return jnp.all(beaten, axis=-1)


def _check_labels(labels: str, classes: int | None) -> DataCheck:
    def check(columns: Mapping[str, Column], outputs: Callable[[], Any]) -> None:
        column = columns[labels]
        column.require_integers(do="Number the classes from 0.")
        column.require_shape(
            (), do="Give one label per example: take the argmax of one-hot rows, or use multi_label."
        )
        shape = getattr(outputs(), "shape", None)
        if shape is None or len(shape) != 2:
            raise ModelError(
                "model",
                given=f"outputs of shape {_shape_text(shape)}",
                expected="logits of shape (B, classes)",
                do="Return one number per class for every example.",
            )
        if classes is not None and shape[1] != classes:
            raise ModelError(
                "model",
                given=f"{shape[1]} outputs per example",
                expected=f"{classes}, the number of classes",
                do="Change the width of the last layer, or correct classes=.",
            )
        column.require(
            lambda values: (values >= 0) & (values < shape[1]),
            expected=f"labels from 0 to {shape[1] - 1}",
            do="Number the classes from 0, or make the model's last layer wider.",
        )

    return check


def _shape_text(shape: tuple[int, ...] | None) -> str:
    return "a structure" if shape is None else str(("B", *shape[1:])).replace("'", "")
