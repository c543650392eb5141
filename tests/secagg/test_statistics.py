"""Statistics that our masks pass, and that catch a generator with a small seed and a vector in the clear."""

import hashlib
import random
from collections.abc import Callable

import numpy as np
import pytest

from fairyring.secagg._suite import pair_mask, self_mask
from fairyring.secagg.keystream import apply_masks, random_bytes
from tests.secagg.driving import Play, small_terms

MASKS = 1 << 18
PREFIX = 16


def collisions(prefix_of: Callable[[int], bytes], count: int) -> int:
    """How many of `count` masks begin with the same 16 bytes as one before."""
    return count - len({prefix_of(i) for i in range(count)})


def ours(number: int) -> bytes:
    """The beginning of a mask keyed as a session does."""
    key = pair_mask(number.to_bytes(32, "little"), b"r" * 32, b"c" * 32, 0, 1)
    return random_bytes(key, PREFIX)


def small_seed(bits: int) -> Callable[[int], bytes]:
    """The beginning of a mask from a statistical generator with a seed of so many bits."""
    seeds = np.random.default_rng(7).integers(0, 1 << bits, MASKS, dtype=np.uint64)
    known: dict[int, bytes] = {}

    def prefix(number: int) -> bytes:
        seed = int(seeds[number])
        if bits > 32:
            return hashlib.sha256(seed.to_bytes(8, "little")).digest()[:PREFIX]
        if seed not in known:
            known[seed] = random.Random(seed).randbytes(PREFIX)
        return known[seed]

    return prefix


@pytest.mark.slow
def test_no_two_of_many_masks_begin_alike() -> None:
    assert collisions(ours, MASKS) == 0


@pytest.mark.slow
def test_the_same_count_catches_masks_from_a_seed_of_32_bits() -> None:
    # 2^36 / 2 pairs, each alike with a chance of 2^-32: 8 are expected, none with a chance of e^-8.
    assert 1 <= collisions(small_seed(32), MASKS) <= 30


def test_a_quick_count_of_each() -> None:
    assert collisions(ours, 1 << 12) == 0
    assert collisions(small_seed(63), 1 << 12) == 0
    # 2^23 pairs over 2^20 seeds.
    assert collisions(small_seed(20), 1 << 12) >= 1


def test_masks_of_other_pairs_sessions_and_purposes_differ() -> None:
    keys = {
        make(secret * 32, root * 32, context * 32, *ends)
        for make, all_ends in ((pair_mask, ((0, 1), (0, 2), (1, 2))), (self_mask, ((),)))
        for secret in (b"a", b"b")
        for root in (b"c", b"d")
        for context in (b"e", b"f")
        for ends in all_ends
    }
    assert len(keys) == 32


def test_both_ends_key_their_mask_alike() -> None:
    secret, root, context = b"a" * 32, b"c" * 32, b"e" * 32
    assert pair_mask(secret, root, context, 7, 3) == pair_mask(secret, root, context, 3, 7)


def deviation(observed: np.ndarray, expected: float) -> float:
    """Chi-square over as many cells, in standard deviations from its mean."""
    freedom = len(observed) - 1
    chi = float(((observed - expected) ** 2).sum() / expected)
    return (chi - freedom) / (2 * freedom) ** 0.5


def looks_uniform(data: bytes) -> bool:
    """Whether bytes, and each of their bits, are as often this as that: to within six standard deviations."""
    values = np.frombuffer(data, np.uint8)
    if abs(deviation(np.bincount(values, minlength=256), len(values) / 256)) > 6:
        return False
    ones = np.unpackbits(values.reshape(-1, 1), axis=1).sum(axis=0)
    return bool((np.abs(ones - len(values) / 2) < 6 * (len(values) / 4) ** 0.5).all())


def quantised(length: int, bits: int) -> np.ndarray:
    """What a device's update looks like in the clear: numbers around the middle of a range."""
    update = np.random.default_rng(1).normal(0, 0.1, length)
    levels = np.clip(np.rint((update + 1) / 2 * ((1 << (bits - 4)) - 1)), 0, (1 << (bits - 4)) - 1)
    return levels.astype(np.uint16 if bits == 16 else np.uint32)


@pytest.mark.parametrize("bits", [16, 32])
def test_a_masked_vector_looks_uniform_and_the_same_in_the_clear_does_not(bits: int) -> None:
    terms = small_terms(3, bits=bits, length=100_000)
    vectors = [quantised(100_000, bits)] * 3
    play = Play(terms, vectors)
    play.advertise()
    play.deliver("roster")
    play.deliver("mailbox")
    play.contribute()
    for index in play.server._state.inputs:
        record = play.server._log.read(play.server._state.inputs[index]).data
        masked = record[-terms.vector_bytes - 66 : -66]
        assert looks_uniform(masked)
        assert not looks_uniform(vectors[0].tobytes())
    sent = [play.sent[i, "vector"] for i in range(3)]
    assert len(set(sent)) == 3  # of equal vectors


def test_one_mask_fewer_is_still_uniform_and_none_is_not() -> None:
    vector = quantised(50_000, 32)
    apply_masks(vector, [(b"k" * 32, 1)])
    assert looks_uniform(vector.tobytes())
    apply_masks(vector, [(b"k" * 32, -1)])
    assert not looks_uniform(vector.tobytes())
