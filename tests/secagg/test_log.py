"""The log in a file: it outlasts being killed, is its owner's alone, and is refused where it is not what it should be."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairyring.core.errors import RunDamaged, RunError, RunMismatch, StorageError
from fairyring.secagg import Device, FileLog, Log, MemoryLog, Record, Server, Session
from tests.secagg.driving import Play, identity, small_terms, vectors_of

ROOT = Path(__file__).parents[2]


def session_process(folder: Path, appends: int) -> subprocess.CompletedProcess[str]:
    """One process of a session in files, which kills itself after so many appends."""
    command = [sys.executable, "-m", "tests.secagg.killed_session", str(folder), str(appends)]
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}
    )


def test_a_session_whose_process_is_killed_again_and_again_ends_in_the_same_sum(tmp_path: Path) -> None:
    (tmp_path / "calm").mkdir()
    (tmp_path / "killed").mkdir()
    calm = session_process(tmp_path / "calm", 10_000)
    assert calm.returncode == 0, calm.stderr
    kills = 0
    while (done := session_process(tmp_path / "killed", 9)).returncode == -signal.SIGKILL:
        kills += 1
        assert kills < 20
    assert done.returncode == 0, done.stderr
    assert kills >= 4
    assert done.stdout == calm.stdout != ""


@pytest.fixture
def log(tmp_path: Path) -> Iterator[FileLog]:
    built = FileLog(tmp_path / "a.log")
    yield built
    built.close()


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_log_gives_back_what_was_appended(kind: str, tmp_path: Path) -> None:
    built: Log = MemoryLog() if kind == "memory" else FileLog(tmp_path / "b.log", durable=False)
    records = [Record("start", b""), Record("aborted", bytes(range(256))), Record("start", b"\0" * 9)]
    assert [built.append(*record) for record in records] == [0, 1, 2]
    assert (list(built), len(built), built.read(1)) == (records, 3, records[1])
    with pytest.raises(IndexError):
        built.read(3)
    if isinstance(built, FileLog):
        built.close()
        again = FileLog(tmp_path / "b.log")
        assert list(again) == records
        assert again.append("more", b"x") == 3
        again.close()


def test_only_its_owner_may_read_the_file(log: FileLog) -> None:
    log.append("start", bytes(64))
    for path in log.path.parent.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_erasing_leaves_no_file(log: FileLog) -> None:
    log.append("start", bytes(64))
    log.erase()
    assert list(log.path.parent.iterdir()) == []


def test_a_log_of_another_session_is_refused() -> None:
    play = Play(small_terms(3), vectors_of(3, small_terms(3)))
    play.advertise()
    for other in (
        Session(play.session.terms, 2, bytes(32)),
        Session(play.session.terms, 1, b"\1" * 32),
        Session(small_terms(4), 1, bytes(32)),
    ):
        with pytest.raises(RunMismatch):
            Device(other, identity(0), play.logs[0])
        with pytest.raises(RunMismatch):
            Server(other, play.logs["server"])


@pytest.mark.parametrize(
    "content", [b"not a database at all, whatever it is" * 40, b"SQLite format 3\0" + b"\7" * 4080]
)
def test_a_file_that_is_no_log_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "c.log"
    path.write_bytes(content)
    with pytest.raises(RunDamaged):
        FileLog(path)


def test_a_database_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.log"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE records (other TEXT)")
    database.execute("INSERT INTO records VALUES ('x')")
    database.commit()
    database.close()
    with pytest.raises(RunError):  # noqa: PT012
        built = FileLog(path)
        try:
            list(built)
        finally:
            built.close()


def test_a_file_damaged_in_its_middle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "e.log"
    built = FileLog(path)
    for _ in range(40):
        built.append("masked_input", bytes(1000))
    built.close()
    data = bytearray(path.read_bytes())
    data[4096 : len(data)] = b"\x5a" * (len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(RunDamaged):  # noqa: PT012
        built = FileLog(path)
        try:
            list(built)
        finally:
            built.close()


def test_a_log_with_a_record_missing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.log"
    built = FileLog(path)
    for _ in range(4):
        built.append("advertise", b"x")
    built._database.execute("DELETE FROM records WHERE number = 1")
    built.close()
    with pytest.raises(RunDamaged):  # noqa: PT012
        built = FileLog(path)
        try:
            list(built)
        finally:
            built.close()


def test_a_place_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        FileLog(tmp_path / "no folder" / "a.log")
    with pytest.raises(StorageError):
        FileLog(tmp_path)


def test_appending_to_a_closed_log_says_so(log: FileLog) -> None:
    log.close()
    with pytest.raises(StorageError):
        log.append("start", b"")


def finished() -> Play:
    terms = small_terms(3)
    return Play(terms, vectors_of(3, terms)).run()


@pytest.mark.parametrize("party", ["server", 0])
def test_a_log_with_a_record_changed_dropped_or_repeated_makes_no_other_sum(party: str | int) -> None:
    play = finished()
    records = list(play.logs[party])
    for at, record in enumerate(records):
        for changed in (
            [*records[:at], *records[at + 1 :]],
            [*records[: at + 1], *records[at:]],
            [*records[:at], Record(record.kind, record.data[:-1]), *records[at + 1 :]],
            [*records[:at], Record(record.kind, b""), *records[at + 1 :]],
            [*records[:at], Record("other", record.data), *records[at + 1 :]],
        ):
            try:
                if party == "server":
                    server = Server(play.session, MemoryLog(changed))
                    if server.result is not None:
                        assert play.server.result is not None
                        assert server.result.sum.tolist() == play.plain()
                else:
                    Device(play.session, identity(0), MemoryLog(changed))
            except RunError:
                continue


def test_a_damaged_log_that_tells_another_end_is_refused() -> None:
    play = finished()
    records = list(play.logs["server"])
    kind, data = records[-1]
    assert kind == "close"
    with pytest.raises(RunDamaged, match="another set"):
        Server(play.session, MemoryLog([*records[:-1], Record(kind, data[:-1] + bytes([data[-1] ^ 1]))]))


def test_a_file_that_another_process_holds_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "g.log"
    FileLog(path).close()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("PRAGMA locking_mode=EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **named: real(*given, timeout=0.05, **named))
    try:
        with pytest.raises(StorageError, match="locked"):
            FileLog(path)
    finally:
        holder.close()


def test_a_bit_that_changed_within_a_masked_vector_is_found_when_the_server_starts_again() -> None:
    terms = small_terms(4, length=50)
    play = Play(terms, vectors_of(4, terms))
    play.advertise()
    play.deliver("roster")
    play.deliver("mailbox")
    play.contribute()
    records = list(play.logs["server"])
    at = next(i for i, record in enumerate(records) if record.kind == "masked_input")
    data = bytearray(records[at].data)
    data[len(data) // 2] ^= 1
    Server(play.session, MemoryLog(records))
    records[at] = Record("masked_input", bytes(data))
    with pytest.raises(RunDamaged, match="did not sign"):
        Server(play.session, MemoryLog(records))
