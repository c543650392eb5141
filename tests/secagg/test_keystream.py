"""The mask kernel against the block cipher it is made of, and against itself with more threads."""

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import ECB
from hypothesis import given, settings
from hypothesis import strategies as st

from fairyring.secagg.keystream import BLOCK_BYTES, _stream, apply_masks, random_bytes, word_of

# NIST SP 800-38A, F.5.5: AES-256 in counter mode.
KEY = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
FIRST_COUNTER = int("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff", 16)
KEYSTREAM = bytes.fromhex(
    "0bdf7df1591716335e9a8b15c860c5025a6e699d536119065433863c8f657b94"
    "1bc12c9c01610d5d0d8bd6a3378eca622956e1c8693536b1bee99c73a31576b6"
)
WORDS = [np.uint16, np.uint32, np.uint64]


def blocks(key: bytes, first: int, count: int) -> bytes:
    """The cipher's image of counters, one block each."""
    counters = b"".join(i.to_bytes(16, "big") for i in range(first, first + count))
    return Cipher(AES256(key), ECB()).encryptor().update(counters)


def test_the_cipher_is_that_of_the_standard() -> None:
    assert _stream(KEY, FIRST_COUNTER).update(bytes(64)) == KEYSTREAM
    assert blocks(KEY, FIRST_COUNTER, 4) == KEYSTREAM


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 1000, 65_537])
def test_a_keystream_is_the_cipher_of_counters_from_zero(count: int) -> None:
    assert random_bytes(KEY, count) == blocks(KEY, 0, -(-count // 16))[:count]


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("extra", [-9, -1, 0, 1, 7, 8, 9])
def test_a_mask_is_one_keystream_across_the_borders_of_blocks(word: type, extra: int) -> None:
    length = 2 * BLOCK_BYTES // np.dtype(word).itemsize + extra
    vector = np.zeros(length, word)
    apply_masks(vector, [(KEY, 1)])
    expected = np.frombuffer(random_bytes(KEY, vector.nbytes), np.dtype(word).newbyteorder("<"))
    assert np.array_equal(vector, expected)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.sampled_from(WORDS), st.integers(1, 7), st.integers(0, 5))
def test_threads_do_not_change_a_bit(length: int, word: type, threads: int, masks: int) -> None:
    keys = [(bytes([i]) * 32, 1 if i % 2 else -1) for i in range(masks)]
    one, many = np.arange(length).astype(word), np.arange(length).astype(word)
    apply_masks(one, keys)
    apply_masks(many, keys, threads=threads)
    assert np.array_equal(one, many)


@pytest.mark.parametrize("word", WORDS)
def test_threads_do_not_change_a_bit_of_a_long_vector(word: type) -> None:
    keys = [(bytes([i]) * 32, -1 if i else 1) for i in range(3)]
    one, many = np.zeros(700_001, word), np.zeros(700_001, word)
    apply_masks(one, keys)
    apply_masks(many, keys, threads=3)
    assert np.array_equal(one, many)


@pytest.mark.parametrize("word", WORDS)
def test_what_is_added_can_be_taken_away(word: type) -> None:
    vector = np.arange(5000).astype(word)
    apply_masks(vector, [(KEY, 1), (bytes(32), -1)])
    assert not np.array_equal(vector, np.arange(5000).astype(word))
    apply_masks(vector, [(bytes(32), 1), (KEY, -1)])
    assert np.array_equal(vector, np.arange(5000).astype(word))


@pytest.mark.parametrize("bits", range(16, 65))
def test_a_word_is_wide_enough_for_its_modulus(bits: int) -> None:
    assert np.dtype(word_of(bits)).itemsize * 8 >= bits
