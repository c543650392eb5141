"""Validating a task on a population before any round is computed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jax.extend.core import primitives

from fairyring.core.errors import FairyringError, ModelError, PlanError, PopulationError
from fairyring.core.keys import key_shape
from fairyring.core.program import kept
from fairyring.task.final_activation import final_activation
from fairyring.task.measure_checks import EXAMPLES, check_measure, check_pooled

WHOLE_ROWS = 5_000_000
"""If the rows are in memory and there are at most this many, all are checked."""
MANY_CLIENTS = 20_000
"""If rows are not in the order of the clients, more clients than this are sampled."""
SAMPLE_CLIENTS = 128
SAMPLE_ROWS = 512
"""A sample has this many clients, spread evenly, and at most this many rows of each."""
DIFFERENT = 1_000_000
"""About so many numbers, of rows spread evenly, are looked at to see whether rounding takes away how they differ."""
BLURRED = 0.01
"""The largest error of rounding, as a share of the standard deviation of a feature."""


class PopulationLike(Protocol):
    """What validation needs of a population."""

    columns: Mapping[str, np.ndarray]  # read only if `stored`
    names: tuple[str, ...]
    stored: bool
    starts: np.ndarray
    sizes: np.ndarray
    ids: np.ndarray

    def __len__(self) -> int: ...
    def client(self, index: int) -> dict[str, np.ndarray]: ...
    def prefetch(self, clients: np.ndarray) -> None: ...
    def shape(self, column: str) -> tuple[int, ...]: ...
    def dtype(self, column: str) -> np.dtype: ...


@dataclass(frozen=True)
class RowsChecked:
    """How many rows of a population were checked.

    Attributes:
        checked: the number of rows checked.
        total: the number of rows in the population.
    """

    checked: int
    total: int

    @property
    def complete(self) -> bool:
        """Whether all rows were checked."""
        return self.checked == self.total

    def __str__(self) -> str:
        if self.complete:
            return f"all {self.total:,} rows were checked"
        return f"{self.checked:,} of {self.total:,} rows were checked, from clients spread evenly"


@dataclass(frozen=True)
class Rows:
    """The rows that are checked.

    Attributes:
        clients: the clients they belong to, `[k]`, in order.
        edges: `[k + 1]`; the rows of `clients[j]` are `edges[j]` to `edges[j + 1]`, counted over all parts.
        parts: the values by column, in one part or one per client.
        ids: the ids of all clients.
    """

    clients: np.ndarray
    edges: np.ndarray
    parts: tuple[Mapping[str, np.ndarray], ...]
    ids: np.ndarray

    def locate(self, row: int) -> str:
        """A row, by its client and its number within the client."""
        j = int(np.searchsorted(self.edges, row, side="right")) - 1
        return f"row {row - self.edges[j]} of client {self.ids[self.clients[j]].item()!r}"


@dataclass(frozen=True)
class Column:
    """One column, as a data check sees it.

    Attributes:
        name: its name.
        shape: the shape of one row.
        dtype: the type of its values.
        rows: the rows that are checked.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    rows: Rows

    def require(self, valid: Callable[[np.ndarray], np.ndarray], *, expected: str, do: str) -> None:
        """Raise an error at the first value that is not valid, with its client and row.

        Args:
            valid: `values [rows, ...] -> bool [rows, ...]`.
            expected: what values should be, for the error.
            do: what the user can do, for the error.

        Raises:
            PopulationError: a value is not valid.
        """
        before = 0
        for part in self.rows.parts:
            values = part[self.name]
            ok = valid(values)
            if not ok.all():
                row = int(np.argwhere(~ok)[0][0])
                raise PopulationError(
                    f"column {self.name!r}",
                    given=f"{values[~ok].ravel()[0].item()!r} in {self.rows.locate(before + row)}",
                    expected=expected,
                    do=do,
                )
            before += len(values)

    def require_integers(self, *, do: str) -> None:
        """Raise `PopulationError` unless values are whole numbers or booleans."""
        if self.dtype.kind not in "biu":
            raise PopulationError(f"column {self.name!r}", given=self.dtype, expected="whole numbers", do=do)

    def require_shape(self, shape: tuple[int, ...], *, do: str) -> None:
        """Raise `PopulationError` unless rows have this shape."""
        if self.shape != shape:
            given = f"rows of shape {self.shape}"
            raise PopulationError(f"column {self.name!r}", given=given, expected=f"shape {shape}", do=do)


DataCheck = Callable[[Mapping[str, Column], Callable[[], Any]], None]
"""`(columns, outputs) -> None`; raises an error if the data does not fit. `columns` has a `Column` per name.
`outputs()` returns the shape `[B, ...]` and the dtype of the model's outputs, without values. Check the columns
before calling it: the error of a model that receives wrong inputs is harder to understand."""


def validate(task: Any, population: PopulationLike) -> RowsChecked:
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
    for column in columns.values():
        _check_precision(column)
    _check_resolution(columns[task.inputs])
    _check_missing(task, columns[task.inputs])
    if "weight" in columns and "weight" in task.optional:
        _check_weight(columns["weight"])
    # What is traced depends on the columns' shapes alone, and takes long beside the rest.
    shapes = tuple((name, column.shape, column.dtype) for name, column in columns.items())

    def outputs() -> Any:
        return kept(task, (_outputs, shapes), lambda: _outputs(task, population, names))

    for check in task.data_checks:
        check(columns, outputs)
    kept(task, (_check_code, shapes), lambda: _check_code(task, outputs(), _batch(population, names)))
    return RowsChecked(int(rows.edges[-1]), int(np.sum(population.sizes)))


def _check_code(task: Any, outputs: Any, batch: dict[str, jax.ShapeDtypeStruct]) -> None:
    """Raise an error unless the loss, the metrics and the penalty return what they should."""
    check_measure("loss", task.loss, task.loss_weight_bound, outputs, batch)
    for name, metric in task.metrics.items():
        check_measure(f"metric {name!r}", metric.measure, metric.weight_bound, outputs, batch)
    for name, metric in task.pooled.items():
        check_pooled(f"metric {name!r}", metric, outputs, batch)
    if task.penalty is not None:
        _check_penalty(task)


def _require_columns(task: Any, population: PopulationLike) -> None:
    missing = [name for name in task.columns if name not in population.names]
    if missing:
        raise PopulationError(
            f"column {missing[0]!r}",
            given=f"columns {', '.join(population.names) or 'none'}",
            expected=f"columns {', '.join(task.columns)} for {task.name}",
            do="Rename the column, or give the name of the column to read (inputs=, labels=).",
        )


def _rows(population: PopulationLike, names: tuple[str, ...]) -> Rows:
    """All rows if they are in memory, otherwise a sample. Nothing is copied."""
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
    population.prefetch(clients)
    for client in clients:
        own = population.client(int(client))
        pieces.append({name: np.asarray(own[name][:SAMPLE_ROWS]) for name in names})
    lengths = [len(next(iter(piece.values()))) for piece in pieces]
    return Rows(clients, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]), tuple(pieces), ids)


def _batch(population: PopulationLike, names: tuple[str, ...]) -> dict[str, jax.ShapeDtypeStruct]:
    def row(name: str) -> jax.ShapeDtypeStruct:
        dtype = jax.dtypes.canonicalize_dtype(population.dtype(name))
        return jax.ShapeDtypeStruct((EXAMPLES, *population.shape(name)), dtype)

    return {name: row(name) for name in names}


def _outputs(task: Any, population: PopulationLike, names: tuple[str, ...]) -> Any:
    """The shapes of the model's outputs, in training and evaluation alike."""
    batch = _batch(population, names)
    params = jax.eval_shape(task.model.init, key_shape())
    try:
        training = jax.eval_shape(task.forward, params, batch, key_shape())
        program, outputs = jax.make_jaxpr(lambda p, b: task.forward(p, b, None), return_shape=True)(
            params, batch
        )
    except FairyringError:
        raise
    except Exception as error:  # a model may raise anything for inputs it does not accept
        x = batch[task.inputs]
        try:
            ready = jax.eval_shape(task.prepare, x)
            prepared = f"the model receives {ready.dtype} of shape {ready.shape[1:]}"
        except Exception:  # `prepare` is the user's code too; the error above is the one to report
            prepared = "`prepare` itself fails"
        raise ModelError(
            f"model on column {task.inputs!r}",
            given=(
                f"examples of shape {x.shape[1:]}, {population.dtype(task.inputs)}; {prepared}; "
                f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            ),
            expected="inputs the model accepts",
            do="Make the model for the shape of the data, or reshape them in `prepare` (it receives a batch).",
        ) from error
    _check_scaling(task, params, batch[task.inputs])
    if task.takes_logits and (last := final_activation(program)):
        raise ModelError(
            "model",
            given=f"outputs of a {last}",
            expected=f"logits: the loss of {task.name} makes probabilities of them; of what is that already, a model hardly learns",
            do=(
                "Leave the last activation out: Dense(10) without activation='softmax', or a module without nn.Softmax at the end. Of a "
                "Keras model that is there: model.layers[-1].activation = keras.activations.linear, before the task is made."
            ),
        )
    if jax.tree.map(lambda o: o.shape, training) != jax.tree.map(lambda o: o.shape, outputs):
        raise ModelError(
            "model",
            given="outputs of one shape in training and another in evaluation",
            expected="the same shape in both",
            do="Return outputs of the same shape with a key and without.",
        )
    return outputs


def _check_penalty(task: Any) -> None:
    """Raise `PlanError` unless a task's penalty is one number."""
    penalty = jax.eval_shape(lambda key: task.penalty(task.model.init(key)), key_shape())
    if getattr(penalty, "shape", None) != () or not jnp.issubdtype(penalty.dtype, jnp.floating):
        raise PlanError(
            "penalty",
            given=f"a result of shape {getattr(penalty, 'shape', 'of a structure')}",
            expected="params -> one floating-point number",
            do="Add up all its parts.",
        )


def _check_scaling(task: Any, params: Any, x: jax.ShapeDtypeStruct) -> None:
    """Raise `ModelError` if bytes are scaled to [0, 1] for a model that only reads them as whole numbers: it would see 0 or 1."""
    ready = jax.eval_shape(task.prepare, x)
    if x.dtype != np.uint8 or not np.issubdtype(ready.dtype, np.floating):
        return
    model = jax.make_jaxpr(lambda params, x: task.model.apply(params, x, None))(params, ready)
    if _is_read_as_integers(model.jaxpr, model.jaxpr.invars[-1]):
        raise ModelError(
            f"model on column {task.inputs!r}",
            given="bytes that `prepare` scales to [0, 1], which the model then makes whole numbers: it sees 0 and 1 only",
            expected="whole numbers as they are, such as tokens, or a model of real numbers, such as of pixels",
            do="Give the task prepare=lambda x: x.",
        )


def _is_read_as_integers(jaxpr: core.Jaxpr, variable: core.Var) -> bool:
    """Whether all that a program does with a variable is to make whole numbers of it."""
    uses = []
    for eqn in jaxpr.eqns:
        for place, atom in enumerate(eqn.invars):
            if atom is not variable:
                continue
            if eqn.primitive is primitives.jit_p:
                inner = eqn.params["jaxpr"].jaxpr
                uses.append(_is_read_as_integers(inner, inner.invars[place]))
            else:
                converted = eqn.primitive is primitives.convert_element_type_p
                uses.append(converted and np.issubdtype(eqn.params["new_dtype"], np.integer))
    return bool(uses) and all(uses) and variable not in jaxpr.outvars


def _check_precision(column: Column) -> None:
    """Raise `PopulationError` unless values keep their meaning in the type that they are computed in, such as int32 for int64."""
    computed = np.dtype(jax.dtypes.canonicalize_dtype(column.dtype))
    if computed == column.dtype:
        return
    range_ = np.iinfo(computed) if computed.kind in "iu" else np.finfo(computed)
    ends = (
        f"{range_.min:,} to {range_.max:,}" if computed.kind in "iu" else f"{range_.min:g} to {range_.max:g}"
    )
    column.require(
        lambda values: ~((values < range_.min) | (values > range_.max)),  # NaN is for other checks
        expected=f"values from {ends}: they are computed in {computed}",
        do="Scale the column, or subtract a constant, before the population is made.",
    )


def _check_resolution(column: Column) -> None:
    """Raise `PopulationError` where rounding to float32 takes away how values differ, such as of times in seconds since 1970.

    Judged feature by feature: by the error of rounding beside how widely the values are spread.
    """
    if np.can_cast(column.dtype, np.float32):  # every value is a float32, too
        return
    parts = [np.asarray(part[column.name]) for part in column.rows.parts]
    every = max(1, sum(part.size for part in parts) // DIFFERENT)
    rows = np.concatenate(
        [part[::every].reshape(len(part[::every]), -1) for part in parts] or [np.zeros((0, 1))]
    )
    if not len(rows):
        return
    values = rows.astype(np.float64)
    error = np.abs(values - values.astype(np.float32)).max(axis=0)
    spread = values.std(axis=0)
    differs = spread > 1e-13 * np.abs(values).max(axis=0)  # more than by the rounding of float64 itself
    lost = differs & (error > BLURRED * spread)
    if np.any(lost):
        place = int(np.flatnonzero(lost)[0])
        different = np.unique(values[:, place])
        shown = f"{different[0].item()!r} and {different[1].item()!r}"
        raise PopulationError(
            f"column {column.name!r}",
            given=f"{shown}, and others so near each other that float32, in which they are computed, hardly tells them apart",
            expected=f"values whose differences are more than {1 / BLURRED:g} times as large as the rounding of float32",
            do="Subtract a constant, such as the mean, before the population is made.",
        )


def _check_missing(task: Any, column: Column) -> None:
    """Raise `PopulationError` at the first missing value (NaN) of the inputs, unless `prepare` fills it in."""
    before = 0
    for part in column.rows.parts if column.dtype.kind == "f" else ():
        values = part[column.name]
        gone = np.isnan(values)
        if gone.any():
            row = int(np.argwhere(gone)[0][0])
            prepared = np.asarray(task.prepare(jnp.asarray(values[row : row + 1])))
            if np.isnan(prepared).any():
                raise PopulationError(
                    f"column {column.name!r}",
                    given=f"a missing value (nan) in {column.rows.locate(before + row)}",
                    expected="numbers",
                    do="Fill missing values in first, such as by fr.summary_statistics(train).standardize()(train).",
                )
            return
        before += len(values)


def _check_weight(weight: Column) -> None:
    weight.require_shape((), do="Give one weight per example.")
    weight.require(
        lambda values: np.isfinite(values) & (values >= 0),
        expected="finite weights of at least 0",
        do="Correct the weights; with weight 0 an example is ignored.",
    )
