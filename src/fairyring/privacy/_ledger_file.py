"""Where a ledger is kept: an SQLite file, and small files beside it and elsewhere that name its last entry.

All are their owner's alone: a ledger tells when a round had a sum, and of how many.
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
        path: of the file; in memory without one.
        history: what has been read of it, which grows with `follow`.
        durable: whether a commit outlasts a power cut.
        writable: whether it may be made and written.
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
        """A transaction in which nobody else writes; what is written in it is kept whole or not at all."""
        with self._errors():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                if self._place() != self._inode:
                    raise self._history.damaged("another file in its place", "the file that was opened")
                yield
                self._database.execute("COMMIT")
            except BaseException:
                # Where COMMIT itself failed, SQLite may have rolled back already.
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    def create(self) -> None:
        """Make the table, in a transaction, if there is none."""
        if not self._schema():
            self._database.execute(_TABLE)

    def append(self, entry: Entry) -> None:
        """Write an entry, in a transaction."""
        values = [getattr(entry, name) for name in _FIELDS]
        self._database.execute("INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?)", values)

    def follow(self) -> None:
        """Read and verify what came since; the last entry known must still be there.

        Raises:
            LedgerDamaged: the chain is broken, or is not the one that was read before.
        """
        with self._errors():
            known = len(self._history.entries)
            query = "SELECT number, kind, round, time, data, previous, hash FROM ledger WHERE number >= ? ORDER BY number"
            found = self._rows(query, known - 1) if self._schema() else []
        try:
            entries = [msgspec.convert(dict(zip(_FIELDS, row, strict=True)), Entry) for row in found]
        except msgspec.ValidationError as error:
            raise self._history.damaged(f"a row that is no entry: {error}", "entries") from error
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
        """Whether the table is there. A trigger or a view beside it would mean that somebody else decides what is."""
        query = "SELECT sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"
        found = [row[0] for row in self._rows(query)]
        if found and found != [_TABLE]:
            raise self._history.damaged("a database with something else in it", "a ledger")
        return bool(found)

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            return self._database.execute(query, values).fetchall()
        except UnicodeDecodeError as error:
            raise self._history.damaged("text that is none", "a ledger") from error

    def _configure(self, durable: bool) -> None:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                self._database.execute("PRAGMA journal_mode=WAL")
                break
            except sqlite3.OperationalError as error:
                # SQLite does not itself wait for others that do the same at this moment.
                if not busy(error) or time.monotonic() > until:
                    raise
                time.sleep(0.01)
        self._database.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")

    def _place(self) -> tuple[int, int] | None:
        if self.path is None:
            return None
        try:
            found = os.stat(self.path)
        except OSError:
            return (0, 0)
        return (found.st_dev, found.st_ino)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.ProgrammingError:
            raise  # a closed ledger, or one of another thread: nothing is wrong with the file
        except sqlite3.Error as error:
            if not unavailable(error):
                raise self._history.damaged(f"{error}", "a ledger") from error
            raise StorageError(
                self._history.name,
                given=f"{error}",
                expected="a file that can be read and written, and that no process holds for long",
                do="Free space, mend its permissions or end the other process; what was reserved before counts as spent.",
            ) from error


class HeadFile:
    """A file that names the last entry of a ledger, so that an older copy of it is known as one."""

    def __init__(self, path: Path, history: History, *, durable: bool) -> None:
        self.path, self._history, self._durable = path, history, durable

    def read(self) -> Head | None:
        """The head in it; None without a file.

        Raises:
            LedgerDamaged: there is something else in it.
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
        """Put a head there, whole or not at all. To be called by one process at a time.

        Raises:
            StorageError: it cannot be written.
        """
        content = msgspec.json.encode(head)
        if self._durable:
            replace_file(self.path, content, mode=OWNER)
            return
        beside = self.path.with_name(self.path.name + ".part")
        try:
            beside.unlink(missing_ok=True)  # one left behind may be open to others
            with open(beside, "wb", opener=partial(os.open, mode=OWNER)) as file:
                file.write(content)
            os.replace(beside, self.path)
        except OSError as error:
            with suppress(OSError):
                beside.unlink()
            raise self._unreachable(error) from error

    def _unreachable(self, error: OSError) -> StorageError:
        return StorageError(
            str(self.path),
            given=f"{error.strerror or error}",
            expected="a file that can be read and replaced",
            do="Free space or mend its permissions; what was reserved before counts as spent.",
        )


def head_files(path: Path | None, witness: Path | None, history: History, durable: bool) -> list[HeadFile]:
    """Those of the ledger at `path`: the one beside it, and the witness."""
    paths = [] if path is None else [path.with_suffix(".head")]
    paths += [] if witness is None else [witness]
    return [HeadFile(one, history, durable=durable) for one in paths]


def check_heads(history: History, heads: list[tuple[HeadFile, Head | None]], anchor: Head | None) -> None:
    """Raise `LedgerDamaged` unless a ledger holds what every head names.

    Args:
        history: all of the ledger.
        heads: files, and what was in them before `history` was read.
        anchor: a head known from elsewhere, with which files may be missing.
    """
    if anchor is not None:
        history.check(anchor, "a head noted before")
    for file, head in heads:
        if head is not None:
            history.check(head, str(file.path))
        elif len(history.entries) > 1 and anchor is None:
            # The first entry alone spends nothing, and a crash may have come before its head was written.
            raise history.damaged(
                f"{len(history.entries)} entries and no {file.path}",
                "the head that is written after each entry, or another one noted elsewhere (anchor=)",
            )


def _connect(path: Path | None, writable: bool) -> sqlite3.Connection:
    if path is None:
        return sqlite3.connect(":memory:", isolation_level=None)
    if writable:
        # SQLite gives the files beside it the mode of this one. What cannot be made it says itself.
        with suppress(OSError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, OWNER))
        return sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
    if not path.is_file():
        raise RunError(
            str(path),
            given="no such file",
            expected="a ledger",
            do="Check the path; a run without differential privacy keeps none.",
        )
    address = f"{path.resolve().as_uri()}?mode=ro"
    database = sqlite3.connect(address, uri=True, timeout=PATIENCE, isolation_level=None)
    try:
        database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        database.close()
        if not unwritable(error) or path.with_name(f"{path.name}-wal").exists():
            raise
        # In a folder that cannot be written SQLite finds no place for the index of its log; here it has no log either.
        return sqlite3.connect(f"{address}&immutable=1", uri=True, isolation_level=None)
    return database
