"""The device's ledger: what it refuses follows from what was contributed, whatever ended the process in between."""

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fairyring as fr
from fairyring.core.errors import ParticipationRefused
from fairyring.device.ledger import DAY, Caps, DeviceLedger
from fairyring.messages import Limits, Promise

PLAN, OTHER, DIGEST = b"p" * 32, b"q" * 32, b"d" * 32
NOW = 1_000_000.0


def manifest(
    plan=PLAN, *, rounds=9, participations=3, separation=1, promise=True, expires=None, size=100, masked=True
):
    """What the ledger reads of a manifest."""
    return SimpleNamespace(
        plan=plan,
        name="plan",
        author=b"a" * 32,
        limits=Limits(rounds, participations, separation),
        promise=Promise(2.0, 1e-6, "device") if promise else None,
        terms=object() if masked else None,
        message=SimpleNamespace(bytes=size),
        expires=expires,
    )


def session(number: int) -> bytes:
    return number.to_bytes(16, "little")


@pytest.fixture
def ledger(tmp_path):
    with DeviceLedger(tmp_path / "ledger.sqlite", clock=lambda: NOW) as made:
        yield made


def contribute(ledger, given, round, number, run="run", now=NOW, size=100) -> int:
    begun = ledger.begin(given, DIGEST, run, round, session(number), now)
    ledger.contributed(begun, size, now)
    return begun


def reason(ledger, given, round, number, run="run", now=NOW) -> str | None:
    try:
        ledger.check(given, DIGEST, run, round, session(number), now)
    except ParticipationRefused as error:
        return error.reason
    return None


def test_what_is_contributed_counts_by_plan_and_what_is_only_begun_does_not(ledger):
    given = manifest(participations=2)
    left = ledger.begin(given, DIGEST, "run", 1, session(0))
    ledger.ended(left, "left")
    aborted = contribute(ledger, given, 1, 1)
    ledger.ended(aborted, "aborted")
    assert reason(ledger, given, 1, 2) is None  # the round is tried again
    contribute(ledger, given, 1, 2)
    assert reason(ledger, given, 2, 3) == "participations"
    # Neither another run of the plan nor a manifest of it with wider limits begins afresh; another plan does.
    assert reason(ledger, given, 2, 3, run="other") == "participations"
    assert reason(ledger, manifest(participations=5, rounds=50), 2, 3) == "participations"
    assert reason(ledger, manifest(OTHER), 1, 3) is None
    assert [(one.state, one.contributed is not None) for one in ledger.history()] == [
        ("contributed", True),
        ("aborted", True),
        ("left", False),
    ]


def test_limits_of_a_plan_without_a_promise_may_grow(ledger):
    contribute(ledger, manifest(promise=False, participations=1, rounds=1), 1, 1)
    assert reason(ledger, manifest(promise=False, participations=1, rounds=9), 2, 2) == "participations"
    assert reason(ledger, manifest(promise=False, participations=2, rounds=9), 2, 2) is None


def test_each_limit_is_kept(ledger):
    apart = manifest(participations=9, separation=3, rounds=20)
    contribute(ledger, apart, 5, 1)
    found = {round: reason(ledger, apart, round, 2) for round in (2, 4, 5, 7, 8, 21)}
    assert found == {
        2: "order",
        4: "separation",
        5: None,
        7: "separation",
        8: None,
        21: "rounds",
    }
    assert reason(ledger, apart, 2, 2, run="other") is None  # far enough, and in another order
    assert reason(ledger, apart, 8, 1) == "session"
    assert reason(ledger, manifest(OTHER, expires=NOW), 1, 3) == "expired"
    assert reason(ledger, manifest(OTHER, expires=NOW + 1), 1, 3) is None


def test_the_owners_caps_hold_beside_the_plans(tmp_path):
    caps = Caps(per_day=3, per_plan=2, bytes_per_day=350)
    with DeviceLedger(tmp_path / "ledger.sqlite", caps, clock=lambda: NOW) as ledger:
        contribute(ledger, manifest(participations=9), 1, 1)
        contribute(ledger, manifest(participations=9), 2, 2)
        assert reason(ledger, manifest(participations=9), 3, 3) == "cap"
        assert reason(ledger, manifest(OTHER, size=151), 1, 3) == "cap"
        contribute(ledger, manifest(OTHER, size=150), 1, 3, size=150)
        third = manifest(b"r" * 32, size=0)
        assert reason(ledger, third, 1, 4) == "cap"
        assert reason(ledger, third, 1, 4, now=NOW - 5 * DAY) == "cap"  # a clock that was put back
        assert reason(ledger, third, 1, 4, now=NOW + DAY) is None
        assert ledger.totals()[:5] == (3, 3, 0, 2, 350)


def test_two_sessions_that_were_both_begun_do_not_both_contribute(ledger):
    given = manifest(participations=1)
    first, second = (ledger.begin(given, DIGEST, "run", 1, session(n)) for n in (1, 2))
    ledger.contributed(first, 10)
    with pytest.raises(ParticipationRefused, match="1 contributions"):
        ledger.contributed(second, 10)
    with pytest.raises(ParticipationRefused, match="second contribution"):
        ledger.contributed(first, 10)
    ledger.ended(first, "summed")
    with pytest.raises(ParticipationRefused, match="second contribution"):
        ledger.contributed(first, 10)
    assert ledger.totals().contributions == 1
    assert issubclass(ParticipationRefused, fr.PrivacyError)


def test_a_session_that_was_begun_before_a_crash_is_begun_again_under_its_number(ledger):
    given = manifest()
    number = ledger.begin(given, DIGEST, "run", 1, session(1))
    assert ledger.begin(given, DIGEST, "run", 1, session(1)) == number
    assert [one.number for one in ledger.unfinished()] == [number]
    ledger.contributed(number, 5)
    with pytest.raises(ParticipationRefused):
        ledger.begin(given, DIGEST, "run", 1, session(1))
    assert [one.state for one in ledger.unfinished()] == ["contributed"]
    ledger.ended(number, "summed")
    assert ledger.unfinished() == []


def test_what_it_shows_its_owner(ledger):
    number = contribute(ledger, manifest(), 4, 1)
    ledger.ended(number, "summed", NOW + 5)
    (one,) = ledger.history()
    assert one._replace(manifest=b"", plan=b"", author=b"", session=b"") == (
        *(number, b"", b"", "plan", b"", "run", b"", 4, "summed", 100, True),
        *("2 at delta 1e-06", NOW, NOW, NOW + 5),
    )
    for now in (NOW, NOW + 1):
        ledger.refused("plan", "its author is not one that you trust", now)
    ledger.refused("other", "its manifest has expired", NOW + 2)
    assert [tuple(refusal) for refusal in ledger.refusals()] == [
        ("other", "its manifest has expired", NOW + 2, NOW + 2, 1),
        ("plan", "its author is not one that you trust", NOW, NOW + 1, 2),
    ]
    assert ledger.totals() == (1, 1, 1, 1, 100, 3)


def test_a_file_that_is_no_ledger_is_refused(tmp_path):
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"something else" * 1000)
    with pytest.raises(fr.RunDamaged, match="the ledger of a device"):
        DeviceLedger(path)
    with pytest.raises(fr.StorageError):
        DeviceLedger(tmp_path / "no folder" / "ledger.sqlite")


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["contribute", "begin", "summed", "aborted", "left"]),
        st.sampled_from([PLAN, OTHER]),
        st.sampled_from(["run", "again"]),
        st.integers(1, 7),
        st.integers(0, 5),
    ),
    max_size=14,
)


class Model:
    """What the ledger should allow, written down without a database."""

    def __init__(self) -> None:
        self.sessions: dict[tuple[str, int], list] = {}  # plan, round, whether contributed, state

    def refuses(self, plan, run, round, number) -> str | None:
        past = [(r, one[1]) for (r, _), one in self.sessions.items() if one[0] == plan and one[2]]
        known = self.sessions.get((run, number))
        if known and known[2]:
            return "session"
        if round > 6:
            return "rounds"
        if len(past) >= 3:
            return "participations"
        if any(other != round and abs(other - round) < 2 for _, other in past):
            return "separation"
        return "order" if any(r == run and round < other for r, other in past) else None


@given(STEPS)
@settings(deadline=None, max_examples=40)
def test_it_is_the_model_and_every_copy_of_its_files_between_two_writes_is_too(steps):
    limits = {"rounds": 6, "participations": 3, "separation": 2}
    with tempfile.TemporaryDirectory() as folder:
        path, model = Path(folder) / "ledger.sqlite", Model()
        live = DeviceLedger(path, clock=lambda: NOW)
        try:
            for turn, (kind, plan, run, round, number) in enumerate(steps):
                wanted, key = manifest(plan, **limits), (run, number)
                if kind in ("contribute", "begin"):
                    expected = model.refuses(plan, run, round, number)
                    assert reason(live, wanted, round, number, run) == expected
                    if expected is not None:
                        continue
                    begun = live.begin(wanted, DIGEST, run, round, session(number))
                    model.sessions[key] = [plan, round, False, "begun"]
                    if kind == "contribute":
                        _matches(path, Path(folder) / f"{turn}-between", model)
                        live.contributed(begun, 7)
                        model.sessions[key][2:] = [True, "contributed"]
                elif key in model.sessions:
                    (one,) = [
                        p.number for p in live.history() if (p.run, p.session) == (run, session(number))
                    ]
                    live.ended(one, kind)
                    model.sessions[key][3] = kind
                _matches(path, Path(folder) / f"{turn}", model)
        finally:
            live.close()


def _matches(path: Path, copy: Path, model: Model) -> None:
    """What a process finds that opens the files as they are now, as after a kill."""
    copy.mkdir()
    for end in ("", "-wal"):
        source = path.with_name(path.name + end)
        if source.exists():
            shutil.copy(source, copy / source.name)
    with DeviceLedger(copy / path.name) as found:
        states = {
            (one.run, one.session): [one.plan, one.round, one.contributed is not None, one.state]
            for one in found.history()
        }
    assert states == {(run, session(number)): one for (run, number), one in model.sessions.items()}


WRITER = """
import sys
from types import SimpleNamespace
from fairyring.device.ledger import DeviceLedger
from fairyring.messages import Limits
plan = SimpleNamespace(plan=b"p" * 32, name="plan", author=b"a" * 32, limits=Limits(1 << 30, 1 << 30), promise=None, terms=None,
                       message=SimpleNamespace(bytes=1), expires=None)
ledger = DeviceLedger(sys.argv[1])
round = max((one.round for one in ledger.history(10**6) if one.contributed is not None), default=0)
while True:
    round += 1
    number = ledger.begin(plan, b"d" * 32, "run", round, round.to_bytes(16, "little"))
    ledger.contributed(number, 1)
    print(round, flush=True)
"""


def test_what_was_noted_before_a_kill_is_there_after_it(tmp_path):
    path, last = tmp_path / "ledger.sqlite", 0
    for turn in range(4):
        process = subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.05 * turn)
        process.send_signal(signal.SIGKILL)
        said = process.stdout.read().split()
        process.wait()
        process.stdout.close()
        with DeviceLedger(path) as ledger:
            rounds = [one.round for one in ledger.history(10**6) if one.contributed is not None]
        last = max([last, *map(int, said)])
        # Everything that was said is there; at most the contribution that was being noted is there unsaid.
        assert set(range(1, last + 1)) <= set(rounds) <= set(range(1, last + 2))
        last = max(rounds)
    assert last > 4


def test_its_files_are_its_owners_alone(ledger, tmp_path):
    contribute(ledger, manifest(), 1, 1)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("ledger*")} == {0o600}
    assert len(list(tmp_path.glob("ledger*"))) == 3
