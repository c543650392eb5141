"""A transcript that was changed anywhere is not believed."""

from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairyring.core.errors import SecureSumError
from fairyring.secagg import Terms, Transcript, verify
from fairyring.secagg.messages import Survivors
from tests.secagg.driving import Play, identity, small_terms, vectors_of


@cache
def published() -> tuple[Transcript, np.ndarray, Play]:
    """Of five devices; one never sent shares, one sent no input."""
    terms = small_terms(5, dropout=0.3)
    play = Play(terms, vectors_of(5, terms), {1: "vector", 3: "roster"}).run()
    assert play.server.result is not None
    return play.server.result.transcript, play.server.result.sum, play


def flipped(data: bytes, at: int = 0) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def terms_with(t: Transcript, **change: Any) -> Terms:
    return msgspec.structs.replace(t.terms, **change)


def index_of(play: Play, number: int) -> int:
    return play.server._state.index[identity(number).public]


CHANGES: dict[str, Callable[[Transcript, Play], dict[str, Any]]] = {
    "plan": lambda t, p: {"terms": terms_with(t, plan=b"\1" * 32)},
    "length": lambda t, p: {"terms": terms_with(t, length=3)},
    "modulus bits": lambda t, p: {"terms": terms_with(t, modulus_bits=17)},
    "minimum_cohort": lambda t, p: {"terms": terms_with(t, minimum_cohort=4)},
    "maximum_cohort": lambda t, p: {"terms": terms_with(t, maximum_cohort=6)},
    "threat": lambda t, p: {"terms": terms_with(t, threat="semi_malicious")},
    "adversarial rate": lambda t, p: {"terms": terms_with(t, adversarial_rate=0.01)},
    "dropout rate": lambda t, p: {"terms": terms_with(t, dropout_rate=0.29)},
    "round": lambda t, p: {"round": 2},
    "model": lambda t, p: {"model": flipped(t.model)},
    "history": lambda t, p: {"previous": bytes(32)},
    "beacon": lambda t, p: {"beacon": b"x"},
    "an advert's key": lambda t, p: {"adverts": (flipped(t.adverts[0], 60), *t.adverts[1:])},
    "an advert's signature": lambda t, p: {
        "adverts": (flipped(t.adverts[0], -1 % len(t.adverts[0])), *t.adverts[1:])
    },
    "an advert's end": lambda t, p: {"adverts": (t.adverts[0][:-1], *t.adverts[1:])},
    "adverts in another order": lambda t, p: {"adverts": t.adverts[::-1]},
    "an advert twice": lambda t, p: {"adverts": (t.adverts[0], *t.adverts)},
    "an advert fewer": lambda t, p: {"adverts": t.adverts[:-1]},
    "no advert": lambda t, p: {"adverts": ()},
    "holders without a survivor": lambda t, p: {
        "holders": bytes([t.holders[0] & ~(1 << index_of(p, 0))]),
    },
    "holders of another length": lambda t, p: {"holders": t.holders + b"\0"},
    "holders past the last": lambda t, p: {"holders": bytes([t.holders[0] | 0x80])},
    "a holder more": lambda t, p: {"holders": bytes([t.holders[0] | 1 << index_of(p, 3)])},
    "a holder fewer": lambda t, p: {"holders": bytes([t.holders[0] & ~(1 << index_of(p, 1))])},
    "a survivor more": lambda t, p: {
        "survivors": bytes([t.survivors[0] | 1 << index_of(p, 1)]),
        "count": t.count + 1,
    },
    "survivors of another length": lambda t, p: {"survivors": t.survivors + b"\0"},
    "nobody survived": lambda t, p: {"survivors": b"\0", "count": 0, "signatures": ()},
    "a signature's bit": lambda t, p: {
        "signatures": ((t.signatures[0][0], flipped(t.signatures[0][1])), *t.signatures[1:])
    },
    "a signature twice": lambda t, p: {"signatures": (t.signatures[0], *t.signatures)},
    "a signature by nobody": lambda t, p: {"signatures": (*t.signatures, (2**32 - 1, bytes(64)))},
    "a signature under another's name": lambda t, p: {
        "signatures": ((t.signatures[1][0], t.signatures[0][1]), *t.signatures[1:])
    },
    "no signatures": lambda t, p: {"signatures": ()},
    "one signature": lambda t, p: {"signatures": t.signatures[:1]},
    "count": lambda t, p: {"count": t.count + 1},
    "result": lambda t, p: {"result": flipped(t.result)},
}


def test_what_was_published_is_believed() -> None:
    transcript, vector, _ = published()
    verify(transcript)
    verify(transcript, vector)


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_transcript_is_not_believed(name: str) -> None:
    transcript, vector, play = published()
    changed = msgspec.structs.replace(transcript, **CHANGES[name](transcript, play))
    assert changed != transcript
    with pytest.raises(SecureSumError):
        verify(changed, vector)


@pytest.mark.parametrize("at", [0, 1])
def test_another_sum_is_not_believed(at: int) -> None:
    transcript, vector, _ = published()
    other = vector.copy()
    other[at] += 1
    for wrong in (other, vector[:1], np.append(vector, vector), vector[::-1].copy()):
        with pytest.raises(SecureSumError):
            verify(transcript, wrong)


@pytest.mark.parametrize(
    "wrong", [np.zeros(2, np.float32), np.zeros((2, 1), np.uint16), np.zeros(2, np.int64)]
)
def test_a_sum_of_another_form_is_not_believed(wrong: np.ndarray) -> None:
    transcript, _, _ = published()
    with pytest.raises(SecureSumError):
        verify(transcript, wrong)


def test_a_transcript_kept_as_bytes_is_the_same() -> None:
    transcript, vector, _ = published()
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(transcript), type=Transcript)
    assert again == transcript
    verify(again, vector)
    as_json = msgspec.json.decode(msgspec.json.encode(transcript), type=Transcript)
    verify(as_json, vector)


def test_a_transcript_of_a_session_with_whole_rates_is_the_same_when_kept() -> None:
    terms = small_terms(3, adversarial=0, dropout=0)
    play = Play(terms, vectors_of(3, terms)).run()
    assert play.server.result is not None
    kept = msgspec.msgpack.encode(play.server.result.transcript)
    verify(msgspec.msgpack.decode(kept, type=Transcript), play.server.result.sum)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_changed_byte_of_a_transcript_is_believed(data: st.DataObject) -> None:
    transcript, vector, _ = published()
    kept = bytearray(msgspec.msgpack.encode(transcript))
    at = data.draw(st.integers(0, len(kept) - 1))
    kept[at] ^= data.draw(st.integers(1, 255))
    try:
        changed = msgspec.msgpack.decode(bytes(kept), type=Transcript)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
        return
    if changed != transcript:
        with pytest.raises(SecureSumError):
            verify(changed, vector)


def test_signatures_of_another_set_are_not_believed() -> None:
    transcript, vector, play = published()
    survivors = bytes([transcript.survivors[0] ^ (1 << index_of(play, 0))])
    payload = Survivors(play.server._state.root, survivors).payload(play.session.context)
    forged = tuple((index_of(play, i), identity(i).sign(payload)) for i in (2, 4))
    changed = msgspec.structs.replace(transcript, signatures=forged)
    with pytest.raises(SecureSumError, match="forged"):
        verify(changed, vector)
