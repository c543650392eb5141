"""A minimal population, so that this room is tested without the population room."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import pytest


class People:
    """Rows of columns; client i owns `sizes[i]` consecutive rows."""

    def __init__(self, columns: dict[str, np.ndarray], sizes: list[int] | None = None) -> None:
        rows = len(next(iter(columns.values())))
        self.columns = columns
        self.names = tuple(columns)
        self.stored = True
        self.sizes = np.array([rows] if sizes is None else sizes, np.int64)
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)[:-1]]).astype(np.int64)
        self.ids = np.array([f"client-{i}" for i in range(len(self.sizes))])

    def __len__(self) -> int:
        return len(self.sizes)

    def client(self, i: int) -> dict[str, np.ndarray]:
        return {n: c[self.starts[i] : self.starts[i] + self.sizes[i]] for n, c in self.columns.items()}

    def prefetch(self, clients: np.ndarray) -> None:
        pass

    def shape(self, column: str) -> tuple[int, ...]:
        return self.columns[column].shape[1:]

    def dtype(self, column: str) -> np.dtype:
        return self.columns[column].dtype


@pytest.fixture
def people() -> Callable[..., Any]:
    return People


@pytest.fixture(autouse=True)
def quick_compilation() -> Iterator[None]:
    """These tests compile hundreds of tiny programs and run each once."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
