"""The mask kernel: an AES-256-CTR keystream, added to a vector or subtracted from it, block by block.

A mask is the keystream of its key from counter 0, read as little-endian words. A key is used for one mask only. The time is
that of AES, about 6 GB/s per core with AES instructions; a block is added while it is in the cache.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

BLOCK_BYTES = 1 << 18
_ZEROS = bytes(BLOCK_BYTES)
_CIPHER_BLOCK = 16


def word_of(modulus_bits: int) -> type[np.unsignedinteger]:
    """The unsigned type for integers modulo `2**modulus_bits`, 16 to 64 bits.

    Sums wrap at the size of the word; their low bits are the sum modulo `2**modulus_bits`.
    """
    return np.uint16 if modulus_bits == 16 else np.uint32 if modulus_bits <= 32 else np.uint64


def apply_masks(vector: np.ndarray, masks: Sequence[tuple[bytes, int]], *, threads: int = 1) -> None:
    """Add masks to `vector` (`[n]` of uint16, uint32 or uint64, contiguous), in place and wrapping.

    Args:
        vector: changed in place.
        masks: `(key, sign)`: a 32-byte key, and 1 to add its keystream or -1 to subtract it.
        threads: number of threads, each on a part of the vector.
    """
    # Each part begins at a cipher block, whose number is the counter.
    words = _CIPHER_BLOCK // vector.dtype.itemsize
    part = -(-len(vector) // (threads * words)) * words
    starts = range(0, len(vector), max(1, part))
    if len(starts) < 2:
        _apply(vector, masks, 0)
        return
    with ThreadPoolExecutor(len(starts)) as pool:
        for done in [pool.submit(_apply, vector[at : at + part], masks, at // words) for at in starts]:
            done.result()


def _apply(vector: np.ndarray, masks: Sequence[tuple[bytes, int]], first: int) -> None:
    """`apply_masks` with keystreams from cipher block `first` on."""
    size = vector.dtype.itemsize
    # The cipher may require room for one byte less than a cipher block beyond the data.
    buffer = bytearray(min(BLOCK_BYTES, vector.nbytes) + _CIPHER_BLOCK - 1)
    keystream = np.frombuffer(buffer, vector.dtype.newbyteorder("<"), len(buffer) // size)
    zeros = memoryview(_ZEROS)
    streams = [(_stream(key, first), np.add if sign > 0 else np.subtract) for key, sign in masks]
    for start in range(0, len(vector), BLOCK_BYTES // size):
        block = vector[start : start + BLOCK_BYTES // size]
        for stream, combine in streams:
            stream.update_into(zeros[: block.nbytes], buffer)
            combine(block, keystream[: len(block)], out=block)


def random_bytes(key: bytes, count: int) -> bytes:
    """The first `count` bytes of a key's keystream."""
    return _stream(key, 0).update(bytes(count))


def _stream(key: bytes, first: int) -> CipherContext:
    return Cipher(AES256(key), CTR(first.to_bytes(_CIPHER_BLOCK, "big"))).encryptor()
