"""Two processes on one database, against a model in plain Python: clocks that jump, commits that are cut off, leases that are lost."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy.exc import OperationalError

from fairyring.core.errors import EnrolmentRefused, LeaseLost, RunError, StorageError
from fairyring.service.storage import Lease, SessionLog, Storage
from tests.service.storage.conftest import CHEAP, Clock

ATTEMPTS = 4
KEYS = [bytes([number]) * 32 for number in range(1, 7)]
WORKS = ("run", "round")
PROCESSES = st.integers(0, 1)
DEVICES = st.sampled_from(KEYS)


@dataclass
class Token:
    quota: int
    expires: float
    digest: bytes
    enrolled: set[bytes] = field(default_factory=set)


@dataclass
class Session:
    run: str
    log: dict[int, SessionLog] = field(default_factory=dict)  # process -> its log
    records: list[bytes] = field(default_factory=list)
    reports: dict[bytes, str | None] = field(default_factory=dict)
    outcome: str | None = None
    forgotten: bool = False


class Machine(RuleBasedStateMachine):
    """The model is what the docstrings promise. `url` is set by the test."""

    url: Callable[[], str]

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        url = type(self).url()
        self.stores = [Storage(url, now=self.clock, hasher=CHEAP).open() for _ in range(2)]
        self.cuts: list[str] = []
        for store in self.stores:
            store.database._attempts = ATTEMPTS
            store.database._commit = self._commit_of(store.database._commit)  # type: ignore[method-assign]
        self.fences = dict.fromkeys(WORKS, 0)
        self.holder: dict[str, tuple[Lease, float] | None] = dict.fromkeys(WORKS)
        self.leases: list[Lease] = []
        self.tokens: dict[str, Token] = {}
        self.devices: dict[bytes, bool] = {}  # key -> whether it was revoked
        self.runs: dict[bytes, str] = {}  # request -> run
        self.progress: dict[str, int] = {}
        self.wanted: dict[str, str] = {}
        self.notes = 0
        self.sessions: dict[bytes, Session] = {}
        self.nonces: dict[bytes, float] = {}
        self.steps = 0

    def _commit_of(self, commit: Callable[[Any], None]) -> Callable[[Any], None]:
        def cut(transaction: Any) -> None:
            when = self.cuts.pop(0) if self.cuts else ""
            if when != "before":
                commit(transaction)
            if when:
                raise OperationalError("COMMIT", None, Exception("cut off"))

        return cut

    def teardown(self) -> None:
        for store in self.stores:
            store.close()

    # -- the world ---------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.5, 3.0, 9.0, 20.0, 4000.0, -2.0, -50.0]))
    def the_clock_jumps(self, seconds: float) -> None:
        self.clock.time += seconds

    @rule(cuts=st.lists(st.sampled_from(["before", "after", ""]), min_size=1, max_size=ATTEMPTS - 1))
    def commits_will_be_cut_off(self, cuts: list[str]) -> None:
        self.cuts = cuts

    @rule(process=PROCESSES)
    def the_database_fails_for_long(self, process: int) -> None:
        """Then nothing at all has happened."""
        self.cuts = ["before"] * ATTEMPTS
        with pytest.raises(StorageError):
            self.stores[process].audit.note("nobody", "fails", {})
        assert self.cuts == []

    @rule(process=PROCESSES, cuts=st.lists(st.sampled_from(["before", "after"]), max_size=ATTEMPTS - 1))
    def note(self, process: int, cuts: list[str]) -> None:
        """What would do something else if it were done twice."""
        self.cuts = cuts
        assert self.stores[process].audit.note("ann", "look", {}).number == self.notes
        self.notes += 1

    # -- leases ------------------------------------------------------------------------------------------------

    def _valid(self, lease: Lease) -> bool:
        held = self.holder[lease.name]
        return held is not None and held[0] == lease and self.clock.time < held[1]

    def _a_lease(self, data: Any) -> Lease:
        """Mostly one that is valid: otherwise nothing would ever be written."""
        valid = [held[0] for held in self.holder.values() if held is not None and self._valid(held[0])]
        return data.draw(st.sampled_from([*valid, *valid, *valid, *self.leases]))

    @rule(process=PROCESSES, work=st.sampled_from(WORKS), seconds=st.sampled_from([1.0, 10.0, 100.0]))
    def acquire(self, process: int, work: str, seconds: float) -> None:
        held = self.holder[work]
        got = self.stores[process].leases.acquire(work, f"process {process}", seconds)
        if held is not None and held[0].owner != f"process {process}" and self._valid(held[0]):
            assert got is None
            return
        assert got is not None
        assert got.fence > self.fences[work]
        self.fences[work] = got.fence
        self.holder[work] = got, self.clock.time + seconds
        self.leases.append(got)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), process=PROCESSES, seconds=st.sampled_from([1.0, 100.0]))
    def renew(self, data: Any, process: int, seconds: float) -> None:
        lease = self._a_lease(data)
        assert self.stores[process].leases.renew(lease, seconds) == self._valid(lease)
        if self._valid(lease):
            self.holder[lease.name] = lease, self.clock.time + seconds

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), process=PROCESSES)
    def release(self, data: Any, process: int) -> None:
        lease = self._a_lease(data)
        self.stores[process].leases.release(lease)
        held = self.holder[lease.name]
        if held is not None and held[0] == lease:
            self.holder[lease.name] = None

    # -- enrolment ---------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.tokens) < 3)
    @rule(process=PROCESSES, quota=st.integers(1, 2), seconds=st.sampled_from([5.0, 1e6]))
    def create_token(self, process: int, quota: int, seconds: float) -> None:
        store, known = self.stores[process], {token.digest for token in self.tokens.values()}
        text = store.tokens.create(quota, self.clock.time + seconds)
        [digest] = {one.digest for one in store.tokens.list()} - known
        self.tokens[text] = Token(quota, self.clock.time + seconds, digest)

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), process=PROCESSES, key=DEVICES)
    def enrol(self, data: Any, process: int, key: bytes) -> None:
        text = data.draw(st.sampled_from(sorted(self.tokens)))
        token, devices = self.tokens[text], self.stores[process].devices
        if key in self.devices:
            may = not self.devices[key]
        else:
            may = self.clock.time < token.expires and len(token.enrolled) < token.quota
        if not may:
            with pytest.raises(EnrolmentRefused):
                devices.enrol(text, key)
            return
        assert devices.enrol(text, key).key == key
        if key not in self.devices:
            self.devices[key] = False
            token.enrolled.add(key)

    @rule(process=PROCESSES, key=DEVICES)
    def revoke(self, process: int, key: bytes) -> None:
        assert self.stores[process].devices.revoke(key, "why") == (self.devices.get(key) is False)
        if key in self.devices:
            self.devices[key] = True

    # -- runs --------------------------------------------------------------------------------------------------

    @initialize()
    def a_run_that_has_begun(self) -> None:
        self.submit(0, b"one")
        self.acquire(0, "run", 1000.0)
        self.stores[0].sessions.open(self.runs[b"one"], 0, b"s", {})
        self.sessions[b"s"] = Session(self.runs[b"one"])

    @rule(process=PROCESSES, request=st.sampled_from([b"one", b"two"]))
    def submit(self, process: int, request: bytes) -> None:
        run = self.stores[process].runs.submit(
            "r", bytes(32), bytes(32), {"of": request.hex()}, request=request
        )
        assert self.runs.setdefault(request, run) == run
        if run not in self.progress:
            self.progress[run], self.wanted[run] = 0, "run"
            self.notes += 1

    @rule(data=st.data(), process=PROCESSES, what=st.sampled_from(["run", "pause"]))
    def want(self, data: Any, process: int, what: Any) -> None:
        run = data.draw(st.sampled_from(sorted(self.progress)))
        self.stores[process].runs.want(run, what, "ann")
        self.notes += self.wanted[run] != what
        self.wanted[run] = what

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), process=PROCESSES)
    def update_under_a_lease(self, data: Any, process: int) -> None:
        lease, run = (
            self._a_lease(data),
            data.draw(st.sampled_from(sorted(self.progress))),
        )
        self.steps += 1
        if self._valid(lease):
            self.stores[process].runs.update(run, progress={"step": self.steps}, lease=lease)
            self.progress[run] = self.steps
        else:
            with pytest.raises(LeaseLost):
                self.stores[process].runs.update(run, progress={"step": self.steps}, lease=lease)

    # -- sessions ----------------------------------------------------------------------------------------------

    @rule(data=st.data(), process=PROCESSES, session=st.sampled_from([b"s", b"t", b"u"]))
    def open_session(self, data: Any, process: int, session: bytes) -> None:
        run = (
            self.sessions[session].run
            if session in self.sessions
            else data.draw(st.sampled_from(sorted(self.progress)))
        )
        self.stores[process].sessions.open(run, 0, session, {})
        self.sessions.setdefault(session, Session(run))

    def _any_session(self, data: Any) -> tuple[bytes, Session]:
        name = data.draw(st.sampled_from(sorted(self.sessions)))
        return name, self.sessions[name]

    @precondition(lambda self: self.sessions and self.leases)
    @rule(data=st.data(), process=PROCESSES, sizes=st.lists(st.integers(0, 40), max_size=3), keys=st.sets(DEVICES, max_size=2),
          pause=st.sampled_from([0.0, 0.0, 0.0, 200.0]))  # fmt: skip
    def append(self, data: Any, process: int, sizes: list[int], keys: set[bytes], pause: float) -> None:
        """A batch, in the middle of which the process may be paused, and the other take over."""
        name, session = self._any_session(data)
        lease = self._a_lease(data)
        if session.outcome is not None:
            with pytest.raises(RunError):
                self.stores[process].log(name, lease)
            return
        log = self.stores[process].log(name, lease)
        assert [record.data for record in log] == session.records
        written = [bytes([len(session.records) % 256]) * size for size in sizes]
        if not written and not keys - session.reports.keys():
            return

        def batch() -> None:
            with log.batch():
                for one in written:
                    log.append("masked", one)
                for key in keys:
                    log.report(key, b"digest")
                if pause:
                    self.clock.time += pause
                    self.acquire(1 - process, lease.name, 10.0)

        try:
            batch()
            stored = True
        except LeaseLost:
            stored = False
            with pytest.raises(StorageError):
                log.append("masked", b"")
        assert stored == self._valid(lease)
        if stored:
            session.records += written
            for key in keys:
                session.reports.setdefault(key, None)

    @precondition(lambda self: self.sessions and self.leases)
    @rule(data=st.data(), process=PROCESSES, aborted=st.booleans())
    def end_session(self, data: Any, process: int, aborted: bool) -> None:
        name, session = self._any_session(data)
        lease = self._a_lease(data)
        summed = (
            set()
            if aborted
            else data.draw(st.sets(st.sampled_from(sorted(session.reports))))
            if session.reports
            else set()
        )
        outcome, result = ("aborted", None) if aborted else ("summed", b"sum")
        same = session.outcome == outcome and summed == {
            key for key, end in session.reports.items() if end == "summed"
        }

        def end() -> None:
            self.stores[process].sessions.end(name, outcome, summed=summed, result=result, lease=lease)

        if not self._valid(lease):
            with pytest.raises(LeaseLost):
                end()
        elif session.outcome is not None and not same:
            with pytest.raises(RunError, match="another end"):
                end()
        else:
            end()
            if session.outcome is None:
                session.outcome = outcome
                session.reports = {key: "summed" if key in summed else "aborted" for key in session.reports}

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), process=PROCESSES)
    def forget_session(self, data: Any, process: int) -> None:
        name, session = self._any_session(data)
        if session.outcome is None:
            with pytest.raises(RunError):
                self.stores[process].sessions.forget(name)
            return
        self.stores[process].sessions.forget(name)
        session.forgotten = True

    # -- nonces ------------------------------------------------------------------------------------------------

    @rule(
        process=PROCESSES,
        batch=st.lists(st.sampled_from([b"1", b"2", b"3"]), min_size=1, max_size=4),
        seconds=st.sampled_from([1.0, 1e9]),
    )
    def remember(self, process: int, batch: list[bytes], seconds: float) -> None:
        until = self.clock.time + seconds
        news = self.stores[process].nonces.remember([(KEYS[0], nonce, until) for nonce in batch])
        for nonce, new in zip(batch, news, strict=True):
            if nonce not in self.nonces:
                assert new
            elif new:  # only what has expired may be forgotten
                assert self.nonces[nonce] <= self.latest
            if new:
                self.nonces[nonce] = until

    # -- what holds at any time, seen by either process -----------------------------------------------------------

    latest = 0.0

    @invariant()
    def time_was(self) -> None:
        self.latest = max(self.latest, self.clock.time)

    @invariant()
    def what_is_stored_is_what_the_model_says(self) -> None:
        cuts, self.cuts = self.cuts, []
        store = self.stores[len(cuts) % 2]
        assert {one.key: one.revoked is not None for one in store.devices.all()} == self.devices
        tokens = {one.digest: one for one in store.tokens.list()}
        for token in self.tokens.values():
            assert tokens[token.digest].used == len(token.enrolled) <= token.quota
        runs = {one.id: one for one in store.runs.all()}
        assert {run: one.progress.get("step", 0) for run, one in runs.items()} == self.progress
        assert {run: one.wanted for run, one in runs.items()} == self.wanted
        assert store.audit.verify().number + 1 == self.notes
        for name, session in self.sessions.items():
            assert {one.device: one.outcome for one in store.sessions.reports(name)} == session.reports
            assert store.sessions.get(name).outcome == session.outcome  # type: ignore[union-attr]
            if session.outcome is not None:
                assert set(session.reports.values()) <= {"summed", "aborted"}
        for work, held in self.holder.items():
            found = store.leases.holder(work)
            assert (found is not None) == (held is not None and self._valid(held[0]))
        self.cuts = cuts


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_two_processes_do_what_one_model_says(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    class Here(Machine):
        pass

    if kind == "sqlite":
        template, made = request.getfixturevalue("sqlite_template"), iter(range(10**6))
        Here.url = staticmethod(lambda: str(shutil.copy(template, tmp_path / f"{next(made)}.sqlite")))  # type: ignore[assignment]
        examples = 15
    else:
        server, name = (
            request.getfixturevalue("postgres_server"),
            request.getfixturevalue("postgres_database"),
        )
        Here.url = staticmethod(lambda: server.emptied(name))  # type: ignore[assignment]
        examples = 6
    if request.config.getoption("soak"):
        examples *= 20
    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
