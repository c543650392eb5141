"""Fields of CSV files. The same file is read in the same way wherever it is: by Python's own reader, and no other library's rules."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fairyring.core.errors import PopulationError
from fairyring.population._fields import Field

MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?")
"""What stands for a missing value unless something else is said."""
_TRUTH = {"true": True, "false": False, "True": True, "False": False, "TRUE": True, "FALSE": False}


def read_csv(
    path: Path,
    *,
    names: Sequence[str] | None,
    delimiter: str,
    encoding: str,
    missing_values: Sequence[str],
) -> dict[str, Field]:
    """The columns of a CSV file by name, all of them text.

    Raises:
        PopulationError: there is no such file, it is not text of this encoding, has no row, names a column twice, or
            a line has another number of values than the first.
    """
    try:
        with path.open(encoding="utf-8-sig" if encoding == "utf-8" else encoding, newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
            lines = [(reader.line_num, row) for row in reader if row]
    except OSError as error:
        raise PopulationError(
            f"file {path}",
            given=error.strerror or str(error),
            expected="a CSV file",
            do="Check the path.",
        ) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise PopulationError(
            f"file {path}",
            given=str(error)[:120],
            expected=f"a CSV file in {encoding}",
            do="Give encoding=, such as 'latin-1', or write the file again.",
        ) from None
    header = list(names) if names is not None else lines[0][1] if lines else []
    rows = lines if names is not None else lines[1:]
    if other := next((d for d in ";\t|" if len(header) == 1 and d in "".join(header)), None):
        raise PopulationError(
            f"file {path}",
            given=f"a header without {delimiter!r}: {header[0]}"[:120],
            expected=f"values with {delimiter!r} between them",
            do=f"Give delimiter={other!r}.",
        )
    if not rows or len(set(header)) < len(header):
        raise PopulationError(
            f"file {path}",
            given="no row" if not rows else f"the header {', '.join(header)}"[:200],
            expected="a line with the names of the columns, each once, and a line for each row",
            do="Give names= if the file has no header.",
        )
    for line, row in rows:
        if len(row) != len(header):
            other = next((d for d in ";\t|" if d in "".join(row) and len(row) == 1), None)
            raise PopulationError(
                f"file {path}, line {line}",
                given=f"{len(row)} values",
                expected=f"{len(header)}, as in the header"
                if names is None
                else f"{len(header)}, as in names",
                do=f"Give delimiter={other!r}."
                if other
                else "Correct the line; a value with commas stands in quotes.",
            )
    absent, fields = frozenset(missing_values), {}
    for name, values in zip(header, zip(*(row for _, row in rows), strict=True), strict=True):
        stripped = [value.strip() for value in values]
        missing = np.array([value in absent for value in stripped], bool)
        text = np.asarray(["" if value in absent else value for value in stripped], dtype=str)
        fields[name] = Field("empty" if missing.all() else "text", text, missing, type="text")
    return fields


def typed(
    fields: Mapping[str, Field], client: str | None, categories: Mapping[str, Sequence[Any]] | None
) -> dict[str, Field]:
    """The same fields, where all values are numbers as numbers, and where all are true or false as booleans.

    They are those of the whole table, so that one kind is found for all clients. Where categories are given as text, and
    where ids of clients are not plain integers (such as 007), text stays text.
    """
    text = {name for name, values in (categories or {}).items() if any(isinstance(v, str) for v in values)}
    found = {name: field if name in text else _typed(field) for name, field in fields.items()}
    if client in found and found[client].values.dtype.kind not in "iu":
        found[client] = fields[client]
    return found


def _typed(field: Field) -> Field:
    if field.kind != "text":
        return field
    present = field.values[~field.missing].tolist()
    if present[0] in _TRUTH and set(present) <= set(_TRUTH):
        values = np.zeros(len(field), bool)
        values[~field.missing] = [_TRUTH[value] for value in present]
        return Field("boolean", values, field.missing, type="text")
    try:
        numbers = list(map(float, present))
    except ValueError:
        return field
    # Whole only as they are usually written: 007 and 1e3 are numbers, but not ids.
    whole = all(value.lstrip("-").isdecimal() and str(int(value)) == value for value in present)
    values = np.zeros(len(field), np.int64 if whole and max(map(abs, numbers)) < 2**63 else np.float64)
    values[~field.missing] = list(map(int, present)) if values.dtype.kind == "i" else numbers
    return Field("number", values, field.missing, type="text")
