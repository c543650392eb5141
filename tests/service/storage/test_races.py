"""Threads and processes that want the same thing at the same moment, and one that is killed."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fairyring.core.errors import EnrolmentRefused, LeaseLost
from fairyring.service.storage import Storage
from fairyring.service.storage.schema import reports
from tests.service.storage.conftest import Clock

ROOT = Path(__file__).parents[3]


def together(*works: Callable[[], Any]) -> list[Any]:
    """What each returned, or the error that it raised; all at once, each in a thread."""
    start, results = threading.Barrier(len(works)), [None] * len(works)

    def run(place: int, work: Callable[[], Any]) -> None:
        start.wait(10)
        try:
            results[place] = work()
        except Exception as error:
            results[place] = error  # type: ignore[call-overload]

    threads = [threading.Thread(target=run, args=(place, work)) for place, work in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def test_racing_enrolments_never_exceed_the_quota(opened: Callable[[], Storage], clock: Clock) -> None:
    stores = [opened(), opened()]
    token = stores[0].tokens.create(5, clock.time + 10)
    # Four threads, each with three devices; one device is enrolled by two of them.
    keys = [[bytes([1 + thread]) * 32, bytes([11 + thread]) * 32, b"\xff" * 32 if thread < 2 else bytes([21 + thread]) * 32] for thread in range(4)]  # fmt: skip

    refused: list[bytes] = []

    def enrol(store: Storage, mine: list[bytes]) -> int:
        done = 0
        for key in mine:
            try:
                store.devices.enrol(token, key)
                done += 1
            except EnrolmentRefused:
                refused.append(key)
        return done

    results = together(*(lambda t=t: enrol(stores[t % 2], keys[t]) for t in range(4)))
    devices = stores[0].devices.all()
    assert len(devices) == stores[0].tokens.list()[0].used == 5
    twice = sum(one.key == b"\xff" * 32 for one in devices)
    assert 5 <= sum(results) <= 5 + twice
    assert len(refused) == 12 - sum(results)


def test_of_racing_owners_one_has_the_lease_and_fences_are_never_given_twice(
    opened: Callable[[], Storage],
) -> None:
    stores = [opened(), opened()]
    held, order = [], threading.Lock()
    inside = []

    def work(owner: int) -> list[int]:
        leases, fences = stores[owner % 2].leases, []
        for _ in range(12):
            if lease := leases.acquire("work", f"owner {owner}", 100):
                with order:
                    inside.append(owner)
                    held.append(len(inside))
                fences.append(lease.fence)
                assert leases.renew(lease, 100)
                with order:
                    inside.remove(owner)
                leases.release(lease)
        return fences

    results = together(*(lambda o=o: work(o) for o in range(4)))
    assert [one for one in results if isinstance(one, Exception)] == []
    fences = [fence for one in results for fence in one]
    assert len(set(fences)) == len(fences) >= 12
    assert set(held) == {1}
    assert all(one == sorted(one) for one in results)


def test_a_racing_nonce_is_new_once(opened: Callable[[], Storage], clock: Clock) -> None:
    stores = [opened(), opened()]
    batch = [(b"k", bytes([number]), clock.time + 10) for number in range(20)]
    results = together(
        *(lambda t=t: stores[t % 2].nonces.remember(batch[::-1] if t < 2 else batch) for t in range(4))
    )
    straight = [one[::-1] if t < 2 else one for t, one in enumerate(results)]
    assert [sum(column) for column in zip(*straight, strict=True)] == [1] * 20


def test_racing_notes_are_one_chain(opened: Callable[[], Storage]) -> None:
    stores = [opened(), opened()]

    def note(thread: int) -> None:
        for number in range(6):
            stores[thread % 2].audit.note(str(thread), "look", {"n": number})

    assert together(*(lambda t=t: note(t) for t in range(4))) == [None] * 4
    assert stores[0].audit.verify().number == 23
    entries = [(one.who, one.details["n"]) for one in reversed(stores[0].audit.read())]
    assert [[n for who, n in entries if who == str(t)] for t in range(4)] == [list(range(6))] * 4


def test_racing_submissions_of_one_request_are_one_run(opened: Callable[[], Storage]) -> None:
    stores = [opened(), opened()]
    submit = lambda t: stores[t % 2].runs.submit("r", bytes(32), bytes(32), {}, request=b"once")  # noqa: E731
    [run] = set(together(*(lambda t=t: submit(t) for t in range(4))))
    assert [one.id for one in stores[0].runs.all()] == [run]
    assert stores[0].audit.head().number == 0


def test_reports_that_race_with_the_end_are_before_it_or_refused(
    opened: Callable[[], Storage], clock: Clock
) -> None:
    one, other = opened(), opened()
    run = one.runs.submit("r", bytes(32), bytes(32), {})
    for number in range(8):
        session, device = bytes([number]), bytes([number]) * 32
        one.sessions.open(run, number, session, {})
        log = one.log(session)
        reported, _ = together(
            lambda log=log, device=device: log.report(device, b"digest"),
            lambda session=session: other.sessions.end(session, "aborted"),
        )
        found = [report.outcome for report in one.sessions.reports(session)]
        assert found == (["aborted"] if reported is None else [])
    undecided = one.database.read(
        "undecided", lambda c: c.execute(reports.select().where(reports.c.outcome.is_(None))).all()
    )
    assert undecided == []


def test_whoever_takes_over_reads_all_that_the_other_could_write(
    opened: Callable[[], Storage], clock: Clock
) -> None:
    """The one appends as long as it can; the other takes its expired lease meanwhile, and sees everything there is."""
    one, other = opened(), opened()
    run = one.runs.submit("r", bytes(32), bytes(32), {})
    for number in range(4):
        session = bytes([number])
        lease = one.leases.acquire(f"work {number}", "one", 10)
        one.sessions.open(run, 0, session, {}, lease=lease)
        log = one.log(session, lease)

        def write(log: Any = log) -> int:
            while True:
                try:
                    log.append("masked", b"x")
                except LeaseLost:
                    return len(log) - 1

        def take(number: int = number, session: bytes = session) -> int:
            clock.time += 20
            assert other.leases.acquire(f"work {number}", "other", 10) is not None
            return len(other.log(session))

        written, seen = together(write, take)
        assert written == seen == len(one.log(session))
        clock.time += 20


KILLED = """
import sys, os
from fairyring.service.storage import Storage
kept = Storage(sys.argv[1]).open()
run = kept.runs.submit("r", bytes(32), bytes(32), {})
kept.sessions.open(run, 0, b"s", {})
log = kept.log(b"s")
for batch in range(10_000):
    with log.batch():
        for number in range(7):
            log.append("masked", bytes([batch % 256]) * 3000)
        log.report(batch.to_bytes(32, "big"), b"digest")
    print(len(log), flush=True)
"""


def test_a_process_that_is_killed_leaves_whole_batches_and_all_it_acknowledged(url: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, url], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for _ in range(30):
            acknowledged = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        acknowledged = max([acknowledged, *(int(line) for line in process.stdout.read().split("\n")[:-1])])
    assert acknowledged >= 210
    with Storage(url) as kept:
        log = kept.log(b"s")
        assert len(log) >= acknowledged
        assert len(log) % 7 == 0
        assert all(record.data == bytes([number // 7 % 256]) * 3000 for number, record in enumerate(log))
        assert len(kept.sessions.reports(b"s")) == len(log) // 7
        assert kept.audit.verify().number == 0
