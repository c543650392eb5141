"""Keeping memory-mapped columns from filling the memory of the process that reads them."""

import mmap
from collections.abc import Iterator, Mapping

import numpy as np


def release(columns: Mapping[str, np.ndarray]) -> None:
    """Release the pages that were read so far. They stay in the system's cache and are mapped again when read.

    Without this, a process that gathers one cohort after another ends up with the whole file in memory. Only
    read-only maps are released.
    """
    if not hasattr(mmap, "MADV_DONTNEED"):
        return
    for column in columns.values():
        if isinstance(column, np.memmap) and column.mode == "r":
            pages = getattr(column, "_mmap", None)
            if isinstance(pages, mmap.mmap):
                pages.madvise(mmap.MADV_DONTNEED)


def client_blocks(sizes: np.ndarray, rows: int) -> Iterator[np.ndarray]:
    """Indices of the clients in order, in blocks of clients that have about `rows` rows in total."""
    ends = np.cumsum(sizes)
    first = 0
    while first < len(sizes):
        reached = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, reached + rows, side="right")))
        yield np.arange(first, last)
        first = last
