"""Results as tables: rows of plain values, and CSV files of them."""

import csv
import io
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fairyring.core.errors import EcologyError
from fairyring.core.files import replace_file
from fairyring.ecology.results.study_file import plain

Row = dict[str, Any]  # by column a plain value: text, a number, True or False; None if it is not known


class HasTable(Protocol):
    """A result that gives its rows."""

    def table(self) -> list[Row]:
        """The rows, each with the same columns."""
        ...


def write_csv(result: HasTable | Iterable[Any] | Mapping[str, Any], path: str | os.PathLike[str]) -> Path:
    """Write a result of the ecology as CSV: a line of names, then a line for each row.

    A value that is not known, or not finite, is an empty cell. Numbers are written so that they can be read back exactly.

    Args:
        result: one with a method `table`; rows, which are mappings or dataclasses such as those of `summaries`; or arrays by column,
            `[rows]` each, as `event_rates` gives them.
        path: of the file, which is replaced.

    Returns:
        The path.

    Raises:
        EcologyError: there are no rows, or the columns of a mapping differ in length.
        StorageError: the file cannot be written.
    """
    path, rows = Path(path), _rows(result)
    if not rows:
        raise EcologyError(
            f"table {path.name}",
            given="no rows",
            expected="at least one",
            do="Give a result with something in it.",
        )
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_cell(row.get(name)) for name in names] for row in rows)
    replace_file(path, text.getvalue().encode())
    return path


def rows_of(items: Iterable[Any]) -> list[Row]:
    """Mappings or dataclasses as rows. A part with values of its own becomes columns `name.value`; arrays and lists are left out."""
    return [_flat(plain(item)) for item in items]


def study_tables(results: Mapping[str, Any]) -> dict[str, list[Row]]:
    """The tables of a study, by what a row is.

    Args:
        results: as `read_study` gives them.

    Returns:
        "worlds", a row for each world of each arm, with the means of its assay; "rewards", "relearning" and "knock_outs" of v2;
        "pairs" and "populations" of jars; "measures" of non-gradient dynamics. A study has some of them.
    """
    jars = results.get("jars") or {}
    tables = {
        "worlds": [
            {"arm": name} | world for name, arm in results.get("arms", {}).items() for world in arm["worlds"]
        ],
        "pairs": jars.get("contests", []),
        "populations": jars.get("populations", []),
        "rewards": (results.get("rewards") or {}).get("table", []),
        "relearning": results.get("relearning") or [],
        "knock_outs": results.get("knock_outs") or [],
        "measures": (results.get("verdicts") or {}).get("rotation", []),
    }
    return {name: rows_of(rows) for name, rows in tables.items() if rows}


def _flat(row: Mapping[str, Any], prefix: str = "") -> Row:
    flat: Row = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        elif not isinstance(value, list):
            flat[prefix + name] = value
    return flat


def _rows(result: Any) -> list[Row]:
    if hasattr(result, "table"):
        return result.table()
    if not isinstance(result, Mapping):
        return rows_of(result)
    columns = {name: np.asarray(values) for name, values in result.items()}
    shapes = {column.shape for column in columns.values()}
    if len(shapes) > 1 or any(len(shape) != 1 for shape in shapes):
        raise EcologyError(
            "table",
            given=f"columns of shapes {sorted(shapes)}",
            expected="one value for each row in every column",
            do="Give columns of one length.",
        )
    values = (column.tolist() for column in columns.values())
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]


def _cell(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else ""
    return value
