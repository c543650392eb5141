"""`fairyring ledger`: what was promised, what is spent of it, and whether a head noted earlier is still there."""

import math
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

from fairyring.cli import _ledger as command
from fairyring.core.errors import LedgerDamaged, MissingExtra, PrivacyError
from fairyring.privacy.participation import AtMost
from fairyring.privacy.release import Release
from tests.privacy.ledger_meter import Thrifty, digest, noise, opened


@pytest.fixture
def adding_up(monkeypatch: pytest.MonkeyPatch) -> type:
    """The accountant of the command, in place of the real one."""

    class Accountant(Thrifty):
        def __init__(self, participation, delta):
            assert (participation, delta) == (AtMost(3, 2), 1e-6)

    module = ModuleType("fairyring.privacy.accounting")
    module.Accountant = Accountant
    monkeypatch.setitem(sys.modules, "fairyring.privacy.accounting", module)
    monkeypatch.setenv("COLUMNS", "120")
    return Accountant


def test_the_command_says_what_was_promised_and_spent(
    tmp_path: Path, adding_up: type, capsys: pytest.CaptureFixture
) -> None:
    with opened(tmp_path / "ledger.sqlite", 100.0) as ledger:
        noted = ledger.head
        for round in range(50):
            number = ledger.reserve(round, noise(2.0))
            if round == 49:
                ledger.amend(number, noise(4.0))
            elif round:
                ledger.release(number, digest(round))
        head = ledger.head
    command.ledger(tmp_path).show()
    out = capsys.readouterr().out
    # The first reservation of 50 is not released, and spent all the same.
    assert out.startswith(
        "Promised: all releases together spend at most epsilon 100 at delta 1e-06; spent so far: 24.75.\n"
    )
    assert "a device may take part 3 times and once in 2 rounds" in out
    rows = [line.split() for line in out.splitlines() if "gaussian" in line]
    assert len(rows) == 20
    assert rows[0] == ["0", "2", "0.5", "gaussian", "spent,", "not", "released"]
    assert rows[-1] == ["49", "4", "24.75", "gaussian", "spent,", "not", "released,", "amended"]
    rounds = [int(row[0]) for row in rows]
    assert max(b - a for a, b in pairwise(rounds)) <= 3
    assert "50 releases reserved, 48 released, 2 not released, but spent" in out
    assert f"{head}\n" in out
    assert f"Head {head.number}:{head.hash[:12]}," in out
    command.ledger(tmp_path, f"{noted.number}:{noted.hash[:12]}").show()
    assert "is in it: everything up to entry 0" in capsys.readouterr().out
    for wrong, error in (
        (f"7:{noted.hash}", LedgerDamaged),
        (f"{head.number + 1}:{head.hash}", LedgerDamaged),
        ("7:abc", PrivacyError),
        ("seven", PrivacyError),
    ):
        with pytest.raises(error):
            command.ledger(tmp_path, wrong)


def test_what_was_spent_without_a_sum_is_not_called_a_crash(
    tmp_path: Path, adding_up: type, capsys: pytest.CaptureFixture
) -> None:
    with opened(tmp_path / "ledger.sqlite", 100.0) as ledger:
        ledger.lose(ledger.reserve(1, noise(2.0)))
    command.ledger(tmp_path).show()
    assert "spent, without a result" in capsys.readouterr().out


def test_a_promise_that_the_run_takes_back_is_not_told_as_one(
    tmp_path: Path, adding_up: type, capsys: pytest.CaptureFixture
) -> None:
    with opened(tmp_path / "ledger.sqlite", 100.0):
        pass
    why = "somebody knows the noise"
    for record, words in (
        (
            f'{{"privacy": {{"why_nothing": "{why}"}}}}',
            f"Nothing is promised: {why}. What follows was counted as",
        ),
        ('{"privacy": {"why_nothing": null}}', "Promised: all releases"),
        ('{"privacy": ["why_nothing"]}', "Promised: all releases"),
        ("no record", "Promised: all releases"),
    ):
        (tmp_path / "run.json").write_text(record)
        command.ledger(tmp_path).show()
        assert capsys.readouterr().out.startswith(words)
    for result, words in (
        ('{"mechanism": {"holds": true}, "reconstruction": {}}', "Promised: all releases"),
        ("no audit", "Promised: all releases"),
        ('{"mechanism": {"holds": true}, "canaries": {"holds": false}}', "Nothing is promised: the audit"),
    ):
        (tmp_path / "audit.json").write_text(result)
        command.ledger(tmp_path).show()
        assert capsys.readouterr().out.startswith(words)


def test_the_command_works_where_epsilon_cannot_be_added_up(
    tmp_path: Path, adding_up: type, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def missing(self, counts, rounds):
        raise MissingExtra("dp_accounting", extra="privacy", purpose="accounting")

    monkeypatch.setattr(adding_up, "spent", missing)
    with opened(tmp_path / "ledger.sqlite", math.inf) as ledger:
        number = ledger.reserve(3, Release("correlated", 1.5, bands=32))
        ledger.release(number, digest(3))
    command.ledger(tmp_path).show()
    out = capsys.readouterr().out
    assert "No budget" in out
    assert "spent so far" not in out
    assert "correlated, 32 bands" in out
    assert "epsilon so far" not in out
    assert "fairyring[privacy]" in out
    assert "1 release reserved, 1 released." in out


def test_the_command_on_a_ledger_that_was_changed(tmp_path: Path, adding_up: type) -> None:
    with opened(tmp_path / "ledger.sqlite") as ledger:
        ledger.reserve(0, noise())
    (tmp_path / "ledger.head").unlink()
    with pytest.raises(LedgerDamaged, match=r"no .*ledger\.head"):
        command.ledger(tmp_path).show()
