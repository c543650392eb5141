"""Classification: one of several classes an example."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from fairyring.core.errors import ModelError
from fairyring.task.adapters import as_model
from fairyring.task.validate import Column, DataCheck
from fairyring.task.metric import Batch, Metric, weight_of, with_extra
from fairyring.task.task import Task, unit_interval


def classification(
    model: Any,
    classes: int | None = None,
    *,
    inputs: str = "x",
    labels: str = "y",
    prepare: Callable[[jax.Array], jax.Array] | None = None,
    metrics: Mapping[str, Metric | Callable[..., Any]] | None = None,
    columns: tuple[str, ...] = (),
    loss_bound: float = 100.0,
    name: str = "classification",
) -> Task:
    """Learn to tell classes apart: softmax cross-entropy on logits `[B, classes]`, and accuracy.

    Args:
        model: see `as_model`. Its outputs are logits, no softmax.
        classes: how many; found from the model's outputs where not given, and compared with them where it is.
        inputs: the column the model reads.
        labels: the column of labels, whole numbers from 0 to classes - 1, one an example.
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
        return cross_entropy(logits, batch[labels]), weight_of(batch, logits.shape[0])

    def accuracy(logits: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
        return is_first(logits, batch[labels]).astype(jnp.float32), weight_of(batch, logits.shape[0])

    return Task(
        name=name,
        loss_bound=loss_bound,
        model=as_model(model),
        loss=loss,
        metrics=with_extra({"accuracy": Metric(accuracy, 1.0)}, metrics),
        inputs=inputs,
        columns=(inputs, labels, *columns),
        prepare=prepare or unit_interval,
        data_checks=(_labels_fit(labels, classes),),
    )


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """`-log softmax(logits)[label]`: logits `[..., classes]`, whole numbers `[...]` -> float32 `[...]`."""
    logits = logits.astype(jnp.float32)
    # A comparison instead of a gather: its gradient fuses with the softmax's, a gather's is a scatter.
    right = jnp.arange(logits.shape[-1]) == labels[..., None].astype(jnp.int32)
    return jax.nn.logsumexp(logits, axis=-1) - jnp.where(right, logits, 0.0).sum(axis=-1)


def is_first(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Is the label the (first) largest logit? As `argmax(logits) == label`; False where a logit is NaN.

    Written as comparisons because XLA's argmax is not vectorised on a CPU.
    """
    places = jnp.arange(logits.shape[-1])
    labels = labels[..., None].astype(jnp.int32)
    own = jnp.where(places == labels, logits, 0).sum(axis=-1, keepdims=True)
    beaten = jnp.where(places < labels, logits < own, logits <= own)
    return jnp.all(beaten, axis=-1)


def _labels_fit(labels: str, classes: int | None) -> DataCheck:
    def rule(columns: Mapping[str, Column], outputs: Callable[[], Any]) -> None:
        column = columns[labels]
        column.require_integers(do="Number the classes from 0.")
        column.require_shape(
            (), do="Give one label an example: the argmax of a one-hot row, or use multi_label."
        )
        shape = getattr(outputs(), "shape", None)
        if shape is None or len(shape) != 2:
            raise ModelError(
                "model",
                given=f"outputs of shape {_shown(shape)}",
                expected="logits of shape (B, classes)",
                do="Return one number for each class and example.",
            )
        if classes is not None and shape[1] != classes:
            raise ModelError(
                "model",
                given=f"{shape[1]} outputs an example",
                expected=f"{classes}, the number of classes",
                do="Make the last layer as wide as there are classes, or correct classes=.",
            )
        column.require(
            lambda values: (values >= 0) & (values < shape[1]),
            expected=f"labels from 0 to {shape[1] - 1}",
            do="Number the classes from 0, or make the model's last layer wider.",
        )

    return rule


def _shown(shape: tuple[int, ...] | None) -> str:
    return "a structure" if shape is None else str(("B", *shape[1:])).replace("'", "")
