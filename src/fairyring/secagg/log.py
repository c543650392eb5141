"""A party's log: every event it accepted, in order, written before it answers. Its state is a fold of the log."""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from fairyring.core.database import busy
from fairyring.core.errors import RunDamaged, StorageError


class Record(NamedTuple):
    """One entry: its kind and its bytes."""

    kind: str
    data: bytes

    def __repr__(self) -> str:
        return f"Record({self.kind!r}, {len(self.data)} bytes)"  # the bytes of a device's first record are its root secret


class Log(Protocol):
    """An append-only list of records."""

    def append(self, kind: str, data: bytes) -> int:
        """Append a record; it is stored when this returns. Returns its number, counted from 0."""
        ...

    def read(self, number: int) -> Record:
        """The record with this number."""
        ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Record]: ...


class MemoryLog:
    """A log that lasts as long as the process."""

    def __init__(self, records: list[Record] | None = None) -> None:
        self._records = list(records or [])

    def append(self, kind: str, data: bytes) -> int:
        self._records.append(Record(kind, data))
        return len(self._records) - 1

    def read(self, number: int) -> Record:
        return self._records[number]

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(list(self._records))

    def __repr__(self) -> str:
        return f"MemoryLog({len(self._records)} records)"


class FileLog:
    """A log in an SQLite file that only its owner may read.

    Args:
        path: path of the file, which is created if it does not exist.
        durable: whether a record survives a power cut. If false, it survives only the end of the process.

    Raises:
        StorageError: the file cannot be opened or written.
        RunDamaged: the file is not a log.
    """

    def __init__(self, path: str | os.PathLike[str], *, durable: bool = True) -> None:
        self.path = Path(path)
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            self._database = sqlite3.connect(self.path, isolation_level=None)
        except (OSError, sqlite3.OperationalError) as error:
            raise self._unwritable(error) from error
        try:
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            # Deleted bytes are overwritten: a log holds a session's root secret.
            self._database.execute("PRAGMA secure_delete=ON")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS records (number INTEGER PRIMARY KEY, kind TEXT NOT NULL, data BLOB NOT NULL)"
            )
            query = "SELECT count(kind), count(data), coalesce(max(number) + 1, 0) FROM records"
            kinds, datas, self._length = self._database.execute(query).fetchone()
        except sqlite3.DatabaseError as error:
            self._database.close()
            raise self._unwritable(error) if busy(error) else self._damaged(error) from error
        if not kinds == datas == self._length:
            self._database.close()
            raise self._damaged(f"{kinds} of {self._length} records")

    def append(self, kind: str, data: bytes) -> int:
        try:
            self._database.execute("INSERT INTO records VALUES (?, ?, ?)", (self._length, kind, data))
        except sqlite3.Error as error:
            raise self._unwritable(error) from error
        self._length += 1
        return self._length - 1

    def read(self, number: int) -> Record:
        query = "SELECT kind FROM records WHERE number = ?"
        try:
            row = self._database.execute(query, (number,)).fetchone()
            if row is None:
                raise IndexError(number)
            # Not as part of the row, which SQLite would copy first.
            with self._database.blobopen("records", "data", number, readonly=True) as blob:
                return Record(row[0], blob.read())
        except sqlite3.DatabaseError as error:
            raise self._unwritable(error) if busy(error) else self._damaged(error) from error

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Record]:
        for number in range(self._length):
            yield self.read(number)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def erase(self) -> None:
        """Delete the log, once its session is over and its secrets are no longer needed."""
        self.close()
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def __repr__(self) -> str:
        return f"FileLog({self.path.name!r}, {self._length} records)"

    def _damaged(self, given: object) -> RunDamaged:
        return RunDamaged(
            str(self.path),
            given=f"{given}",
            expected="a log",
            do="Restore it from a copy, or start a new one.",
        )

    def _unwritable(self, error: Exception) -> StorageError:
        return StorageError(
            str(self.path),
            given=f"{error}",
            expected="a file that can be written",
            do="Free some space or choose another path; what was appended before is complete.",
        )
