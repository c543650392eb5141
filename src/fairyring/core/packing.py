"""Packing whole numbers of a few bits each into bytes without gaps, least significant bit first.

Unused bits in the last byte are zero, so that every vector has exactly one encoding.
"""

import numpy as np

GROUP = 64  # words packed at a time; for every width they end at the boundary of a 64-bit word


def packed_size(count: int, bits: int) -> int:
    """The number of bytes for `count` words of `bits` bits."""
    return -(-count * bits // 8)


def pack_words(words: np.ndarray, bits: int) -> bytes:
    """The low `bits` bits (1 to 64) of unsigned words `[n]`, one after another."""
    size = words.dtype.itemsize
    if bits == 8 * size:
        return words.astype(words.dtype.newbyteorder("<"), copy=False).tobytes()
    if bits % 8 == 0 and bits < 8 * size:
        octets = words.astype(words.dtype.newbyteorder("<"), copy=False).view(np.uint8).reshape(-1, size)
        return octets[:, : bits // 8].tobytes()
    groups = -(-len(words) // GROUP)
    columns = np.zeros((GROUP, groups), np.uint64)
    columns.T.flat[: len(words)] = words
    columns &= _low(bits)
    packed = np.zeros((bits, groups), np.uint64)
    for j, at, shift, spills in _places(bits):
        packed[at] |= columns[j] << shift
        if spills:
            packed[at + 1] |= columns[j] >> (np.uint64(64) - shift)
    return packed.T.astype("<u8").tobytes()[: packed_size(len(words), bits)]


def check_packed(data: bytes | memoryview, bits: int, count: int) -> None:
    """Check that `data` is a valid encoding of `count` words of `bits` bits, without unpacking it.

    Raises:
        ValueError: its length is not `packed_size(count, bits)`, or an unused bit is set.
    """
    if len(data) != packed_size(count, bits):
        raise ValueError(
            f"{len(data)} bytes where {packed_size(count, bits)} hold {count} words of {bits} bits"
        )
    if count * bits % 8 and data[-1] >> (count * bits % 8):
        raise ValueError("stray bits after the last word")


def unpack_words(
    data: bytes | memoryview, bits: int, count: int, dtype: type[np.unsignedinteger]
) -> np.ndarray:
    """The `count` words of `bits` bits that `data` holds, as `dtype`: the inverse of `pack_words`.

    Raises:
        ValueError: see `check_packed`.
    """
    check_packed(data, bits, count)
    body, size = np.frombuffer(data, np.uint8), np.dtype(dtype).itemsize
    if bits == 8 * size:
        return body.view(np.dtype(dtype).newbyteorder("<")).astype(dtype)
    if bits % 8 == 0 and bits < 8 * size:
        octets = np.zeros((count, size), np.uint8)
        octets[:, : bits // 8] = body.reshape(count, bits // 8)
        return octets.reshape(-1).view(np.dtype(dtype).newbyteorder("<")).astype(dtype, copy=False)
    groups = -(-count // GROUP)
    octets = np.zeros(groups * bits * 8, np.uint8)
    octets[: len(body)] = body
    packed = np.ascontiguousarray(octets.view("<u8").reshape(groups, bits).T)
    columns = np.zeros((GROUP, groups), dtype)
    for j, at, shift, spills in _places(bits):
        word = packed[at] >> shift
        if spills:
            word |= packed[at + 1] << (np.uint64(64) - shift)
        columns[j] = word & _low(bits)
    return columns.T.reshape(-1)[:count].copy()


def _places(bits: int) -> list[tuple[int, int, np.uint64, bool]]:
    """For each word of a group: its index, the 64-bit word it starts in, its shift there, and whether it continues in the next."""
    starts = [(j, *divmod(j * bits, 64)) for j in range(GROUP)]
    return [(j, at, np.uint64(shift), shift + bits > 64) for j, at, shift in starts]


def _low(bits: int) -> np.uint64:
    return np.uint64((1 << bits) - 1)
