"""The audit log: a chain in which every change is seen."""

import hashlib
import json
from typing import Any

import pytest
from sqlalchemy import delete, update

from fairyring.core.errors import PlanError, RunDamaged
from fairyring.service.storage import Head, Storage
from fairyring.service.storage.schema import audit
from tests.service.storage.conftest import Clock


def test_entries_are_chained_as_is_written(kept: Storage, clock: Clock) -> None:
    """An independent reader: SHA-256 of the former hash, and of canonical JSON."""
    details = [{"key": "ü\n\0", "n": 1}, {}, {"b": [1.5, None], "a": {"z": True}}]
    for number, one in enumerate(details):
        clock.time += 0.1
        assert kept.audit.note("ann", "revoke", one).number == number
    last = bytes(32)
    for entry in reversed(kept.audit.read()):
        text = json.dumps(entry.details, sort_keys=True, separators=(",", ":"))
        fields = {
            "action": entry.action,
            "at": entry.at,
            "details": text,
            "number": entry.number,
            "who": entry.who,
        }
        last = hashlib.sha256(
            last + json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
        ).digest()
        assert entry.hash == last
        assert entry.details == details[entry.number]
    assert kept.audit.verify() == kept.audit.head() == Head(2, last)


def test_pages_go_back_in_time(kept: Storage) -> None:
    for number in range(5):
        kept.audit.note("ann", "look", {"n": number})
    assert [one.number for one in kept.audit.read(2)] == [4, 3]
    assert [one.number for one in kept.audit.read(2, before=3)] == [2, 1]
    assert [one.number for one in kept.audit.read(9, before=1)] == [0]


CHANGES = {
    "who": update(audit).where(audit.c.number == 1).values(who="eve"),
    "time": update(audit).where(audit.c.number == 2).values(at=0.0),
    "action": update(audit).where(audit.c.number == 0).values(action="nothing"),
    "details": update(audit).where(audit.c.number == 3).values(details="{}"),
    "hash": update(audit).where(audit.c.number == 3).values(hash=bytes(32)),
    "middle": delete(audit).where(audit.c.number == 1),
    "beginning": delete(audit).where(audit.c.number == 0),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_seen(kept: Storage, what: str) -> None:
    for number in range(4):
        kept.audit.note("ann", "look", {"n": number})
    assert kept.audit.verify().number == 3
    kept.database.run("past the log", lambda c: c.execute(CHANGES[what]) and None)
    with pytest.raises(RunDamaged, match="audit log"):
        kept.audit.verify()


def test_an_end_that_is_cut_off_is_seen_by_a_head_from_elsewhere(kept: Storage) -> None:
    assert kept.audit.verify(contains=kept.audit.head()) == Head(-1, bytes(32))
    heads = [kept.audit.note("ann", "look", {"n": number}) for number in range(4)]
    for head in heads:
        assert kept.audit.verify(contains=head) == heads[-1]
    with pytest.raises(RunDamaged, match="another entry"):
        kept.audit.verify(contains=Head(1, bytes(32)))
    kept.database.run("cut", lambda c: c.execute(delete(audit).where(audit.c.number == 3)) and None)
    assert kept.audit.verify() == heads[2]
    with pytest.raises(RunDamaged, match="3 entries"):
        kept.audit.verify(contains=heads[3])


@pytest.mark.parametrize("wrong", [{"key": b"bytes"}, {"n": float("nan")}, {"x": object()}])
def test_what_json_does_not_have_is_refused(kept: Storage, wrong: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match="details"):
        kept.audit.note("ann", "look", wrong)
    assert kept.audit.head().number == -1
