"""A population whose rows stay in Parquet files: a client's row groups are read when they are needed."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np

from fairyring.core.errors import PerformanceWarning, PopulationError
from fairyring.core.extras import require
from fairyring.population import _grouping
from fairyring.population._columns import proper_fraction, refuse_unknown_name, whole_number
from fairyring.population._lazy import LazyPopulation
from fairyring.population._splitting import first_part_sizes, refuse_order_and_stratify
from fairyring.population.parquet.index import index_of
from fairyring.population.parquet.reader import Reader
from fairyring.population.parquet.storage import Files, S3Storage
from fairyring.population.population import Population

_LARGE = 32 << 20  # bytes of a row group that are too many to read for one client

Columns = dict[str, np.ndarray]


class ParquetPopulation(LazyPopulation):
    """See `Population.from_parquet`.

    `starts` are numbers of rows through all files. Views and parts share what was read.
    """

    def __init__(
        self,
        path: str | Path,
        client: str,
        *,
        columns: Sequence[str] | None,
        clients: Any,
        storage: S3Storage | None,
        cache_bytes: int,
    ) -> None:
        require("pyarrow", extra="data", purpose="reading Parquet files")
        cache_bytes = whole_number("cache_bytes", cache_bytes, 1)
        files = Files(path, storage)
        index = index_of(files, client)
        names = tuple(index.types)
        for name in columns or ():
            refuse_unknown_name("column", name, names)
        names = tuple(name for name in names if columns is None or name in columns)
        if not names:
            raise PopulationError(
                f"columns of {files.shown}",
                given="no column but the client",
                expected="at least one with data",
                do="Check what was written there, and columns=.",
            )
        ids, owner = _grouping.owners(index.ids, len(index.ids), clients)
        starts, sizes = np.zeros(len(ids), np.int64), np.zeros(len(ids), np.int64)
        starts[owner], sizes[owner] = index.starts[:-1], np.diff(index.starts)
        found = index._replace(
            ids=index.ids[:0], starts=index.starts[:0]
        )  # the clients are known from here on
        self._reader = reader = Reader(files, found, client, names, cache_bytes)
        self._columns = {name: np.zeros((0, *shape), dtype) for name, (shape, dtype) in reader.kinds.items()}
        self.feature_names = MappingProxyType({})
        self._set_clients(starts, sizes, ids, {})
        self._original = np.arange(len(ids))
        largest = int(np.diff(index.edges).max()) * reader.row_bytes
        if largest > _LARGE and self.examples * reader.row_bytes > cache_bytes:
            warnings.warn(
                f"Row groups of up to {largest / 2**20:.0f} MiB in {files.shown}: all of one is read for a single client. Write smaller ones, of "
                "256 KiB to 1 MiB: with population.to_parquet(folder), or by an option of what wrote them, such as row_group_size.",
                PerformanceWarning,
                stacklevel=3,
            )

    @property
    def reads_ahead(self) -> bool:
        return True

    def prefetch(self, clients: Any) -> None:
        """See `Population.prefetch`."""
        clients = self._indices(clients)
        self._reader.groups.expect(self._reader.groups_of(self.starts[clients], self.sizes[clients]))

    def client(self, i: int) -> Columns:
        """The columns of client `i`."""
        return self.gather([i])[0]

    def gather(self, clients: Any) -> tuple[Columns, np.ndarray]:
        """See `Population.gather`. Each row group is read once, and the next ones meanwhile."""
        clients = self._indices(clients)
        return self._reader.gather(self.starts[clients], self.sizes[clients])

    def _view(self, clients: np.ndarray) -> Self:
        return self._of(
            self.starts[clients], self.sizes[clients], self.ids[clients], self._original[clients],
            {name: values[clients] for name, values in self.attributes.items()},
        )  # fmt: skip

    def _of(self, starts: Any, sizes: Any, ids: Any, original: Any, attributes: Any) -> Self:
        other = object.__new__(type(self))
        other._columns, other._reader, other.feature_names = self._columns, self._reader, self.feature_names
        other._original = original
        other._set_clients(starts, sizes, ids, attributes)
        return other

    def split_within(
        self, fraction: float, seed: int | None, *, stratify: str | None = None
    ) -> tuple[Population, Population]:
        """See `Population.split_within`. With a seed, the draw is the one for clients that are loaded by a function: each client's by itself."""
        if seed is not None:
            return super().split_within(fraction, seed, stratify=stratify)
        fraction = proper_fraction("fraction", fraction)
        refuse_order_and_stratify(seed, stratify)
        first = first_part_sizes(self.sizes, fraction)
        runs = (self.starts, first), (self.starts + first, self.sizes - first)
        one, other = (self._of(*run, self.ids, self._original, self.attributes) for run in runs)
        return one, other
