"""Databases for the tests of a service: SQLite, and PostgreSQL where the machine has it."""

from collections.abc import Callable, Iterator
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


@pytest.fixture(params=["sqlite", "postgresql"])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Makes databases of either kind, with tables; each call another one."""
    if request.param == "sqlite":
        made = iter(range(1_000_000))
        return lambda: f"sqlite:///{tmp_path / f'{next(made)}.sqlite'}"
    server = request.getfixturevalue("postgres_server")
    template = request.getfixturevalue("postgres_template")
    return lambda: server.url(server.create(template))


@pytest.fixture
def url(new_url: Callable[[], str]) -> str:
    """One database, of SQLite and of PostgreSQL in turn."""
    return new_url()
