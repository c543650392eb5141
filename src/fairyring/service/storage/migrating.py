"""Which version a database's tables have, and how they get to this one."""

import threading
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from fairyring.core.errors import MissingExtra, StorageError
from fairyring.service.storage import schema

_VERSION_TABLE = "alembic_version"
_CREATING = (
    0x66616972  # of PostgreSQL's advisory locks: of two processes one creates the tables, and the other waits
)
_alembic = threading.Lock()  # its context is one of the process


def prepare(engine: Engine, name: str) -> None:
    """Create the tables in a new database, and check the version of one that has some.

    Raises:
        StorageError: the tables are of another version, or of another program.
    """
    if _version(engine, name) is None:
        _run(engine, name, only_new=True)
    version = _version(engine, name)
    if version != schema.REVISIONS[-1]:
        assert version is not None
        raise StorageError(
            name,
            given=f"tables of the older version {version}",
            expected=f"version {schema.REVISIONS[-1]}",
            do="Make a copy of it, stop every process of the service, and run: fairyring service migrate.",
        )


def upgrade(engine: Engine, name: str) -> None:
    """Bring older tables up to this version, or create them.

    Raises:
        StorageError: the tables are of a newer version, or of another program.
    """
    _version(engine, name)
    _run(engine, name, only_new=False)


def _version(engine: Engine, name: str) -> str | None:
    with engine.connect() as connection:
        return _version_of(connection, name)


def _version_of(connection: Connection, name: str) -> str | None:
    """None for a database without tables."""
    found = set(inspect(connection).get_table_names())
    if not found:
        return None
    rows = (
        []
        if _VERSION_TABLE not in found
        else connection.execute(text(f"SELECT version_num FROM {_VERSION_TABLE}"))
    )
    versions = [row[0] for row in rows]
    if len(versions) != 1:
        raise StorageError(
            name,
            given="tables of another program",
            expected="a new database, or one of a service",
            do="Choose another database.",
        )
    if versions[0] not in schema.REVISIONS:
        raise StorageError(
            name,
            given=f"tables of version {versions[0]}, which this program does not know",
            expected=f"version {schema.REVISIONS[-1]}",
            do="Install the newer version of fairyring that wrote them.",
        )
    return versions[0]


def _run(engine: Engine, name: str, *, only_new: bool) -> None:
    try:
        from alembic import command
        from alembic.config import Config
    except ImportError as error:
        raise MissingExtra("alembic", extra="service", purpose="creating the service's tables") from error
    config = Config()
    folder = Path(__file__).with_name("migrations")
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    committed = (
        engine.execution_options(isolation_level="READ COMMITTED")
        if engine.dialect.name == "postgresql"
        else engine
    )
    with _alembic, committed.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _CREATING})
        if only_new and _version_of(connection, name) is not None:
            return  # another process was faster
        config.attributes["connection"] = connection
        command.upgrade(config, schema.REVISIONS[-1])
