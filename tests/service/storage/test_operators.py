"""Operators and their logins."""

import pytest

from fairyring.core.errors import PlanError
from fairyring.service.storage import Operator, Storage
from tests.service.storage.conftest import Clock


def test_a_password_is_checked_and_a_login_ends(kept: Storage, clock: Clock) -> None:
    kept.operators.add("ann", "correct horse", "viewer")
    kept.operators.add("bob", "battery staple", "operator")
    assert kept.operators.check("ann", "correct horse") == "viewer"
    wrong = [
        ("ann", "battery staple"),
        ("ann", ""),
        ("eve", "correct horse"),
        ("", ""),
        ("ann\0", "x"),
        ("ann", "x" * 10_000),
    ]
    assert [kept.operators.check(*one) for one in wrong] == [None] * len(wrong)
    assert kept.operators.login("ann", "battery staple") is None
    one, other = (
        kept.operators.login("bob", "battery staple", seconds=60),
        kept.operators.login("ann", "correct horse"),
    )
    assert one is not None
    assert other is not None
    assert kept.operators.by_token(one) == Operator("bob", "operator")
    assert kept.operators.by_token(one + "x") is None
    clock.time += 60
    assert kept.operators.by_token(one) is None
    assert kept.operators.by_token(other) == Operator("ann", "viewer")
    kept.operators.logout(other)
    assert kept.operators.by_token(other) is None


def test_whoever_is_removed_or_changed_is_logged_out(kept: Storage) -> None:
    for name in ("ann", "bob", "cat"):
        kept.operators.add(name, "correct horse", "operator")
    tokens = [kept.operators.login(name, "correct horse") or "" for name in ("ann", "bob", "cat")]
    assert kept.operators.remove("ann")
    assert not kept.operators.remove("ann")
    assert kept.operators.change("bob", password="battery staple", role="viewer")
    assert not kept.operators.change("eve", role="viewer")
    assert [kept.operators.by_token(token) for token in tokens] == [None, None, Operator("cat", "operator")]
    assert kept.operators.check("bob", "correct horse") is None
    assert kept.operators.check("bob", "battery staple") == "viewer"
    assert kept.operators.all() == [Operator("bob", "viewer"), Operator("cat", "operator")]


@pytest.mark.parametrize(
    "wrong", [("ann", "long enough", "viewer"), ("bob", "short", "viewer"), ("bob", "long enough", "root"), ("", "long enough", "viewer")]
)  # fmt: skip
def test_an_operator_that_cannot_be_is_refused(kept: Storage, wrong: tuple) -> None:
    kept.operators.add("ann", "correct horse", "operator")
    with pytest.raises(PlanError) as caught:
        kept.operators.add(*wrong)
    assert wrong[1] not in str(caught.value)
    assert kept.operators.check("ann", "correct horse") == "operator"


def test_an_unknown_name_costs_as_much_as_a_wrong_password(kept: Storage) -> None:
    kept.operators.add("ann", "correct horse", "operator")
    hasher, verified = kept.operators._hasher, []

    class Counting:
        def verify(self, kept_hash: str, password: str) -> bool:
            verified.append(
                kept_hash.rpartition("$")[0].rpartition("$")[0]
            )  # the costs, without salt and hash
            return hasher.verify(kept_hash, password)

        def hash(self, password: str) -> str:
            return hasher.hash(password)

    kept.operators._hasher = Counting()
    assert kept.operators.check("ann", "wrong") is kept.operators.check("nobody", "wrong") is None
    assert len(verified) == 2
    assert verified[0] == verified[1]
