"""The columns of a table before they are numbers: what kind of values each has, and where values are missing."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import numpy as np

from fairyring.core.errors import PopulationError

Kind = Literal["number", "boolean", "text", "array", "time", "duration", "mixed", "empty"]


@dataclass(frozen=True)
class Field:
    """One column of a table.

    Attributes:
        kind: of its values; `"empty"` if all are missing.
        values: `[rows]`; `[rows, ...]` for arrays. What stands in place of a missing value is 0 or "".
        missing: bool `[rows]`.
        categories: the values that the column can have, in order, where its type declares them.
        type: what the table calls the type, for errors.
    """

    kind: Kind
    values: np.ndarray
    missing: np.ndarray
    categories: tuple[Any, ...] | None = None
    type: str = ""

    def __len__(self) -> int:
        return len(self.missing)

    def distinct(self) -> list[Any]:
        """The values that occur, sorted."""
        return np.unique(self.values[~self.missing]).tolist()

    def take(self, rows: np.ndarray) -> "Field":
        """Some of the rows."""
        return Field(self.kind, self.values[rows], self.missing[rows], self.categories, self.type)


def field_of_objects(values: Sequence[Any], missing: np.ndarray, type: str) -> Field:
    """A field of Python objects, which are looked at one by one."""
    present = [value for value, gone in zip(values, missing.tolist(), strict=True) if not gone]
    kinds = {_kind_of(value) for value in present}
    if not kinds:
        return Field("empty", np.zeros(len(missing)), missing, type=type)
    if kinds == {"text"}:
        text = np.where(missing, "", np.asarray(values, dtype=object)).astype(str)
        return Field("text", text, missing, type=type)
    if kinds == {"array"}:
        arrays = np.empty(len(missing), object)
        arrays[~missing] = _each(present)
        return Field("array", arrays, missing, type=type)
    if kinds <= {"number", "boolean"}:
        whole = all(isinstance(value, int | np.integer | np.bool_) for value in present)
        numbers = np.zeros(len(missing), np.int64 if whole else np.float64)
        numbers[~missing] = present if whole else [float(value) for value in present]
        if kinds == {"boolean"}:
            return Field("boolean", numbers.astype(bool), missing, type=type)
        missing = missing | np.isnan(numbers)
        return Field("number", np.where(missing, 0, numbers), missing, type=type)
    found = Counter(value.__class__.__name__ for value in present)
    said = ", ".join(f"{count} {name}" for name, count in found.items())
    return Field("mixed", np.zeros(len(missing)), missing, type=f"{type} of {said}")


def _each(values: Sequence[Any]) -> np.ndarray:
    """An array of objects; NumPy would make one array of lists of equal length."""
    objects = np.empty(len(values), object)
    for place, value in enumerate(values):
        objects[place] = value
    return objects


def _kind_of(value: Any) -> Kind:
    if isinstance(value, bool | np.bool_):
        return "boolean"
    if isinstance(value, int | float | np.number | Decimal):
        return "number"
    if isinstance(value, str):
        return "text"
    return "array" if isinstance(value, np.ndarray | list | tuple) else "mixed"


def joined(tables: Mapping[Any, Mapping[str, Field]]) -> dict[str, Field]:
    """The rows of several tables, one table after another. Each is one client's.

    Raises:
        PopulationError: the tables have different columns, or a column has values of different kinds in them.
    """
    first, names = next(iter(tables.items()))
    for client, table in tables.items():
        if set(table) != set(names):
            only = sorted(set(table) ^ set(names))
            raise PopulationError(
                f"table of client {client!r}",
                given=f"columns that differ in {', '.join(map(repr, only))[:80]}",
                expected=f"the columns of client {first!r}",
                do="Give every client's table the same columns.",
            )
    return {
        name: _joined_field(name, {client: table[name] for client, table in tables.items()}) for name in names
    }


def _joined_field(name: str, parts: Mapping[Any, Field]) -> Field:
    full = {client: part for client, part in parts.items() if part.kind != "empty"}
    missing = np.concatenate([part.missing for part in parts.values()])
    if not full:
        return Field("empty", np.zeros(len(missing)), missing)
    like, kinds = next(iter(full.values())), {part.kind for part in full.values()}
    kind = "number" if kinds == {"number", "boolean"} else like.kind
    if len(kinds) > 1 and kinds != {"number", "boolean"}:
        said = ", ".join(f"{part.kind} for client {client!r}" for client, part in full.items())
        raise PopulationError(
            f"column {name!r}",
            given=said[:200],
            expected="values of one kind for all clients",
            do="Convert the column to one type in every client's table.",
        )
    declared = {part.categories for part in full.values()}
    if len(declared) > 1:
        raise PopulationError(
            f"column {name!r}",
            given="categories that differ between clients",
            expected="the same categories in the same order",
            do=f"Give them for all clients: categories={{{name!r}: [...]}}.",
        )
    zeros = np.zeros(1, like.values.dtype)
    values = [
        part.values if part.kind != "empty" else np.broadcast_to(zeros, (len(part), *like.values.shape[1:]))
        for part in parts.values()
    ]
    return Field(kind, np.concatenate(values), missing, like.categories, like.type)
