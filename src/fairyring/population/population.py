"""The population: rows of columns, grouped by client, stored once.

A client owns a run of rows: `starts[i] : starts[i] + sizes[i]` of every column. Choosing clients is choosing
runs, so a cohort, a held-out set of clients or a memory-mapped file of a million of them costs no copy of a
row.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np

from fairyring.core.errors import PopulationError
from fairyring.population import _fingerprint, _grouping, _mapped, _sources, _store
from fairyring.population._columns import (
    as_attributes,
    as_columns,
    as_ids,
    check_finite,
    check_unique,
    refuse_unknown_name,
    share,
    whole_number,
)


class Population:
    """Examples of many clients, in columns.

    Args:
        columns: arrays `[rows, ...]` of numbers, all with as many rows; a mapped file stays on disk.
        starts: int64 `[clients]`, the first row of each client.
        sizes: int64 `[clients]`, how many rows each client owns; 0 is allowed.
        ids: integers or strings `[clients]`, the clients' own names; by default 0, 1, 2, ...
        attributes: what is known of each client, arrays `[clients, ...]` of numbers or strings.

    Raises:
        PopulationError: columns are not numbers of one length, runs of rows lie outside of them, there is no
            client or no example. Values are looked at by the `from_...` constructors, not here.
    """

    def __init__(
        self,
        columns: Mapping[str, Any],
        starts: Any,
        sizes: Any,
        ids: Any = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        checked = as_columns(columns)
        starts, sizes = _as_runs(starts, sizes, rows=len(next(iter(checked.values()))))
        ids = np.arange(len(sizes)) if ids is None else as_ids(ids)
        if len(ids) != len(sizes):
            raise PopulationError(
                "client ids",
                given=f"{len(ids)} ids",
                expected=f"{len(sizes)}, one a client",
                do="Give every client its name.",
            )
        self._columns = checked
        self._settle(starts, sizes, ids, as_attributes(attributes, len(sizes)))

    def _settle(
        self, starts: np.ndarray, sizes: np.ndarray, ids: np.ndarray, attributes: Mapping[str, np.ndarray]
    ) -> None:
        self.starts, self.sizes, self.ids = starts, sizes, ids
        self.attributes: Mapping[str, np.ndarray] = MappingProxyType(dict(attributes))
        if not self.examples:
            raise PopulationError(
                "population",
                given=f"{len(sizes)} clients without examples" if len(sizes) else "no client",
                expected="at least one client with at least one example",
                do="Check what was read, or the selection before it.",
            )

    # -- where populations come from ---------------------------------------------------------------------

    @classmethod
    def from_arrays(
        cls,
        columns: Mapping[str, Any],
        client: Any,
        *,
        clients: Any = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> "Population":
        """A population from arrays with one row an example, rows in any order.

        Args:
            columns: arrays (or lists) `[rows, ...]` of numbers.
            client: who owns each row, integers or strings `[rows]`; or the name of the column that says so,
                which is then no data column.
            clients: all client ids, where some own no row; their order is kept. By default those that own
                rows, sorted.
            attributes: arrays `[clients, ...]`, in the order of the ids.

        Rows are brought together by one stable sort. Where they are in order already nothing is copied.

        Raises:
            PopulationError: see the class; and NaN or infinities, named by column and row.
        """
        data, client = _grouping.split_off_client(columns, client)
        checked = as_columns(data)
        check_finite(checked)
        ids, owner = _grouping.owners(client, len(next(iter(checked.values()))), clients)
        return Population(*_grouping.by_owner(checked, owner, len(ids)), ids, attributes)

    @classmethod
    def from_parquet(
        cls, path: str | Path, client: str, *, columns: Sequence[str] | None = None, clients: Any = None
    ) -> "Population":
        """A population from a Parquet file, or a folder of them, with a column that names the client.

        Args:
            path: the file or folder.
            client: the column that names the client of a row.
            columns: the data columns to read; by default all but `client`. Lists of one length become
                axes: a list column of `k` numbers is read as `[rows, k]`.
            clients: as in `from_arrays`.

        Raises:
            MissingExtra: pyarrow is not installed.
            PopulationError: see `from_arrays`; and nulls, named by column and row.
        """
        return cls.from_arrays(_sources.read_parquet(Path(path), client, columns), client, clients=clients)

    @classmethod
    def from_huggingface(
        cls, dataset: Any, client: str, *, columns: Sequence[str] | None = None, clients: Any = None
    ) -> "Population":
        """A population from one split of a Hugging Face `datasets.Dataset`.

        Anything with `column_names` and access by column name, with `to_dict()`, or that is a mapping of
        columns, will do. Images become uint8 arrays.

        Args:
            dataset: the split.
            client, columns, clients: as in `from_parquet`.

        Raises:
            PopulationError: see `from_arrays`; and a dictionary of splits.
        """
        return cls.from_arrays(_sources.read_table(dataset, client, columns), client, clients=clients)

    @classmethod
    def from_function(
        cls,
        clients: int | Sequence[Any] | np.ndarray,
        load: Callable[[int], Mapping[str, Any]],
        *,
        sizes: Any = None,
        example: Mapping[str, Any] | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> "Population":
        """A population whose clients are loaded one at a time, when they are asked for, and not kept.

        Args:
            clients: how many, or their ids.
            load: `load(i)` gives the columns of client `i` (its index), arrays `[sizes[i], ...]`. It must
                give the same each time.
            sizes: int64 `[clients]`. Without them every client is loaded once, to count.
            example: one example, a value (without the row axis) for each column: says names, row shapes and
                dtypes. Without it the first client that has examples is loaded to see.
            attributes: arrays `[clients, ...]`.

        Such a population has no `columns`; everything else works. What `load` gives is checked each time.
        """
        from fairyring.population._lazy import LazyPopulation

        return LazyPopulation(clients, load, sizes=sizes, example=example, attributes=attributes)

    # -- what it holds -----------------------------------------------------------------------------------

    @property
    def columns(self) -> Mapping[str, np.ndarray]:
        """The stored arrays `[rows, ...]`, those of clients that were not selected included."""
        return MappingProxyType(self._columns)

    @property
    def stored(self) -> bool:
        """Whether there are `columns`: false where clients are loaded by a function."""
        return True

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self._columns)

    def shape(self, column: str) -> tuple[int, ...]:
        """Shape of one row of a column."""
        refuse_unknown_name("column", column, self.names)
        return self._columns[column].shape[1:]

    def dtype(self, column: str) -> np.dtype:
        """Type of a column."""
        refuse_unknown_name("column", column, self.names)
        return self._columns[column].dtype

    def __len__(self) -> int:
        """How many clients there are, those without examples included."""
        return len(self.sizes)

    @cached_property
    def examples(self) -> int:
        """How many rows the clients own together."""
        return int(self.sizes.sum())

    def __repr__(self) -> str:
        columns = ", ".join(f"{n}: {self.dtype(n)}{list(self.shape(n))}" for n in self.names)
        return f"<{type(self).__name__}: {len(self)} clients, {self.examples} examples, {columns}>"

    # -- reading -----------------------------------------------------------------------------------------

    def client(self, i: int) -> dict[str, np.ndarray]:
        """The columns of client `i`: views `[sizes[i], ...]`, nothing is copied."""
        [i] = self._indices([i])
        run = slice(self.starts[i], self.starts[i] + self.sizes[i])
        return {name: column[run] for name, column in self._columns.items()}

    def gather(self, clients: Any) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The rows of some clients one after the other, copied, and where each client's begin.

        Args:
            clients: indices `[k]`, in any order, repetitions allowed; or a boolean mask or slice.

        Returns:
            Columns `[rows, ...]`, and offsets int64 `[k + 1]`: client `clients[j]` has the rows
            `offsets[j] : offsets[j + 1]`.
        """
        clients = self._indices(clients)
        starts, sizes = self.starts[clients], self.sizes[clients]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
        run = _one_run(starts, sizes)
        if run is not None:
            gathered = {name: np.array(column[run]) for name, column in self._columns.items()}
        else:
            rows = np.repeat(starts - offsets[:-1], sizes) + np.arange(offsets[-1])
            # mode="clip" spares numpy a second buffer; the indices are known to be inside.
            gathered = {
                name: np.take(np.asarray(column), rows, axis=0, mode="clip")
                for name, column in self._columns.items()
            }
        _mapped.release(self._columns)
        return gathered, offsets

    def rows(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """All owned rows, client after client, and the index of the client of each, int64 `[examples]`.

        Columns are views where the rows lie so already, copies otherwise.
        """
        owner = np.repeat(np.arange(len(self)), self.sizes)
        run = _one_run(self.starts, self.sizes)
        if run is not None:
            return {name: column[run] for name, column in self._columns.items()}, owner
        return self.gather(np.arange(len(self)))[0], owner

    def in_memory(self) -> "Population":
        """The same clients with their rows copied into memory, client after client, nobody else's."""
        columns, offsets = self.gather(np.arange(len(self)))
        return Population(columns, offsets[:-1], self.sizes, self.ids, self.attributes)

    # -- choosing ----------------------------------------------------------------------------------------

    def select(self, clients: Any) -> Self:
        """The population of some clients; a view, no row is copied.

        Args:
            clients: indices `[k]` without repetition, a boolean mask `[clients]`, or a slice.
        """
        clients = self._indices(clients)
        check_unique(clients, "selected clients")
        return self._view(clients)

    def _view(self, clients: np.ndarray) -> Self:
        view = object.__new__(type(self))
        view._columns = self._columns
        attributes = {name: values[clients] for name, values in self.attributes.items()}
        view._settle(self.starts[clients], self.sizes[clients], self.ids[clients], attributes)
        return view

    def split_clients(self, fraction: float, seed: int) -> tuple[Self, Self]:
        """Two populations with no client in common, drawn at random; views.

        Args:
            fraction: share of the clients in the first, rounded, at least one client in each.
            seed: says which.
        """
        fraction, seed = share("fraction", fraction), whole_number("seed", seed, 0)
        if len(self) < 2:
            raise PopulationError(
                "split by clients",
                given="a population of one client",
                expected="at least two",
                do="Split within the client instead: split_within(fraction, seed).",
            )
        order = np.random.default_rng(seed).permutation(len(self))
        count = min(max(1, round(fraction * len(self))), len(self) - 1)
        return self._view(np.sort(order[:count])), self._view(np.sort(order[count:]))

    def split_within(self, fraction: float, seed: int | None) -> tuple["Population", "Population"]:
        """Two populations of the same clients, a share of each client's rows in the first.

        Args:
            fraction: share of a client's rows in the first, rounded; a client with two rows or more has at
                least one in each. A single row goes to the larger part.
            seed: which rows, drawn at random; their order is kept and both parts are copied into memory. None
                takes the rows in order, the earlier ones into the first part; both parts are then views.
        """
        fraction = share("fraction", fraction)
        if seed is None:
            first = first_part(self.sizes, fraction)
            return (
                self._part(self.starts, first),
                self._part(self.starts + first, self.sizes - first),
            )
        columns, owner = self.rows()
        chosen = draw_within(self.sizes, owner, fraction, whole_number("seed", seed, 0))
        parts = []
        for mask in (chosen, ~chosen):
            sizes = np.bincount(owner[mask], minlength=len(self)).astype(np.int64)
            part = {name: np.asarray(column)[mask] for name, column in columns.items()}
            _refuse_empty_part(sizes)
            parts.append(Population(part, np.cumsum(sizes) - sizes, sizes, self.ids, self.attributes))
        return parts[0], parts[1]

    def _part(self, starts: np.ndarray, sizes: np.ndarray) -> "Population":
        _refuse_empty_part(sizes)
        return Population(self._columns, starts, sizes, self.ids, self.attributes)

    def _indices(self, clients: Any) -> np.ndarray:
        if isinstance(clients, slice):
            return np.arange(len(self))[clients]
        indices = np.asarray(clients)
        if indices.size == 0 and indices.ndim == 1:
            return np.zeros(0, np.int64)
        if indices.dtype == bool and indices.shape == (len(self),):
            return np.flatnonzero(indices)
        if indices.ndim != 1 or indices.dtype.kind not in "iu":
            raise PopulationError(
                "clients",
                given=f"an array {indices.dtype} {indices.shape}",
                expected=f"indices [k], a mask [{len(self)}] or a slice",
                do="Look a client's index up by its name: np.flatnonzero(population.ids == name).",
            )
        if indices.min() < 0 or indices.max() >= len(self):
            outside = indices[(indices < 0) | (indices >= len(self))][0]
            raise PopulationError(
                "client index",
                given=int(outside),
                expected=f"0 to {len(self) - 1}",
                do="Indices count the clients of this population, not of the one it was selected from.",
            )
        return indices.astype(np.int64, copy=False)

    # -- keeping and knowing -----------------------------------------------------------------------------

    def save(self, folder: str | Path) -> Path:
        """Write the owned rows to `folder`, one `.npy` a column, for `open`. The folder appears whole or not
        at all.

        Raises:
            PopulationError: `folder` exists; or values are not finite; nothing is written.
            StorageError: full disk, no permission.
        """
        return _store.save(self, Path(folder))

    @classmethod
    def open(cls, folder: str | Path) -> "Population":
        """The population saved in `folder`, its columns memory-mapped: what is not used is not read.

        Raises:
            PopulationError: there is no population, or a file is missing, cut short or of another shape.
        """
        return Population(*_store.read(Path(folder)))

    def fingerprint(self) -> str:
        """64 hexadecimal digits that tell populations apart, quickly.

        SHA-256 over names, types, row shapes, sizes, ids, attributes, and the bytes of the rows: of all rows
        up to 16 MiB of data, of a fixed sample of clients beyond (and where a function loads them). Where the
        rows lie does not matter: a saved, reopened population has the same fingerprint.
        """
        return _fingerprint.fingerprint(self)

    def describe(self, test: "Population | None" = None) -> dict[str, Any]:
        """Counts for a run's record.

        Returns:
            `clients`; `examples`; `skipped`, clients without examples; `sizes`, the least, 10th percentile,
            median, 90th percentile and largest number of examples of the others; `test`, the same of the
            population for evaluation, or None.
        """
        owning = self.sizes[self.sizes > 0]
        least, p10, median, p90, most = np.percentile(owning, [0, 10, 50, 90, 100]).tolist()
        summary: dict[str, Any] = {
            "clients": len(self),
            "examples": self.examples,
            "skipped": len(self) - len(owning),
            "sizes": {
                "min": int(least),
                "p10": round(p10, 1),
                "median": round(median, 1),
                "p90": round(p90, 1),
                "max": int(most),
            },
        }
        if test is not None:
            summary["test"] = {k: v for k, v in test.describe().items() if k != "test"}
        else:
            summary["test"] = None
        return summary


def first_part(sizes: np.ndarray, fraction: float) -> np.ndarray:
    """How many of a client's rows go to the first part of a split, int64 `[clients]`."""
    first = np.floor(sizes * fraction + 0.5).astype(np.int64)
    return np.where(
        sizes >= 2, np.clip(first, 1, np.maximum(sizes - 1, 1)), np.where(fraction >= 0.5, sizes, 0)
    )


def draw_within(sizes: np.ndarray, owner: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Which rows, grouped by owner, go to the first part: bool `[rows]`."""
    order = np.lexsort((np.random.default_rng(seed).random(len(owner)), owner))
    rank = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    chosen = np.empty(len(owner), bool)
    chosen[order] = rank < first_part(sizes, fraction)[owner]
    return chosen


def _refuse_empty_part(sizes: np.ndarray) -> None:
    if not sizes.any():
        raise PopulationError(
            "split within clients",
            given="clients of one example each",
            expected="a client with at least two",
            do="Split by clients instead: split_clients(fraction, seed).",
        )


def _one_run(starts: np.ndarray, sizes: np.ndarray) -> slice | None:
    """The rows of all these clients as one slice, where they follow each other without a gap."""
    if not sizes.any():
        return slice(0, 0)
    owning = sizes > 0
    starts, sizes = starts[owning], sizes[owning]
    if np.array_equal(starts[1:], starts[:-1] + sizes[:-1]):
        return slice(int(starts[0]), int(starts[-1] + sizes[-1]))
    return None


def _as_runs(starts: Any, sizes: Any, rows: int) -> tuple[np.ndarray, np.ndarray]:
    starts, sizes = np.asarray(starts), np.asarray(sizes)
    for name, array in (("starts", starts), ("sizes", sizes)):
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu") or len(array) != len(sizes):
            raise PopulationError(
                name,
                given=f"an array {array.dtype} {array.shape}",
                expected="whole numbers [clients], as many starts as sizes",
                do="Use Population.from_arrays to have them computed.",
            )
    starts, sizes = starts.astype(np.int64, copy=False), sizes.astype(np.int64, copy=False)
    if len(sizes) and (sizes.min() < 0 or starts.min() < 0 or (starts + sizes).max() > rows):
        bad = int(np.flatnonzero((sizes < 0) | (starts < 0) | (starts + sizes > rows))[0])
        raise PopulationError(
            f"client {bad}",
            given=f"{sizes[bad]} rows from row {starts[bad]}",
            expected=f"rows within 0 to {rows}",
            do="Use Population.from_arrays to have starts and sizes computed.",
        )
    return starts, sizes
