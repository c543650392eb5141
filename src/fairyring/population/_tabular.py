"""From the fields of a table to the columns of a population: inputs `x`, labels `y`, and the client of each row."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from fairyring.core.checks import is_number
from fairyring.core.errors import PopulationError
from fairyring.population._columns import refuse_unknown_name
from fairyring.population._fields import Field, joined

_BLURRED = 0.01  # the largest step of float32, as a share of a column's standard deviation
_MANY = 1000  # categories, above which a column is rather running text
_SHOWN = 8  # values of a column that an error lists


class Tabular(NamedTuple):
    """What `Population.from_arrays` needs, and the names of the features."""

    columns: dict[str, np.ndarray]
    client: np.ndarray
    features: tuple[str, ...]


def tables_of(
    given: Any, read: Callable[[Any], dict[str, Field]], client: str | None
) -> tuple[dict[str, Field], str | np.ndarray]:
    """The fields of one table with a column for the client, or of a mapping with a table for each client.

    Returns:
        The fields of all rows; and the name of the client column, or the client of each row.
    """
    if not isinstance(given, Mapping):
        if client is None:
            raise PopulationError(
                "client",
                given="one table, and no client column",
                expected="the name of the column with the client of each row",
                do="Give client=, or a mapping with a table for each client.",
            )
        return read(given), client
    if client is not None or not given:
        raise PopulationError(
            "client",
            given=f"client={client!r} beside {len(given)} tables by client",
            expected="either one table and client=, or a mapping from clients to tables, without client=",
            do="Leave client= out: a mapping has a table for each client already.",
        )
    tables = {owner: read(one) for owner, one in given.items()}
    rows = [len(next(iter(table.values()), ())) for table in tables.values()]
    return joined(tables), np.repeat(np.asarray(list(tables)), rows)


def as_tabular(
    fields: Mapping[str, Field],
    client: str | np.ndarray,
    *,
    label: str | None,
    inputs: Sequence[str] | None,
    categories: Mapping[str, Sequence[Any]] | None,
    missing: Literal["refuse", "keep"],
) -> Tabular:
    """See `Population.from_dataframe`.

    Args:
        client: the name of the column, or the client of each row.
    """
    categories = dict(categories or {})
    if missing not in ("refuse", "keep"):
        raise PopulationError(
            "missing", given=repr(missing), expected="'refuse' or 'keep'", do="Choose one of these."
        )
    for name in categories:
        refuse_unknown_name("categories of column", name, fields)
    names = _inputs(fields, client, label, inputs)
    fixed = [name for name in (client, label) if isinstance(name, str)]
    _refuse_missing(fields, names, fixed, missing)
    owner = _client_of(client, fields[client]) if isinstance(client, str) else client
    x, features = _inputs_of({name: fields[name] for name in names}, categories)
    columns = {"x": x}
    if label is not None:
        columns["y"] = _label(label, fields[label], categories.get(label))
    return Tabular(columns, owner, features)


def _inputs(
    fields: Mapping[str, Field], client: str | np.ndarray, label: str | None, inputs: Sequence[str] | None
) -> list[str]:
    """The names of the input columns; all names are checked."""
    taken = []
    for what, name in (("client column", client), ("label column", label)):
        if isinstance(name, str):
            refuse_unknown_name(what, name, fields)
            taken.append(name)
    if isinstance(inputs, str):
        inputs = [inputs]
    names = [name for name in fields if name not in taken] if inputs is None else list(inputs)
    for name in names:
        refuse_unknown_name("input column", name, fields)
    if not names or len(set(names)) < len(names) or set(names) & set(taken):
        raise PopulationError(
            "inputs",
            given=", ".join(map(repr, names)) or "no column",
            expected="at least one column, each once, without the client and the label",
            do="Give inputs=, the names of the columns that the model is to see.",
        )
    return names


def _refuse_missing(fields: Mapping[str, Field], inputs: list[str], fixed: list[str], missing: str) -> None:
    def counted(names: Iterable[str]) -> str:
        counts = {name: int(fields[name].missing.sum()) for name in names}
        return ", ".join(f"{n:,} in {name!r}" for name, n in counts.items() if n)

    rows = len(next(iter(fields.values())))
    if gone := counted(fixed):
        raise PopulationError(
            "missing values",
            given=f"of {rows:,} rows: {gone}",
            expected="a client and a label in every row",
            do="Drop these rows first.",
        )
    if (gone := counted(inputs)) and missing == "refuse":
        raise PopulationError(
            "missing values",
            given=f"of {rows:,} rows: {gone}",
            expected="a value in every place",
            do="Give missing='keep' and fill them in with fr.summary_statistics(train).standardize(), "
            "drop these rows, or leave these columns out of inputs.",
        )


def _client_of(name: str, field: Field) -> np.ndarray:
    if field.kind in ("text", "boolean") or (field.kind == "number" and field.values.dtype.kind in "iu"):
        return field.values
    raise PopulationError(
        f"client column {name!r}",
        given=f"values of type {field.type}",
        expected="one integer or one string each",
        do=f"Convert it first, such as with frame[{name!r}].astype(str).",
    )


def _inputs_of(
    fields: Mapping[str, Field], categories: Mapping[str, Sequence[Any]]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """`x`, and a name for each of its features; one column of arrays is `x` as it is, and has no names."""
    arrays = [name for name, field in fields.items() if field.kind == "array"]
    if arrays and len(fields) == 1 and not fields[arrays[0]].missing.any():
        return _stacked(arrays[0], fields[arrays[0]].values), ()
    if arrays:
        raise PopulationError(
            f"column {arrays[0]!r}",
            given=f"arrays, beside {len(fields) - 1} other inputs"
            if len(fields) > 1
            else "arrays, some of them missing",
            expected="one column of arrays, or columns of single numbers",
            do=f"Give inputs=[{arrays[0]!r}], or leave it out; drop rows without an array.",
        )
    features: dict[str, np.ndarray] = {}
    for name, field in fields.items():
        features |= _features(name, field, categories.get(name))
    return np.stack(list(features.values()), axis=1), tuple(features)


def _stacked(name: str, arrays: np.ndarray) -> np.ndarray:
    try:
        stacked = np.stack([np.asarray(array) for array in arrays])
    except ValueError:
        shapes = sorted({np.shape(array) for array in arrays})
        raise PopulationError(
            f"column {name!r}",
            given=f"arrays of {len(shapes)} shapes, such as {shapes[0]} and {shapes[-1]}",
            expected="the same shape in every row",
            do="Pad or cut them to one shape.",
        ) from None
    return stacked


def _features(name: str, field: Field, categories: Sequence[Any] | None) -> dict[str, np.ndarray]:
    """The features of one column, float32 `[rows]` each: its numbers, or a 0 or 1 for each category."""
    categories = field.categories if categories is None else categories
    if categories is not None:
        codes = _codes(name, field, categories)
        return {
            f"{name}={category}": np.where(field.missing, np.nan, codes == place).astype(np.float32)
            for place, category in enumerate(categories)
        }
    if field.kind == "empty":
        raise PopulationError(
            f"column {name!r}",
            given="no value at all",
            expected="at least one",
            do="Leave it out of inputs, or give its categories=.",
        )
    if field.kind == "text":
        raise _without_categories(name, field)
    if field.kind not in ("number", "boolean"):
        raise _not_a_number(name, field)
    values = field.values.astype(np.float64)
    present = values[~field.missing]
    if not np.isfinite(present).all() or np.abs(present).max() > np.finfo(np.float32).max:
        bad = present[~(np.abs(present) <= np.finfo(np.float32).max)][0]
        raise PopulationError(
            f"column {name!r}, row {int(np.flatnonzero(values == bad)[0])}",
            given=f"{bad}",
            expected="finite numbers of at most 3.4e38",
            do="Drop these rows, mark the values as missing, or take a logarithm.",
        )
    step = float(np.spacing(np.float32(np.abs(present).max())))
    if step > _BLURRED * present.std() > 0 and np.any(present.astype(np.float32) != present):
        raise PopulationError(
            f"column {name!r}",
            given=f"values from {present.min():.12g} to {present.max():.12g}, of which float32 tells only steps of {step:.3g}",
            expected="values whose differences are not lost in float32",
            do="Subtract a constant first, such as a date or a middle value that everybody knows.",
        )
    return {name: np.where(field.missing, np.nan, values).astype(np.float32)}


def _label(name: str, field: Field, categories: Sequence[Any] | None) -> np.ndarray:
    categories = field.categories if categories is None else categories
    if categories is not None:
        return _codes(name, field, categories).astype(np.int32)
    if field.kind == "array":
        return _stacked(name, field.values)
    if field.kind == "text":
        raise _without_categories(name, field)
    if field.kind not in ("number", "boolean"):
        raise _not_a_number(name, field)
    if field.values.dtype.kind == "f":
        return field.values.astype(np.float32)
    return field.values.astype(np.int32) if field.kind == "boolean" else field.values


def _codes(name: str, field: Field, categories: Sequence[Any]) -> np.ndarray:
    """The place of each value among the categories, int64 `[rows]`; 0 where it is missing."""
    if isinstance(categories, str) or not len(categories) or len(set(categories)) < len(categories):
        raise PopulationError(
            f"categories of column {name!r}",
            given=repr(categories)[:80],
            expected="the values that the column can have, each once",
            do=f"Give them as a list: categories={{{name!r}: [...]}}.",
        )
    if field.kind not in ("text", "number", "boolean", "empty"):
        raise _not_a_number(name, field)
    place_of = {category: place for place, category in enumerate(categories)}
    present = field.values[~field.missing]
    distinct, inverse, counts = np.unique(present, return_inverse=True, return_counts=True)
    unknown = {
        value: n for value, n in zip(distinct.tolist(), counts.tolist(), strict=True) if value not in place_of
    }
    if unknown:
        shown = ", ".join(f"{value!r} {n} times" for value, n in list(unknown.items())[:_SHOWN])
        raise PopulationError(
            f"column {name!r}",
            given=shown,
            expected=f"one of its categories {list(categories)!r}"[:200],
            do="Add these to the categories, or replace or drop the values first.",
        )
    codes = np.zeros(len(field), np.int64)
    codes[~field.missing] = np.array([place_of[value] for value in distinct.tolist()], np.int64)[inverse]
    return codes


def _without_categories(name: str, field: Field) -> PopulationError:
    distinct = field.distinct()
    numeric = [value for value in distinct if is_number(value)]
    rows = int((~field.missing).sum())
    if numeric and len(distinct) - len(numeric) <= _SHOWN:
        numbers = set(numeric)
        others = [value for value in distinct if value not in numbers]
        if not others:
            return PopulationError(
                f"column {name!r}",
                given=f"text that looks like numbers, such as {distinct[0]!r}",
                expected="numbers",
                do=f"Convert it: frame[{name!r}].astype(float); in polars .cast(pl.Float64).",
            )
        count = int(np.isin(field.values[~field.missing], others).sum())
        return PopulationError(
            f"column {name!r}",
            given=f"text in {count:,} of {rows:,} rows among numbers: {', '.join(map(repr, others))}",
            expected="numbers",
            do="If these stand for a missing value, say so: missing_values= of from_csv, or "
            f"pandas.to_numeric(frame[{name!r}], errors='coerce').",
        )
    shown = ", ".join(map(repr, distinct[:_SHOWN])) + (", ..." if len(distinct) > _SHOWN else "")
    return PopulationError(
        f"column {name!r}",
        given=f"text with {len(distinct):,} distinct values",
        expected="numbers, or text whose categories are known",
        do=f"Give categories={{{name!r}: [{shown}]}}, the same for every population of the task; or leave it out."
        if len(distinct) <= _MANY
        else "Leave it out of inputs; for running text there is Population.from_text.",
    )


def _not_a_number(name: str, field: Field) -> PopulationError:
    advice = {
        "time": f"Make a number of it, such as days since a date: (frame[{name!r}] - start).dt.total_seconds() / 86400.",
        "duration": f"Make a number of it: frame[{name!r}].dt.total_seconds().",
        "empty": "Leave it out.",
        "array": "Give single values.",
    }
    return PopulationError(
        f"column {name!r}",
        given=f"values of type {field.type}",
        expected="numbers, booleans or categories",
        do=advice.get(field.kind, f"Convert it to one type: frame[{name!r}].astype(float), or leave it out."),
    )
