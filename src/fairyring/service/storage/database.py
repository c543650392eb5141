"""Transactions: named, whole or not at all, retried, and fenced by a lease."""

import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from typing import NamedTuple, Self, TypeVar

from sqlalchemy import Connection, Engine, delete, insert, select
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from fairyring.core.database import unavailable
from fairyring.core.errors import LeaseLost, StorageError
from fairyring.service.storage import engines, migrating
from fairyring.service.storage.schema import leases, receipts

ATTEMPTS = 10
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.5  # seconds
_DUPLICATES = 3  # after so many a key is there for good, and no conflict
_RECEIPTS_KEPT, _PRUNED_EVERY = 3_600.0, 30.0  # seconds; often, so that a transaction deletes few

T = TypeVar("T")


class Lease(NamedTuple):
    """The right to do one piece of work, until it expires or another takes it.

    Attributes:
        name: of the work.
        owner: who holds it.
        fence: how often the work has been taken, by anybody.
    """

    name: str
    owner: str
    fence: int


class Database:
    """The database of a service: a file of SQLite, or a database of PostgreSQL. Several threads and processes may use it.

    Args:
        url: a path or `sqlite:///path`; or `postgresql://user@host/database`.
        now: seconds since 1970.
        durable: whether what is committed to a file of SQLite survives a power cut. If false, it survives only the end of
            the process. PostgreSQL's own settings say it there.
        attempts: how often a transaction is tried that meets others, or a database that does not answer.

    Raises:
        PlanError: the URL is of no such database.
        MissingExtra: there is no driver for PostgreSQL.
        StorageError: the file cannot be made.
    """

    def __init__(
        self,
        url: str | os.PathLike[str],
        *,
        now: Callable[[], float] = time.time,
        durable: bool = False,
        attempts: int = ATTEMPTS,
    ) -> None:
        self.url = engines.address(url)
        self.name = engines.shown(self.url)
        self.now = now
        self._attempts = attempts
        self._engine = engines.engine(self.url, durable=durable)
        # Writers of one process queue here; SQLite would have them poll.
        self._turn: AbstractContextManager[object] = (
            threading.Lock() if self.url.drivername == "sqlite" else nullcontext()
        )
        self._thread = threading.local()
        self._pruned = 0.0

    def open(self) -> Self:
        """Connect, and create the tables in a new database. Returns itself.

        Raises:
            StorageError: the database cannot be reached, or is not one of this version: an older one is to be migrated.
        """
        self._prepared("open", migrating.prepare)
        return self

    def migrate(self) -> None:
        """Bring the tables of an older version up to this one.

        Raises:
            StorageError: the database cannot be reached, or is of a newer version.
        """
        self._prepared("migrate", migrating.upgrade)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Database({self.name!r})"

    def run(self, name: str, change: Callable[[Connection], T], *, lease: Lease | None = None) -> T:
        """Make a change as one serialisable transaction; when this returns, it is committed, once.

        Args:
            name: of the transaction, for errors.
            change: what to do. It may be called several times and must have no other effect. An error that it raises
                undoes what it did.
            lease: of the work that this is part of.

        Returns:
            What `change` returned.

        Raises:
            LeaseLost: the lease has expired, or was taken. Nothing was written.
            StorageError: the database could not be reached or written, a bounded number of times. Nothing was written, or, if
                the last attempt was cut off while it was committed, all of it.
        """
        receipt = os.urandom(16)
        committing: list[T] = []

        def attempt() -> T:
            with self._writing(name), self._engine.connect() as connection, connection.begin() as transaction:
                try:
                    self._sign(connection, receipt)
                except IntegrityError:
                    if committing:  # the former attempt took effect, though its commit was cut off
                        return committing[-1]
                    raise
                if lease is not None:
                    self._check(connection, lease)
                value = change(connection)
                committing.append(value)
                self._commit(transaction)
                return value

        return self._guarded(name, attempt)

    def read(self, name: str, query: Callable[[Connection], T]) -> T:
        """What a query finds, in one transaction that writes nothing.

        Args:
            name: of the transaction, for errors.
            query: it may be called several times.

        Raises:
            StorageError: the database could not be reached, a bounded number of times.
        """

        def attempt() -> T:
            with self._engine.connect() as plain:
                connection = plain.execution_options(**{engines.READS: True})
                with connection.begin():
                    return query(connection)

        return self._guarded(name, attempt)

    def settle(self) -> None:
        """Write SQLite's journal to the file and empty it, so that what was deleted is nowhere any more. Left out while others read.

        PostgreSQL does so by itself, when it vacuums.
        """
        if self.url.drivername != "sqlite":
            return

        with (
            self._turn,
            closing(self._engine.raw_connection()) as connection,
            suppress(sqlite3.OperationalError),
        ):
            cursor = connection.cursor()
            cursor.execute("PRAGMA busy_timeout=0")
            try:
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                cursor.execute(f"PRAGMA busy_timeout={engines.BUSY_SECONDS * 1000}")

    @contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        if getattr(self._thread, "writes", False):  # it would wait for itself
            raise StorageError(
                f"{self.name}, transaction {name!r}",
                given="a transaction within a transaction",
                expected="one after the other",
                do="Make the change on the connection that is given.",
            )
        with self._turn:
            self._thread.writes = True
            try:
                yield
            finally:
                self._thread.writes = False

    def _commit(self, transaction: AbstractContextManager[object]) -> None:
        transaction.commit()  # type: ignore[attr-defined]

    def _prepared(self, name: str, prepare: Callable[[Engine, str], None]) -> None:
        try:
            self._guarded(name, lambda: prepare(self._engine, self.name))
        except BaseException:
            self.close()  # nobody else will
            raise

    def _guarded(self, name: str, attempt: Callable[[], T]) -> T:
        failure, duplicates = "", 0
        for pause in self._pauses():
            try:
                return attempt()
            except DBAPIError as error:
                failure = engines.first_line(error)
                duplicates += getattr(error.orig, "sqlstate", None) == engines.DUPLICATE
                if not engines.passes(error) or duplicates == _DUPLICATES:
                    break
            except PoolTimeout:
                failure = "no free connection"
            except sqlite3.Error as error:  # while it connects
                failure = str(error)
                if not unavailable(error):
                    break
            time.sleep(pause)
        # Not the driver's error, which may show values.
        raise StorageError(
            f"{self.name}, transaction {name!r}",
            given=failure,
            expected="a database that can be reached and written",
            do="Look whether its server runs and its disk has space. What was committed before is complete.",
        ) from None

    def _pauses(self) -> Iterator[float]:
        pause = _FIRST_PAUSE
        for _ in range(self._attempts - 1):
            yield pause * random.uniform(0.5, 1.5)
            pause = min(2 * pause, _LONGEST_PAUSE)
        yield 0.0

    def _sign(self, connection: Connection, receipt: bytes) -> None:
        # By the true time: receipts are about attempts within seconds, whatever clock the service was given.
        at = time.time()
        connection.execute(insert(receipts), {"id": receipt, "at": at})
        if at - self._pruned > _PRUNED_EVERY:
            self._pruned = at
            connection.execute(delete(receipts).where(receipts.c.at < at - _RECEIPTS_KEPT))

    def _check(self, connection: Connection, lease: Lease) -> None:
        columns = select(leases.c.owner, leases.c.fence, leases.c.until).where(leases.c.name == lease.name)
        # Shared lock: nobody takes the lease before this transaction ends. SQLite has one writer anyway.
        row = connection.execute(columns.with_for_update(read=True)).one_or_none()
        until = (
            row.until if row is not None and (row.owner, row.fence) == (lease.owner, lease.fence) else None
        )
        if until is not None and self.now() < until:
            return
        given = "one that was taken or released" if until is None else "one that has expired"
        raise LeaseLost(
            f"lease {lease.name!r} of {lease.owner!r}",
            given=given,
            expected="the newest one, not expired",
            do="Stop this work, or acquire the lease again and read anew what is stored.",
        )
