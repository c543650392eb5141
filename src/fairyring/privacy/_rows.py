"""A matrix that is written by rows and read by columns: in memory while it is small, then in a temporary file."""

import tempfile
import weakref
from collections.abc import Iterator
from typing import IO

import numpy as np

IN_MEMORY = 1 << 30  # bytes


class Rows:
    """Rows of float32 `[width]`."""

    def __init__(self, width: int) -> None:
        self.width = width
        self._count = 0
        self._rows: list[np.ndarray] = []
        self._file: IO[bytes] | None = None

    def __len__(self) -> int:
        return self._count

    def append(self, row: np.ndarray) -> None:
        """Append a row `[width]`."""
        self._rows.append(np.asarray(row, np.float32))
        self._count += 1
        if self._file is None and self._count * self.width * 4 > IN_MEMORY:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115
            weakref.finalize(self, self._file.close)
        if self._file is not None:
            for kept in self._rows:
                self._file.write(kept.tobytes())
            self._rows.clear()

    def columns(self, width: int) -> Iterator[tuple[int, np.ndarray]]:
        """All columns, at most `width` at a time: the index of the first column, and float32 `[rows, <= width]`."""
        rows: list[np.ndarray] | np.ndarray = self._rows
        if self._file is not None:
            self._file.flush()
            rows = np.memmap(self._file, np.float32, "r", shape=(self._count, self.width))
        for start in range(0, self.width, width):
            yield start, np.stack([row[start : start + width] for row in rows])
