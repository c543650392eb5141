"""Memory-mapped columns, kept from filling the memory of the process that reads them."""

import mmap
from collections.abc import Mapping

import numpy as np


def release(columns: Mapping[str, np.ndarray]) -> None:
    """Unmap the pages that were read so far; they stay in the system's cache and come back when touched.

    Without this, a process that gathers cohort after cohort ends up with the whole file resident. Only maps
    that cannot hold changes are touched.
    """
    if not hasattr(mmap, "MADV_DONTNEED"):
        return
    for column in columns.values():
        if isinstance(column, np.memmap) and column.mode == "r":
            pages = getattr(column, "_mmap", None)
            if isinstance(pages, mmap.mmap):
                pages.madvise(mmap.MADV_DONTNEED)
