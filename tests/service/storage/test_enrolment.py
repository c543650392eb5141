"""Enrolment: a quota and an end that hold, tokens that are nowhere in clear, devices that are known, revoked and seen."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fairyring.core.errors import EnrolmentRefused, PlanError
from fairyring.service.storage import Storage
from tests.service.storage.conftest import Clock


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_a_token_enrols_so_many_devices(kept: Storage, clock: Clock) -> None:
    token = kept.tokens.create(2, clock.time + 10)
    first = kept.devices.enrol(token, key(1), "kitchen")
    assert kept.devices.enrol(token, key(1), "another name") == first  # it got no answer, and asks again
    kept.devices.enrol(token, key(2))
    with pytest.raises(EnrolmentRefused, match="as many devices as it may"):
        kept.devices.enrol(token, key(3))
    assert kept.devices.enrol(token, key(1)) == first
    assert [(one.quota, one.used) for one in kept.tokens.list()] == [(2, 2)]
    assert [one.name for one in kept.devices.all()] == ["kitchen", ""]
    assert first.token == kept.tokens.list()[0].digest
    assert first.enrolled == clock.time


def test_a_token_that_is_unknown_or_over_enrols_nobody(kept: Storage, clock: Clock) -> None:
    token = kept.tokens.create(5, clock.time + 10)
    other = kept.tokens.create(5, clock.time + 10)
    for wrong in (token + "x", token[:-1], "", "a" * 100_000, "\udc80\0"):
        with pytest.raises(EnrolmentRefused, match="not one of this service"):
            kept.devices.enrol(wrong, key(1))
    [digest] = [one.digest for one in kept.tokens.list() if one.digest != _used(kept, other)]
    assert kept.tokens.end(digest)
    assert not kept.tokens.end(digest)
    with pytest.raises(EnrolmentRefused, match="expired"):
        kept.devices.enrol(token, key(1))
    clock.time += 10
    with pytest.raises(EnrolmentRefused, match="expired"):
        kept.devices.enrol(other, key(1))
    assert [one.key for one in kept.devices.all()] == [key(9)]


def _used(kept: Storage, token: str) -> bytes | None:
    return kept.devices.enrol(token, key(9)).token


def test_no_file_has_a_token_or_a_password_in_it(tmp_path: Path, clock: Clock) -> None:
    with Storage(tmp_path / "a.sqlite", now=clock) as kept:
        kept.operators.add("ann", "correct horse", "viewer")
        secrets = [
            kept.tokens.create(1, clock.time + 1),
            kept.operators.login("ann", "correct horse"),
            "correct horse",
        ]
        written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        assert b"ann" in written
        assert [one for one in secrets if one is None or one.encode() in written] == []


def test_a_list_of_devices_needs_no_token(kept: Storage, clock: Clock) -> None:
    assert kept.devices.allow([key(1), key(2), key(1)]) == 2
    clock.time += 5
    assert kept.devices.allow([key(2), key(3)]) == 1
    assert [(one.key, one.enrolled - clock.time, one.token) for one in kept.devices.all()] == [
        (key(1), -5, None), (key(2), -5, None), (key(3), 0, None)
    ]  # fmt: skip
    assert kept.devices.enrol("", key(3), "hall").name == "hall"
    assert kept.devices.enrol("", key(3), "else").name == "hall"


def test_a_long_list_of_devices_is_whole(kept: Storage) -> None:
    assert kept.devices.allow([key(i) for i in range(1501)]) == 1501
    assert kept.devices.allow([key(i) for i in range(1502)]) == 1
    assert kept.devices.count() == 1502


def test_a_device_that_was_revoked_stays_so(kept: Storage, clock: Clock) -> None:
    token = kept.tokens.create(5, clock.time + 10)
    kept.devices.enrol(token, key(1))
    clock.time += 1
    assert kept.devices.revoke(key(1), "it was stolen")
    clock.time += 1
    assert not kept.devices.revoke(key(1), "once more")
    assert not kept.devices.revoke(key(2), "nobody")
    with pytest.raises(EnrolmentRefused, match="revoked"):
        kept.devices.enrol(token, key(1))
    assert kept.devices.allow([key(1)]) == 0
    device = kept.devices.get(key(1))
    assert device is not None
    assert (device.revoked, device.reason) == (clock.time - 1, "it was stolen")
    assert kept.devices.get(key(2)) is None
    assert (kept.devices.count(), kept.tokens.list()[0].used) == (0, 1)


def test_pages_follow_each_other_without_gap_or_repetition(kept: Storage) -> None:
    kept.devices.allow([key(i) for i in (5, 1, 300, 2, 7)])
    pages, after = [], b""
    while page := kept.devices.page(after, 2):
        pages.append([int.from_bytes(one.key, "big") for one in page])
        after = page[-1].key
    assert pages == [[1, 2], [5, 7], [300]]


def test_news_of_devices_replaces_what_is_older(kept: Storage) -> None:
    kept.devices.allow([key(1), key(2), key(3)])
    kept.devices.seen(
        {key(1): (50.0, "0.2", "iree"), key(2): (50.0, "0.1", "torch"), key(9): (50.0, "0.2", "x")}
    )
    kept.devices.seen({key(1): (40.0, "0.1", "old"), key(2): (60.0, "0.2", "iree")})
    kept.devices.seen({})
    assert [(one.seen, one.version, one.runtime) for one in kept.devices.all()] == [
        (50.0, "0.2", "iree"), (60.0, "0.2", "iree"), (None, "", "")
    ]  # fmt: skip
    assert kept.devices.fleet() == {("", ""): 1, ("0.2", "iree"): 2}
    kept.devices.revoke(key(3), "")
    assert kept.devices.fleet() == {("0.2", "iree"): 2}


@pytest.mark.parametrize("wrong", [b"", bytes(31), bytes(33), "a" * 32, None])
def test_only_keys_are_keys(kept: Storage, wrong: bytes) -> None:
    uses: list[Callable[[], object]] = [
        lambda: kept.devices.enrol("", wrong),
        lambda: kept.devices.allow([bytes(32), wrong]),
    ]
    for use in uses:
        with pytest.raises(PlanError, match="key of a device"):
            use()
    assert kept.devices.all() == []


@pytest.mark.parametrize("wrong", ["a\0b", "a\nb", "\x1b[31m", "x" * 201, "\udc80"])
def test_names_are_lines_that_can_be_shown(kept: Storage, wrong: str) -> None:
    with pytest.raises(PlanError, match="name of a device"):
        kept.devices.enrol("", key(1), wrong)
