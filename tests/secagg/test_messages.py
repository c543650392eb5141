"""Every decoder, fed whatever: our own errors and no others, and caps before anything is allocated."""

import tracemalloc
from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairyring.core.errors import FairyringError, MessageRefused, SecureSumError, SessionAborted
from fairyring.secagg import Device, MemoryLog, Server
from fairyring.secagg.messages import FromDevice, FromServer, decode, encode, maximum_bytes
from tests.secagg.driving import Play, identity, root_secret, small_terms, vectors_of
from tests.secagg.reference import pack
from tests.secagg.spoiling import Spoiled

MESSAGES = ("advertise", "shares", "masked_input", "consistency", "unmask")
ANSWERS = ("roster", "mailbox", "survivors", "signatures")
COMPLAINTS = {"complaint": "mailbox", "disclosure": "accusation"}  # what device 0 answers in a quarrel
SETTLING = {"accusation": "disclosing", "settlement": "masking"}  # what it is told there
EVENT_OF = dict(zip(MESSAGES, ("start", "roster", "vector", "survivors", "signatures"), strict=True))
PHASE_OF = dict(zip(ANSWERS, ("sharing", "opening", "confirming", "unmasking"), strict=True))


@cache
def played() -> Play:
    terms = small_terms(4, dropout=0.25)
    return Play(terms, vectors_of(4, terms)).run()


@cache
def quarrelled() -> Play:
    """Device 0 complains of 1, which is barred, and of 2, which then discloses; and 3 complains of 0."""
    terms = small_terms(6, dropout=0.25)
    return Spoiled(
        terms, vectors_of(6, terms), {1: {0}, 2: {0}}, sorry={2}, liars={3: {0}}, vanish={3: "vector"}
    ).run()


def message(kind: str) -> bytes:
    """An honest one, of or for device 0."""
    if kind in COMPLAINTS:
        return quarrelled().sent[0, COMPLAINTS[kind]]
    if kind in SETTLING:
        return quarrelled().delivered[0, SETTLING[kind]]
    play = played()
    return play.sent[0, EVENT_OF[kind]] if kind in EVENT_OF else play.delivered[0, PHASE_OF[kind]]


def server_before(kind: str) -> Server:
    """A server that has yet to get this message of device 0."""
    if kind in COMPLAINTS:
        return Server(quarrelled().session, log_before(kind, "server"))
    play = played()
    server = Server(play.session, MemoryLog())
    for name in MESSAGES:
        for i in range(4):
            if name == kind and i == 0:
                break
            server.receive(play.sent[i, EVENT_OF[name]])
        if name == kind:
            break
        list(server.close())
        if server.phase == "opening" and kind != "shares":
            list(server.close())
    return server


def device_before(kind: str) -> Device:
    """Device 0, which has yet to get this message."""
    if kind in SETTLING:
        return Device(quarrelled().session, identity(0), log_before(kind, 0))
    play = played()
    device = Device(play.session, identity(0), MemoryLog(), entropy=lambda size: root_secret(0)[:size])
    device.start()
    for name in ANSWERS[: ANSWERS.index(kind)]:
        device.receive(message(name))
        if name == "mailbox":
            device.contribute(play.vectors[0])
    return device


def log_before(kind: str, party: str | int) -> MemoryLog:
    """What a party of the quarrel had in its log before that message."""
    records = list(quarrelled().logs[party])
    return MemoryLog(records[: [record.data for record in records].index(message(kind))])


def tried(party: Any, data: bytes, honest: bytes) -> None:
    """Hand over bytes: they are the honest ones, or are refused; nothing else may come of them."""
    try:
        party.receive(data)
    except (MessageRefused, SessionAborted):
        return
    assert data == honest


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False)
    | st.binary(max_size=70)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


@st.composite
def changed(draw: Any, kind: str) -> bytes:
    """An honest message with a few changes of its bytes, or of what they hold."""
    data = bytearray(message(kind))
    how = draw(st.sampled_from(["bytes", "cut", "insert", "field", "random", "shaped"]))
    if how == "random":
        return draw(st.binary(max_size=300))
    if how == "shaped":
        return msgspec.msgpack.encode(
            [
                draw(st.sampled_from((*MESSAGES, *ANSWERS, *COMPLAINTS, *SETTLING, "x"))),
                *draw(st.lists(values)),
            ]
        )
    if how == "field":
        fields = msgspec.msgpack.decode(bytes(data))
        at = draw(st.integers(0, len(fields) - 1))
        part = fields[at]
        if isinstance(part, list) and part and draw(st.booleans()):
            part[draw(st.integers(0, len(part) - 1))] = draw(values)
        else:
            fields[at] = draw(values)
        return msgspec.msgpack.encode(fields)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data) - 1))
        if how == "bytes":
            data[at] = draw(st.integers(0, 255))
        elif how == "cut":
            del data[at : at + draw(st.integers(1, 40))]
            if not data:
                break
        else:
            data[at:at] = draw(st.binary(min_size=1, max_size=9))
    return bytes(data)


@pytest.mark.dealt(3, "kind")
@pytest.mark.parametrize("kind", [*MESSAGES, *COMPLAINTS])
@settings(max_examples=80, deadline=None)
@given(st.data())
def test_a_server_takes_nothing_but_the_honest_bytes(kind: str, data: st.DataObject) -> None:
    server = server_before(kind)
    before = len(server._log)
    for _ in range(5):
        tried(server, data.draw(changed(kind)), message(kind))
    tried(server, message(kind), message(kind))
    # Whatever came, it is the honest message that is in the log, once.
    assert len(server._log) == before + 1
    assert server._log.read(before).data == message(kind)


@pytest.mark.dealt(3, "kind")
@pytest.mark.parametrize("kind", [*ANSWERS, *SETTLING])
@settings(max_examples=80, deadline=None)
@given(st.data())
def test_a_device_takes_nothing_that_says_otherwise(kind: str, data: st.DataObject) -> None:
    device = device_before(kind)
    answer = None
    try:
        for _ in range(5):
            try:
                answer = device.receive(data.draw(changed(kind)))
            except MessageRefused:
                continue
    except SessionAborted:
        assert device.phase == "aborted"
        return
    if answer is not None:
        assert len({answer, device.receive(device._log.read(len(device._log) - 1).data)}) == 1


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 400), st.sampled_from([FromDevice, FromServer]))
def test_any_bytes_decode_to_a_message_or_are_refused(data: bytes, maximum: int, kind: Any) -> None:
    try:
        result = decode(data, kind, maximum, "test")
    except MessageRefused:
        return
    assert len(data) <= maximum
    assert encode(result) == data


@pytest.mark.parametrize("head", [b"\xdd\xff\xff\xff\xff", b"\xdd\x10\x00\x00\x00", b"\xdc\xff\xff"])
@pytest.mark.parametrize(
    "kind", ["shares", "mailbox", "signatures", "unmask", "roster", *COMPLAINTS, *SETTLING]
)
def test_a_head_that_promises_more_than_there_is_takes_no_memory(kind: str, head: bytes) -> None:
    # The array of entries is the last but one of a device's fields, the last of the server's.
    fields = msgspec.msgpack.decode(message(kind))
    at = next(i for i, field in enumerate(fields) if isinstance(field, list))
    data = bytes([0x90 | len(fields)]) + b"".join(pack(field) for field in fields[:at]) + head
    tracemalloc.start()
    with pytest.raises(MessageRefused):
        decode(data, FromDevice | FromServer, 1 << 20, "test")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 21


@pytest.mark.parametrize("party", ["server", "device"])
def test_an_oversize_message_is_refused_before_it_is_read(party: str) -> None:
    data = bytes(50_000_000)
    target = server_before("masked_input") if party == "server" else device_before("mailbox")
    tracemalloc.start()
    with pytest.raises(MessageRefused, match="50000000 bytes"):
        target.receive(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 16


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 1200), st.integers(1, 4), st.integers(1, 5000))
def test_the_cap_is_above_every_honest_message(devices: int, share: int, vector: int) -> None:
    degree = max(2, (devices - 1) // share)
    advert = ["advertise", *[bytes(32)] * 5, bytes(64)]
    maximum = maximum_bytes(vector, devices, degree)
    named = pack(["roster", bytes(48 * devices), bytes(64), [advert] * degree])
    assert len(named) <= maximum_bytes(vector, devices, degree, named=True)
    for honest in (
        pack(["roster", bytes(32 * devices), bytes(64), [advert] * degree]),
        pack(["shares", bytes(32), 2**32 - 1, [bytes(82)] * degree, bytes(64)]),
        pack(["mailbox", bytes(32), [bytes(82)] * degree]),
        pack(["complaint", bytes(32), 2**32 - 1, [bytes(64)] * degree, bytes(64)]),
        pack(["accusation", bytes(32), [bytes(64)] * degree]),
        pack(["disclosure", bytes(32), 2**32 - 1, [bytes(130)] * degree, bytes(64)]),
        pack(["settlement", bytes(32), bytes(-(-degree // 8)), [bytes(130)] * degree]),
        pack(["masked_input", bytes(32), 2**32 - 1, bytes(vector), bytes(64)]),
        pack(["signatures", bytes(32), bytes(-(-devices // 8)), [bytes(64)] * degree]),
        pack(["unmask", bytes(32), 2**32 - 1, [bytes(33)] * degree, bytes(64)]),
    ):
        assert len(honest) <= maximum
        decode(honest, FromDevice | FromServer, maximum, "test")


@pytest.mark.parametrize(
    "vector",
    [
        np.zeros(3, np.uint16),
        np.zeros((2, 1), np.uint16),
        np.zeros(2, np.int16),
        np.zeros(2, np.float32),
        np.full(2, 1 << 16, np.uint32),
        np.zeros(0, np.uint16),
        [0, 1],
        "vector",
        None,
    ],
    ids=repr,
)
def test_a_vector_of_another_form_is_refused_and_the_right_one_is_taken_after_it(vector: Any) -> None:
    play = played()
    device = Device(play.session, identity(0), MemoryLog(), entropy=lambda size: root_secret(0)[:size])
    device.start()
    with pytest.raises(MessageRefused, match="vector"):
        device.contribute(play.vectors[0])
    device.receive(message("roster"))
    device.receive(message("mailbox"))
    with pytest.raises(MessageRefused, match="unsigned numbers below"):
        device.contribute(vector)
    assert device.contribute(play.vectors[0]) == message("masked_input")


def test_a_wider_word_with_small_numbers_is_the_same_vector() -> None:
    play = played()
    device = Device(play.session, identity(0), MemoryLog(), entropy=lambda size: root_secret(0)[:size])
    device.start()
    device.receive(message("roster"))
    device.receive(message("mailbox"))
    assert device.contribute(play.vectors[0].astype(np.uint64)) == message("masked_input")


def test_the_refusals_are_of_one_tree() -> None:
    assert issubclass(MessageRefused, SecureSumError)
    assert issubclass(SessionAborted, SecureSumError)
    assert issubclass(SecureSumError, FairyringError)
