"""What comes out is the sum, bit for bit, or nothing."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairyring.core.errors import SessionAborted
from fairyring.secagg import Terms, verify
from tests.secagg.driving import EVENTS, Play, foretold, small_terms, vectors_of

BITS = (16, 17, 20, 24, 26, 31, 32, 33, 40, 48, 53, 63, 64)


@st.composite
def sessions(draw: Any) -> tuple[Terms, int, dict[int, str], int]:
    """Terms, devices, who vanishes at which event, a seed."""
    devices = draw(st.integers(3, 10))
    threat, adversarial, dropout = draw(
        st.sampled_from(
            [
                ("semi_honest", 0.0, 0.0),
                ("semi_honest", 0.0, 0.3),
                ("semi_honest", 0.3, 0.3),
                ("semi_malicious", 0.0, 0.0),
                ("semi_malicious", 0.0, 0.15),
            ]
        )
    )
    terms = small_terms(
        devices,
        length=draw(st.integers(1, 70)),
        bits=draw(st.sampled_from(BITS)),
        threat=threat,
        adversarial=adversarial,
        dropout=dropout,
    )
    vanish = draw(st.dictionaries(st.integers(0, devices - 1), st.sampled_from(EVENTS), max_size=devices))
    return terms, devices, vanish, draw(st.integers(0, 1 << 32))


def end(play: Play) -> str | None:
    """The phase a session ends in without a sum, or None; and that whatever it ends in is as it must be."""
    try:
        play.run()
    except SessionAborted as error:
        assert play.server.result is None
        assert play.server.phase == "aborted"
        return error.phase
    result = play.server.result
    assert result is not None
    assert result.sum.tolist() == play.plain()
    assert result.count == len(play.survivors)
    verify(result.transcript, result.sum)
    return None


@settings(max_examples=120, deadline=None)
@given(sessions())
def test_the_result_is_the_plain_sum_or_a_clean_end_exactly_when_too_few_are_left(
    drawn: tuple[Terms, int, dict[int, str], int],
) -> None:
    terms, devices, vanish, seed = drawn
    play = Play(terms, vectors_of(devices, terms, seed), vanish, seed=seed)
    ended = end(play)
    assert ended == foretold(play, terms.graph(devices))


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("bits", [16, 24, 33, 64])
def test_one_device_that_vanishes_at_any_event_does_not_spoil_the_sum(event: str, bits: int) -> None:
    terms = small_terms(5, bits=bits, length=9, threat="semi_honest", dropout=0.3)
    play = Play(terms, vectors_of(5, terms), {2: event})
    assert end(play) is None
    assert (2 in play.survivors) == (event in ("survivors", "signatures"))


@pytest.mark.parametrize(
    ("event", "phase"),
    [
        ("roster", "sharing"),
        ("mailbox", "masking"),
        ("vector", "masking"),
        ("survivors", "confirming"),
        ("signatures", "unmasking"),
    ],
)
def test_where_too_many_vanish_the_error_names_the_phase(event: str, phase: str) -> None:
    terms = small_terms(4, dropout=0.25)
    play = Play(terms, vectors_of(4, terms), {0: event, 1: event})
    assert end(play) == phase
    assert foretold(play, terms.graph(4)) == phase


def test_fewer_devices_than_the_least_make_no_session() -> None:
    terms = small_terms(5, dropout=0.25)
    play = Play(terms, vectors_of(2, terms))
    with pytest.raises(SessionAborted, match="2 devices") as caught:
        play.run()
    assert caught.value.phase == "advertising"


@settings(max_examples=3, deadline=None)
@given(st.integers(61, 80), st.integers(0, 1 << 32), st.sampled_from([16, 27, 32, 64]))
def test_a_sparse_graph_gives_the_plain_sum_too(devices: int, seed: int, bits: int) -> None:
    terms = small_terms(devices, bits=bits, length=5, adversarial=0.05, dropout=0.15)
    graph = terms.graph(devices)
    assert graph.degree < devices - 1
    generator = np.random.default_rng(seed)
    gone = generator.permutation(devices)[: int(0.15 * devices)]
    vanish = {int(i): EVENTS[int(generator.integers(len(EVENTS)))] for i in gone}
    play = Play(terms, vectors_of(devices, terms, seed), vanish, seed=seed)
    ended = end(play)
    assert ended == foretold(play, graph)
    assert ended is None


def test_a_device_with_another_model_spoils_nothing_but_the_session() -> None:
    # Its advert is signed over its model, so an honest server does not let it in.
    terms = small_terms(4, dropout=0.25)
    play = Play(terms, vectors_of(4, terms), models={1: b"\1" * 32})
    with pytest.raises(Exception, match="forged signature"):
        play.advertise()
