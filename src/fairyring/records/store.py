"""Where what a run leaves behind is kept: in a folder, or nowhere."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fairyring.core.lock import Lock
from fairyring.records.round_record import RoundRecord


class Store(Protocol):
    """Keeps what a run leaves behind. `RunFolder` is one; what is written is on the disk before a call returns.

    Attributes:
        path: a folder on this machine for ledger, secret, states and transcripts, which are files of their own; None to keep
            those in memory.
        private: whether what is kept is for its owner alone.
        keeps: whether anything is kept.
    """

    @property
    def path(self) -> Path | None: ...

    @property
    def private(self) -> bool: ...

    @property
    def keeps(self) -> bool: ...

    def hold(self) -> Lock | None:
        """Lock the store: nobody else may write it until the lock is released."""
        ...

    def tidy(self) -> None:
        """Remove what a crash left half written; only for whoever has locked the store."""
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

    def keep_model(self, round: int, arrays: Mapping[str, np.ndarray]) -> None: ...

    def drop_model(self, round: int) -> None: ...

    def kept_models(self) -> list[int]: ...

    def models(self) -> list[int]: ...

    def model(self, round: int) -> dict[str, np.ndarray]: ...


class Nowhere:
    """The store of a run that keeps nothing on disk. Models that are to be kept are in memory."""

    path, private, keeps = None, False, False

    def __init__(self) -> None:
        self._models: dict[int, Mapping[str, np.ndarray]] = {}

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

    def keep_model(self, round: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep the model after `round` in memory."""
        self._models[round] = {name: np.array(array) for name, array in arrays.items()}

    def drop_model(self, round: int) -> None:
        """Keep it no longer."""
        self._models.pop(round, None)

    def kept_models(self) -> list[int]:
        """The rounds whose models are kept, ascending."""
        return sorted(self._models)

    def models(self) -> list[int]:
        """The rounds whose models are here, ascending."""
        return self.kept_models()

    def model(self, round: int) -> dict[str, np.ndarray]:
        """Named arrays of the model after `round`, which is kept."""
        return dict(self._models[round])
