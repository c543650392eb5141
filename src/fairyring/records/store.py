"""Where a run's record is kept: a folder, or nowhere."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fairyring.records.lock import Lock
from fairyring.records.round_record import RoundRecord


class Store(Protocol):
    """Keeps a run's record. `RunFolder` is its first form; what is written is on the disk before a call returns.

    Attributes:
        path: a folder on this machine, for what is kept in files of its own: ledger, secret, states, transcripts; None to
            keep those in memory.
        private: what is kept is its owner's alone.
        keeps: anything is kept at all.
    """

    @property
    def path(self) -> Path | None: ...

    @property
    def private(self) -> bool: ...

    @property
    def keeps(self) -> bool: ...

    def hold(self) -> Lock | None:
        """Keep everybody else from writing, until the lock is released."""
        ...

    def tidy(self) -> None:
        """Remove what a crash left half written; for whoever holds it."""
        ...

    def read(self, name: str) -> dict[str, Any]: ...

    def write(self, name: str, value: Mapping[str, Any]) -> None: ...

    def write_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None: ...

    def write_bytes(self, name: str, content: bytes) -> None: ...

    def remove(self, name: str) -> None: ...

    def append_records(self, records: Iterable[RoundRecord]) -> None: ...

    def records(self, *, upto: int | None = None) -> list[RoundRecord]: ...

    def cut_records(self, upto: int) -> None: ...

    def checkpoint(self, round: int, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None: ...

    def last_checkpoint(
        self, fingerprint: str
    ) -> tuple[int, dict[str, np.ndarray], dict[str, Any]] | None: ...


class Nowhere:
    """The store of a run that keeps nothing but what it returns."""

    path, private, keeps = None, False, False

    def hold(self) -> None:
        """Nobody else can write it."""

    def tidy(self) -> None:
        """There is nothing."""

    def read(self, name: str) -> dict[str, Any]:
        """There is nothing."""
        raise FileNotFoundError(name)

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        """Nothing is kept."""

    def write_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Nothing is kept."""

    def write_bytes(self, name: str, content: bytes) -> None:
        """Nothing is kept."""

    def remove(self, name: str) -> None:
        """There is nothing."""

    def append_records(self, records: Iterable[RoundRecord]) -> None:
        """Nothing is kept."""

    def records(self, *, upto: int | None = None) -> list[RoundRecord]:
        """Nothing was kept."""
        return []

    def cut_records(self, upto: int) -> None:
        """Nothing was kept."""

    def checkpoint(self, round: int, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
        """Nothing is kept."""

    def last_checkpoint(self, fingerprint: str) -> None:
        """Nothing was kept."""
