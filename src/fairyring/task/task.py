"""What is learned: a model, what it reads, its loss and its metrics."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp

from fairyring.task.validate import RowsChecked, DataCheck, validate
from fairyring.task.metric import Batch, Measure, Metric
from fairyring.task.model import Model


def unit_interval(x: jax.Array) -> jax.Array:
    """What is done to inputs by default: uint8 (pixels) to float32 in [0, 1], everything else unchanged."""
    return x.astype(jnp.float32) / 255.0 if x.dtype == jnp.uint8 else x


@dataclass(frozen=True)
class Task:
    """One thing to learn. Made by `classification`, `next_token`, `regression` and `multi_label`.

    Attributes:
        name: as a plan's record shows it.
        model: the model.
        loss: `(outputs, batch) -> (value [B], weight [B])`. The value is an example's mean loss; the weight
            is 1, or the number of its tokens, times the column `weight` where the population has one. The
            loss of a client is the weighted mean of its examples'.
        metrics: name -> `Metric`.
        inputs: the column the model reads.
        columns: the columns that must be there.
        optional: the columns that count where they are there.
        prepare: `x -> x`, applied to the inputs inside the compiled program, so that data are stored and
            moved small.
        loss_bound: where a sum of integers carries the loss of a client, larger ones are cut to this.
            Training itself never sees the cut.
        rules: what `validate` asks of the examples besides.
    """

    name: str
    model: Model
    loss: Measure
    metrics: Mapping[str, Metric] = field(default_factory=lambda: MappingProxyType({}))
    inputs: str = "x"
    columns: tuple[str, ...] = ("x", "y")
    optional: tuple[str, ...] = ("weight",)
    prepare: Callable[[jax.Array], jax.Array] = unit_interval
    loss_bound: float = 100.0
    data_checks: tuple[DataCheck, ...] = ()

    def reads(self, population: Any) -> tuple[str, ...]:
        """The columns a batch must carry: all of `columns`, and those of `optional` the population has."""
        return self.columns + tuple(name for name in self.optional if name in population.names)

    def columns_of(self, population: Any) -> dict[str, tuple[tuple[int, ...], Any]]:
        """What a batch carries: name -> (shape of a row, dtype)."""
        return {
            name: (tuple(population.shape(name)), population.dtype(name)) for name in self.reads(population)
        }

    def forward(self, params: Any, batch: Batch, key: jax.Array | None) -> Any:
        """The model's outputs for a batch: in training with a key, in evaluation with None."""
        return self.model.apply(params, self.prepare(batch[self.inputs]), key)

    def validate(self, population: Any) -> RowsChecked:
        """Find out now what would go wrong later.

        Columns, their types and shapes, and the model's answer to them are checked without computing
        anything. Values (labels, weights) are checked in all rows where they lie in memory, else in a sample.

        Returns:
            How many rows were looked at; its text says so where it was not all.

        Raises:
            PopulationError: a column is missing or of the wrong type or shape, or a value is impossible.
            ModelError: the model does not accept the inputs, or its outputs do not fit the labels.
            PlanError: a metric does not give one value an example.
        """
        return validate(self, population)
