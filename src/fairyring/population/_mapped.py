"""Memory-mapped columns: they must not fill the memory of the process that reads them, and other processes map the same files."""

import mmap
import os
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from fairyring.core.platforms import release_pages


def release(columns: Mapping[str, np.ndarray]) -> None:
    """Release the pages that were read so far. They stay in the system's cache and are mapped again when read.

    Without this, a process that gathers one cohort after another ends up with the whole file in memory. Only
    read-only maps are released.
    """
    for column in columns.values():
        if isinstance(column, np.memmap) and column.mode == "r":
            pages = getattr(column, "_mmap", None)
            if isinstance(pages, mmap.mmap):
                release_pages(pages)


def client_blocks(sizes: np.ndarray, rows: int) -> Iterator[np.ndarray]:
    """Indices of the clients in order, in blocks of clients that have about `rows` rows in total."""
    ends = np.cumsum(sizes)
    first = 0
    while first < len(sizes):
        reached = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, reached + rows, side="right")))
        yield np.arange(first, last)
        first = last


def is_mapped(column: np.ndarray) -> bool:
    """Whether an array is a whole file, mapped into memory."""
    return isinstance(column, np.memmap) and isinstance(column.base, mmap.mmap)


class MappedFile(NamedTuple):
    """A mapped column, for a process that can open the same file."""

    path: str
    dtype: str
    offset: int
    shape: tuple[int, ...]

    @classmethod
    def of(cls, column: np.memmap) -> "MappedFile":
        """That of a column."""
        return cls(os.path.abspath(str(column.filename)), column.dtype.str, int(column.offset), column.shape)

    def open(self) -> np.memmap:
        """Map it here."""
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape)
