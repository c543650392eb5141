"""Processes that are killed, and databases that fail: every report is in exactly one sum or one logged abort, and sums are right."""

import os
import random
import secrets
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from fairyring.core.errors import StorageError
from fairyring.service import front
from fairyring.service.storage import Storage
from fairyring.service.storage.database import Database
from tests.service.scenes import QUICK, Scene

PARTS = 6
LEASE = 1.5  # seconds

PROCESS = f"""
import sys
from pathlib import Path
import fairyring.service.front as front
front.LEASE_SECONDS = {LEASE}
from fairyring.service.serving import Service
from tests.service.scenes import QUICK
data, database, port = sys.argv[1:]
with Service(Path(data), None, database=database, port=int(port), pace=QUICK):
    print("serving", flush=True)
    sys.stdin.read()
"""


class Process:
    """A process of a service, which may be killed and begun again on its port."""

    def __init__(self, data: Path, database: str) -> None:
        self.data, self.database = data, database
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.begin()

    def begin(self) -> None:
        command = [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            PROCESS,
            str(self.data),
            self.database,
            str(self.port),
        ]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        assert self.process.stdout.readline() == b"serving\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            pipe.close()


class Cluster(Scene):
    """A scene whose service is two processes on one database; each serves half of the devices."""

    def __init__(self, folder: Path, database: str, devices: int = 4, **given) -> None:
        super().__init__(folder, devices, database=database, **given)
        self.database = database

    def __enter__(self) -> "Cluster":
        (self.folder / "service").mkdir(mode=0o700)
        self.processes = [Process(self.folder / "service", self.database) for _ in range(2)]
        for process in self.processes:
            self.stack.callback(process.kill)
        return super().__enter__()

    def serving(self, **changes):
        """What the test reads and writes, without serving anybody."""
        from fairyring.service.blobs import Blobs

        class Looking(ExitStack):
            pass

        made = Looking()
        made.storage = made.enter_context(Storage(self.database))
        made.blobs = Blobs(self.folder / "service" / "blobs")
        made.url = ""
        return made

    def begin(self, number, agent=None, url=None):
        return super().begin(number, agent, url or self.processes[number % 2].url)


@pytest.mark.dealt(2, "url")
def test_a_session_goes_on_in_another_process(tmp_path, url):
    """Of two processes one is killed in whatever phase a session is; devices of both are in the sum, and it is begun again on its port."""
    with Cluster(tmp_path, url) as scene:
        stored = scene.round(1)
        assert (stored.outcome, stored.count) == ("summed", 4)
        session = scene.open(2, seconds=60.0, stage=30.0)
        holder = holder_of(scene, session)
        victim = next(one for one in scene.processes if one.url == holder)
        victim.kill()
        victim.begin()
        stored = scene.ended(session)
        assert (stored.outcome, stored.count) == ("summed", 4)
        scene.check(session, 2)


def holder_of(scene, session, seconds=10.0):
    until = time.monotonic() + seconds
    while (holder := scene.storage.leases.holder(f"session {session.hex()}")) is None:
        assert time.monotonic() < until
        time.sleep(0.005)
    return holder.address


@pytest.mark.campaign(PARTS)
@pytest.mark.dealt(2, "url")
def test_kills_at_random_moments(part, request, tmp_path, url):
    """Processes and devices end at any moment, again and again. No report is in two sums, and none is lost without a word."""
    dice = random.Random(part)
    seconds = 60.0 if request.config.getoption("soak") else 4.0
    with Cluster(tmp_path, url, devices=5, masked=bool(part % 2)) as scene:
        until, number, outcomes = time.monotonic() + seconds, 0, []
        stop = threading.Event()

        def kill() -> None:
            while not stop.wait(dice.uniform(0.3, 2.5)):
                victim = dice.choice(scene.processes)
                victim.kill()
                stop.wait(dice.uniform(0.0, 1.0))
                victim.begin()

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            while time.monotonic() < until:
                number += 1
                session = scene.open(number, seconds=60.0, stage=30.0)
                outcomes.append(scene.ended(session, 120.0))
                scene.check(session, number)
        finally:
            stop.set()
            killer.join()
        assert outcomes
        assert all(stored.outcome == "summed" and stored.count == 5 for stored in outcomes)
        summed = sum(stored.count for stored in outcomes)
        assert summed == sum(
            1
            for one in scene.storage.sessions.of_run(scene.run)
            for report in scene.storage.sessions.reports(one.id)
            if report.outcome == "summed"
        )


@pytest.mark.campaign(PARTS)
def test_a_database_that_fails_at_any_write(part, tmp_path, monkeypatch):
    """Before a transaction, or after it took effect: what it was is then not known to who asked."""
    dice, honest = random.Random(part), Database.run
    failing = threading.Event()

    def run(self, name, change, *, lease=None):
        if failing.is_set() and threading.current_thread() is not threading.main_thread():
            luck = dice.random()
            if luck < 0.06:
                raise StorageError("database", given="a fault", expected="none", do="Try again.")
            value = honest(self, name, change, lease=lease)
            if luck > 0.94:
                raise StorageError("database", given="a fault", expected="none", do="Try again.")
            return value
        return honest(self, name, change, lease=lease)

    monkeypatch.setattr(Database, "run", run)
    with Scene(tmp_path, devices=4, masked=bool(part % 2)) as scene:
        failing.set()
        for number in range(1, 3):
            session = scene.open(number, seconds=60.0, stage=30.0)
            stored = scene.ended(session)
            failing.clear()
            scene.check(session, number)
            assert (stored.outcome, stored.count) == ("summed", 4)
            failing.set()
        failing.clear()


def test_a_database_that_is_away_for_long(tmp_path, monkeypatch):
    """Devices wait for it, and the session goes on."""
    honest, away = Database.run, threading.Event()

    def run(self, name, change, *, lease=None):
        if away.is_set() and threading.current_thread() is not threading.main_thread():
            raise StorageError("database", given="none", expected="one", do="Try again.")
        return honest(self, name, change, lease=lease)

    monkeypatch.setattr(Database, "run", run)
    monkeypatch.setattr(front, "LEASE_SECONDS", 1.0)
    with Scene(tmp_path, devices=3) as scene:
        session = scene.open(1, seconds=60.0, stage=30.0)
        while session not in scene.service.front.sessions:
            time.sleep(0.005)
        away.set()
        time.sleep(3.0)
        away.clear()
        stored = scene.ended(session)
        scene.check(session, 1)
        assert (stored.outcome, stored.count) == ("summed", 3)


@pytest.mark.parametrize("masked", [True, False])
def test_a_sum_that_was_made_and_not_stored_is_made_again(masked, tmp_path, monkeypatch):
    """A process that ends between the last record and the end of a session leaves it to the next."""
    from fairyring.service.storage import Sessions

    honest, tried = Sessions.end, []

    def end(self, *given, **named):
        tried.append(given[1])
        if len(tried) < 3:
            raise StorageError("database", given="a fault", expected="none", do="Try again.")
        return honest(self, *given, **named)

    monkeypatch.setattr(Sessions, "end", end)
    with Scene(tmp_path, devices=3, masked=masked) as scene:
        assert scene.round(1).outcome == "summed"
        assert tried == ["summed"] * 3


def test_devices_learn_that_a_run_gave_up(tmp_path):
    """Whoever conducts the run ends its session; devices that wait for an answer have it soon, not at the deadline."""
    with Scene(tmp_path, devices=4) as scene:
        scene.end(scene.agents[3])
        session = scene.open(1, seconds=600.0)
        until = time.monotonic() + 10
        while (
            session not in scene.service.front.sessions
            or scene.service.front.sessions[session].hosted.sum.counts[0] < 3
        ):
            assert time.monotonic() < until
            time.sleep(0.01)
        began = time.monotonic()
        scene.storage.sessions.end(session, "aborted", reason="cancelled: by an operator")
        while any(agent.parts[1].unfinished() for agent in scene.agents):
            assert time.monotonic() < began + 5
            time.sleep(0.01)
        scene.begin(3)
        assert scene.round(2).count == 4


def test_a_device_that_is_interrupted_goes_on(tmp_path, monkeypatch):
    """Between its ledger and its log, and after its report was sent: one report, the same bytes, one contribution."""
    from fairyring.device.ledger import DeviceLedger

    for masked in (True, False):
        with Scene(tmp_path / str(masked), devices=3, masked=masked) as scene:
            honest, hit = DeviceLedger.contributed, threading.Event()

            def contributed(self, *given, honest=honest, hit=hit, path=scene.folders[0].ledger, **named):
                honest(self, *given, **named)
                if self._database.path == path and not hit.is_set():
                    hit.set()
                    raise SystemExit  # as if it were killed

            monkeypatch.setattr(DeviceLedger, "contributed", contributed)
            ended = DeviceLedger.ended
            monkeypatch.setattr(
                DeviceLedger, "ended",
                lambda self, number, state, *rest, hit=hit, path=scene.folders[0].ledger, ended=ended: None
                if self._database.path == path and hit.is_set() and state == "left"
                else ended(self, number, state, *rest),
            )  # fmt: skip
            monkeypatch.setattr("fairyring.device.agent.Agent._forget_session", lambda *_: None)
            session = scene.open(1, seconds=60.0, stage=30.0)
            assert hit.wait(20)
            agent = scene.agents[0]
            agent.parts[2].join(10)
            monkeypatch.undo()
            scene.end(agent)
            scene.begin(0)
            stored = scene.ended(session)
            scene.check(session, 1)
            assert (stored.outcome, stored.count) == ("summed", 3)
            with Storage(scene.service.database) as kept:
                assert len(kept.sessions.reports(session)) == 3


def test_a_poisoned_session_stops_no_other(tmp_path):
    """What another version wrote, or a disk changed, is one session's trouble."""
    with Scene(tmp_path, devices=3) as scene:
        scene.storage.sessions.open(scene.run, 1, secrets.token_bytes(16), {"of": "another version"})
        scene.open(1, manifest="00" * 32)
        assert scene.round(2).count == 3
        assert QUICK.soonest < 1
