"""Runs, leases and nonces, one by one."""

from collections.abc import Callable

import pytest

from fairyring.core.errors import LeaseLost, PlanError, RunError, RunMismatch
from fairyring.service.storage import Holder, Lease, Run, Storage
from tests.service.storage.conftest import Clock

MANIFEST, AUTHOR = bytes(range(32)), bytes(32)


def test_a_run_is_submitted_once_for_a_request(kept: Storage, clock: Clock) -> None:
    first = kept.runs.submit("digits", MANIFEST, AUTHOR, {"rounds": 3}, by="ann", request=b"1")
    clock.time += 1
    assert kept.runs.submit("digits", MANIFEST, AUTHOR, {"rounds": 3}, by="ann", request=b"1") == first
    with pytest.raises(RunMismatch):
        kept.runs.submit("digits", MANIFEST, AUTHOR, {"rounds": 4}, by="ann", request=b"1")
    second = kept.runs.submit("digits", MANIFEST, AUTHOR, {"rounds": 3}, by="ann")
    third = kept.runs.submit("digits", MANIFEST, AUTHOR, {"rounds": 3}, by="ann")
    assert len({first, second, third}) == 3
    at = clock.time - 1
    assert kept.runs.get(first) == Run(
        first, "digits", MANIFEST, AUTHOR, {"rounds": 3}, "run", "queued", {}, at, at
    )
    assert kept.runs.all()[0].id == first
    assert kept.runs.get("none") is None
    assert [one.details["run"] for one in reversed(kept.audit.read())] == [first, second, third]


def test_what_is_wanted_is_in_the_audit_log(kept: Storage, clock: Clock) -> None:
    run = kept.runs.submit("digits", MANIFEST, AUTHOR, {}, by="ann")
    for what in ("pause", "pause", "run", "cancel"):
        clock.time += 1
        kept.runs.want(run, what, "bob")
        assert kept.runs.get(run).wanted == what
    assert [(one.who, one.action) for one in kept.audit.read()] == [
        ("bob", "cancel"), ("bob", "run"), ("bob", "pause"), ("ann", "submit")
    ]  # fmt: skip
    with pytest.raises(RunError, match="being cancelled"):
        kept.runs.want(run, "run", "bob")
    with pytest.raises(RunError, match="no such run"):
        kept.runs.want("none", "run", "bob")
    with pytest.raises(PlanError):
        kept.runs.want(run, "explode", "bob")
    assert kept.audit.head().number == 3


@pytest.mark.parametrize("end", ["finished", "failed", "cancelled"])
def test_a_run_that_is_over_stays_so(kept: Storage, clock: Clock, end: str) -> None:
    run = kept.runs.submit("digits", MANIFEST, AUTHOR, {})
    kept.runs.update(run, "running", {"round": 1})
    kept.runs.update(run, progress={"round": 2})
    clock.time += 5
    kept.runs.update(run, end)
    kept.runs.update(run, end, {"round": 3})
    stored = kept.runs.get(run)
    assert (stored.state, stored.progress, stored.updated) == (end, {"round": 3}, clock.time)
    with pytest.raises(RunError, match="not over"):
        kept.runs.update(run, "running")
    with pytest.raises(RunError, match=end):
        kept.runs.want(run, "pause", "ann")
    with pytest.raises(PlanError):
        kept.runs.update(run, "asleep")


def test_leases_pass_on_with_a_growing_fence(opened: Callable[[], Storage], clock: Clock) -> None:
    one, other = opened().leases, opened().leases
    first = one.acquire("run/1", "one", 10, address="10.0.0.1:80")
    assert first == Lease("run/1", "one", 1)
    assert other.acquire("run/1", "other", 10) is None
    assert other.acquire("run/2", "other", 10) == Lease("run/2", "other", 1)
    assert other.holder("run/1") == Holder("one", "10.0.0.1:80", clock.time + 10)
    clock.time += 9
    assert one.renew(first, 10)
    clock.time += 9
    assert other.acquire("run/1", "other", 10) is None
    again = one.acquire("run/1", "one", 10)  # a process that began anew
    assert again == Lease("run/1", "one", 2)
    assert not one.renew(first, 10)
    one.release(first)  # of an earlier life: nothing happens
    assert one.renew(again, 10)
    one.release(again)
    assert one.holder("run/1") is None
    assert not one.renew(again, 10)
    assert other.acquire("run/1", "other", 10) == Lease("run/1", "other", 3)
    clock.time += 10
    assert other.holder("run/1") is None
    assert not other.renew(
        Lease("run/1", "other", 3), 10
    )  # nobody took it, but somebody may have waited for that
    assert one.acquire("run/1", "one", 10) == Lease("run/1", "one", 4)
    assert one.holder("never") is None


def test_a_run_is_not_updated_without_its_lease(kept: Storage, clock: Clock) -> None:
    run = kept.runs.submit("digits", MANIFEST, AUTHOR, {})
    lease = kept.leases.acquire(run, "me", 10)
    kept.runs.update(run, "running", lease=lease)
    clock.time += 3600
    with pytest.raises(LeaseLost):
        kept.runs.update(run, "finished", lease=lease)
    assert kept.runs.get(run).state == "running"


def test_a_nonce_is_taken_once_and_forgotten_after_its_end(kept: Storage, clock: Clock) -> None:
    until = clock.time + 100
    take = kept.nonces.remember
    assert take([(b"a", b"1", until), (b"b", b"1", until), (b"a", b"2", until), (b"a", b"1", until)]) == [
        True,
        True,
        True,
        False,
    ]
    assert take([(b"a", b"3", until), (b"a", b"1", until), (b"b", b"2", until)]) == [True, False, True]
    assert take([]) == []
    clock.time += 99
    assert take([(b"a", b"1", until)]) == [False]
    clock.time += 60
    assert take([(b"c", b"1", clock.time + 1)]) == [True]  # whoever asks next prunes
    assert take([(b"a", b"1", clock.time + 1)]) == [True]


def test_many_nonces_in_one_batch(kept: Storage) -> None:
    batch = [(b"k", i.to_bytes(4, "big"), 2e9) for i in range(2500)]
    assert kept.nonces.remember(batch) == [True] * 2500
    assert kept.nonces.remember([*batch[::-1], (b"k", b"new", 2e9)]) == [False] * 2500 + [True]
