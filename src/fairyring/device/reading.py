"""Examples from a file: arrays (.npz), a table of numbers (.csv), or Parquet."""

import csv
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from fairyring.core.errors import MissingExtra, PopulationError

_PART = re.compile(r"(?P<name>.+?)(?P<place>(?:\[\d+\])+)")


def from_file(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The columns in a file, in the order of its rows.

    A header `x[0]`, `x[1]`, ... is one column `x` of vectors; with two places, as in `x[0][1]`, of matrices. Tables give whole numbers as
    int32 where they fit, else int64, and other numbers as float32.

    Args:
        path: of a file that ends with .npz, .csv or .parquet.

    Returns:
        name -> `[rows, ...]`, for `ExampleStore.add`.

    Raises:
        PopulationError: it is no such file, or has something else than numbers; the error names the column.
        MissingExtra: it is a Parquet file, and pyarrow is not installed.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None or not path.is_file():
        raise PopulationError(
            str(path),
            given="no such file" if reader else f"a file that ends with {path.suffix or 'nothing'!r}",
            expected=f"a file that ends with {', '.join(_READERS)}",
            do="Save the examples as one of these.",
        )
    return reader(path)


def _npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError) as error:
        raise _unreadable(path, error) from error


def _csv(path: Path) -> dict[str, np.ndarray]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            header, *rows = [row for row in csv.reader(file) if row] or [[]]
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise _unreadable(path, error) from error
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise PopulationError(
                f"{path}, row {number}",
                given=f"{len(row)} values",
                expected=f"{len(header)}, one for each column",
                do="Put it right in the file.",
            )
    return _gathered(path, {name: [row[at] for row in rows] for at, name in enumerate(header)})


def _parquet(path: Path) -> dict[str, np.ndarray]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra("pyarrow", extra="data", purpose="reading Parquet") from error
    try:
        table = parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error
    columns: dict[str, np.ndarray] = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        shape = [len(column)]
        while pyarrow.types.is_fixed_size_list(column.type):
            shape.append(column.type.list_size)
            column = column.flatten()
        if column.null_count or not _is_number(column.type):
            given = "empty values" if column.null_count else f"{column.type}"
            raise _no_numbers(path, name, given)
        columns[name] = column.to_numpy(zero_copy_only=False).reshape(shape)
    return columns


def _is_number(kind) -> bool:
    from pyarrow import types

    return types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)


_READERS: Mapping[str, Callable[[Path], dict[str, np.ndarray]]] = {
    ".npz": _npz,
    ".csv": _csv,
    ".parquet": _parquet,
}


def _gathered(path: Path, texts: Mapping[str, Sequence[str]]) -> dict[str, np.ndarray]:
    """Columns of numbers, those with places in their names put together."""
    parts: dict[str, dict[tuple[int, ...], np.ndarray]] = {}
    for title, values in texts.items():
        found = _PART.fullmatch(title.strip())
        name = found["name"] if found else title.strip()
        place = tuple(map(int, re.findall(r"\d+", found["place"]))) if found else ()
        parts.setdefault(name, {})[place] = _numbers(path, title, values)
    columns: dict[str, np.ndarray] = {}
    for name, pieces in parts.items():
        places = sorted(pieces)
        shape = tuple(max(at) + 1 for at in zip(*places, strict=False))
        if places != list(np.ndindex(*shape)):
            raise PopulationError(
                f"column {name!r} of {path}",
                given=f"{len(places)} of its places",
                expected=f"all of {list(shape)}, from {name}{'[0]' * len(shape)} on",
                do="Put the header right.",
            )
        joined = np.stack([pieces[place] for place in places], axis=-1)
        columns[name] = _compact(joined.reshape(joined.shape[0], *shape))
    return columns


def _numbers(path: Path, title: str, values: Sequence[str]) -> np.ndarray:
    try:
        return np.array([int(value) for value in values], np.int64)
    except (ValueError, OverflowError):
        pass
    for number, value in enumerate(values, 2):
        try:
            float(value)
        except ValueError:
            raise _no_numbers(path, title, f"{value[:40]!r} in row {number}") from None
    return np.array([float(value) for value in values], np.float64)


def _compact(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    fits = not array.size or (array.min() >= -(1 << 31) and array.max() < 1 << 31)
    return array.astype(np.int32) if fits else array


def _no_numbers(path: Path, column: str, given: str) -> PopulationError:
    return PopulationError(
        f"column {column!r} of {path}",
        given=given,
        expected="numbers",
        do="Make numbers of it, or leave the column out.",
    )


def _unreadable(path: Path, error: Exception) -> PopulationError:
    return PopulationError(
        str(path), given=f"{error}"[:200], expected="a file of its kind", do="Save the examples again."
    )
