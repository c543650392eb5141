"""`predict` and `export`: what a run's model says of data, and the model as a file."""

import csv
import sys
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from fairyring.cli._result import Result
from fairyring.cli._screen import say
from fairyring.core.checks import is_number
from fairyring.core.errors import MissingExtra, ModelError, RunError
from fairyring.core.files import storage

_READERS = ".npy, .npz, .csv or .parquet"


def predict(run: Path, data: Path, *, out: Path | None, round: str | None) -> Result:
    """Give or write a model's outputs for a file of inputs; see the command `predict`."""
    saved, model = _model(run, round)
    names = (saved.population.get("feature_names") or {}).get(model.inputs.column)
    outputs = model.predict(_inputs(data, model.inputs, names))
    if not isinstance(outputs, np.ndarray):
        raise ModelError(
            "predict",
            given="a model with several outputs",
            expected="one array",
            do="Use Python: fr.load_run(run).predict(x).",
        )
    if out is not None and out.suffix == ".npy":
        with storage(out):
            np.save(out, outputs)
    elif out is not None:
        with storage(out), out.open("w", newline="", encoding="utf-8") as file:
            _write(file, outputs)
    found = {"run": run, "round": model.round, "rows": len(outputs)}
    if out is None:
        return Result({**found, "outputs": outputs}, lambda: _write(sys.stdout, outputs))
    words = f"{len(outputs):,} rows of outputs of the model after round {model.round}: {out}"
    return Result({**found, "file": out}, lambda: say(words))


def export(run: Path, *, to: str, out: Path | None, rows: int, round: str | None) -> Result:
    """Write a model as a file; see the command `export`."""
    from fairyring.runs import SUFFIXES

    suffix = next((suffix for suffix, kind in SUFFIXES.items() if kind == to), "")
    model = _model(run, round)[1]
    path = model.export(out or Path(f"model{suffix}"), to=to, rows=rows)
    found = {"run": run, "round": model.round, "format": to, "file": path}
    return Result(found, lambda: say(f"Model after round {model.round}: {path}"))


def _model(run: Path, round: str | None) -> tuple[Any, Any]:
    """A run, and its model after a round."""
    from fairyring.runs import load_run

    saved = load_run(run)
    if round is None:
        return saved, saved.model()
    if round.isdecimal():
        return saved, saved.at(int(round))
    word, _, metric = round.partition(":")
    if word != "best":
        raise RunError(
            "round",
            given=round,
            expected="a number, best, or best:METRIC",
            do="Give --round 40 or --round best.",
        )
    return saved, saved.best(metric or "loss")


def _inputs(path: Path, inputs: Any, names: list[str] | None) -> np.ndarray:
    """The rows of a file, in the shape that the model reads.

    Args:
        path: of the file.
        inputs: what the model reads.
        names: of the features, if the population had them: columns with names are taken by them, in any order.

    Raises:
        RunError: it cannot be read.
        ModelError: its rows have another number of values, or lack some.
    """
    try:
        columns, x = _read(path, inputs.column)
    except (OSError, ValueError, KeyError) as error:
        raise RunError(
            str(path), given=f"{error}", expected=f"a file of inputs: {_READERS}", do="Check the file."
        ) from error
    if names and columns:
        missing = [name for name in names if name not in columns]
        if missing:
            raise ModelError(
                str(path),
                given=f"columns {', '.join(columns)}",
                expected=f"those that the model was trained on; not there: {', '.join(missing)}",
                do="Name the columns as they were in training.",
            )
        x = x[:, [columns.index(name) for name in names]]
    size = int(np.prod(inputs.shape, dtype=int))
    if x.shape[1:] != inputs.shape and x.ndim == 2 and x.shape[1] == size:
        x = x.reshape(len(x), *inputs.shape)  # a table has the values of a row side by side
    if x.shape[1:] != inputs.shape:
        raise ModelError(
            str(path),
            given=f"rows of shape {x.shape[1:]}",
            expected=f"shape {inputs.shape}, or a table with {size:,} columns",
            do="Give the columns that the model was trained on, and no other, in their order.",
        )
    bad = np.argwhere(np.isnan(x)) if x.dtype.kind == "f" else np.zeros((0, 2), int)
    if columns and len(bad):
        raise ModelError(
            str(path),
            given=f"no number in row {bad[0][0] + 1}",
            expected="numbers: a missing value has no meaning to the model",
            do="Fill it in as for training.",
        )
    whole = inputs.dtype.kind in "iu" and x.dtype.kind == "f" and np.array_equal(x, np.floor(x))
    return x.astype(np.int64) if whole else x


def _read(path: Path, column: str) -> tuple[list[str], np.ndarray]:
    """The names of a file's columns, none if it has none, and its rows."""
    kind = path.suffix.lower()
    if kind == ".npy":
        return [], np.load(path, allow_pickle=False)
    if kind == ".npz":
        with np.load(path, allow_pickle=False) as file:
            name = column if column in file.files or len(file.files) != 1 else file.files[0]
            return [], file[name]
    if kind == ".csv":
        return _table(path)
    if kind == ".parquet":
        try:
            from pyarrow import parquet
        except ImportError as error:
            raise MissingExtra("pyarrow", extra="data", purpose="Parquet files") from error
        table = parquet.read_table(path)
        numbers = [name for name in table.column_names if _is_numeric(table.schema.field(name).type)]
        columns = [np.asarray(table.column(name).to_numpy(), np.float64) for name in numbers]
        return numbers, np.stack(columns, axis=1) if columns else np.zeros((table.num_rows, 0))
    raise ValueError(f"a file that ends with {kind or 'nothing'!r}")


def _is_numeric(kind: Any) -> bool:
    from pyarrow import types

    return types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)


def _table(path: Path) -> tuple[list[str], np.ndarray]:
    """The names in the first line of a CSV file, none if it has numbers, and its rows; what is not a number is NaN."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = [line for line in csv.reader(file) if line]
    names: list[str] = []
    if lines and not all(map(is_number, lines[0])):
        names, lines = [name.strip() for name in lines[0]], lines[1:]
    rows = [[float(value) if is_number(value) else np.nan for value in line] for line in lines]
    return names, np.array(rows, np.float64).reshape(len(rows), len(rows[0]) if rows else len(names))


def _write(file: TextIO, outputs: np.ndarray) -> None:
    """Outputs as CSV, a row each."""
    flat = outputs.reshape(len(outputs), -1)
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([f"output_{i}" for i in range(flat.shape[1])] if flat.shape[1] != 1 else ["output"])
    writer.writerows([f"{value:.9g}" for value in row] for row in flat.tolist())
