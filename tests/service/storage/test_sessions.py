"""Sessions: every report ends once, a log is as good as the protocol's own, and what is forgotten is nowhere."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from fairyring.core.errors import (
    LeaseLost,
    MessageRefused,
    PlanError,
    RunDamaged,
    RunError,
    RunMismatch,
    StorageError,
)
from fairyring.secagg import MemoryLog, Record, Server
from fairyring.service.storage import Lease, Report, SessionLog, Storage, StoredSession
from fairyring.service.storage.schema import records
from tests.secagg.driving import Play, small_terms, vectors_of
from tests.service.storage.conftest import Clock

SESSION, OTHER = bytes(31) + b"s", bytes(31) + b"t"
A, B, C = (bytes([number]) * 32 for number in (1, 2, 3))


@pytest.fixture
def run(kept: Storage) -> str:
    return kept.runs.submit("digits", bytes(32), bytes(32), {})


@pytest.fixture
def lease(kept: Storage) -> Lease:
    made = kept.leases.acquire("run", "me", 1000)
    assert made is not None
    return made


@pytest.fixture
def log(kept: Storage, run: str, lease: Lease) -> SessionLog:
    kept.sessions.open(run, 0, SESSION, {"masked": True}, lease=lease)
    return kept.log(SESSION, lease)


def outcomes(kept: Storage, session: bytes = SESSION) -> dict[bytes, str | None]:
    return {one.device: one.outcome for one in kept.sessions.reports(session)}


def test_a_session_is_opened_once(kept: Storage, run: str, clock: Clock) -> None:
    kept.sessions.open(run, 3, SESSION, {"cohort": 5})
    opened = clock.time
    clock.time += 1
    kept.sessions.open(run, 3, SESSION, {"cohort": 5})
    assert kept.sessions.get(SESSION) == StoredSession(
        SESSION, run, 3, opened, {"cohort": 5}, {}, None, None, "", None, False
    )
    for other in ((run, 4, SESSION, {"cohort": 5}), (run, 3, SESSION, {})):
        with pytest.raises(RunMismatch):
            kept.sessions.open(*other)
    with pytest.raises(RunError, match="there is not"):
        kept.sessions.open("none", 0, OTHER, {})
    kept.sessions.open(run, 1, OTHER, {})
    assert [one.id for one in kept.sessions.of_run(run)] == [OTHER, SESSION]
    kept.sessions.end(OTHER, "aborted", reason="too few")
    assert [one.id for one in kept.sessions.unfinished(run)] == [SESSION]
    assert kept.sessions.get(b"none") is None


def test_every_report_is_in_the_sum_or_in_an_abort(
    kept: Storage, log: SessionLog, lease: Lease, clock: Clock
) -> None:
    with log.batch():
        log.append("masked", b"of A")
        log.report(A, b"digest A")
        log.report(B, b"digest B")
    log.report(C, b"digest C")
    log.report(C, b"digest C")
    assert outcomes(kept) == {A: None, B: None, C: None}
    assert kept.sessions.reports(SESSION)[0] == Report(A, b"digest A", clock.time, None)
    with pytest.raises(RunError, match="without an accepted report"):
        kept.sessions.end(SESSION, "summed", summed=[A, bytes(32)], result=b"sum", lease=lease)
    assert outcomes(kept) == {A: None, B: None, C: None}
    kept.sessions.end(SESSION, "summed", summed=[C, A], result=b"sum", lease=lease)
    assert outcomes(kept) == {A: "summed", B: "aborted", C: "summed"}
    assert kept.sessions.result(SESSION) == b"sum"
    stored = kept.sessions.get(SESSION)
    assert stored is not None
    assert (stored.outcome, stored.count, stored.ended) == ("summed", 2, clock.time)
    kept.sessions.end(SESSION, "summed", summed=[A, C], result=b"sum", lease=lease)  # it got no answer
    for other in (
        lambda: kept.sessions.end(SESSION, "summed", summed=[A, B], result=b"sum", lease=lease),
        lambda: kept.sessions.end(SESSION, "summed", summed=[A, C], result=b"other", lease=lease),
        lambda: kept.sessions.end(SESSION, "aborted", lease=lease),
    ):
        with pytest.raises(RunError, match="another end"):
            other()
    assert outcomes(kept) == {A: "summed", B: "aborted", C: "summed"}


def test_an_abort_is_of_every_report(kept: Storage, log: SessionLog, lease: Lease) -> None:
    log.report(A, b"digest")
    with pytest.raises(PlanError):
        kept.sessions.end(SESSION, "aborted", summed=[A], lease=lease)
    kept.sessions.end(SESSION, "aborted", reason="too few devices", lease=lease)
    assert outcomes(kept) == {A: "aborted"}
    with pytest.raises(RunError, match="aborted"):
        log.append("masked", b"late")
    with pytest.raises(RunError, match="aborted"):
        kept.log(SESSION, lease)
    with pytest.raises(RunError, match="no such session"):
        kept.sessions.end(OTHER, "aborted")


def test_a_device_reports_one_thing(kept: Storage, log: SessionLog, lease: Lease) -> None:
    log.report(A, b"first")
    with log.batch():
        log.report(B, b"first")
        for device in (A, B):
            with pytest.raises(MessageRefused):
                log.report(device, b"second")
    assert {one.device: one.digest for one in kept.sessions.reports(SESSION)} == {A: b"first", B: b"first"}
    with pytest.raises(MessageRefused):
        kept.log(SESSION, lease).report(A, b"second")


def test_a_log_gives_back_what_was_appended(kept: Storage, log: SessionLog, lease: Lease) -> None:
    written = [Record("begin", b""), Record("masked", bytes(range(256))), Record("close", b"\0" * 9)]
    assert log.append(*written[0]) == 0
    with log.batch():
        assert [log.append(*record) for record in written[1:]] == [1, 2]
        assert (list(log), len(log), log.read(2)) == (written, 3, written[2])
        assert len(kept.log(SESSION)) == 1  # nothing is stored before the end
    for one in (log, kept.log(SESSION, lease)):
        assert (list(one), len(one), one.read(1)) == (written, 3, written[1])
        with pytest.raises(IndexError):
            one.read(3)


def test_what_was_appended_before_an_error_is_stored(kept: Storage, log: SessionLog) -> None:

    def refused() -> None:
        with log.batch():
            log.append("masked", b"its reader has seen it")
            raise KeyError("a refusal")

    with pytest.raises(KeyError):
        refused()
    assert [record.data for record in kept.log(SESSION)] == [b"its reader has seen it"]
    assert log.append("masked", b"next") == 1


def test_a_log_that_could_not_store_is_ahead_and_refuses_everything(
    opened: Callable[[], Storage], log: SessionLog, clock: Clock
) -> None:
    other = opened()
    log.append("begin", b"")

    def paused() -> None:
        with log.batch():
            log.append("masked", b"of A")
            log.report(A, b"digest")
            clock.time += 2000
            taken.append(other.leases.acquire("run", "other", 10))

    taken: list[Lease | None] = []
    with pytest.raises(LeaseLost):
        paused()
    uses: list[Callable[[], Any]] = [
        lambda: log.append("more", b""), lambda: log.read(0), lambda: list(log),
        lambda: log.report(B, b"digest"), log.batch().__enter__,
    ]  # fmt: skip
    for use in uses:
        with pytest.raises(StorageError, match="append has failed"):
            use()
    again = other.log(SESSION, taken[0])
    assert list(again) == [Record("begin", b"")]
    assert outcomes(other) == {}
    assert again.append("masked", b"of B") == 1


def test_two_writers_of_one_log_do_not_mix(kept: Storage, log: SessionLog, lease: Lease) -> None:
    twin = kept.log(SESSION, lease)
    log.append("begin", b"mine")
    with pytest.raises(StorageError):
        twin.append("begin", b"its")
    assert list(kept.log(SESSION)) == [Record("begin", b"mine")]


def test_a_log_with_a_gap_is_refused(kept: Storage, log: SessionLog) -> None:
    with log.batch():
        for number in range(3):
            log.append("masked", bytes([number]))
    kept.database.run("lose one", lambda c: c.execute(records.delete().where(records.c.number == 1)) and None)
    with pytest.raises(RunDamaged, match="2 of 3"):
        kept.log(SESSION)


def test_records_are_forgotten_and_the_outcome_is_not(kept: Storage, log: SessionLog, lease: Lease) -> None:
    with log.batch():
        for number in range(200):
            log.append("masked", bytes([number]))
        log.report(A, b"digest")
    with pytest.raises(RunError, match="goes on"):
        kept.sessions.forget(SESSION)
    assert len(kept.log(SESSION)) == 200
    kept.sessions.end(SESSION, "summed", summed=[A], result=b"sum", lease=lease)
    kept.sessions.forget(SESSION)
    kept.sessions.forget(SESSION)
    stored = kept.sessions.get(SESSION)
    assert stored is not None
    assert (stored.forgotten, stored.outcome, kept.sessions.result(SESSION)) == (True, "summed", None)
    assert outcomes(kept) == {A: "summed"}
    assert kept.database.read("left", lambda c: c.execute(records.select()).all()) == []


def test_a_file_of_sqlite_has_no_bytes_of_what_was_forgotten(tmp_path: Path) -> None:
    vectors = [os.urandom(16) * 6250 for _ in range(20)]
    with Storage(tmp_path / "a.sqlite") as kept:
        kept.sessions.open(kept.runs.submit("r", bytes(32), bytes(32), {}), 0, SESSION, {})
        log = kept.log(SESSION)
        with log.batch():
            for vector in vectors:
                log.append("masked", vector)

        def found() -> int:
            written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
            return sum(vector[:16] in written for vector in vectors)

        assert found() == 20
        kept.sessions.end(SESSION, "aborted")
        kept.sessions.forget(SESSION)
        assert found() == 0


def test_a_server_of_the_protocol_goes_on_from_the_log_in_the_same_way(
    kept: Storage, log: SessionLog, lease: Lease
) -> None:
    """Its log is that of a whole session in memory, appended in batches; the process ends at a commit, before or after its effect."""
    play = Play(small_terms(4), vectors_of(4, small_terms(4))).run()
    whole = play.logs["server"]
    assert [record.kind for record in whole].count("close") >= 4
    kept.database._attempts = 1
    commit, left, died = kept.database._commit, 0, 0

    def commit_or_die(transaction: Any) -> None:
        nonlocal left
        left -= 1
        if left != 0 or died % 2:
            commit(transaction)
        if left == 0:
            raise OperationalError("COMMIT", None, Exception("the machine is gone"))

    kept.database._commit = commit_or_die  # type: ignore[method-assign]
    while True:
        one, left = kept.log(SESSION, lease), 1 + died % 3
        try:
            for start in range(len(one), len(whole), 2):
                with one.batch():
                    for number in range(start, min(start + 2, len(whole))):
                        assert one.append(*whole.read(number)) == number
            break
        except StorageError:
            died += 1
    assert died >= 4
    stored = kept.log(SESSION, lease)
    assert list(stored) == list(whole)
    resumed, calm = Server(play.session, stored), Server(play.session, MemoryLog(list(whole)))
    assert resumed.phase == calm.phase
    assert resumed.result is not None
    assert calm.result is not None
    assert resumed.result.sum.tolist() == calm.result.sum.tolist() == play.plain()
