"""Fields of a data frame: pandas, polars, a PyArrow table, or any other that Narwhals can read."""

from dataclasses import replace
from typing import Any

import numpy as np

from fairyring.core.errors import PopulationError
from fairyring.population._fields import Field, field_of_objects


def read_frame(frame: Any) -> dict[str, Field]:
    """The columns of a data frame by name.

    Raises:
        PopulationError: it is not a data frame in memory, or two columns have the same name.
    """
    import narwhals as nw
    from narwhals.exceptions import DuplicateError

    try:
        table = nw.from_native(frame, eager_only=True)
    except DuplicateError as error:
        raise PopulationError(
            "columns of the data frame",
            given=str(error).partition("got:")[2].strip() or str(error),
            expected="every name once",
            do="Rename or drop a column.",
        ) from None
    except TypeError:
        lazy = hasattr(frame, "collect")
        raise PopulationError(
            "data frame",
            given=f"{type(frame).__module__.partition('.')[0]}.{type(frame).__name__}",
            expected="a data frame of pandas or polars, or a PyArrow table",
            do="Compute it first: frame.collect()."
            if lazy
            else "Make a data frame of it; for arrays there is Population.from_arrays.",
        ) from None
    return {name: _field(table[name]) for name in table.columns}


def _field(series: Any) -> Field:
    import narwhals as nw

    dtype = series.dtype
    missing, said = np.asarray(series.is_null().to_numpy(), bool), str(dtype)
    if missing.all():
        return Field("empty", np.zeros(len(missing)), missing, type=said)
    if isinstance(dtype, nw.Decimal):
        return field_of_objects(series.to_list(), missing, said)
    if dtype.is_numeric():
        values = np.asarray(series.to_numpy())
        if values.dtype.kind == "f":
            missing = missing | np.isnan(values)
            values = np.where(missing, 0, values).astype(values.dtype)
            if dtype.is_integer():  # a missing value made floats of them
                values = values.astype(np.int64)
        return Field("number", values, missing, type=said)
    if dtype == nw.Boolean:
        values = np.zeros(len(missing), bool)
        values[~missing] = series.to_numpy()[~missing].astype(bool)
        return Field("boolean", values, missing, type=said)
    if dtype in (nw.Date, nw.Datetime, nw.Time):
        return Field("time", np.zeros(len(missing)), missing, type=said)
    if dtype == nw.Duration:
        return Field("duration", np.zeros(len(missing)), missing, type=said)
    if dtype in (nw.List, nw.Array):
        return field_of_objects(list(series.to_numpy()), missing, said)
    found = field_of_objects(series.to_list(), missing, said)
    if isinstance(
        dtype, nw.Enum
    ):  # its order is meant; that of other categorical types is the one of the rows
        return replace(found, categories=tuple(dtype.categories), type="Enum")
    return found
