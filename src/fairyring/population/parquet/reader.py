"""Rows of Parquet files by their numbers, row group by row group."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from fairyring.core.cores import available_cores
from fairyring.core.errors import PopulationError
from fairyring.core.interrupts import interruptible
from fairyring.population._columns import as_columns, check_finite
from fairyring.population._sources import from_arrow
from fairyring.population.parquet.index import Index, forget
from fairyring.population.parquet.ranges import read_columns
from fairyring.population.parquet.row_groups import RowGroups
from fairyring.population.parquet.storage import FileChanged, Files

Columns = dict[str, np.ndarray]

_REMOTE_THREADS = 32  # each of which mostly waits for an answer
_FOOTERS = 32 << 20  # bytes of files' footers that are kept, as they are in the files


class Reader:
    """Reads rows of some columns. It can be sent to another process, without what it has read.

    Args:
        files: where they are.
        index: of them.
        client: the name of the client column.
        columns: the names of the data columns.
        room: bytes of rows that are in memory at most, unless one row group is larger.

    Attributes:
        kinds: name -> (shape of a row, dtype).
        row_bytes: of all columns.
    """

    def __init__(self, files: Files, index: Index, client: str, columns: tuple[str, ...], room: int) -> None:
        self.files, self.index, self.client, self.columns, self.room = files, index, client, columns, room
        self.kinds: Mapping[str, tuple[tuple[int, ...], np.dtype]] = {}
        self._prepare()
        [first] = interruptible(lambda: self.read(0))
        self.kinds = {name: (column.shape[1:], column.dtype) for name, column in first.items()}

    def _prepare(self) -> None:
        self._lock = threading.Lock()
        self._footers: OrderedDict[int, Any] = OrderedDict()
        self._groups: RowGroups | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {
            name: value for name, value in vars(self).items() if name not in ("_lock", "_footers", "_groups")
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._prepare()

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in memory."""
        return sum(
            int(np.prod(shape, dtype=np.int64)) * dtype.itemsize for shape, dtype in self.kinds.values()
        )

    @property
    def groups(self) -> RowGroups:
        """The row groups that are in memory."""
        if self._groups is None:
            self.files.system  # noqa: B018 - made once, before threads ask for it
            sizes = np.diff(self.index.edges) * self.row_bytes
            threads = _REMOTE_THREADS if self.files.remote else available_cores()
            self._groups = RowGroups(self.read, sizes, self.room, threads)
        return self._groups

    def read(self, group: int) -> Columns:
        """The rows of a row group.

        Raises:
            DataUnavailable: they cannot be read, after a few attempts, or the file is another now.
            PopulationError: they are of another shape or type than the first ones, or not finite.
        """
        place, number = int(self.index.file_of[group]), int(self.index.number_of[group])
        file = self.index.files[place]
        shown = self.files.show(file.name)

        def once() -> Any:
            with self.files.open(file) as handle:
                return read_columns(handle, self._footer(place, handle), [number], self.columns)

        try:
            table = self.files.trying(shown, once)
        except FileChanged:
            forget(self.files, self.client)
            raise
        try:
            rows = as_columns({name: from_arrow(name, table.column(name)) for name in self.columns})
            self._compare(rows, int(self.index.edges[group + 1] - self.index.edges[group]))
            check_finite(rows)
        except PopulationError as error:
            raise PopulationError(
                f"file {shown}, row group {number}, {error.what}",
                given=error.given,
                expected=error.expected,
                do=error.do,
            ) from None
        return rows

    def _compare(self, rows: Columns, size: int) -> None:
        for name, column in rows.items():
            shape, dtype = self.kinds.get(name, (column.shape[1:], column.dtype))
            if column.shape != (size, *shape) or column.dtype != dtype:
                raise PopulationError(
                    f"column {name!r}",
                    given=f"{column.dtype} {column.shape}",
                    expected=f"{dtype} {(size, *shape)}, as in the first file",
                    do="Write all rows with values of one shape and type.",
                )

    def _footer(self, place: int, handle: Any) -> Any:
        """Of a file, by its place in the index."""
        import pyarrow.parquet as pq

        with self._lock:
            found = self._footers.get(place)
            if found is not None:
                self._footers.move_to_end(place)
                return found
        footer = pq.read_metadata(handle)
        with self._lock:
            self._footers[place] = footer
            while (
                sum(one.serialized_size for one in self._footers.values()) > _FOOTERS
                and len(self._footers) > 1
            ):
                self._footers.popitem(last=False)
        return footer

    def groups_of(self, starts: np.ndarray, sizes: np.ndarray) -> list[int]:
        """The row groups that have rows of some runs, each once, in the order in which the runs come to them."""
        some = sizes > 0
        edges = self.index.edges
        first = np.searchsorted(edges, starts[some], "right") - 1
        count = np.searchsorted(edges, starts[some] + sizes[some] - 1, "right") - first
        ends = np.cumsum(count)
        every = np.repeat(first - ends + count, count) + np.arange(ends[-1] if len(ends) else 0)
        _, places = np.unique(every, return_index=True)
        return every[np.sort(places)].tolist()

    def gather(self, starts: np.ndarray, sizes: np.ndarray) -> tuple[Columns, np.ndarray]:
        """The rows of some runs, one run after the other, and where each begins, with the end."""
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
        rows = {
            name: np.empty((int(offsets[-1]), *shape), dtype) for name, (shape, dtype) in self.kinds.items()
        }
        begins, to, lengths = _joined(starts, offsets[:-1], sizes)
        ends, order = begins + lengths, np.argsort(begins, kind="stable")
        begun, unfinished = 0, np.zeros(0, np.int64)
        for group, columns in self.groups.each(self.groups_of(begins[order], lengths[order])):
            low, high = int(self.index.edges[group]), int(self.index.edges[group + 1])
            reached = int(np.searchsorted(begins[order], high))
            here = np.concatenate([unfinished, order[begun:reached]])
            begun = reached
            for run in here.tolist():
                first, last = max(low, int(begins[run])), min(high, int(ends[run]))
                at = int(to[run]) + first - int(begins[run])
                for name, column in rows.items():
                    column[at : at + last - first] = columns[name][first - low : last - low]
            unfinished = here[ends[here] > high]
        return rows, offsets


def _joined(
    starts: np.ndarray, to: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Runs that follow each other in the files and in what is gathered, as one: where each begins in both, and its length."""
    some = sizes > 0
    starts, to, sizes = starts[some], to[some], sizes[some]
    if not len(starts):
        return starts, to, sizes
    first = np.flatnonzero(np.concatenate([[True], starts[1:] != starts[:-1] + sizes[:-1]]))
    return starts[first], to[first], np.add.reduceat(sizes, first)
