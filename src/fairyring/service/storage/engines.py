"""SQLite and PostgreSQL: how each is opened, and which of their errors pass."""

import os
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from fairyring.core.errors import PlanError, StorageError
from fairyring.core.extras import require
from fairyring.core.files import OWNER

READS = "fairyring_reads"  # an execution option: this transaction writes nothing
BUSY_SECONDS = 5  # that a writer waits for one of another process
_JOURNAL_BYTES = 64 << 20  # kept of SQLite's journal once it is written to the file
_CONNECT_SECONDS = 10
# A process that is stopped within a transaction must not hold a lease's row for ever.
_OPTIONS = "-c idle_in_transaction_session_timeout=30000 -c lock_timeout=10000"
_POOL: dict[str, Any] = {"pool_size": 10, "max_overflow": 30}  # a web server has 40 threads
# Of two transactions that insert the same key, PostgreSQL may tell one of a duplicate where it means a conflict.
DUPLICATE = "23505"
# Serialisation failure, deadlock, idle for too long, lock timeout, too many connections, server shutting down or starting.
_PASSING_STATES = {"40001", "40P01", "25P03", "55P03", "53300", "57P01", "57P02", "57P03"}
_PASSING_CODES = {5, 6, 10}  # SQLITE_BUSY, SQLITE_LOCKED, SQLITE_IOERR


def address(url: str | os.PathLike[str]) -> URL:
    """The URL of a database; a path is that of an SQLite file.

    Raises:
        PlanError: it is neither a file nor a database of PostgreSQL.
    """
    text = os.fspath(url)
    if "://" not in text:
        return URL.create("sqlite", database=str(Path(text).absolute()))
    try:
        parsed = make_url(text)
    except (ArgumentError, ValueError):
        raise _no_database("a URL that cannot be read") from None
    kind = parsed.drivername.partition("+")[0]
    if kind in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    if kind != "sqlite":
        raise _no_database(f"one of {kind!r}")
    if parsed.database in (None, "", ":memory:") or str(parsed.database).startswith("file:"):
        raise _no_database("an SQLite database in memory")
    return parsed.set(drivername="sqlite")


def shown(url: URL) -> str:
    """A database, as an error names it: without user, password and options."""
    if url.drivername == "sqlite":
        return f"database {url.database}"
    return f"database {url.database} of PostgreSQL" + (f" on {url.host}" if url.host else "")


def engine(url: URL, *, durable: bool) -> Engine:
    """A pool of connections. Each transaction is serialisable.

    Raises:
        StorageError: the file of an SQLite database cannot be made.
        MissingExtra: there is no driver for PostgreSQL.
    """
    if url.drivername == "sqlite":
        return _sqlite(url, durable)
    require("psycopg", extra="service", purpose="a database of PostgreSQL")
    own = {"connect_timeout": _CONNECT_SECONDS, "options": _OPTIONS}
    return create_engine(
        url,
        isolation_level="SERIALIZABLE",
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={name: value for name, value in own.items() if name not in url.query},
        **_POOL,
    )


def passes(error: DBAPIError) -> bool:
    """Whether another attempt of the same transaction may succeed."""
    if error.connection_invalidated:
        return True
    if (code := getattr(error.orig, "sqlite_errorcode", None)) is not None:
        return code & 0xFF in _PASSING_CODES
    state = getattr(error.orig, "sqlstate", None)
    if state is None:  # the server was not reached, or went away
        return type(error).__name__ == "OperationalError"
    return state in _PASSING_STATES or state.startswith("08") or state == DUPLICATE


def first_line(error: DBAPIError) -> str:
    """What a driver says, without the values that it was about."""
    return (str(error.orig).splitlines() or [type(error).__name__])[0]


def _sqlite(url: URL, durable: bool) -> Engine:
    path = Path(str(url.database))
    try:
        # Only its owner may read it; SQLite gives the files beside it the same mode.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, OWNER))
    except OSError as error:
        raise StorageError(
            shown(url),
            given=error.strerror or type(error).__name__,
            expected="a file that can be written, in a folder that exists",
            do="Create its folder, or choose another path.",
        ) from error
    made = create_engine(url, hide_parameters=True, connect_args={"timeout": BUSY_SECONDS}, **_POOL)

    @event.listens_for(made, "connect")
    def settings(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions begin below, not where the driver guesses
        connection.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute(f"PRAGMA journal_size_limit={_JOURNAL_BYTES}")
        # Deleted bytes are overwritten: records of a session have masked vectors.
        connection.execute("PRAGMA secure_delete=ON")

    @event.listens_for(made, "begin")
    def begin(connection: Connection) -> None:
        # A writer that begins as a reader may have to give up when it comes to write.
        reads = connection.get_execution_options().get(READS)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return made


def _no_database(given: str) -> PlanError:
    return PlanError(
        "database of a service",
        given=given,
        expected="the path of an SQLite file, sqlite:///path, or postgresql://user@host/database",
        do="Give one of these.",
    )
