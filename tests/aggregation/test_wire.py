"""Bytes on the wire: exact forms by hand, round trips of anything, and refusal of everything else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairyring.aggregation import Auxiliary, Message, MessageSpec, wire
from fairyring.core.errors import WireError

ONE_AUXILIARY = (Auxiliary("weight", 1.0),)


def message(vector: list, dtype: type, auxiliary: tuple[float, ...] = (1.0,)) -> Message:
    return Message(np.asarray(vector, dtype), np.asarray(auxiliary, np.float32))


def test_bits_lie_least_significant_first_without_gaps() -> None:
    spec = MessageSpec(3, 1, (), bits=5, integer=True, linf=15)
    # 1 = 00001, -1 = 11111, 2 = 00010: read from the right 00010 11111 00001, padded to two bytes.
    assert wire.pack(message([1, -1, 2], np.int32, ()), spec) == bytes([0b11100001, 0b00001011])


def test_twenty_four_bits_take_three_bytes() -> None:
    spec = MessageSpec(2, 1, (), bits=24, integer=True, modulus_bits=24)
    assert wire.pack(message([0x010203, 0xFFFFFF], np.uint32, ()), spec) == bytes.fromhex("030201ffffff")


def test_sparse_messages_are_indices_then_values() -> None:
    spec = MessageSpec(16, 1, ONE_AUXILIARY, bits=4, nonzero=2, integer=True, linf=7)
    vector = np.zeros(16, np.int32)
    vector[[3, 9]] = 5, -2
    data = wire.pack(message(vector, np.int32), spec)
    assert data == bytes([0x93, 0xE5]) + np.float32(1).tobytes()


def test_fewer_nonzero_coordinates_are_filled_up_with_zeros() -> None:
    spec = MessageSpec(10, 1, ONE_AUXILIARY, bits=8, nonzero=4, integer=True, linf=127)
    sent = message([0, 0, 7, 0, 0, 0, 0, 0, 0, -7], np.int32)
    data = wire.pack(sent, spec)
    assert len(data) == spec.bytes
    np.testing.assert_array_equal(wire.unpack(data, spec).vector, sent.vector)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_message_comes_back(data: st.DataObject) -> None:
    form = data.draw(st.sampled_from(["real", "levels", "modular"]))
    d, auxiliaries = data.draw(st.integers(1, 70)), data.draw(st.integers(0, 3))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    spec = MessageSpec(d, 1, tuple(Auxiliary(f"s{i}", 1.0) for i in range(auxiliaries)))
    vector = rng.normal(size=d).astype(np.float32)
    if form == "levels":
        bits = data.draw(st.integers(2, 16))
        levels = 2 ** (bits - 1) - 1
        spec = spec.replace(bits=bits, integer=True, linf=float(levels))
        vector = rng.integers(-levels, levels + 1, d).astype(np.int32)
    if form == "modular":
        bits = data.draw(st.integers(16, 32))
        spec = spec.replace(bits=bits, integer=True, modulus_bits=bits)
        vector = rng.integers(0, 2**bits, d).astype(np.uint32)
    if form != "modular" and data.draw(st.booleans()):
        k = data.draw(st.integers(1, d))
        spec = spec.replace(nonzero=k)
        vector[rng.permutation(d)[k:]] = 0
    auxiliary = rng.random(auxiliaries).astype(np.float32)
    packed = wire.pack(Message(vector, auxiliary), spec)
    assert len(packed) == spec.bytes
    back = wire.unpack(packed, spec)
    assert back.vector.dtype == vector.dtype
    np.testing.assert_array_equal(back.vector, vector)
    np.testing.assert_array_equal(back.auxiliary, auxiliary)


FORMS = (
    MessageSpec(13, 1, ONE_AUXILIARY),
    MessageSpec(13, 1, ONE_AUXILIARY, bits=5, integer=True, linf=15),
    MessageSpec(13, 1, ONE_AUXILIARY, bits=8, integer=True, linf=127, nonzero=4),
    MessageSpec(13, 1, ONE_AUXILIARY, nonzero=4),
    MessageSpec(13, 1, (), bits=19, integer=True, modulus_bits=19),
)


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(FORMS), st.binary(max_size=80), st.booleans())
def test_any_bytes_are_a_message_or_a_wire_error(spec: MessageSpec, data: bytes, fit: bool) -> None:
    if fit:
        data = (data + bytes(80))[: spec.bytes]
    try:
        got = wire.unpack(data, spec)
    except WireError:
        return
    assert len(data) == spec.bytes
    assert got.vector.shape == (13,)
    assert spec.nonzero is None or np.count_nonzero(got.vector) <= spec.nonzero
    # What is taken is also what would be sent, so nothing is hidden in it.
    if spec.nonzero is None:
        assert wire.pack(got, spec) == data


@pytest.mark.parametrize("signal", FORMS)
def test_truncated_and_oversize_bytes_are_refused(spec: MessageSpec) -> None:
    good = bytes(spec.bytes)
    for data in (b"", good[:-1], good + b"\0", good * 1000):
        with pytest.raises(WireError, match=f"exactly {spec.bytes} bytes"):
            wire.unpack(data, spec)


def test_a_level_out_of_range_is_refused_both_ways() -> None:
    spec = MessageSpec(2, 1, (), bits=8, integer=True, linf=127)
    with pytest.raises(WireError, match="level out of range"):
        wire.unpack(b"\x80\x00", spec)
    with pytest.raises(WireError, match="level out of range"):
        wire.pack(message([128, 0], np.int32, ()), spec)
    with pytest.raises(WireError, match="level out of range"):
        wire.pack(message([-(2**31), 0], np.int32, ()), spec)
    with pytest.raises(WireError, match="beyond the modulus"):
        wire.pack(message([1 << 20, 0], np.uint32, ()), spec.replace(bits=20, modulus_bits=20))


def test_stray_bits_and_disordered_indices_are_refused() -> None:
    with pytest.raises(WireError, match="stray bits"):
        wire.unpack(b"\x00\x80", MessageSpec(3, 1, (), bits=5, integer=True, linf=15))
    sparse = MessageSpec(16, 1, (), bits=8, nonzero=2, integer=True, linf=127)
    for indices in (0x11, 0x12):  # twice the same; descending
        with pytest.raises(WireError, match="indices"):
            wire.unpack(bytes([indices, 1, 1]), sparse)
    with pytest.raises(WireError, match="indices"):
        wire.unpack(bytes([0xF1, 1, 1]), sparse.replace(dimension=15))


@pytest.mark.parametrize(
    "wrong",
    [
        message([1, 2], np.int32),
        message([1, 2, 3], np.float32),
        message([1, 2, 3], np.int64),
        message([1, 2, 3], np.int32, ()),
    ],
)
def test_a_message_of_another_form_is_not_packed(wrong: Message) -> None:
    with pytest.raises(WireError):
        wire.pack(wrong, MessageSpec(3, 1, ONE_AUXILIARY, bits=8, integer=True, linf=127))


def test_more_nonzero_coordinates_than_stated_are_not_packed() -> None:
    with pytest.raises(WireError, match="at most 1"):
        wire.pack(message([1.0, 2.0], np.float32, ()), MessageSpec(2, 1, (), nonzero=1))
