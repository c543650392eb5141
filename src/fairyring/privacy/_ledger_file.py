"""Storage of a ledger: an SQLite file, and small files, next to it and elsewhere, that name its last entry.

Only their owner can read them: a ledger shows which rounds had a sum, and of how many clients.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from fairyring.core.database import busy, unavailable, unwritable
from fairyring.core.errors import RunError, StorageError
from fairyring.core.files import OWNER, replace_file
from fairyring.core.reading import NotJson, read_json
from fairyring.privacy._entries import Entry, Head
from fairyring.privacy._history import History

PATIENCE = 30.0  # seconds to wait for another process that writes
_TABLE = (
    "CREATE TABLE ledger (number INTEGER PRIMARY KEY, kind TEXT NOT NULL, round INTEGER NOT NULL, time REAL NOT NULL, "
    "data TEXT NOT NULL, previous TEXT NOT NULL, hash TEXT NOT NULL)"
)
_FIELDS = Entry.__struct_fields__


class LedgerFile:
    """The SQLite file of a ledger, or the same in memory.

    Args:
        path: path of the file; None for a ledger in memory.
        history: the entries read so far; `follow` adds to it.
        durable: whether a commit survives a power cut.
        writable: whether the file may be created and written.
    """

    def __init__(
        self, path: Path | None, history: History, *, durable: bool = False, writable: bool = True
    ) -> None:
        self.path, self._history = path, history
        with self._errors():
            self._database = _connect(path, writable)
        try:
            with self._errors():
                self._schema()
                self._inode = self._place()
                if writable:
                    self._configure(durable)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A transaction in which nobody else writes: either everything in it is stored, or nothing."""
        with self._errors():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                if self._place() != self._inode:
                    raise self._history.damaged("another file in its place", "the file that was opened")
                yield
                self._database.execute("COMMIT")
            except BaseException:
                # If COMMIT itself failed, SQLite may already have rolled back.
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    def create(self) -> None:
        """Create the table if it does not exist; call this in a transaction."""
        if not self._schema():
            self._database.execute(_TABLE)

    def append(self, entry: Entry) -> None:
        """Write an entry; call this in a transaction."""
        values = [getattr(entry, name) for name in _FIELDS]
        self._database.execute("INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?)", values)

    def follow(self) -> None:
        """Read and verify entries written since the last call; the last known entry must still be there.

        Raises:
            LedgerDamaged: the chain is broken, or is not the one read before.
        """
        with self._errors():
            known = len(self._history.entries)
            query = "SELECT number, kind, round, time, data, previous, hash FROM ledger WHERE number >= ? ORDER BY number"
            rows = self._rows(query, known - 1) if self._schema() else []
        try:
            entries = [msgspec.convert(dict(zip(_FIELDS, row, strict=True)), Entry) for row in rows]
        except msgspec.ValidationError as error:
            raise self._history.damaged(f"a row that is not an entry: {error}", "entries") from error
        if known and (not entries or entries[0] != self._history.entries[-1]):
            raise self._history.damaged(
                f"no entry {known - 1} as it was before: it was put back to an older copy, or changed",
                "a ledger that only grows",
            )
        self._history.extend(entries[1:] if known else entries)

    def close(self) -> None:
        """Close the file."""
        with suppress(sqlite3.Error):
            self._database.close()

    def _schema(self) -> bool:
        """Whether the table exists. Anything else, such as a trigger or a view, could change what it contains."""
        query = "SELECT sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"
        tables = [row[0] for row in self._rows(query)]
        if tables and tables != [_TABLE]:
            raise self._history.damaged("a database with something else in it", "a ledger")
        return bool(tables)

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            return self._database.execute(query, values).fetchall()
        except UnicodeDecodeError as error:
            raise self._history.damaged("malformed text", "a ledger") from error

    def _configure(self, durable: bool) -> None:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                self._database.execute("PRAGMA journal_mode=WAL")
                break
            except sqlite3.OperationalError as error:
                # SQLite does not wait for other processes that do the same at this moment.
                if not busy(error) or time.monotonic() > until:
                    raise
                time.sleep(0.01)
        self._database.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")

    def _place(self) -> tuple[int, int] | None:
        if self.path is None:
            return None
        try:
            status = os.stat(self.path)
        except OSError:
            return (0, 0)
        return (status.st_dev, status.st_ino)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.ProgrammingError:
            raise  # a closed ledger, or one of another thread: the file is fine
        except sqlite3.Error as error:
            if not unavailable(error):
                raise self._history.damaged(f"{error}", "a ledger") from error
            raise StorageError(
                self._history.name,
                given=f"{error}",
                expected="a file that can be read and written, and that no process holds for long",
                do="Free some space, fix its permissions or end the other process; what was reserved before counts as spent.",
            ) from error


class HeadFile:
    """A file that names the last entry of a ledger, so that an older copy is recognised."""

    def __init__(self, path: Path, history: History, *, durable: bool) -> None:
        self.path, self._history, self._durable = path, history, durable

    def read(self) -> Head | None:
        """The head in the file; None if there is no file.

        Raises:
            LedgerDamaged: the file contains something else.
            StorageError: it cannot be read.
        """
        try:
            return read_json(self.path.read_bytes(), Head)
        except FileNotFoundError:
            return None
        except NotJson as error:
            raise self._history.damaged(f"{self.path} with something else in it", "a head") from error
        except OSError as error:
            raise self._unreachable(error) from error

    def write(self, head: Head) -> None:
        """Write a head, atomically. Call this from one process at a time.

        Raises:
            StorageError: it cannot be written.
        """
        content = msgspec.json.encode(head)
        if self._durable:
            replace_file(self.path, content, mode=OWNER)
            return
        temporary = self.path.with_name(self.path.name + ".part")
        try:
            temporary.unlink(missing_ok=True)  # a leftover file may be readable by others
            with open(temporary, "wb", opener=partial(os.open, mode=OWNER)) as file:
                file.write(content)
            os.replace(temporary, self.path)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            raise self._unreachable(error) from error

    def _unreachable(self, error: OSError) -> StorageError:
        return StorageError(
            str(self.path),
            given=f"{error.strerror or error}",
            expected="a file that can be read and replaced",
            do="Free some space or fix its permissions; what was reserved before counts as spent.",
        )


def head_files(path: Path | None, witness: Path | None, history: History, durable: bool) -> list[HeadFile]:
    """The head files of the ledger at `path`: the one next to it, and the witness."""
    paths = [] if path is None else [path.with_suffix(".head")]
    paths += [] if witness is None else [witness]
    return [HeadFile(one, history, durable=durable) for one in paths]


def check_heads(history: History, heads: list[tuple[HeadFile, Head | None]], anchor: Head | None) -> None:
    """Raise `LedgerDamaged` unless a ledger contains the entry that every head names.

    Args:
        history: the complete ledger.
        heads: head files, and what they contained before `history` was read.
        anchor: a head known from elsewhere; with it, head files may be missing.
    """
    if anchor is not None:
        history.check(anchor, "a head noted before")
    for file, head in heads:
        if head is not None:
            history.check(head, str(file.path))
        elif len(history.entries) > 1 and anchor is None:
            # The first entry alone spends nothing, and a crash may have happened before its head was written.
            raise history.damaged(
                f"{len(history.entries)} entries and no {file.path}",
                "the head that is written after each entry, or another one noted elsewhere (anchor=)",
            )


def _connect(path: Path | None, writable: bool) -> sqlite3.Connection:
    if path is None:
        return sqlite3.connect(":memory:", isolation_level=None)
    if writable:
        # SQLite gives its auxiliary files the mode of this one. It reports itself if a file cannot be created.
        with suppress(OSError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, OWNER))
        return sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
    if not path.is_file():
        raise RunError(
            str(path),
            given="no such file",
            expected="a ledger",
            do="Check the path; a run without differential privacy has no ledger.",
        )
    address = f"{path.resolve().as_uri()}?mode=ro"
    database = sqlite3.connect(address, uri=True, timeout=PATIENCE, isolation_level=None)
    try:
        database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        database.close()
        if not unwritable(error) or path.with_name(f"{path.name}-wal").exists():
            raise
        # In a read-only folder SQLite cannot create the index of its log; a ledger there has no log either.
        return sqlite3.connect(f"{address}&immutable=1", uri=True, isolation_level=None)
    return database
