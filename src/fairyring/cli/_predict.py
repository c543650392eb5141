"""`predict` and `export`: what a run's model says of data, and the model as a file."""

import csv
import sys
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from fairyring.cli._terminal import screen
from fairyring.core.errors import ModelError, RunError

_READERS = ".npy, .npz, .csv or .parquet"


def predict(run: Path, data: Path, *, out: Path | None, round: str | None) -> None:
    """Print or write a model's outputs for a file of inputs; see the command `predict`."""
    model = _model(run, round)
    outputs = model.predict(_inputs(data, model.inputs))
    if not isinstance(outputs, np.ndarray):
        raise ModelError(
            "predict",
            given="a model with several outputs",
            expected="one array",
            do="Use Python: fr.load_run(run).predict(x).",
        )
    if out is not None and out.suffix == ".npy":
        np.save(out, outputs)
    elif out is not None:
        with out.open("w", newline="", encoding="utf-8") as file:
            _write(file, outputs)
    else:
        _write(sys.stdout, outputs)
        return
    screen().print(f"{len(outputs):,} rows of outputs: {out}", highlight=False, markup=False, soft_wrap=True)


def export(run: Path, *, to: str, out: Path | None, rows: int, round: str | None) -> None:
    """Write a model as a file; see the command `export`."""
    from fairyring.runs import SUFFIXES

    suffix = next((suffix for suffix, kind in SUFFIXES.items() if kind == to), "")
    path = _model(run, round).export(out or Path(f"model{suffix}"), to=to, rows=rows)
    screen().print(f"Model: {path}", highlight=False, markup=False, soft_wrap=True)


def _model(run: Path, round: str | None) -> Any:
    from fairyring.runs import load_run

    saved = load_run(run)
    if round is None:
        return saved.model()
    if round.isdecimal():
        return saved.at(int(round))
    word, _, metric = round.partition(":")
    if word != "best":
        raise RunError(
            "round",
            given=round,
            expected="a number, best, or best:METRIC",
            do="Give --round 40 or --round best.",
        )
    return saved.best(metric or "loss")


def _inputs(path: Path, inputs: Any) -> np.ndarray:
    """The rows of a file, in the shape that the model reads.

    Raises:
        RunError: it cannot be read.
        ModelError: its rows have another number of values.
    """
    try:
        x = _read(path, inputs.column)
    except (OSError, ValueError, KeyError) as error:
        raise RunError(
            str(path), given=f"{error}", expected=f"a file of inputs: {_READERS}", do="Check the file."
        ) from error
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
    whole = inputs.dtype.kind in "iu" and x.dtype.kind == "f" and np.array_equal(x, np.floor(x))
    return x.astype(np.int64) if whole else x


def _read(path: Path, column: str) -> np.ndarray:
    kind = path.suffix.lower()
    if kind == ".npy":
        return np.load(path, allow_pickle=False)
    if kind == ".npz":
        with np.load(path, allow_pickle=False) as file:
            name = column if column in file.files or len(file.files) != 1 else file.files[0]
            return file[name]
    if kind == ".csv":
        return _table(path)
    if kind == ".parquet":
        try:
            from pyarrow import parquet
        except ImportError as error:
            from fairyring.core.errors import MissingExtra

            raise MissingExtra("pyarrow", extra="data", purpose="Parquet files") from error
        columns = parquet.read_table(path).columns
        return np.stack([np.asarray(one.to_numpy()) for one in columns], axis=1)
    raise ValueError(f"a file that ends with {kind or 'nothing'!r}")


def _table(path: Path) -> np.ndarray:
    """A CSV file of numbers; a first line of names is left out."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = [line for line in csv.reader(file) if line]
    if lines and not all(map(_is_number, lines[0])):
        lines = lines[1:]
    return np.array([[float(value) for value in line] for line in lines])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _write(file: TextIO, outputs: np.ndarray) -> None:
    """Outputs as CSV, a row each."""
    flat = outputs.reshape(len(outputs), -1)
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([f"output_{i}" for i in range(flat.shape[1])] if flat.shape[1] != 1 else ["output"])
    writer.writerows([f"{value:.9g}" for value in row] for row in flat.tolist())
