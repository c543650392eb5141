"""Checks of columns, ids, attributes and options. Errors give the name, the row and what to do."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

import numpy as np

from fairyring.core import checks
from fairyring.core.errors import PopulationError

_NUMERIC = "biuf"
_BLOCK = 1 << 22  # values checked at a time, so that a mapped file is not read into memory as a whole


def as_columns(given: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """`given` as numeric arrays `[rows, ...]` of equal length. Arrays, including mapped ones, are not copied.

    Raises:
        PopulationError: there is no column or no row, a value is not a number, lengths differ, or the rows of a
            column have different shapes.
    """
    if not isinstance(given, Mapping) or not given:
        raise PopulationError(
            "columns",
            given=f"{type(given).__name__} {given!r:.60}",
            expected="a mapping from column names to arrays, with at least one column",
            do="Pass something like {'x': images, 'y': labels}.",
        )
    columns = {str(name): _as_column(str(name), value) for name, value in given.items()}
    first, *others = columns
    for name in others:
        if len(columns[name]) != len(columns[first]):
            raise PopulationError(
                f"column {name!r}",
                given=f"{len(columns[name])} rows",
                expected=f"{len(columns[first])} rows, as in column {first!r}",
                do="Give every column one value per example.",
            )
    if not len(columns[first]):
        raise PopulationError(
            "population",
            given="columns without a row",
            expected="at least one example",
            do="Check what was read, and how it was filtered.",
        )
    return columns


def _as_column(name: str, value: Any) -> np.ndarray:
    try:
        array = value if isinstance(value, np.ndarray) else np.asarray(value)
    except ValueError:
        array = np.asarray([object()])  # refused below
    if isinstance(array, np.ma.MaskedArray):
        if np.ma.is_masked(array):
            raise PopulationError(
                f"column {name!r}",
                given=f"a masked array with {int(np.ma.count_masked(array))} missing values",
                expected="a value in every place",
                do="Drop these rows, or fill in missing values: column.filled(value).",
            )
        array = array.data
    if array.dtype.kind == "O":
        array = _from_objects(name, array)
    if array.dtype.kind not in _NUMERIC:
        raise PopulationError(
            f"column {name!r}",
            given=f"values of type {array.dtype}",
            expected="booleans, integers or floating-point numbers",
            do="Encode it as numbers (np.unique(values, return_inverse=True)), or leave it out; "
            "Population.from_dataframe takes categories=.",
        )
    if array.ndim == 0:
        raise PopulationError(
            f"column {name!r}",
            given=f"the single value {array!r}",
            expected="one value per row",
            do="Give an array whose first axis is over examples.",
        )
    if 0 in array.shape[1:]:
        raise PopulationError(
            f"column {name!r}",
            given=f"rows of shape {array.shape[1:]}, which are empty",
            expected="at least one number per row",
            do="Leave the column out.",
        )
    return array


def _from_objects(name: str, array: np.ndarray) -> np.ndarray:
    """A column of objects, such as a data frame's of arrays, as numbers `[rows, ...]`."""
    values = list(array) if array.ndim else [array.item()]
    missing = next((row for row, value in enumerate(values) if value is None or value is np.ma.masked), None)
    if missing is not None:
        raise PopulationError(
            f"column {name!r}",
            given=f"no value in row {missing}",
            expected="a value in every row",
            do="Drop these rows, or fill in missing values first.",
        )
    try:
        stacked = np.stack([np.asarray(value) for value in values])
    except ValueError:
        stacked = array
    if stacked.dtype.kind not in _NUMERIC + "US":
        raise PopulationError(
            f"column {name!r}",
            given="rows of different shapes, or values that are not numbers",
            expected="numbers, the same shape in every row",
            do="Pad or cut the rows to one shape; encode text and missing values as numbers.",
        )
    return stacked


def check_finite(columns: Mapping[str, np.ndarray]) -> None:
    """Raise `PopulationError` at the first NaN or infinity, naming its column and row."""
    for name, column in columns.items():
        if column.dtype.kind != "f":
            continue
        step = max(1, _BLOCK // max(1, int(np.prod(column.shape[1:]))))
        for start in range(0, len(column), step):
            finite = np.isfinite(column[start : start + step])
            if not finite.all():
                row = start + int(np.argwhere(~finite)[0][0])
                bad = np.asarray(column[row])
                raise PopulationError(
                    f"column {name!r}, row {row}",
                    given=bad[~np.isfinite(bad)].ravel()[0] if bad.ndim else bad[()],
                    expected="finite numbers",
                    do="Drop these rows, or fill in missing values first.",
                )


def as_ids(given: Any, what: str = "client ids") -> np.ndarray:
    """Client ids as a one-dimensional array of integers or strings (never objects).

    Raises:
        PopulationError: the array is not one-dimensional, or has neither integers nor strings.
    """
    array = np.asarray(given)
    if array.dtype.kind == "O":
        kinds = {type(value) for value in array.ravel().tolist()}
        if kinds <= {str}:
            array = array.astype(str)
        elif kinds <= {int}:
            array = array.astype(np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iuUb":
        missing = [i for i, v in enumerate(array.ravel()[:1_000_000].tolist()) if v is None or v != v]
        raise PopulationError(
            what,
            given=f"no id at row {missing[0]}" if missing else f"an array {array.dtype} {array.shape}",
            expected="one integer or one string each",
            do="Drop the rows without a client, or give them one; convert other types with astype(str).",
        )
    return array.astype(np.int64) if array.dtype.kind == "b" else array


def check_unique(ids: np.ndarray, what: str = "client ids") -> None:
    """Raise `PopulationError` if an id occurs twice in `ids`."""
    values, counts = np.unique(ids, return_counts=True)
    if len(values) != len(ids):
        raise PopulationError(
            what,
            given=f"{values[counts > 1][0]!r} {int(counts.max())} times",
            expected="every client once",
            do="Remove the duplicates.",
        )


def as_attributes(given: Mapping[str, Any] | None, clients: int) -> dict[str, np.ndarray]:
    """Attributes as arrays `[clients, ...]` of numbers or strings."""
    attributes = {}
    for name, value in (given or {}).items():
        array = np.asarray(value)
        if array.dtype.kind == "O" and all(isinstance(v, str) for v in array.ravel().tolist()):
            array = array.astype(str)
        if array.ndim == 0 or len(array) != clients or array.dtype.kind not in _NUMERIC + "U":
            raise PopulationError(
                f"attribute {name!r}",
                given=f"an array {array.dtype} {array.shape}",
                expected=f"{clients} numbers or strings, one per client",
                do="Give attributes in the order of the clients (see ids).",
            )
        attributes[str(name)] = array
    return attributes


def by_id(name: str, given: Any, ids: np.ndarray) -> Any:
    """A mapping from ids to values as the values in the order of `ids`; anything else as it is."""
    if not isinstance(given, Mapping):
        return given
    known = ids.tolist()
    lacking, strange = [one for one in known if one not in given], sorted(set(given) - set(known), key=str)
    if lacking or strange:
        raise PopulationError(
            f"attribute {name!r}",
            given=f"no value for client {lacking[0]!r}" if lacking else f"a value for {strange[0]!r}",
            expected="a value for each client of the population, by its id",
            do="Give all of them, and no others; an array in the order of population.ids will do, too.",
        )
    return [given[one] for one in known]


def as_feature_names(
    given: Mapping[str, Sequence[str]] | None, columns: Mapping[str, np.ndarray]
) -> Mapping[str, tuple[str, ...]]:
    """Names of features by column, each as many as the column has."""
    names = {}
    for column, features in (given or {}).items():
        refuse_unknown_name("feature names of column", column, columns)
        names[str(column)] = tuple(map(str, features))
        if columns[column].shape[1:] != (len(names[column]),):
            raise PopulationError(
                f"feature names of column {column!r}",
                given=f"{len(names[column])} names",
                expected=f"a name for each feature of rows of shape {columns[column].shape[1:]}",
                do="Give one name per feature, or none.",
            )
    return MappingProxyType(names)


def refuse_unknown_name(what: str, name: object, known: Iterable[str]) -> None:
    """Raise `PopulationError` if `name` is not one of `known`. The error suggests the nearest known name."""
    known = list(known)
    if name in known:
        return
    contained = [one for one in known if str(name).lower() in one.lower()] if str(name) else []
    near = contained or get_close_matches(str(name), known, n=1)
    raise PopulationError(
        what,
        given=repr(name),
        expected=f"one of {', '.join(known)}" if known else "none, as there are no names to choose from",
        do=f"Did you mean {near[0]!r}?" if near else "Choose one of these.",
    )


def whole_number(what: str, value: object, minimum: int) -> int:
    """`value` as an int of at least `minimum`; raises `PopulationError` otherwise."""
    return checks.whole_number(what, value, least=minimum, do=f"Give {what} as one.", error=PopulationError)


def proper_fraction(what: str, value: object) -> float:
    """`value` as a float strictly between 0 and 1; raises `PopulationError` otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating) or not 0 < value < 1:
        raise PopulationError(
            what,
            given=repr(value),
            expected="a number between 0 and 1, both excluded",
            do="Give a fraction such as 0.8.",
        )
    return float(value)


def positive(what: str, value: object) -> float:
    """`value` as a finite float above 0; raises `PopulationError` otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 < value < np.inf:
        raise PopulationError(
            what, given=repr(value), expected="a finite number above 0", do=f"Give {what} as one."
        )
    return float(value)
