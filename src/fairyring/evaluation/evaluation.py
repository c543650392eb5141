"""A model evaluated on a population: over all examples, and client by client."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fairyring.aggregation.contract import Stage
from fairyring.core.errors import PopulationError, StatisticsError
from fairyring.core.keys import key_shape
from fairyring.core.numbers import literal_numbers
from fairyring.core.program import Program, kept, transfer
from fairyring.evaluation.summed import SummedEvaluation, summed
from fairyring.lowering import Hardware
from fairyring.population import Population
from fairyring.records.round_record import Means, higher_is_better
from fairyring.statistics import Interval, sums_interval
from fairyring.task import PooledMetric, Sparse, Task, finished, statistics_of

Tree = Any
BATCH = 128  # examples
PIECE_BYTES = 64 << 20  # rows given to one processor at a time
AT_ONCE = 1 << 16  # sums of clients that values are computed from at a time: they fit a processor's cache
HELD_BYTES = 256 << 20  # populations up to this size stay on the processors between evaluations


@dataclass(frozen=True, repr=False)
class Evaluation:
    """How well a model does on a population.

    Attributes:
        loss: mean over all examples.
        metrics: each metric of the task over all examples, by name; tables are in `tables`.
        client_loss: mean loss of each client, float32 `[clients]`; NaN for a client without examples.
        client_metrics: each metric client by client, float32 `[clients]`, by name; NaN for a client without examples.
        examples: examples of each client, `[clients]`.
        higher_is_better: by the name of a metric, whether a larger value is the better one.
        tables: each pooled metric of the task that is a table, over all examples, by name.
        statistics: what each client adds to the sums that a value is computed from, float64 `[clients, k]`, by name, ``"loss"`` among
            them. Of a mean these are the sum of weighted values and the sum of weights; of a pooled metric its own.
        finish: how a value is computed from sums `[..., k]`, by name.
    """

    loss: float
    metrics: dict[str, float]
    client_loss: np.ndarray
    client_metrics: dict[str, np.ndarray]
    examples: np.ndarray
    higher_is_better: Mapping[str, bool] = field(default_factory=dict)
    tables: dict[str, np.ndarray] = field(default_factory=dict)
    statistics: dict[str, np.ndarray] = field(default_factory=dict)
    finish: Mapping[str, Callable[[np.ndarray], np.ndarray]] = field(default_factory=dict)

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

    def interval(
        self, metric: str, confidence: float = 0.95, seed: int = 0, *, resamples: int = 1999
    ) -> Interval:
        """A confidence interval of ``"loss"`` or of a metric over all examples, by a BCa bootstrap over clients (Efron 1987).

        Clients are resampled with all their examples, because the examples of one client are alike: an interval over examples would be
        too narrow. It is that of another draw of as many clients. See `fairyring.statistics.sums_interval`.

        Args:
            metric: ``"loss"``, or a metric that is no table.
            confidence: of the interval.
            seed: of the resampling.
            resamples: how many.

        Raises:
            StatisticsError: there is no such metric, a client's sums are not finite, or an argument is out of range.
        """
        if metric not in self.statistics or metric in self.tables:
            raise StatisticsError(
                "interval",
                given=f"{metric!r}",
                expected=f"one of {', '.join(map(repr, ('loss', *self.metrics)))}",
                do="Name one of these.",
            )
        sums = self.statistics[metric][np.asarray(self.examples) > 0]
        return sums_interval(sums, self.finish[metric], confidence, seed, resamples=resamples)

    def summed(self, secure_sum: Stage, bound: float) -> SummedEvaluation:
        """What a server would learn under a secure sum: loss, metrics and tables from the clients' sums, and nothing of a client.

        Every value follows from sums, so nothing else need leave a client. They are added as whole numbers modulo a power of two, with
        the same result as under masks; the protocol does not run. Counts are exact. There is no noise, so this alone promises nothing
        about a client that is known to be among them.

        Args:
            secure_sum: ``fr.secure_sum(32)``.
            bound: no sum of a client counts for more, such as its number of examples or the sum of its losses: larger ones are cut to
                it. What is added has `2^31 / (clients * bound)` steps per unit.

        Raises:
            PlanError: the stage is no secure sum, there are too few clients, or the bound is too large to add up.
        """
        some = np.asarray(self.examples) > 0
        return summed(
            {name: own[some] for name, own in self.statistics.items()}, self.finish, secure_sum, bound
        )

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
        row = max(1, population.row_bytes(self.columns))
        self._ends, placed = _lengths(task, population)
        per_processor = -(-population.examples // (len(self.processors) * BATCH)) * BATCH
        self._rows = min(per_processor, max(1, PIECE_BYTES // (max(row, 8 * placed) * BATCH)) * BATCH)
        self._scan = kept(task, (Evaluator, hardware.key), lambda: _program(task, hardware))
        self._held = list(self._pieces()) if row * population.examples <= HELD_BYTES else None

    def begin(self, params: Tree) -> None:
        """Begin to compile what evaluates models like this one."""
        if self._held:
            self._scan.begin(params, self._held[0][1])

    def __call__(self, params: Tree) -> Evaluation:
        """Evaluate the model with these parameters."""
        measured = 1 + len(self.task.metrics)  # the loss first
        sums = np.zeros((2 * measured, len(self.population)))
        pooled = np.zeros((len(self.population), int(self._ends[-1])))

        def count(judged: tuple[jax.Array, ...], clients: np.ndarray) -> None:
            of_examples, *placed = judged
            if placed:
                places, values = (
                    np.asarray(part).reshape(-1, part.shape[-1])[: len(clients)] for part in placed
                )
                np.add.at(
                    pooled.reshape(-1), clients[:, None] * pooled.shape[1] + places, values.astype(np.float64)
                )
            flat = np.moveaxis(np.asarray(of_examples), 1, 0).reshape(2 * measured, -1)
            flat = flat[:, : len(clients)].astype(np.float64)
            for i in range(measured):
                value, weight = flat[2 * i], flat[2 * i + 1]
                sums[2 * i] += np.bincount(clients, value * weight, len(self.population))
                sums[2 * i + 1] += np.bincount(clients, weight, len(self.population))

        given = [transfer(params, processor) for processor in self.processors]
        waiting: deque[tuple[tuple[jax.Array, ...], np.ndarray]] = deque()
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
        metrics = dict(zip(names, means, strict=True))
        client_metrics = dict(zip(names, of_clients[1:], strict=True))
        statistics = {name: sums[2 * i : 2 * i + 2].T for i, name in enumerate(["loss", *names])}
        finish: dict[str, Any] = dict.fromkeys(statistics, _mean)
        tables = {}
        for i, (name, metric) in enumerate(self.task.pooled.items()):
            own = statistics[name] = pooled[:, self._ends[i] : self._ends[i + 1]]
            finish[name] = partial(finished, metric)
            value = finished(metric, own.sum(axis=0))
            if metric.table:
                tables[name] = value
            else:
                metrics[name] = float(value)
                client_metrics[name] = _by_client(metric, own, self.sizes)
        return Evaluation(
            loss, metrics, of_clients[0], client_metrics, self.sizes,
            self.task.higher_is_better, tables, statistics, finish,
        )  # fmt: skip

    def _pieces(self) -> Iterator[tuple[int, Mapping[str, jax.Array], np.ndarray]]:
        """All rows in pieces: the place of a processor, columns `[batches, BATCH, ...]`, and the client of each row."""
        ends, processors = np.cumsum(self.sizes), len(self.processors)
        begin = number = 0
        self.population.prefetch(np.arange(len(ends)))
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


def _by_client(metric: PooledMetric, sums: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The value of each client, float32 `[clients]`, from its sums `[clients, k]`; NaN for a client without examples."""
    values = np.full(len(sums), math.nan, np.float32)
    some = np.flatnonzero(sizes)
    each = max(1, AT_ONCE // max(1, sums.shape[1]))
    for begin in range(0, len(some), each):
        clients = some[begin : begin + each]
        values[clients] = finished(metric, sums[clients])
    return values


def _without_weightless(value: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A value and a weight in which an example of weight 0 does not count, whatever its value."""
    return jnp.where(weight > 0, value, 0.0), weight


def _mean(sums: np.ndarray) -> np.ndarray:
    """The mean from a sum of weighted values and a sum of weights: `[..., 2] -> [...]`."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums[..., 0] / sums[..., 1]


def _lengths(task: Task, population: Population) -> tuple[np.ndarray, int]:
    """Where the sums of each pooled metric begin, and where those of the last end; and to how many of them an example adds."""
    if not task.pooled:
        return np.zeros(1, np.int64), 0
    params = jax.eval_shape(task.model.init, key_shape())
    batch = {
        name: jax.ShapeDtypeStruct((BATCH, *shape), jax.dtypes.canonicalize_dtype(dtype))
        for name, (shape, dtype) in task.columns_of(population).items()
    }

    def of_batch(params: Tree, batch: Mapping[str, jax.Array]) -> list[Sparse]:
        return statistics_of(task.pooled, task.forward(params, batch, None), batch, BATCH)

    found = jax.eval_shape(of_batch, params, batch)
    return np.cumsum([0, *(one.length for one in found)]), sum(one.places.shape[1] for one in found)


def _program(task: Task, hardware: Hardware) -> Program:
    """`(params, columns [batches, BATCH, ...]) -> [batches, 2 (1 + metrics), BATCH], places, values`.

    The first result is the value and the weight of the loss and of each metric, for each example of each batch. With pooled metrics there
    are two more: to which of all their sums each example adds, and what, `[batches, BATCH, s]` each.
    """
    own = [task.loss_weight_bound, *(metric.weight_bound for metric in task.metrics.values())]

    @literal_numbers
    @hardware.rewrite
    def measure(params: Tree, batch: Mapping[str, jax.Array]) -> tuple[jax.Array, ...]:
        outputs = task.forward(params, batch, None)
        pairs = [task.loss(outputs, batch), *(m.measure(outputs, batch) for m in task.metrics.values())]
        pairs = [
            pair if most is None else _without_weightless(*pair)
            for pair, most in zip(pairs, own, strict=True)
        ]
        rows = batch[task.inputs].shape[0]
        judged = jnp.stack([jnp.broadcast_to(v, (rows,)).astype(jnp.float32) for pair in pairs for v in pair])
        if not task.pooled:
            return (judged,)
        statistics = statistics_of(task.pooled, outputs, batch, rows)
        starts = np.cumsum([0, *(one.length for one in statistics)])
        places = [one.places + int(start) for one, start in zip(statistics, starts, strict=False)]
        return judged, *(
            jnp.concatenate(part, axis=1) for part in (places, [one.values for one in statistics])
        )

    def scan(params: Tree, columns: Mapping[str, jax.Array]) -> tuple[jax.Array, ...]:
        return lax.map(lambda batch: measure(params, batch), columns)

    return Program(scan, hardware.processors)
