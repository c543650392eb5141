"""A PostgreSQL server for tests: started in a folder of its own, reached by a socket in it, and gone afterwards."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# What survives a power cut is not asked of a test; a process that is killed loses nothing with these.
FAST = [
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "shared_buffers=32MB",
    "max_connections=60",
]


def binaries() -> Path | None:
    """The folder of the server's programs; None where there is no server."""
    asked = shutil.which("pg_config")
    if asked:
        told = subprocess.run([asked, "--bindir"], capture_output=True, text=True).stdout.strip()
        if (Path(told) / "initdb").exists():
            return Path(told)
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    places = [
        *Path("/usr/lib/postgresql").glob("*/bin"),
        *Path("/usr").glob("pgsql-*/bin"),
        Path("/usr/local/pgsql/bin"),
    ]
    there = [place for place in places if (place / "initdb").exists()]
    return max(there, key=lambda place: place.parent.name) if there else None


def _account() -> dict[str, Any]:
    """PostgreSQL refuses to run as the superuser: whom it runs as instead."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return {}
    import pwd

    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise RuntimeError("no user to run PostgreSQL as")


class Server:
    """A running server.

    Attributes:
        folder: where its socket is.
    """

    def __init__(self, folder: Path, programs: Path, account: dict[str, Any]) -> None:
        self.folder, self._programs, self._account, self._made = folder, programs, account, 0

    def url(self, name: str) -> str:
        """Of a database."""
        return f"postgresql://tests@/{name}?host={self.folder}"

    def sql(self, command: str, database: str = "postgres") -> None:
        import psycopg

        with psycopg.connect(
            host=str(self.folder), user="tests", dbname=database, autocommit=True
        ) as connection:
            connection.execute(command)  # type: ignore[arg-type]

    def create(self, template: str = "template0") -> str:
        """A new database. Returns its name."""
        self._made += 1
        name = f"tests{self._made}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return name

    def emptied(self, name: str) -> str:
        """The URL of a service's database whose tables are empty now. Deleting rows is quicker than making a database."""
        from fairyring.service.storage.schema import metadata

        self.sql("; ".join(f"DELETE FROM {table.name}" for table in reversed(metadata.sorted_tables)), name)
        return self.url(name)


@contextmanager
def running() -> Iterator[Server]:
    """Start a server, and stop it at the end."""
    programs, account = binaries(), _account()
    assert programs is not None
    folder = Path(
        tempfile.mkdtemp(prefix="pg-")
    )  # not pytest's own: only its owner may enter that, and a socket's path is short
    try:
        if account:
            os.chown(folder, account["user"], account["group"])
        data = folder / "data"
        initdb = [
            programs / "initdb",
            "-D",
            data,
            "-U",
            "tests",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-locale",
            "--no-sync",
        ]
        subprocess.run(initdb, check=True, capture_output=True, cwd=folder, **account)
        settings = [word for setting in FAST for word in ("-c", setting)]
        command = [programs / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses=", *settings]
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, **account)
        try:
            server = Server(folder, programs, account)
            _wait(server, process)
            yield server
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGQUIT)
                process.wait(10)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(server: Server, process: subprocess.Popen[bytes]) -> None:
    import psycopg

    until = time.monotonic() + 30
    while True:
        try:
            return server.sql("SELECT 1")
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > until:
                raise
            time.sleep(0.05)
