"""Next token: at each place of a sequence, what comes next."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from fairyring.core.errors import ModelError, PopulationError
from fairyring.task.adapters import as_model
from fairyring.task.classification import cross_entropy, is_first
from fairyring.task.validate import Column
from fairyring.task.metric import Batch, Metric, weight_of, with_extra
from fairyring.task.task import Task


def next_token(
    model: Any,
    *,
    inputs: str = "x",
    labels: str | None = None,
    padding: int | None = None,
    prepare: Callable[[jax.Array], jax.Array] | None = None,
    metrics: Mapping[str, Metric | Callable[..., Any]] | None = None,
    columns: tuple[str, ...] = (),
    loss_bound: float = 100.0,
    name: str = "next_token",
) -> Task:
    """Learn what token comes next: softmax cross-entropy on logits `[B, T, vocabulary]`, and accuracy.

    The value of an example is the mean over its tokens and its weight is their number (times the column
    `weight` where there is one), so that means over a population are means over tokens.

    Args:
        model: see `as_model`. It reads tokens `[B, T]` and must not look ahead.
        inputs: the column of tokens, whole numbers `[T]` a row.
        labels: the column of targets, `[T]` a row: the token after each. Where not given, the targets are the
            inputs moved on by one, and a sequence of T tokens has T - 1 of them.
        padding: targets equal to this token do not count.
        prepare: applied to a batch of inputs inside the compiled program. Default: whole numbers to int32.
        metrics: more metrics, name -> `Metric` or function `(outputs, batch) -> value [B]`. A function's
            value is weighted as an example, not by its tokens; give a `Metric` for the other.
        columns: columns that these metrics read besides.
        loss_bound: where a sum of integers carries the loss of a client, larger ones are cut to this; see `Task`. Under
            differential privacy noise grows with it.
        name: as the plan's record shows it.

    Raises:
        ModelError: the model cannot be trained here.
    """

    def aligned(logits: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
        if labels is not None:
            return logits, batch[labels].astype(jnp.int32)
        return logits[:, :-1], batch[inputs][:, 1:].astype(jnp.int32)

    def mean_over_tokens(values: jax.Array, targets: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
        counts = jnp.ones(targets.shape, bool) if padding is None else targets != padding
        tokens = counts.sum(axis=1).astype(jnp.float32)
        value = jnp.where(counts, values, 0.0).sum(axis=1) / jnp.maximum(tokens, 1.0)
        return value, tokens * weight_of(batch, tokens.shape[0])

    def loss(logits: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
        logits, targets = aligned(logits, batch)
        return mean_over_tokens(cross_entropy(logits, targets), targets, batch)

    def accuracy(logits: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
        logits, targets = aligned(logits, batch)
        return mean_over_tokens(is_first(logits, targets).astype(jnp.float32), targets, batch)

    def rule(found: Mapping[str, Column], outputs: Callable[[], Any]) -> None:
        tokens = found[inputs]
        tokens.require_integers(do="Encode the text as token numbers first.")
        if len(tokens.shape) != 1 or tokens.shape[0] < (2 if labels is None else 1):
            raise PopulationError(
                f"column {inputs!r}",
                given=f"rows of shape {tokens.shape}",
                expected="shape (T,), with T of at least 2" if labels is None else "shape (T,)",
                do="Store sequences of equal length, padded where they are shorter.",
            )
        if labels is not None:
            found[labels].require_integers(do="Encode the targets as token numbers.")
            found[labels].require_shape(tokens.shape, do="Give one target for each place of the inputs.")
        shape = getattr(outputs(), "shape", ())
        if len(shape) != 3 or shape[1] != tokens.shape[0]:
            raise ModelError(
                "model",
                given=f"outputs of shape (B, {', '.join(map(str, shape[1:]))})",
                expected=f"logits of shape (B, {tokens.shape[0]}, vocabulary)",
                do="Return logits for every place of the sequence.",
            )
        for column in (tokens,) if labels is None else (tokens, found[labels]):
            column.require(
                lambda values: (values >= 0) & (values < shape[2]),
                expected=f"tokens from 0 to {shape[2] - 1}",
                do="Make the model's vocabulary larger, or map unknown tokens to one of their own.",
            )

    return Task(
        name=name,
        loss_bound=loss_bound,
        model=as_model(model),
        loss=loss,
        metrics=with_extra({"accuracy": Metric(accuracy, 1.0)}, metrics),
        inputs=inputs,
        columns=(inputs, *(() if labels is None else (labels,)), *columns),
        prepare=prepare or whole_numbers,
        data_checks=(rule,),
    )


def whole_numbers(x: jax.Array) -> jax.Array:
    """What is done to tokens by default: whole numbers of any type to int32."""
    return x.astype(jnp.int32) if jnp.issubdtype(x.dtype, jnp.integer) else x
