"""One client's encoded message as bytes, and back. The length is always `spec.bytes`.

The vector comes first, then the auxiliary values as little-endian float32. Integers take `spec.bits` bits each, in two's
complement, least significant bit first, without gaps. Real numbers are little-endian float32. If only `spec.nonzero`
coordinates travel, their indices come first (ascending, `spec.index_bits` bits each), then their values. Unused bits of
the vector's last byte are zero. So every message has exactly one encoding. The exception is a message with fewer nonzero
coordinates than allowed: there `pack` adds the first zeros.
"""

from typing import Any, Never, cast

import numpy as np

from fairyring.aggregation.contract import Message, MessageSpec
from fairyring.core.errors import WireError
from fairyring.core.packing import pack_words, unpack_words


def pack(message: Message, spec: MessageSpec) -> bytes:
    """The bytes of one encoded message.

    Args:
        message: NumPy arrays: vector `[spec.dimension]` (float32, or int32/uint32 where `spec.integer`),
            auxiliary float32 `[len(spec.auxiliary)]`.
        spec: the spec of the bound chain.

    Raises:
        WireError: the message does not have this shape or type, or a value is out of range.
    """
    vector, auxiliary = np.asarray(message.vector), np.asarray(message.auxiliary)
    if vector.shape != (spec.dimension,) or auxiliary.shape != (len(spec.auxiliary),):
        _refuse(
            "message",
            f"shapes {vector.shape} and {auxiliary.shape}",
            f"[{spec.dimension}] and [{len(spec.auxiliary)}]",
        )
    if vector.dtype != _dtype(spec) or auxiliary.dtype != np.float32:
        _refuse("message", f"{vector.dtype} and {auxiliary.dtype}", f"{_dtype(spec)} and float32")
    if spec.integer:
        _check_range(vector, spec)
    words = vector.view(np.uint32)
    if spec.nonzero is None:
        body = pack_words(words, spec.bits)
    else:
        index = _places(vector, spec)
        bits = np.concatenate([_to_bits(index, spec.index_bits), _to_bits(words[index], spec.bits)])
        body = np.packbits(bits, bitorder="little").tobytes()
    return body + auxiliary.astype("<f4").tobytes()


def unpack(data: bytes, spec: MessageSpec) -> Message:
    """The message in `data`, as NumPy arrays: the inverse of `pack`.

    The length is checked before anything is allocated. Real numbers are not checked for being finite.

    Raises:
        WireError: `data` is not exactly `spec.bytes` long, has stray bits, a level out of range, or
            indices that are not ascending or not within the vector.
    """
    if len(data) != spec.bytes:
        _refuse("message", f"{len(data)} bytes", f"exactly {spec.bytes} bytes")
    body = np.frombuffer(data, np.uint8, spec.vector_bytes)
    auxiliary = np.frombuffer(data, "<f4", len(spec.auxiliary), spec.vector_bytes).astype(np.float32)
    if spec.nonzero is None:
        try:
            words = unpack_words(body.data, spec.bits, spec.dimension, np.uint32)
        except ValueError:
            _refuse("message", "stray bits after the last value", "zeros")
    else:
        bits = np.unpackbits(body, bitorder="little")
        middle = spec.nonzero * spec.index_bits
        end = middle + spec.nonzero * spec.bits
        if bits[end:].any():
            _refuse("message", "stray bits after the last value", "zeros")
        index = _from_bits(bits[:middle], spec.index_bits)
        if (np.diff(index.astype(np.int64)) <= 0).any() or (index >= spec.dimension).any():
            _refuse("message", "indices out of order or range", f"ascending indices below {spec.dimension}")
        words = np.zeros(spec.dimension, np.uint32)
        words[index] = _signed(_from_bits(bits[middle:end], spec.bits), spec)
    if spec.nonzero is None:
        words = _signed(words, spec)
    vector = words.view(_dtype(spec))
    if spec.integer:
        _check_range(vector, spec)
    return Message(cast(Any, vector), cast(Any, auxiliary))


def _dtype(spec: MessageSpec) -> np.dtype:
    if not spec.integer:
        return np.dtype(np.float32)
    return np.dtype(np.int32 if spec.modulus_bits is None else np.uint32)


def _check_range(vector: np.ndarray, spec: MessageSpec) -> None:
    if spec.modulus_bits is not None:
        if spec.modulus_bits < 32 and (vector >> np.uint32(spec.modulus_bits)).any():
            _refuse("message", "a value beyond the modulus", f"values below 2^{spec.modulus_bits}")
    elif spec.linf is not None and vector.size and max(vector.max(), -int(vector.min())) > spec.linf:
        _refuse("message", "a level out of range", f"levels from -{spec.linf:g} to {spec.linf:g}")


def _places(vector: np.ndarray, spec: MessageSpec) -> np.ndarray:
    """Indices of exactly `nonzero` coordinates, including all that are not zero, ascending: uint32."""
    full = np.flatnonzero(vector)
    spare = (spec.nonzero or 0) - len(full)
    if spare < 0:
        _refuse("message", f"{len(full)} nonzero coordinates", f"at most {spec.nonzero}")
    index = np.sort(np.concatenate([full, np.flatnonzero(vector == 0)[:spare]]))
    return index.astype(np.uint32)


def _signed(words: np.ndarray, spec: MessageSpec) -> np.ndarray:
    """Two's complement of `spec.bits` bits extended to 32 bits, if the vector is signed."""
    if not spec.integer or spec.modulus_bits is not None or spec.bits == 32:
        return words
    spare = 32 - spec.bits
    return ((words << np.uint32(spare)).view(np.int32) >> np.int32(spare)).view(np.uint32)


def _to_bits(words: np.ndarray, width: int) -> np.ndarray:
    """The low `width` bits of each word, least significant bit first: uint8 `[len(words) * width]`."""
    octets = words.astype("<u4").view(np.uint8).reshape(-1, 4)
    return np.unpackbits(octets, axis=1, count=width, bitorder="little").reshape(-1)


def _from_bits(bits: np.ndarray, width: int) -> np.ndarray:
    count = len(bits) // width
    octets = np.zeros((count, 4), np.uint8)
    packed = np.packbits(bits.reshape(count, width), axis=1, bitorder="little")
    octets[:, : packed.shape[1]] = packed
    return octets.reshape(-1).view("<u4").astype(np.uint32)


def _refuse(what: str, given: str, expected: str) -> Never:
    raise WireError(what, given=given, expected=expected, do="Encode and pack it with the same plan.")
