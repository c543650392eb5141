"""A model evaluated on a population: over all examples, and client by client."""

import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fairyring.core.errors import PopulationError
from fairyring.core.numbers import literal_numbers
from fairyring.core.program import Program, kept, transfer
from fairyring.lowering import Hardware
from fairyring.population import Population
from fairyring.records.round_record import Means, higher_is_better
from fairyring.task import Task

Tree = Any
BATCH = 128  # examples
PIECE_BYTES = 64 << 20  # rows given to one processor at a time
HELD_BYTES = 256 << 20  # populations up to this size stay on the processors between evaluations


@dataclass(frozen=True, repr=False)
class Evaluation:
    """How well a model does on a population.

    Attributes:
        loss: mean over all examples.
        metrics: each metric of the task over all examples, by name.
        client_loss: mean loss of each client, float32 `[clients]`; NaN for a client without examples.
        client_metrics: each metric client by client, float32 `[clients]`, by name; NaN for a client without examples.
        examples: examples of each client, `[clients]`.
        higher_is_better: by the name of a metric, whether a larger value is the better one.
    """

    loss: float
    metrics: dict[str, float]
    client_loss: np.ndarray
    client_metrics: dict[str, np.ndarray]
    examples: np.ndarray
    higher_is_better: Mapping[str, bool] = field(default_factory=dict)

    @property
    def means(self) -> Means:
        """Loss and metrics over all examples, as a round's record has them: NaN where they are not finite."""
        loss, *rest = (v if math.isfinite(v) else math.nan for v in (self.loss, *self.metrics.values()))
        return Means(loss, dict(zip(self.metrics, rest, strict=True)))

    def by_client(self) -> dict[str, np.ndarray]:
        """What a run folder keeps of it for each client: `test.examples`, `test.loss` and `test.metrics.NAME` for each metric."""
        return {
            "test.examples": np.asarray(self.examples, np.int32),
            "test.loss": self.client_loss,
            **{f"test.metrics.{name}": values for name, values in self.client_metrics.items()},
        }

    def worst_decile(self, metric: str) -> float:
        """``"loss"``, or a metric of the task, averaged over the tenth of the clients that the model serves worst by it.

        They have the lowest values, or the highest where less is better; see `Metric.higher_is_better`.
        """
        values = self.client_loss if metric == "loss" else self.client_metrics[metric]
        values = np.sort(values[np.isfinite(values)])
        if not higher_is_better(metric, self.higher_is_better):
            values = values[::-1]
        return float(values[: max(1, len(values) // 10)].mean())

    def __repr__(self) -> str:
        clients, examples = int(np.count_nonzero(self.examples)), int(np.sum(self.examples))
        return f"<Evaluation: {self.means}, on {examples:,} examples of {clients:,} clients>"


class Evaluator:
    """Evaluates models of one task on one population. The program is compiled once.

    Args:
        task: gives the loss and the metrics.
        population: the clients to evaluate on.
        hardware: runs the program.

    Attributes:
        rows_checked: how many rows were checked beforehand.

    Raises:
        PopulationError: the population has no examples, or does not fit the task.
        ModelError, PlanError: see `Task.validate`.
    """

    def __init__(self, task: Task, population: Population, hardware: Hardware) -> None:
        if population.examples == 0:
            raise PopulationError(
                "population to evaluate on",
                given="no examples",
                expected="at least one",
                do="Give a population with examples.",
            )
        self.rows_checked = task.validate(population)
        self.task, self.population = task, population
        self.columns = task.reads(population)
        self.processors = hardware.processors
        self.sizes = np.asarray(population.sizes)
        self._scan = kept(task, (Evaluator, hardware.key), lambda: _program(task, hardware))
        row = max(1, population.row_bytes(self.columns))
        per_processor = -(-population.examples // (len(self.processors) * BATCH)) * BATCH
        self._rows = min(per_processor, max(1, PIECE_BYTES // (row * BATCH)) * BATCH)
        self._held = list(self._pieces()) if row * population.examples <= HELD_BYTES else None

    def __call__(self, params: Tree) -> Evaluation:
        """Evaluate the model with these parameters."""
        measured = 1 + len(self.task.metrics)  # the loss first
        sums = np.zeros((2 * measured, len(self.population)))

        def count(judged: jax.Array, clients: np.ndarray) -> None:
            flat = np.moveaxis(np.asarray(judged), 1, 0).reshape(2 * measured, -1)
            flat = flat[:, : len(clients)].astype(np.float64)
            for i in range(measured):
                value, weight = flat[2 * i], flat[2 * i + 1]
                sums[2 * i] += np.bincount(clients, value * weight, len(self.population))
                sums[2 * i + 1] += np.bincount(clients, weight, len(self.population))

        given = [transfer(params, processor) for processor in self.processors]
        waiting: deque[tuple[jax.Array, np.ndarray]] = deque()
        for place, columns, clients in self._held if self._held is not None else self._pieces():
            waiting.append((self._scan(place, given[place], columns), clients))
            if len(waiting) > 2 * len(self.processors):  # rows are fetched no further ahead
                count(*waiting.popleft())
        for judged in waiting:
            count(*judged)
        with np.errstate(invalid="ignore", divide="ignore"):
            loss, *means = [float(sums[2 * i].sum() / sums[2 * i + 1].sum()) for i in range(measured)]
            of_clients = [(sums[2 * i] / sums[2 * i + 1]).astype(np.float32) for i in range(measured)]
        names = list(self.task.metrics)
        return Evaluation(
            loss,
            dict(zip(names, means, strict=True)),
            of_clients[0],
            dict(zip(names, of_clients[1:], strict=True)),
            self.sizes,
            self.task.higher_is_better,
        )

    def _pieces(self) -> Iterator[tuple[int, Mapping[str, jax.Array], np.ndarray]]:
        """All rows in pieces: the place of a processor, columns `[batches, BATCH, ...]`, and the client of each row."""
        ends, processors = np.cumsum(self.sizes), len(self.processors)
        begin = number = 0
        while begin < len(ends):
            before = ends[begin - 1] if begin else 0
            end = max(begin + 1, int(np.searchsorted(ends, before + processors * self._rows, "right")))
            rows, offsets = self.population.gather(np.arange(begin, end))
            owner = np.repeat(np.arange(begin, end), np.diff(offsets))
            for cut in range(0, len(owner), self._rows):
                place = (-1 - number) % processors  # the last one first: the first core is this thread's own
                yield place, self._piece(rows, cut, place), owner[cut : cut + self._rows]
                number += 1
            begin = end

    def _piece(self, rows: Mapping[str, np.ndarray], cut: int, place: int) -> Mapping[str, jax.Array]:
        columns = {}
        for name in self.columns:
            column = rows[name][cut : cut + self._rows]
            # Rows are repeated to fill a batch, so that a model that looks at a batch as a whole sees examples only.
            full = column[np.arange(self._rows) % len(column)]
            columns[name] = full.reshape(-1, BATCH, *column.shape[1:])
        return jax.device_put(columns, self.processors[place])


def _program(task: Task, hardware: Hardware) -> Program:
    """`(params, columns [batches, BATCH, ...]) -> [batches, 2 (1 + metrics), BATCH]`.

    The result is the value and the weight of the loss and of each metric, for each example of each batch.
    """

    @literal_numbers
    @hardware.rewrite
    def measure(params: Tree, batch: Mapping[str, jax.Array]) -> jax.Array:
        outputs = task.forward(params, batch, None)
        pairs = [task.loss(outputs, batch), *(m.measure(outputs, batch) for m in task.metrics.values())]
        rows = batch[task.inputs].shape[0]
        return jnp.stack([jnp.broadcast_to(v, (rows,)).astype(jnp.float32) for pair in pairs for v in pair])

    def scan(params: Tree, columns: Mapping[str, jax.Array]) -> jax.Array:
        return lax.map(lambda batch: measure(params, batch), columns)

    return Program(scan, hardware.processors)
