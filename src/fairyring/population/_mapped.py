"""Keeping memory-mapped columns from filling the memory of the process that reads them."""

import mmap
from collections.abc import Mapping

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
