"""The task: a model, the columns it reads, its loss and its metrics."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp

from fairyring.records.round_record import higher_is_better
from fairyring.task.metric import Batch, Measure, Metric
from fairyring.task.model import Model
from fairyring.task.pooled import PooledMetric
from fairyring.task.validation import DataCheck, RowsChecked, validate


def unit_interval(x: jax.Array) -> jax.Array:
    """The default for inputs: uint8 (pixels) is scaled to float32 in [0, 1]; everything else is unchanged."""
    return x.astype(jnp.float32) / 255.0 if x.dtype == jnp.uint8 else x


@dataclass(frozen=True, repr=False)
class Task:
    """What is learned. `classification`, `next_token`, `regression` and `multi_label` return one.

    Attributes:
        name: the task's name in the plan's record.
        model: the model.
        loss: `(outputs, batch) -> (value [B], weight [B])`. The value is the mean loss of an example. The weight is 1,
            or the number of its tokens, times the column `weight` if the population has one. The loss of a client is
            the weighted mean over its examples.
        metrics: name -> `Metric`.
        inputs: the column that the model reads.
        columns: the columns that the population must have.
        optional: columns that are read if the population has them.
        prepare: `x -> x`, applied to the inputs inside the compiled program, so that data can be stored and moved in
            a small type.
        loss_bound: the largest loss of a client that an integer sum carries; larger ones are clipped to it. Training
            is not affected by the clipping.
        data_checks: further checks that `validate` makes.
        loss_weight_bound: the same as `Metric.weight_bound`, for the loss: None if its weights are those of the examples, or a
            constant multiple.
        pooled: name -> `PooledMetric`, of evaluations only.
        penalty: `params -> scalar`, added to the mean loss of every step, such as half of alpha times the squared norm of the
            coefficients. Each batch has the whole of it. It is trained on and never reported: `loss` is that of the examples alone.
        takes_logits: whether the loss has the softmax or the sigmoid in it. A model that ends in one is then refused.
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
    loss_weight_bound: float | None = None
    pooled: Mapping[str, PooledMetric] = field(default_factory=lambda: MappingProxyType({}))
    penalty: Callable[[Any], jax.Array] | None = None
    takes_logits: bool = False

    @property
    def higher_is_better(self) -> dict[str, bool]:
        """For ``"loss"`` and each metric, whether a larger value is the better one: as the metric says, otherwise by its name."""
        every = {**self.metrics, **self.pooled}
        declared = {name: metric.higher_is_better for name, metric in every.items() if name in self.evaluated}
        found = {
            name: higher_is_better(name) if value is None else bool(value) for name, value in declared.items()
        }
        return {"loss": False, **found}

    def reads(self, population: Any) -> tuple[str, ...]:
        """Names of the columns that a batch contains: all of `columns`, and those of `optional` that the population has."""
        return self.columns + tuple(name for name in self.optional if name in population.names)

    def columns_of(self, population: Any) -> dict[str, tuple[tuple[int, ...], Any]]:
        """The columns that a batch contains: name -> (shape of a row, dtype)."""
        return {
            name: (tuple(population.shape(name)), population.dtype(name)) for name in self.reads(population)
        }

    @property
    def evaluated(self) -> list[str]:
        """What an evaluation gives a number for: ``"loss"``, each metric, and each pooled metric that is no table."""
        return ["loss", *self.metrics, *(name for name, metric in self.pooled.items() if not metric.table)]

    def forward(self, params: Any, batch: Batch, key: jax.Array | None) -> Any:
        """The model's outputs for a batch; training passes a key, evaluation passes None."""
        return self.model.apply(params, self.prepare(batch[self.inputs]), key)

    def validate(self, population: Any) -> RowsChecked:
        """Check that this task can be trained on a population, before training starts.

        Columns, their types and shapes, and the shapes of the model's outputs are checked without computing anything.
        Values (labels, weights) are checked in all rows if the rows are in memory, and otherwise in a sample.

        Returns:
            How many rows were checked.

        Raises:
            PopulationError: a column is missing or has the wrong type or shape, or a value is out of range.
            ModelError: the model does not accept the inputs, or its outputs do not fit the labels.
            PlanError: the loss or a metric does not return one value and one weight per example, or the penalty is no number.
        """
        return validate(self, population)

    def __repr__(self) -> str:
        names = [*self.metrics, *self.pooled]
        metrics = f", with {', '.join(names)}" if names else ""
        return f"<Task: {self.name} of columns {', '.join(self.columns)}{metrics}>"
