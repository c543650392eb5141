"""Checking a population against a task, before a round is wasted on it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import jax
import numpy as np

from fairyring.core.errors import FairyringError, ModelError, PlanError, PopulationError
from fairyring.task.metric import Measure

WHOLE_ROWS = 5_000_000
"""Up to so many rows in memory are all looked at."""
MANY_CLIENTS = 20_000
"""A selection (rows not in the clients' order) of more clients than this is not walked through."""
SAMPLE_CLIENTS = 128
SAMPLE_ROWS = 512
"""Otherwise so many clients, spread evenly, and at most so many rows of each."""


class HasExamples(Protocol):
    """What is needed of a population here."""

    columns: Mapping[str, np.ndarray]  # asked for only where `stored`
    names: tuple[str, ...]
    stored: bool
    starts: np.ndarray
    sizes: np.ndarray
    ids: np.ndarray

    def __len__(self) -> int: ...
    def client(self, index: int) -> dict[str, np.ndarray]: ...
    def shape(self, column: str) -> tuple[int, ...]: ...
    def dtype(self, column: str) -> np.dtype: ...


@dataclass(frozen=True)
class RowsChecked:
    """How much of a population was looked at.

    Attributes:
        rows: how many rows.
        of: how many there are.
    """

    rows: int
    of: int

    @property
    def whole(self) -> bool:
        return self.rows == self.of

    def __str__(self) -> str:
        if self.whole:
            return f"all {self.of:,} rows were checked"
        return f"{self.rows:,} of {self.of:,} rows were checked, from clients spread evenly"


@dataclass(frozen=True)
class Rows:
    """The rows that are looked at.

    Attributes:
        clients: whose they are, `[k]`, in order.
        edges: `[k + 1]`; the rows of `clients[j]` are `edges[j]` to `edges[j + 1]`, counted over all parts.
        parts: the values by column, in one piece or one for each client.
        ids: the names of all clients.
    """

    clients: np.ndarray
    edges: np.ndarray
    parts: tuple[Mapping[str, np.ndarray], ...]
    ids: np.ndarray

    def locate(self, row: int) -> str:
        """A row, as a person finds it."""
        j = int(np.searchsorted(self.edges, row, side="right")) - 1
        return f"row {row - self.edges[j]} of client {self.ids[self.clients[j]].item()!r}"


@dataclass(frozen=True)
class Column:
    """One column as a rule sees it.

    Attributes:
        name: its name.
        shape: of one row.
        dtype: of its values.
        rows: where its values are.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    rows: Rows

    def require(self, good: Callable[[np.ndarray], np.ndarray], *, expected: str, do: str) -> None:
        """Refuse the column at the first value that is not good, naming client and row."""
        before = 0
        for part in self.rows.parts:
            values = part[self.name]
            fine = good(values)
            if not fine.all():
                row = int(np.argwhere(~fine)[0][0])
                raise PopulationError(
                    f"column {self.name!r}",
                    given=f"{values[~fine].ravel()[0].item()!r} in {self.rows.locate(before + row)}",
                    expected=expected,
                    do=do,
                )
            before += len(values)

    def require_integers(self, *, do: str) -> None:
        """Refuse anything but whole numbers (or booleans)."""
        if self.dtype.kind not in "biu":
            raise PopulationError(f"column {self.name!r}", given=self.dtype, expected="whole numbers", do=do)

    def require_shape(self, shape: tuple[int, ...], *, do: str) -> None:
        """Refuse rows of another shape."""
        if self.shape != shape:
            given = f"rows of shape {self.shape}"
            raise PopulationError(f"column {self.name!r}", given=given, expected=f"shape {shape}", do=do)


DataCheck = Callable[[Mapping[str, Column], Callable[[], Any]], None]
"""`(columns, outputs) -> None`, raises. `outputs()` has a shape `[B, ...]` and a dtype, but no values.
A rule looks at columns first, since a model's own complaint about wrong ones is harder to read."""

_EXAMPLES = 3  # rows in the batch that shapes are found with: no size a model is likely to have


def validate(task: Any, population: HasExamples) -> RowsChecked:
    """See `Task.check`."""
    _require_columns(task, population)
    names = task.reads(population)
    for name in names:
        if np.dtype(population.dtype(name)).kind not in "biuf":
            raise PopulationError(
                f"column {name!r}",
                given=population.dtype(name),
                expected="numbers",
                do="Encode text and categories as whole numbers first.",
            )
    rows = _rows(population, names)
    columns = {
        name: Column(name, tuple(population.shape(name)), np.dtype(population.dtype(name)), rows)
        for name in names
    }
    if "weight" in columns and "weight" in task.optional:
        _check_weight(columns["weight"])
    outputs = cache(lambda: _outputs(task, population, names))
    for rule in task.data_checks:
        rule(columns, outputs)
    batch = _batch(population, names)
    _check_measure("loss", task.loss, outputs(), batch)
    for name, metric in task.metrics.items():
        _check_measure(f"metric {name!r}", metric.measure, outputs(), batch)
    return RowsChecked(int(rows.edges[-1]), int(np.sum(population.sizes)))


def _require_columns(task: Any, population: HasExamples) -> None:
    missing = [name for name in task.columns if name not in population.names]
    if missing:
        raise PopulationError(
            f"column {missing[0]!r}",
            given=f"columns {', '.join(population.names) or 'none'}",
            expected=f"columns {', '.join(task.columns)} for {task.name}",
            do="Rename the column, or name the one to read (inputs=, labels=).",
        )


def _rows(population: HasExamples, names: tuple[str, ...]) -> Rows:
    """All rows where that is cheap (they lie in memory), a sample of clients elsewhere. Nothing is copied."""
    sizes, ids = np.asarray(population.sizes), population.ids
    clients = np.flatnonzero(sizes)
    stored = {name: population.columns[name] for name in names} if population.stored else {}
    in_memory = population.stored and not any(isinstance(c, np.memmap) for c in stored.values())
    if in_memory and 0 < sizes.sum() <= WHOLE_ROWS:
        starts, sizes = np.asarray(population.starts)[clients], sizes[clients]
        ends, edges = starts + sizes, np.concatenate([[0], np.cumsum(sizes)])
        if (ends[:-1] == starts[1:]).all():
            return Rows(clients, edges, ({n: c[starts[0] : ends[-1]] for n, c in stored.items()},), ids)
        if len(clients) <= MANY_CLIENTS:
            pieces = [{n: c[a:b] for n, c in stored.items()} for a, b in zip(starts, ends, strict=True)]
            return Rows(clients, edges, tuple(pieces), ids)
    clients = (
        clients[np.unique(np.linspace(0, len(clients) - 1, SAMPLE_CLIENTS).astype(int))]
        if len(clients)
        else clients
    )
    pieces = []
    for client in clients:
        own = population.client(int(client))
        pieces.append({name: np.asarray(own[name][:SAMPLE_ROWS]) for name in names})
    lengths = [len(next(iter(piece.values()))) for piece in pieces]
    return Rows(clients, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]), tuple(pieces), ids)


def _batch(population: HasExamples, names: tuple[str, ...]) -> dict[str, jax.ShapeDtypeStruct]:
    def row(name: str) -> jax.ShapeDtypeStruct:
        dtype = jax.dtypes.canonicalize_dtype(population.dtype(name))
        return jax.ShapeDtypeStruct((_EXAMPLES, *population.shape(name)), dtype)

    return {name: row(name) for name in names}


def _outputs(task: Any, population: HasExamples, names: tuple[str, ...]) -> Any:
    """The shapes of the model's outputs, in training and evaluation alike."""
    batch = _batch(population, names)
    params = jax.eval_shape(task.model.init, jax.random.key(0))
    try:
        training = jax.eval_shape(task.forward, params, batch, jax.random.key(0))
        outputs = jax.eval_shape(lambda p, b: task.forward(p, b, None), params, batch)
    except FairyringError:
        raise
    except Exception as error:  # whatever a model raises for inputs it does not accept
        x = batch[task.inputs]
        try:
            ready = jax.eval_shape(task.prepare, x)
            seen = f"{ready.dtype} of shape {ready.shape[1:]}"
        except Exception:  # it is the user's own too, and the error above is the one to tell
            seen = "nothing: `prepare` itself fails"
        raise ModelError(
            f"model on column {task.inputs!r}",
            given=(
                f"examples of shape {x.shape[1:]}, {population.dtype(task.inputs)}, of which the model sees "
                f"{seen}; it answers {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            ),
            expected="inputs the model accepts",
            do="Give the model the shape of the data, or reshape them in `prepare` (it receives a batch).",
        ) from error
    if jax.tree.map(lambda o: o.shape, training) != jax.tree.map(lambda o: o.shape, outputs):
        raise ModelError(
            "model",
            given="outputs of one shape in training and another in evaluation",
            expected="the same shape in both",
            do="Return the same thing with a key and without.",
        )
    return outputs


def _check_weight(weight: Column) -> None:
    weight.require_shape((), do="Give one weight an example.")
    weight.require(
        lambda values: np.isfinite(values) & (values >= 0),
        expected="finite weights of at least 0",
        do="Correct the weights; 0 leaves an example out.",
    )


def _check_measure(what: str, measure: Measure, outputs: Any, batch: dict[str, Any]) -> None:
    try:
        value, weight = jax.eval_shape(measure, outputs, batch)
    except KeyError as error:
        raise PlanError(
            what,
            given=f"a function that reads column {error.args[0]!r}",
            expected=f"one of the task's columns: {', '.join(batch)}",
            do="Name the columns it reads besides when the task is made (columns=).",
        ) from error
    if value.shape != (_EXAMPLES,) or weight.shape != (_EXAMPLES,):
        shown = [tuple("B" if n == _EXAMPLES else n for n in part.shape) for part in (value, weight)]
        raise PlanError(
            what,
            given=f"value and weight of shapes {shown[0]} and {shown[1]}",
            expected="shapes (B,) and (B,): one number an example",
            do="Take the mean over everything but the first axis.",
        )
