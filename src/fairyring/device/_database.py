"""SQLite files of a device: private to their owner, on the disk when a call returns, and with what is deleted overwritten."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fairyring.core.database import unavailable
from fairyring.core.errors import RunDamaged, StorageError
from fairyring.core.files import OWNER

PATIENCE = 30.0  # seconds to wait for another process that writes


class Database:
    """An SQLite file, for several threads of one process, beside other processes.

    Args:
        path: of the file, which is made if there is none.
        tables: statements that make its tables, if they are not there.
        version: of the tables. A file of another one is refused.
        what: the file is, for errors.

    Raises:
        StorageError: the file cannot be opened or written.
        RunDamaged: it is something else.
    """

    def __init__(self, path: Path, tables: tuple[str, ...], version: int, what: str) -> None:
        self.path, self._what, self._lock = path, what, threading.RLock()
        with self._errors():
            # SQLite gives the files beside this one the same mode.
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, OWNER))
            self._connection = sqlite3.connect(
                path, timeout=PATIENCE, isolation_level=None, check_same_thread=False
            )
        try:
            with self._errors():
                self._connection.execute("PRAGMA secure_delete=ON")
                self._connection.execute("PRAGMA journal_mode=WAL")
                self._connection.execute("PRAGMA synchronous=FULL")
                self._connection.execute("PRAGMA foreign_keys=ON")
            with self.writing():
                found = self.rows("PRAGMA user_version")[0][0]
                if found not in (0, version):
                    raise self.damaged(f"a file of version {found}")
                if found == 0:
                    for statement in tables:
                        self._connection.execute(statement)
                    self._connection.execute(f"PRAGMA user_version={version}")
        except BaseException:
            self.close()
            raise

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A transaction in which nobody else writes. When it ends, everything in it is on the disk; if it raises, nothing is."""
        with self._lock, self._errors():
            if self._connection.in_transaction:
                yield
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def execute(self, statement: str, *values: object) -> sqlite3.Cursor:
        """Execute a statement."""
        with self._lock, self._errors():
            return self._connection.execute(statement, values)

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self._lock, self._errors():
            return self._connection.execute(query, values).fetchall()

    def insert(self, statement: str, rows: Iterator[tuple[object, ...]]) -> None:
        """Execute a statement for each of many rows."""
        with self._lock, self._errors():
            self._connection.executemany(statement, rows)

    def scrub(self) -> None:
        """Overwrite what was deleted, in this file and the one beside it."""
        with self._lock, self._errors():
            self._connection.execute("VACUUM")
            self.checkpoint()

    def checkpoint(self, *, patient: bool = False) -> None:
        """Empty the log beside the file, in which deleted rows may still be.

        Args:
            patient: leave it to a later call if another process is reading.
        """
        with self._lock, self._errors():
            busy, _, _ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy and not patient:
            raise StorageError(
                str(self.path),
                given="another process that reads it",
                expected="a file whose log can be emptied: deleted rows are still in it",
                do="Try again once the other process has ended.",
            )

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        with self._lock, suppress(sqlite3.Error):
            self._connection.close()

    def damaged(self, given: str) -> RunDamaged:
        """The error for a file that is something else."""
        return RunDamaged(
            str(self.path),
            given=given,
            expected=self._what,
            do="Put the device's own file back, or let the device forget and enrol it again.",
        )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.ProgrammingError:
            raise  # a closed file: a mistake of the caller
        except OSError as error:
            raise self._unwritable(f"{error.strerror or error}") from error
        except sqlite3.Error as error:
            if unavailable(error):
                raise self._unwritable(f"{error}") from error
            raise self.damaged(f"{error}") from error

    def _unwritable(self, given: str) -> StorageError:
        return StorageError(
            str(self.path),
            given=given,
            expected="a file that can be read and written, and that no process holds for long",
            do="Free some space, or end the other process.",
        )
