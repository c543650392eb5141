"""Runs of rows: where each client's rows begin, and how many they are."""

from typing import Any

import numpy as np

from fairyring.core.errors import PopulationError


def one_run(starts: np.ndarray, sizes: np.ndarray) -> slice | None:
    """The rows of these clients as one slice, if they are contiguous; otherwise None."""
    if not sizes.any():
        return slice(0, 0)
    nonempty = sizes > 0
    starts, sizes = starts[nonempty], sizes[nonempty]
    if np.array_equal(starts[1:], starts[:-1] + sizes[:-1]):
        return slice(int(starts[0]), int(starts[-1] + sizes[-1]))
    return None


def as_runs(starts: Any, sizes: Any, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the rows of each client begin and how many they are, int64 `[clients]`, all of them within so many rows."""
    starts, sizes = np.asarray(starts), np.asarray(sizes)
    for name, array in (("starts", starts), ("sizes", sizes)):
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu") or len(array) != len(sizes):
            raise PopulationError(
                name,
                given=f"an array {array.dtype} {array.shape}",
                expected="whole numbers [clients], as many starts as sizes",
                do="Use Population.from_arrays, which computes them.",
            )
    starts, sizes = starts.astype(np.int64, copy=False), sizes.astype(np.int64, copy=False)
    if len(sizes) and (sizes.min() < 0 or starts.min() < 0 or (starts + sizes).max() > rows):
        bad = int(np.flatnonzero((sizes < 0) | (starts < 0) | (starts + sizes > rows))[0])
        raise PopulationError(
            f"client {bad}",
            given=f"{sizes[bad]} rows from row {starts[bad]}",
            expected=f"rows within 0 to {rows}",
            do="Use Population.from_arrays, which computes starts and sizes.",
        )
    return starts, sizes
