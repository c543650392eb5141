"""A ledger that is killed, shared, or out of disk: what was reserved counts, and never more than was promised."""

import errno
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fairyring.core.errors import BudgetSpent, PrivacyError, StorageError
from fairyring.privacy import _ledger_file
from fairyring.privacy.ledger import Ledger
from tests.privacy.ledger_meter import Thrifty, digest, noise, opened, promise_of

PLENTY = 1e6
KILLS = 36


def spender(folder: Path, epsilon: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.privacy.ledger_spender", str(folder), str(epsilon)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)


def begin_together(folder: Path, processes: int, epsilon: float) -> list[subprocess.Popen[str]]:
    started = [spender(folder, epsilon) for _ in range(processes)]
    for process in started:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    return started


def test_killed_at_any_moment_what_was_reserved_counts(tmp_path: Path) -> None:
    dice = random.Random(7)
    asked, held, left = 0, set(), set()
    ends = set()
    path = tmp_path / "ledger.sqlite"
    for batch in range(KILLS // 4):
        # Four at once, so that one also dies while another waits for it.
        processes = begin_together(tmp_path, 4, PLENTY)
        for process in processes:
            time.sleep(dice.random() * 0.04)
            process.send_signal(signal.SIGKILL)
        for process in processes:
            statement = process.communicate(timeout=60)[0].splitlines()
            assert process.returncode == -signal.SIGKILL
            words = [line.split() for line in statement]
            asked += sum(word[0] == "asks" for word in words)
            held |= {int(word[1]) for word in words if word[0] == "has"}
            left |= {int(word[1]) for word in words if word[0] == "left"}
            ends.add(words[-1][0] if words else "begins")
        with opened(path, PLENTY) as ledger:
            result = {one.number: one.digest for one in ledger.reservations()}
            # All that anybody was told of, and perhaps one more of each that died while it asked.
            assert held <= set(result)
            assert len(result) <= asked
            assert sum(ledger.tally().counts.values()) == len(result)
            assert all(result[number] == digest(number).hex() for number in left)
            held.add(ledger.reserve(batch, noise()))
            asked += 1
    assert len(held) > KILLS // 2
    assert len(ends) > 1  # they died at different moments


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_that_reserve_at_once_never_overspend(tmp_path: Path, processes: int) -> None:
    epsilon = 60
    started = begin_together(tmp_path, processes, epsilon)
    statement = [process.communicate(timeout=60)[0].splitlines() for process in started]
    assert [process.returncode for process in started] == [0] * processes
    assert all(lines[-1] == "refused" for lines in statement)
    numbers = [line.split()[1] for lines in statement for line in lines if line.startswith("has ")]
    history = Ledger.read(tmp_path / "ledger.sqlite")
    assert sorted(map(int, numbers)) == sorted(history.reservations)
    tally = history.spent()
    assert Thrifty().spent(tally.counts, tally.rounds).epsilon <= epsilon
    assert len(numbers) == epsilon
    assert all(one.digest for one in history.reservations.values())


class Interleaved(RuleBasedStateMachine):
    """Reservations, amendments, releases and crashes by several handles of one ledger, beside a list that does the same."""

    epsilon = 4.0
    multipliers = st.sampled_from([0.5, 1.0, 2.0, 4.0, 8.0])

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "ledger.sqlite"
        self.handles = [opened(self.path), opened(self.path)]
        self.model: list[dict] = []
        self.round = 0

    def spent(self) -> float:
        return sum(1 / one["multiplier"] for one in self.model)

    @rule(multiplier=multipliers, who=st.integers(0, 1))
    def reserve(self, multiplier: float, who: int) -> None:
        self.round += 1
        fits = self.spent() + 1 / multiplier <= self.epsilon
        try:
            number = self.handles[who].reserve(self.round, noise(multiplier))
        except BudgetSpent:
            assert not fits
        else:
            assert fits
            self.model.append(self.row(number, multiplier))

    def row(self, number: int, multiplier: float) -> dict:
        return {
            "number": number,
            "round": self.round,
            "multiplier": multiplier,
            "digest": None,
            "withheld": False,
            "lost": False,
        }

    @precondition(lambda self: self.model)
    @rule(who=st.integers(0, 1), data=st.data())
    def reserve_again(self, who: int, data: st.DataObject) -> None:
        """The same round once more: only where nobody is left who might release it."""
        rounds = sorted({one["round"] for one in self.model})
        round = data.draw(st.sampled_from(rounds))
        held = any(one["round"] == round and not (one["withheld"] or one["lost"]) for one in self.model)
        fits = self.spent() + 1 <= self.epsilon
        try:
            number = self.handles[who].reserve(round, noise())
        except BudgetSpent:
            assert not fits
            assert not held
        except PrivacyError:
            assert held
        else:
            assert fits
            assert not held
            self.model.append(self.row(number, 1.0) | {"round": round})

    @precondition(lambda self: self.model)
    @rule(who=st.integers(0, 1), data=st.data())
    def lose(self, who: int, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.model))
        open_ = one["digest"] is None and not one["withheld"] and not one["lost"]
        try:
            self.handles[who].lose(one["number"])
        except PrivacyError:
            assert not open_
        else:
            assert open_
            one["lost"] = True

    @rule(who=st.integers(0, 1))
    def reserve_and_die(self, who: int) -> None:
        """The process ends after the commit, before the head is written and before anybody is told."""
        handle, self.round = self.handles[who], self.round + 1

        def die() -> None:
            raise KeyboardInterrupt

        handle._publish = die
        try:
            handle.reserve(self.round, noise())
        except KeyboardInterrupt:
            number = 1 + self.handles[1 - who].entries()[-2].number
            self.model.append(self.row(number, 1.0))
        except BudgetSpent:
            assert self.spent() + 1 > self.epsilon
        self.handles[who] = opened(self.path)
        handle.close()

    @precondition(lambda self: self.model)
    @rule(multiplier=multipliers, who=st.integers(0, 1), data=st.data())
    def amend(self, multiplier: float, who: int, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.model))
        fits = self.spent() - 1 / one["multiplier"] + 1 / multiplier <= self.epsilon
        closed = one["digest"] is not None or one["withheld"] or one["lost"]
        try:
            self.handles[who].amend(one["number"], noise(multiplier))
        except BudgetSpent:
            assert not fits
            assert not closed
            one["withheld"] = True
        except PrivacyError:
            assert closed
        else:
            assert fits
            assert not closed
            one["multiplier"] = multiplier

    @precondition(lambda self: self.model)
    @rule(what=st.integers(0, 1), who=st.integers(0, 1), data=st.data())
    def release(self, what: int, who: int, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.model))
        allowed = not one["withheld"] and not one["lost"] and one["digest"] in (None, digest(what))
        try:
            self.handles[who].release(one["number"], digest(what))
        except PrivacyError:
            assert not allowed
        else:
            assert allowed
            one["digest"] = digest(what)

    @rule(who=st.integers(0, 1), crash=st.booleans())
    def reopen(self, who: int, crash: bool) -> None:
        if not crash:
            self.handles[who].close()
        self.handles[who] = opened(self.path)

    @invariant()
    def both_say_what_the_list_says(self) -> None:
        if not hasattr(self, "model"):
            return
        assert self.spent() <= self.epsilon
        for handle in self.handles:
            assert handle.spent().epsilon == self.spent()
            statement = [
                (one.number, one.round, one.release.multiplier, one.digest, one.withheld)
                for one in handle.reservations()
            ]
            assert statement == [
                (
                    one["number"],
                    one["round"],
                    one["multiplier"],
                    one["digest"] and one["digest"].hex(),
                    one["withheld"],
                )
                for one in self.model
            ]

    def teardown(self) -> None:
        if hasattr(self, "handles"):
            for handle in self.handles:
                handle.close()
            assert [(o.number, o.digest) for o in Ledger.read(self.path).reservations.values()] == [
                (one["number"], one["digest"] and one["digest"].hex()) for one in self.model
            ]
            self.folder.cleanup()


# An abandoned handle is the crash; Python says of its connection that nobody closed it.
TestInterleaved = pytest.mark.filterwarnings("ignore::ResourceWarning")(Interleaved.TestCase)
TestInterleaved.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_a_full_disk_leaves_nothing_half(tmp_path: Path) -> None:
    with opened(tmp_path / "ledger.sqlite", PLENTY) as ledger:
        pages = ledger._file._database.execute("PRAGMA page_count").fetchone()[0]
        ledger._file._database.execute(f"PRAGMA max_page_count = {pages + 1}")
        done = []
        with pytest.raises(StorageError, match="full"):
            done.extend(ledger.reserve(round, noise()) for round in range(200))
        assert 5 < len(done) < 200
        for _ in range(2):
            with pytest.raises(StorageError, match="full"):
                ledger.reserve(200, noise())
        assert [one.number for one in ledger.reservations()] == done
        ledger._file._database.execute("PRAGMA max_page_count = 1000")
        assert ledger.reserve(201, noise()) == done[-1] + 1
        entries = ledger.entries()
    assert Ledger.read(tmp_path / "ledger.sqlite").entries == list(entries)


@pytest.mark.parametrize("durable", [False, True])
def test_a_head_that_cannot_be_written_leaves_the_reservation_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    ledger = Ledger(tmp_path / "ledger.sqlite", promise_of(2.0), accountant=Thrifty(), durable=durable)
    with ledger, monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(StorageError, match="No space"):
            ledger.reserve(0, noise())
        assert not list(tmp_path.glob("*.part"))
        assert ledger.tally().counts == {noise(): 1}
    with opened(tmp_path / "ledger.sqlite", 2.0) as ledger:
        ledger.reserve(1, noise())
        with pytest.raises(BudgetSpent):
            ledger.reserve(2, noise())


def test_a_ledger_that_another_process_holds_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_ledger_file, "PATIENCE", 0.05)
    with opened(tmp_path / "ledger.sqlite", PLENTY) as ledger:
        holder = sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match="locked"):
            ledger.reserve(0, noise())
        with pytest.raises(StorageError, match="locked"):
            opened(tmp_path / "ledger.sqlite", PLENTY)
        holder.execute("ROLLBACK")
        holder.close()
        assert ledger.reserve(0, noise()) == 1


def test_a_place_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="unable to open"):
        opened(tmp_path / "nowhere" / "ledger.sqlite")
    with pytest.raises(StorageError):
        opened(tmp_path / "ledger.sqlite", witness=tmp_path / "nowhere" / "head")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="directory"):
        opened(tmp_path / "ledger.sqlite", witness=tmp_path / "folder")
