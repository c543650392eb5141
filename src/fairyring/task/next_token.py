"""Next-token prediction: at each position of a sequence, the token that follows."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from fairyring.core.errors import ModelError, PopulationError
from fairyring.task.adapters import as_model
from fairyring.task.classification import cross_entropy, is_argmax
from fairyring.task.given_metrics import AnyMetric, merge_metrics
from fairyring.task.metric import Batch, Metric, weight_of
from fairyring.task.partly import Where
from fairyring.task.task import Task
from fairyring.task.validation import Column


def next_token(
    model: Any,
    *,
    inputs: str = "x",
    labels: str | None = None,
    padding: int | None = None,
    prepare: Callable[[jax.Array], jax.Array] | None = None,
    metrics: Mapping[str, AnyMetric] | None = None,
    columns: tuple[str, ...] = (),
    loss_bound: float = 100.0,
    where: Where | None = None,
    name: str = "next_token",
) -> Task:
    """Predict the next token: softmax cross-entropy on logits `[B, T, vocabulary]`, with the metric `accuracy`.

    The value of an example is the mean over its tokens, and its weight is in proportion to their number (times the column
    `weight` if there is one), so a mean over a population is a mean over tokens, in training as in evaluation.

    Args:
        model: see `as_model`. It reads tokens `[B, T]` and must not look ahead.
        inputs: the column of tokens, whole numbers `[T]` per row.
        labels: the column of targets, `[T]` per row: the token after each input. By default the targets are the
            inputs shifted by one position, so a sequence of T tokens has T - 1 targets.
        padding: targets equal to this token are ignored.
        prepare: applied to a batch of inputs inside the compiled program. By default integers are cast to int32.
        metrics: further metrics: name -> `Metric`, `PooledMetric`, or a function `(outputs, batch) -> value [B]`. The value of a
            function is weighted by examples and not by tokens; to weight by tokens, give a `Metric`.
        columns: further columns that these metrics read.
        loss_bound: the largest loss of a client that an integer sum carries; larger ones are clipped to it. See `Task`.
            Under differential privacy the noise grows with it.
        where: which parameters are trained, by their names, such as ``"head.*"``; by default all. See `as_model`.
        name: the task's name in the plan's record.

    Raises:
        ModelError: the model cannot be trained.
    """

    def aligned(logits: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
        if labels is not None:
            return logits, batch[labels].astype(jnp.int32)
        return logits[:, :-1], batch[inputs][:, 1:].astype(jnp.int32)

    def mean_over_tokens(values: jax.Array, targets: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
        counts = jnp.ones(targets.shape, bool) if padding is None else targets != padding
        tokens = counts.sum(axis=1).astype(jnp.float32)
        value = jnp.where(counts, values, 0.0).sum(axis=1) / jnp.maximum(tokens, 1.0)
        # With padding a share of all positions: all rows have as many, and a share has a bound that is known.
        weight = tokens if padding is None else tokens / targets.shape[1]
        return value, weight * weight_of(batch, tokens.shape[0])

    def loss(logits: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
        logits, targets = aligned(logits, batch)
        return mean_over_tokens(cross_entropy(logits, targets), targets, batch)

    def accuracy(logits: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
        logits, targets = aligned(logits, batch)
        return mean_over_tokens(is_argmax(logits, targets).astype(jnp.float32), targets, batch)

    def check(data: Mapping[str, Column], outputs: Callable[[], Any]) -> None:
        tokens = data[inputs]
        tokens.require_integers(do="Encode the text as token numbers first.")
        if len(tokens.shape) != 1 or tokens.shape[0] < (2 if labels is None else 1):
            raise PopulationError(
                f"column {inputs!r}",
                given=f"rows of shape {tokens.shape}",
                expected="shape (T,), with T of at least 2" if labels is None else "shape (T,)",
                do="Store sequences of equal length; pad shorter ones.",
            )
        if labels is not None:
            data[labels].require_integers(do="Encode the targets as token numbers.")
            data[labels].require_shape(tokens.shape, do="Give one target for each position of the inputs.")
        shape = getattr(outputs(), "shape", ())
        if len(shape) != 3 or shape[1] != tokens.shape[0]:
            raise ModelError(
                "model",
                given=f"outputs of shape (B, {', '.join(map(str, shape[1:]))})",
                expected=f"logits of shape (B, {tokens.shape[0]}, vocabulary)",
                do="Return logits for every position of the sequence.",
            )
        for column in (tokens,) if labels is None else (tokens, data[labels]):
            column.require(
                lambda values: (values >= 0) & (values < shape[2]),
                expected=f"tokens from 0 to {shape[2] - 1}",
                do="Enlarge the model's vocabulary, or map unknown tokens to a token for them.",
            )

    own_weights = None if padding is None else 1.0  # without padding all rows have the same number of tokens
    means, pooled = merge_metrics({"accuracy": Metric(accuracy, 1.0, weight_bound=own_weights)}, metrics)
    return Task(
        name=name,
        loss_bound=loss_bound,
        loss_weight_bound=own_weights,
        model=as_model(model, where),
        takes_logits=True,
        loss=loss,
        metrics=means,
        pooled=pooled,
        inputs=inputs,
        columns=(inputs, *(() if labels is None else (labels,)), *columns),
        prepare=prepare or to_int32,
        data_checks=(check,),
    )


def to_int32(x: jax.Array) -> jax.Array:
    """The default for tokens: integers of any type are cast to int32."""
    return x.astype(jnp.int32) if jnp.issubdtype(x.dtype, jnp.integer) else x
