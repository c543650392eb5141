"""Packing whole numbers of a few bits, compared with one big integer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairyring.core.packing import pack_words, packed_size, unpack_words

WORDS = [np.uint8, np.uint16, np.uint32, np.uint64]


def smallest(bits: int) -> type[np.unsignedinteger]:
    return next(word for word in WORDS if np.dtype(word).itemsize * 8 >= bits)


def big(numbers: list[int], bits: int) -> bytes:
    """The words as one big integer, least significant word first."""
    whole = sum(number << (i * bits) for i, number in enumerate(numbers))
    return whole.to_bytes(-(-len(numbers) * bits // 8), "little")


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 64), st.data())
def test_packing_is_one_big_integer_and_unpacking_its_inverse(bits: int, data: st.DataObject) -> None:
    numbers = data.draw(st.lists(st.integers(0, (1 << bits) - 1), max_size=150))
    word = data.draw(st.sampled_from(WORDS[WORDS.index(smallest(bits)) :]))
    packed = pack_words(np.array(numbers, word), bits)
    assert packed == big(numbers, bits)
    assert len(packed) == packed_size(len(numbers), bits)
    again = unpack_words(packed, bits, len(numbers), word)
    assert again.dtype == word
    assert again.tolist() == numbers


@pytest.mark.parametrize("bits", range(1, 65))
def test_every_width_keeps_its_extremes(bits: int) -> None:
    numbers = [0, (1 << bits) - 1, 1 << (bits - 1), 1] * 40
    packed = pack_words(np.array(numbers, smallest(bits)), bits)
    assert packed == big(numbers, bits)
    assert unpack_words(memoryview(packed), bits, len(numbers), smallest(bits)).tolist() == numbers


@pytest.mark.parametrize("bits", [3, 12, 17, 24, 33, 63])
def test_only_the_low_bits_are_kept(bits: int) -> None:
    numbers = np.arange(1000, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    low = [int(number) & ((1 << bits) - 1) for number in numbers]
    assert pack_words(numbers, bits) == big(low, bits)


@pytest.mark.parametrize("bits", [1, 7, 16, 17, 24, 33, 64])
def test_what_was_unpacked_can_be_written_to(bits: int) -> None:
    words = unpack_words(bytes(packed_size(70, bits)), bits, 70, smallest(bits))
    words += 1
    assert words.flags.c_contiguous
    assert words.tolist() == [1] * 70


@pytest.mark.parametrize("bits", [1, 7, 8, 16, 17, 24, 32, 33, 64])
@pytest.mark.parametrize("extra", [-1, 1])
def test_another_length_is_refused(bits: int, extra: int) -> None:
    with pytest.raises(ValueError, match="bytes where"):
        unpack_words(bytes(packed_size(9, bits) + extra), bits, 9, smallest(bits))


@pytest.mark.parametrize("bits", [1, 3, 7, 17, 20, 33, 63])
def test_stray_bits_are_refused_so_that_a_vector_has_one_form(bits: int) -> None:
    count = 3
    packed = bytearray(pack_words(np.zeros(count, smallest(bits)), bits))
    assert count * bits % 8
    packed[-1] |= 0x80
    with pytest.raises(ValueError, match="stray bits"):
        unpack_words(bytes(packed), bits, count, smallest(bits))
