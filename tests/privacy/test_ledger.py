"""The ledger counts every reservation, refuses what does not fit, and says so in entries anyone can check."""

import hashlib
import json
import math
import struct
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairyring.core.errors import (
    BudgetSpent,
    LedgerDamaged,
    LedgerMismatch,
    PlanError,
    PrivacyError,
    RunError,
)
from fairyring.privacy import _entries
from fairyring.privacy.ledger import Entry, Head, Ledger, Promise
from fairyring.privacy.participation import AtMost, FixedSize, PoissonSampled
from fairyring.privacy.release import Release
from tests.privacy.ledger_meter import Thrifty, digest, noise, opened, promise_of


@pytest.fixture(params=["memory", "file"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path):
    with opened(tmp_path / "ledger.sqlite" if request.param == "file" else None) as ledger:
        yield ledger


def test_what_does_not_fit_is_refused_and_leaves_no_trace(ledger: Ledger) -> None:
    for round in range(3):
        ledger.reserve(round, noise())
    before = ledger.entries()
    with pytest.raises(
        BudgetSpent, match=r"epsilon 3 spent, 5 with the release of round 3; expected at most 4"
    ):
        ledger.reserve(3, noise(0.5))
    assert ledger.entries() == before
    assert ledger.reserve(3, noise()) == 4
    with pytest.raises(BudgetSpent):
        ledger.reserve(4, noise(1e6))


def test_what_was_reserved_counts_until_it_is_amended(ledger: Ledger) -> None:
    first, second = ledger.reserve(0, noise()), ledger.reserve(1, noise())
    assert ledger.tally().counts == {noise(): 2}
    ledger.amend(first, noise(0.5))
    assert ledger.tally().counts == {noise(0.5): 1, noise(): 1}
    ledger.amend(first, noise(2.0))
    ledger.amend(second, noise(2.0))
    assert ledger.tally().counts == {noise(2.0): 2}
    assert ledger.spent().epsilon == 1.0
    entries = len(ledger.entries())
    ledger.amend(second, noise(2.0))
    assert len(ledger.entries()) == entries
    ledger.release(first, digest("a"))
    with pytest.raises(PrivacyError, match="released"):
        ledger.amend(first, noise(8.0))
    assert ledger.spent().epsilon == 1.0


def test_a_round_whose_amendment_does_not_fit_is_withheld_for_good(ledger: Ledger) -> None:
    number = ledger.reserve(0, noise())
    ledger.reserve(1, noise(0.5))
    with pytest.raises(BudgetSpent, match=r"3 spent, 6 with round 0 as it really was"):
        ledger.amend(number, noise(0.25))
    assert ledger.spent().epsilon == 3.0
    for refused in (lambda: ledger.release(number, digest(0)), lambda: ledger.amend(number, noise(8.0))):
        with pytest.raises(PrivacyError, match="withheld"):
            refused()
    assert ledger.entries()[-1].kind == "withhold"
    assert not ledger.again(0, digest(0))


def test_a_cancelled_reservation_spends_nothing_and_is_over(ledger: Ledger) -> None:
    kept, taken_back = ledger.reserve(0, noise()), ledger.reserve(1, noise(0.5))
    assert ledger.spent().epsilon == 3.0
    ledger.cancel(taken_back)
    assert ledger.tally().counts == {noise(): 1}
    assert [one.cancelled for one in ledger.reservations()] == [False, True]
    for refused in (
        lambda: ledger.release(taken_back, digest(0)),
        lambda: ledger.amend(taken_back, noise(8.0)),
        lambda: ledger.cancel(taken_back),
    ):
        with pytest.raises(PrivacyError, match="cancelled"):
            refused()
    ledger.release(kept, digest(1))
    with pytest.raises(PrivacyError, match="released"):
        ledger.cancel(kept)
    assert ledger.spent().epsilon == 1.0


def test_a_reservation_is_for_one_release(ledger: Ledger) -> None:
    number = ledger.reserve(5, noise())
    assert not ledger.again(5, digest("model"))
    ledger.release(number, digest("model"))
    entries = ledger.entries()
    ledger.release(number, digest("model"))
    assert ledger.entries() == entries
    with pytest.raises(PrivacyError, match="one that was released"):
        ledger.release(number, digest("another"))
    assert ledger.again(5, digest("model"))
    assert not ledger.again(5, digest("another"))
    assert not ledger.again(6, digest("model"))
    for unknown in (0, number + 1, -1):
        with pytest.raises(PrivacyError, match="no such reservation"):
            ledger.release(unknown, digest("model"))
    with pytest.raises(PrivacyError, match="31 bytes"):
        ledger.release(number, bytes(31))


def test_a_round_is_reserved_once_and_again_only_when_nobody_may_release_it(ledger: Ledger) -> None:
    first = ledger.reserve(5, noise())
    with pytest.raises(PrivacyError, match="reservation 1 of it, which is open"):
        ledger.reserve(5, noise())
    ledger.lose(first)
    assert [(one.lost, one.open) for one in ledger.reservations()] == [(True, False)]
    for refused in (
        lambda: ledger.release(first, digest(0)),
        lambda: ledger.amend(first, noise(8.0)),
        lambda: ledger.cancel(first),
        lambda: ledger.lose(first),
    ):
        with pytest.raises(PrivacyError, match="lost"):
            refused()
    assert ledger.spent().epsilon == 1.0
    second = ledger.reserve(5, noise())
    ledger.release(second, digest(1))
    with pytest.raises(PrivacyError, match="reservation 3 of it, released as"):
        ledger.reserve(5, noise())
    # One round, that released twice.
    assert ledger.tally().counts == {(noise(), noise()): 1}
    assert ledger.spent().epsilon == 2.0


def test_rounds_are_counted_from_the_first_to_the_last(ledger: Ledger) -> None:
    ledger.reserve(3, noise())
    number = ledger.reserve(9, noise(4.0))
    ledger.cancel(ledger.reserve(20, noise()))
    assert ledger.tally().rounds == 7
    ledger.amend(number, noise())
    assert ledger.tally().counts == {noise(): 2}
    ledger.cancel(number)
    assert ledger.tally().rounds == 1


@pytest.mark.parametrize(
    ("round_", "release"), [(-1, noise()), (1 << 63, noise()), (0, noise(math.inf)), (0, noise(math.nan))]
)
def test_what_cannot_be_written_down_is_refused(ledger: Ledger, round_: int, release: Release) -> None:
    with pytest.raises(PrivacyError, match="a release"):
        ledger.reserve(round_, release)
    assert len(ledger.entries()) == 1


def test_without_a_budget_everything_is_recorded_and_nothing_asked(tmp_path: Path) -> None:
    class Silent(Thrifty):
        def fits(self, counts, epsilon):
            raise AssertionError("asked")

    path = tmp_path / "ledger.sqlite"
    with Ledger(path, promise_of(math.inf), accountant=Silent(), durable=False) as ledger:
        for round in range(10):
            ledger.amend(ledger.reserve(round, noise()), noise(0.5))
        assert ledger.spent().epsilon == 20
    assert Ledger.read(path).promise == promise_of(math.inf)
    with opened(path, math.inf) as again:
        assert again.spent().epsilon == 20


@pytest.mark.parametrize(
    ("epsilon", "delta"), [(-1.0, 0.0), (math.nan, 0.0), (1.0, 1.0), (1.0, -0.1), (1.0, math.nan)]
)
def test_no_budget_is_no_promise(epsilon: float, delta: float) -> None:
    with pytest.raises(PlanError, match="epsilon"):
        Promise("ab", epsilon, delta, AtMost(1))


@pytest.mark.parametrize(
    "other",
    [
        {"plan": "cd" * 32},
        {"epsilon": 5.0},
        {"epsilon": math.inf},
        {"delta": 1e-5},
        {"participation": PoissonSampled(0.1)},
        {"participation": AtMost(3, 1)},
        {"participation": FixedSize(10, 100)},
        {"unit": "household"},
    ],
    ids=lambda other: "-".join(map(str, other.values()))[:12],
)
def test_a_ledger_of_another_promise_is_not_touched(tmp_path: Path, other: dict) -> None:
    path = tmp_path / "ledger.sqlite"
    with opened(path) as ledger:
        ledger.reserve(0, noise())
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(LedgerMismatch, match=next(iter(other))):
        Ledger(path, msgspec.structs.replace(promise_of(), **other), accountant=Thrifty())
    after = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert {name: after[name] for name in before} == before


def test_time_never_goes_back_and_the_ledger_says_when_the_clock_did(tmp_path: Path) -> None:
    now = iter([100.0, 110.5, 50.0, 110.0, 111.0])
    with opened(tmp_path / "ledger.sqlite", clock=lambda: next(now)) as ledger:
        for round in range(4):
            ledger.reserve(round, noise())
        entries = ledger.entries()
    assert [entry.time for entry in entries] == [100.0, 110.5, 110.5, 110.5, 111.0]
    backs = [json.loads(entry.data).get("clock_back") for entry in entries]
    assert backs == [None, None, 60.5, 0.5, None]


def test_two_handles_and_two_ledgers_in_one_process(tmp_path: Path) -> None:
    one, same, other = (opened(tmp_path / name) for name in ("a.sqlite", "a.sqlite", "b.sqlite"))
    assert [
        one.reserve(0, noise()),
        same.reserve(1, noise()),
        one.reserve(2, noise()),
        other.reserve(0, noise()),
    ] == [1, 2, 3, 1]
    assert one.tally().counts == same.tally().counts == {noise(): 3}
    assert other.tally().counts == {noise(): 1}
    same.release(1, digest(0))
    assert one.again(0, digest(0))
    assert not other.contains(one.head)
    for handle in (one, same, other):
        handle.close()


def chained(entries: tuple[Entry, ...]) -> list[str]:
    """The hashes, by the words of the docstring alone."""
    hashes, previous = [], bytes(32)
    for number, entry in enumerate(entries):
        kind, data = entry.kind.encode(), entry.data.encode()
        content = b"fairyring/ledger/1\x00" + struct.pack("<q", number) + struct.pack("<q", entry.round)
        content += (
            struct.pack("<d", entry.time)
            + struct.pack("<Q", len(kind))
            + kind
            + struct.pack("<Q", len(data))
            + data
        )
        previous = hashlib.sha256(content + previous).digest()
        hashes.append(previous.hex())
    return hashes


def test_the_chain_is_the_documented_one() -> None:
    ledger = opened(None, clock=lambda: 1e9)
    ledger.amend(ledger.reserve(7, noise()), noise(2.0))
    ledger.release(1, digest(0))
    assert [entry.hash for entry in ledger.entries()] == chained(ledger.entries())
    assert [entry.kind for entry in ledger.entries()] == ["promise", "reserve", "amend", "release"]
    assert ledger.entries()[1].data == '{"release":{"mechanism":"gaussian","multiplier":1.0}}'
    # Of this release of fairyring: another value means that old ledgers can no longer be read.
    assert ledger.head.hash == "4715f5375956f5cef1fdea9907ac7c393fcff42ad7c4fa09234d61c97479f629"
    ledger.close()


entries_of = st.builds(
    Entry,
    number=st.integers(0, 3),
    kind=st.text("ab", max_size=3),
    round=st.integers(-1, 2),
    time=st.sampled_from([0.0, 1.0]),
    data=st.text("ab", max_size=3),
    previous=st.sampled_from(["0" * 64, "1" * 64]),
    hash=st.just(""),
)


@given(entries_of, entries_of)
def test_no_two_entries_have_one_encoding(one: Entry, other: Entry) -> None:
    assert (one == other) == (one.expected() == other.expected())


def test_whoever_noted_a_head_can_tell_whether_the_ledger_only_grew(ledger: Ledger, tmp_path: Path) -> None:
    heads = [ledger.head]
    for round in range(3):
        ledger.reserve(round, noise())
        heads.append(ledger.head)
    assert all(map(ledger.contains, heads))
    assert Head.parse(f" {str(heads[2]).upper()}\n") == heads[2]
    ledger.check(heads[0])
    stranger = Ledger(None, promise_of(plan="cd" * 32), accountant=Thrifty())
    for wrong in (Head(9, heads[1].hash), Head(1, heads[2].hash), Head(-1, heads[3].hash), stranger.head):
        assert not ledger.contains(wrong)
    with pytest.raises(LedgerDamaged, match="older copy"):
        ledger.check(Head(9, heads[1].hash))
    with pytest.raises(LedgerDamaged, match="another entry 1"):
        ledger.check(Head(1, heads[2].hash))
    for text in ("", "5", "x:" + "0" * 64, "1:" + "0" * 63, "1:" + "g" * 64, "-1:" + "0" * 64):
        with pytest.raises(PrivacyError, match="NUMBER:HASH"):
            Head.parse(text)
    stranger.close()


def test_a_reservation_verifies_what_is_new_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.sqlite"
    with opened(path, 1e9) as ledger, opened(path, 1e9) as other:
        for round in range(200):
            ledger.reserve(round, noise())
        verified = []
        real = _entries.Entry.expected
        monkeypatch.setattr(
            _entries.Entry, "expected", lambda entry: verified.append(entry.number) or real(entry)
        )
        ledger.reserve(200, noise())
        assert verified == [201, 201]  # made, and read back
        verified.clear()
        other.reserve(201, noise())
        assert verified == [*range(1, 202), 202, 202]


def test_a_witness_is_of_a_ledger_in_a_file(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="in memory"):
        opened(None, witness=tmp_path / "w")


def test_reading_needs_no_accountant_and_may_happen_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with pytest.raises(RunError, match="no such file"):
        Ledger.read(path)
    with opened(path) as ledger:
        number = ledger.reserve(0, noise())
        ledger._file._database.execute("BEGIN IMMEDIATE")
        history = Ledger.read(path)
        ledger._file._database.execute("ROLLBACK")
        assert history.promise == promise_of()
        assert history.entries == list(ledger.entries())
        ledger.amend(number, noise(2.0))
        ledger.reserve(1, noise())
    history = Ledger.read(path)
    assert history.spent().counts == {noise(2.0): 1, noise(): 1}
    assert history.spent(upto=1).counts == {noise(2.0): 1}
    assert (history.spent().rounds, history.spent(upto=1).rounds) == (2, 1)
