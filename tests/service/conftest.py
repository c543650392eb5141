"""Databases for the tests of a service: SQLite, and PostgreSQL where the machine has it."""

import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from fairyring.service.storage import Database
from tests.service import postgres


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    """One server for all tests of this process."""
    if postgres.binaries() is None:
        pytest.skip("no PostgreSQL server on this machine")
    with postgres.running() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_template(postgres_server: postgres.Server) -> str:
    """A database that has the tables."""
    name = postgres_server.create()
    Database(postgres_server.url(name)).open().close()
    return name


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that has the tables."""
    path = tmp_path_factory.mktemp("template") / "new.sqlite"
    Database(path).open().close()
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Makes databases of either kind, with tables; each call another one."""
    if request.param == "sqlite":
        file, made = request.getfixturevalue("sqlite_template"), count()
        return lambda: f"sqlite:///{shutil.copy(file, tmp_path / f'{next(made)}.sqlite')}"
    server = request.getfixturevalue("postgres_server")
    template = request.getfixturevalue("postgres_template")
    return lambda: server.url(server.create(template))


@pytest.fixture(scope="session")
def postgres_database(postgres_server: postgres.Server, postgres_template: str) -> str:
    """A database for one test after the other: making one takes longer than most tests."""
    return postgres_server.create(postgres_template)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """One database, of SQLite and of PostgreSQL in turn, with empty tables. What changes the tables takes `new_url`."""
    if request.param == "sqlite":
        file = request.getfixturevalue("sqlite_template")
        return f"sqlite:///{shutil.copy(file, tmp_path / 'kept.sqlite')}"
    server, name = request.getfixturevalue("postgres_server"), request.getfixturevalue("postgres_database")
    return server.emptied(name)
