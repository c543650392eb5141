"""Grouping rows by client: one stable sort, or none if they are in order already."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fairyring.core.errors import PopulationError
from fairyring.population._columns import as_ids, check_unique, refuse_unknown_name


def split_off_client(columns: Mapping[str, Any], client: Any) -> tuple[dict[str, Any], Any]:
    """The data columns, and the client of each row.

    Args:
        columns: all columns.
        client: the client of each row, or the name of the column with it, which is then not a data column.
    """
    if not isinstance(client, str):
        return dict(columns), client
    refuse_unknown_name("client column", client, columns)
    return {name: value for name, value in columns.items() if name != client}, columns[client]


def owners(client: Any, rows: int, clients: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """The ids of the clients, and the index of each row's client, int64 `[rows]`.

    Ids are sorted. If `clients` is given, they are in its order, and some may own no row.

    Raises:
        PopulationError: there are not `rows` owners, or one of them is not in `clients`.
    """
    values = as_ids(client, "client of each row")
    if len(values) != rows:
        raise PopulationError(
            "client of each row",
            given=f"{len(values)} values",
            expected=f"{rows}, one per row",
            do="Give one client per example.",
        )
    if clients is None:
        return _ranked(values)
    ids = as_ids(clients)
    check_unique(ids)
    if not len(ids) or (ids.dtype.kind == "U") != (values.dtype.kind == "U"):
        raise PopulationError(
            "clients",
            given=f"{len(ids)} ids of type {ids.dtype}",
            expected=f"ids of type {values.dtype}, as in the rows, of all clients that own a row",
            do="List all clients, including those without examples.",
        )
    order = np.argsort(ids, kind="stable")
    place = np.minimum(np.searchsorted(ids, values, sorter=order), len(ids) - 1)
    owner = order[place]
    unknown = np.flatnonzero(ids[owner] != values)
    if len(unknown):
        raise PopulationError(
            f"client of row {unknown[0]}",
            given=repr(values[unknown[0]].item()),
            expected="one of the ids in clients",
            do="Add it to clients, or drop its rows.",
        )
    return ids, owner.astype(np.int64, copy=False)


def _ranked(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct values, sorted, and the position of each value among them."""
    if np.all(
        values[1:] >= values[:-1]
    ):  # many data sets are grouped already, and then fifty million rows need no sort
        new = np.concatenate([[True], values[1:] != values[:-1]])
        return values[new], np.cumsum(new) - 1
    ids, owner = np.unique(values, return_inverse=True)
    return ids, owner.astype(np.int64, copy=False)


def by_owner(
    columns: Mapping[str, np.ndarray], owner: np.ndarray, clients: int
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Columns with the rows grouped by client, and `starts` and `sizes`, int64 `[clients]`.

    The order of a client's rows is kept. Columns that are in order already are not copied.
    """
    sizes = np.bincount(owner, minlength=clients).astype(np.int64)
    starts = np.cumsum(sizes) - sizes
    if len(owner) > 1 and np.any(owner[1:] < owner[:-1]):
        order = np.argsort(owner, kind="stable")
        return {name: np.take(np.asarray(c), order, axis=0) for name, c in columns.items()}, starts, sizes
    return dict(columns), starts, sizes
