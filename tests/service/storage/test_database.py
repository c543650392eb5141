"""Transactions: whole or not at all, once, retried where that helps, and of one version of the tables."""

import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import insert, select, text
from sqlalchemy.exc import OperationalError

from fairyring.core.errors import FairyringError, LeaseLost, MissingExtra, PlanError, StorageError
from fairyring.service.storage import Database, Storage, migrating, schema
from fairyring.service.storage.engines import shown
from fairyring.service.storage.schema import audit, nonces, receipts
from tests.service import postgres
from tests.service.storage.conftest import Clock

ROOT = Path(__file__).parents[3]


def add(number: int) -> Callable[[Any], None]:
    row = {"key": b"k", "nonce": number.to_bytes(4, "big"), "until": 0.0}
    return lambda connection: connection.execute(insert(nonces), row) and None


def numbers(database: Database) -> list[int]:
    query = select(nonces.c.nonce).order_by(nonces.c.nonce)
    return [int.from_bytes(one, "big") for one in database.read("numbers", lambda c: c.scalars(query).all())]


class Cut:
    """Commits that are cut off: before or after they take effect."""

    def __init__(self, database: Database, *times: str) -> None:
        self.times, self.commits, self._commit = list(times), 0, database._commit
        database._commit = self  # type: ignore[method-assign]

    def __call__(self, transaction: Any) -> None:
        self.commits += 1
        when = self.times.pop(0) if self.times else ""
        if when != "before":
            self._commit(transaction)
        if when:
            raise OperationalError("COMMIT", None, Exception("the connection was cut off: secret-of-a-row"))


def test_an_error_undoes_all_that_its_transaction_did(kept: Storage) -> None:
    def half(connection: Any) -> None:
        add(1)(connection)
        raise KeyError("in the middle")

    with pytest.raises(KeyError):
        kept.database.run("half", half)
    assert numbers(kept.database) == []
    kept.database.run("whole", add(2))
    assert numbers(kept.database) == [2]


def test_a_transaction_within_a_transaction_is_refused_and_not_waited_for(kept: Storage) -> None:
    with pytest.raises(StorageError, match="within a transaction"):
        kept.database.run("outer", lambda c: kept.audit.note("me", "look", {}))
    assert kept.audit.note("me", "look", {}).number == 0


@pytest.mark.parametrize("times", [["before"], ["after"], ["before", "after"], ["before", "before", "after"]])
def test_a_commit_that_was_cut_off_takes_effect_once(kept: Storage, times: list[str]) -> None:
    cut = Cut(kept.database, *times)
    entry = kept.audit.note("me", "look", {})  # a second one would be another entry, not an error
    assert entry.number == 0
    assert [one.number for one in kept.audit.read()] == [0]
    assert cut.commits == len(times) + (times[-1] == "before")


def test_what_fails_again_and_again_ends_in_an_error_that_shows_no_values(url: str) -> None:
    database = Database(url, attempts=3).open()
    cut = Cut(database, *["before"] * 3)
    with pytest.raises(StorageError, match="'add a number'") as caught:
        database.run("add a number", add(1))
    assert cut.commits == 3
    assert "VALUES" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert numbers(database) == []
    database.close()


def test_what_cannot_succeed_is_not_tried_again(kept: Storage) -> None:
    tries = []

    def wrong(connection: Any) -> None:
        tries.append(1)
        connection.execute(text("SELECT * FROM no_such_table"))

    with pytest.raises(StorageError, match="no_such_table"):
        kept.database.run("wrong", wrong)
    assert len(tries) == 1


def test_a_transaction_needs_its_lease_to_the_end(opened: Callable[[], Storage], clock: Clock) -> None:
    one, other = opened(), opened()
    lease = one.leases.acquire("work", "one", 10)
    assert lease is not None
    one.database.run("mine", add(1), lease=lease)
    clock.time += 10  # it ends at that moment, not after it
    with pytest.raises(LeaseLost, match="expired"):
        one.database.run("late", add(2), lease=lease)
    newer = other.leases.acquire("work", "other", 10)
    assert newer is not None
    clock.time -= 5  # not even the clock brings it back
    with pytest.raises(LeaseLost, match="taken"):
        one.database.run("stale", add(3), lease=lease)
    with pytest.raises(LeaseLost, match="taken"):
        one.database.run("forged", add(4), lease=lease._replace(fence=newer.fence))
    other.database.run("theirs", add(5), lease=newer)
    assert numbers(one.database) == [1, 5]


def test_a_repeated_attempt_is_not_refused_for_a_lease_that_was_lost_after_the_commit(
    kept: Storage, clock: Clock
) -> None:
    lease = kept.leases.acquire("work", "me", 10)

    class Late(Cut):
        def __call__(self, transaction: Any) -> None:
            try:
                super().__call__(transaction)
            except OperationalError:
                clock.time += 60
                raise

    Late(kept.database, "after")
    kept.database.run("mine", add(1), lease=lease)
    assert numbers(kept.database) == [1]


def test_of_two_transactions_that_read_what_the_other_writes_one_is_repeated(
    postgres_server: postgres.Server, postgres_template: str
) -> None:
    """SQLite has one writer at a time: what two threads do to each other is in test_races.py."""
    url = postgres_server.url(postgres_server.create(postgres_template))
    database, other = Database(url, attempts=5).open(), Database(url).open()
    tries = []

    def count_and_add(connection: Any) -> None:
        seen = len(connection.execute(select(nonces)).all())
        tries.append(seen)
        if len(tries) == 1:
            other.run("meanwhile", lambda c: add(len(c.execute(select(nonces)).all()))(c))
        add(seen)(connection)

    database.run("count and add", count_and_add)
    assert tries[-1] == 1
    assert numbers(database) == [0, 1]
    database.close()
    other.close()


def test_a_connection_that_the_server_ends_is_replaced(
    postgres_server: postgres.Server, postgres_template: str
) -> None:
    database = Database(postgres_server.url(postgres_server.create(postgres_template))).open()
    tries = []

    def cut_off_once(connection: Any) -> None:
        add(len(tries))(connection)
        tries.append(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
        if len(tries) == 1:
            postgres_server.sql(f"SELECT pg_terminate_backend({tries[0]})")
            connection.execute(text("SELECT 1"))

    database.run("cut off once", cut_off_once)
    assert numbers(database) == [1]
    assert len(set(tries)) == 2
    database.close()


def test_a_process_that_is_paused_within_a_transaction_blocks_nobody_for_ever(
    postgres_server: postgres.Server, postgres_template: str
) -> None:
    url = postgres_server.url(postgres_server.create(postgres_template))
    paused = Database(f"{url}&options=-c%20idle_in_transaction_session_timeout%3D100").open()
    other = Database(url).open()
    tries: list[int] = []

    def pause(connection: Any) -> None:
        connection.execute(text("LOCK TABLE nonces"))
        tries.append(1)
        add(len(tries))(connection)
        if len(tries) == 1:
            other.run("meanwhile", add(100))  # waits until the server has ended the first attempt

    paused.run("paused", pause)
    assert numbers(other) == [2, 100]
    paused.close()
    other.close()


def test_old_receipts_are_forgotten_and_new_ones_kept(kept: Storage) -> None:
    database, count = kept.database, select(receipts.c.at)
    database.run(
        "a day ago",
        lambda c: c.execute(receipts.insert(), {"id": b"old", "at": time.time() - 86_400}) and None,
    )
    database._pruned = 0.0
    database.run("now", add(1))
    left = database.read("receipts", lambda c: c.scalars(count).all())
    assert len(left) == 2
    assert min(left) > time.time() - 60


def test_the_tables_are_those_that_migrations_make(kept: Storage) -> None:
    with kept.database._engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []


def test_versions_known_are_those_of_the_migrations() -> None:
    scripts = ScriptDirectory(str(Path(migrating.__file__).with_name("migrations")))
    assert tuple(one.revision for one in reversed(list(scripts.walk_revisions()))) == schema.REVISIONS


def set_version(database: Database, version: str) -> None:
    change = text("UPDATE alembic_version SET version_num = :version")
    database.run("pretend", lambda c: c.execute(change, {"version": version}) and None)


def test_an_older_database_is_to_be_migrated_and_then_opens(
    kept: Storage, url: str, monkeypatch: Any
) -> None:
    kept.audit.note("me", "look", {})
    monkeypatch.setattr(schema, "REVISIONS", (*schema.REVISIONS, "0002"))
    with pytest.raises(StorageError, match="fairyring service migrate") as caught:
        Database(url).open()
    assert "0001" in str(caught.value)
    monkeypatch.undo()
    migrated = Database(url)
    migrated.migrate()
    migrated.open()
    assert len(migrated.read("audit", lambda c: c.execute(select(audit)).all())) == 1
    migrated.close()


def test_a_newer_database_is_refused(new_url: Callable[[], str]) -> None:
    database = Database(new_url()).open()
    set_version(database, "9999")
    for use in (Database.open, Database.migrate):
        with pytest.raises(StorageError, match="newer version"):
            use(database)


def test_a_database_of_another_program_is_left_alone(new_url: Callable[[], str]) -> None:
    database = Database(new_url()).open()
    database.run("another program", lambda c: c.execute(text("DROP TABLE alembic_version")) and None)
    with pytest.raises(StorageError, match="another program"):
        database.open()
    with pytest.raises(StorageError, match="another program"):
        database.migrate()
    database.close()


OPENING = """
import sys
from fairyring.service.storage import Storage
with Storage(sys.argv[1]) as kept:
    kept.audit.note(sys.argv[2], "open", {})
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_processes_that_open_a_new_database_together_create_it_once(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if kind == "sqlite":
        url = str(tmp_path / "new.sqlite")
    else:
        server = request.getfixturevalue("postgres_server")
        url = server.url(server.create())
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-W", "error", "-c", OPENING, url]
    processes = [
        subprocess.Popen([*command, str(i)], env=environment, stderr=subprocess.PIPE) for i in range(3)
    ]
    failures = [process.communicate(timeout=60)[1].decode() for process in processes]
    assert failures == [""] * 3
    with Storage(url) as kept:
        assert sorted(one.who for one in kept.audit.read()) == ["0", "1", "2"]
        assert kept.audit.verify().number == 2


def test_a_file_of_sqlite_is_its_owners_and_is_flushed_as_asked(tmp_path: Path) -> None:
    for durable, flushed in ((False, 1), (True, 2)):
        path = tmp_path / f"{durable}.sqlite"
        with Storage(path, durable=durable) as kept:
            kept.audit.note("me", "look", {})
            pragmas = {
                name: kept.database.read(
                    name, lambda c, name=name: c.execute(text(f"PRAGMA {name}")).scalar_one()
                )
                for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
            }
            assert pragmas == {
                "journal_mode": "wal",
                "synchronous": flushed,
                "foreign_keys": 1,
                "secure_delete": 1,
            }
            for file in tmp_path.iterdir():
                assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_a_writer_of_another_process_is_waited_for(tmp_path: Path) -> None:
    one, other = Database(tmp_path / "a.sqlite").open(), Database(tmp_path / "a.sqlite").open()
    begun, finish = threading.Event(), threading.Event()

    def slow(connection: Any) -> None:
        add(1)(connection)
        begun.set()
        assert finish.wait(10)

    thread = threading.Thread(target=one.run, args=("slow", slow))
    thread.start()
    assert begun.wait(10)
    assert numbers(other) == []  # readers do not wait
    threading.Timer(0.1, finish.set).start()
    other.run("after it", lambda c: add(2 if len(c.execute(select(nonces)).all()) == 1 else 3)(c))
    thread.join()
    assert numbers(one) == [1, 2]
    one.close()
    other.close()


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:hunter2@host/name",
        "sqlite://",
        "sqlite:///:memory:",
        "://x",
        "postgresql://u:hunter2@host:port/x",
    ],
)
def test_what_is_no_database_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(PlanError) as caught:
        Database(url)
    assert "hunter2" not in str(caught.value)


def test_a_server_that_is_not_there_is_an_error_without_the_password(tmp_path: Path) -> None:
    database = Database(f"postgresql://someone:hunter2@/name?host={tmp_path}", attempts=2)
    with pytest.raises(StorageError) as caught:
        database.open()
    assert "hunter2" not in str(caught.value) + repr(database) + shown(database.url)


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FairyringError, match="folder that exists"):
        Database(tmp_path / "none" / "a.sqlite")


def test_a_file_that_is_no_database_is_an_error_and_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    path.write_bytes(b"something else" * 1000)
    with pytest.raises(StorageError, match="not a database"):
        Database(path).open()
    assert path.read_bytes() == b"something else" * 1000


def test_a_disk_that_is_full_is_an_error_and_the_rest_is_whole(tmp_path: Path) -> None:
    with Storage(tmp_path / "a.sqlite") as kept:
        kept.audit.note("me", "look", {})

        def fill(connection: Any) -> None:
            connection.execute(text("PRAGMA max_page_count=1"))
            for number in range(2000):
                connection.execute(
                    insert(nonces),
                    {"key": bytes(1000), "nonce": bytes([number % 256]) * (1 + number), "until": 0.0},
                )

        with pytest.raises(StorageError, match="full"):
            kept.database.run("fill", fill)
        assert numbers(kept.database) == []
        assert kept.audit.verify().number == 0


@pytest.mark.parametrize("package", ["psycopg", "argon2", "alembic"])
def test_a_package_that_is_missing_is_named_with_its_extra(
    package: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    uses: dict[str, Callable[[], object]] = {
        "psycopg": lambda: Database("postgresql://someone@nowhere/x"),
        "argon2": lambda: Storage(tmp_path / "a.sqlite"),
        "alembic": lambda: Database(tmp_path / "b.sqlite").open(),
    }
    with pytest.raises(MissingExtra, match=r"fairyring\[service\]"):
        uses[package]()


def test_without_sqlalchemy_the_extra_is_named() -> None:
    code = "import sys; sys.modules['sqlalchemy'] = None; import fairyring.service.storage"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "MissingExtra" in done.stderr
    assert "fairyring[service]" in done.stderr
