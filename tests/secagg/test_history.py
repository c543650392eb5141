"""A history that was changed anywhere leads to another head, and only a session's devices can sign one."""

from collections.abc import Callable
from functools import cache

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairyring.core.errors import PlanError, SecureSumError, SessionAborted
from fairyring.secagg import Identity, Session, Transcript, verify
from fairyring.secagg.history import attest, check_attested, linked, survivors_of
from tests.secagg.driving import Play, identity, small_terms, vectors_of

HEAD = bytes(range(32))


@cache
def session() -> tuple[Transcript, Play]:
    """Of five devices, one of which sent no input."""
    terms = small_terms(5, dropout=0.3)
    play = Play(terms, vectors_of(5, terms), {1: "vector"}, previous=HEAD).run()
    assert play.server.result is not None
    return play.server.result.transcript, play


def signers(play: Play, *numbers: int) -> dict[int, Identity]:
    return {play.server._state.index[identity(i).public]: identity(i) for i in numbers}


steps = st.tuples(st.sampled_from(["run", "round", "aborted"]), st.lists(st.binary(max_size=3), max_size=3))


@given(st.lists(steps, max_size=4), st.lists(steps, max_size=4))
def test_two_histories_have_one_head_only_if_they_are_the_same(a: list, b: list) -> None:
    heads = []
    for delivered in (a, b):
        head = HEAD
        for kind, parts in delivered:
            head = linked(head, kind, *parts)
        heads.append(head)
    assert (heads[0] == heads[1]) == (a == b)


def test_a_transcript_names_the_head_before_it() -> None:
    transcript, play = session()
    assert transcript.previous == HEAD
    assert transcript.session.context == play.session.context
    verify(transcript)


@pytest.mark.parametrize("previous", [None, bytes(32)])
def test_a_transcript_of_another_history_is_not_believed(previous: bytes | None) -> None:
    transcript, _ = session()
    with pytest.raises(SecureSumError, match=r"forged|ascend"):
        verify(msgspec.structs.replace(transcript, previous=previous))


def test_a_device_that_was_told_another_history_has_no_part_in_the_sum() -> None:
    terms = small_terms(5, dropout=0.3)
    play = Play(terms, vectors_of(5, terms), previous=HEAD)
    other = Play(terms, vectors_of(5, terms), previous=linked(HEAD, "round"))
    play.advertise()
    for number in (0, 1):
        other.devices[number].start()
    roster = dict(play.server.close())[identity(0).public]
    with pytest.raises(SessionAborted):
        other.devices[0].receive(roster)


@pytest.mark.parametrize("previous", [b"", bytes(31), bytes(33)])
def test_a_head_is_a_digest(previous: bytes) -> None:
    with pytest.raises(PlanError, match="secure sum previous"):
        Session(small_terms(3), 1, bytes(32), previous)


def test_a_head_signed_by_all_in_the_sum_is_believed() -> None:
    transcript, play = session()
    assert set(survivors_of(transcript)) == set(signers(play, 0, 2, 3, 4))
    check_attested(transcript, HEAD, attest(play.session, HEAD, signers(play, 0, 2, 3, 4)))


WRONG: dict[str, Callable[[Play], tuple[tuple[int, bytes], ...]]] = {
    "nobody": lambda p: (),
    "one fewer": lambda p: attest(p.session, HEAD, signers(p, 0, 2, 3)),
    "one that sent no input": lambda p: attest(p.session, HEAD, signers(p, 0, 1, 2, 3, 4)),
    "one in another's place": lambda p: attest(p.session, HEAD, signers(p, 0, 1, 2, 3)),
    "one twice": lambda p: 2 * attest(p.session, HEAD, signers(p, 0, 2, 3, 4)),
    "another order": lambda p: attest(p.session, HEAD, signers(p, 0, 2, 3, 4))[::-1],
    "another head": lambda p: attest(p.session, bytes(32), signers(p, 0, 2, 3, 4)),
    "another session": lambda p: attest(
        Session(p.session.terms, 2, bytes(32), HEAD), HEAD, signers(p, 0, 2, 3, 4)
    ),
    "other keys": lambda p: tuple((i, identity(9).sign(b"")) for i in sorted(signers(p, 0, 2, 3, 4))),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_head_signed_by_others_is_not_believed(name: str) -> None:
    transcript, play = session()
    with pytest.raises(SecureSumError, match="those of all devices in the last sum"):
        check_attested(transcript, HEAD, WRONG[name](play))
