"""One client's encoded message as bytes, and back. The length is always `signal.bytes`.

The vector comes first, then the side coordinates as little-endian float32. Whole numbers take `signal.bits`
bits each, two's complement, least significant bit first, without gaps; real numbers are little-endian
float32. Where only `signal.nonzero` coordinates travel, their indices come first (ascending,
`signal.index_bits` bits each), then their values. Bits left over in the vector's last byte are zero. Every
message has exactly one form in bytes, or, where fewer coordinates are nonzero than may be, one that `pack`
chooses: the first zeros fill up.
"""

from typing import Any, Never, cast

import numpy as np

from fairyring.aggregation.contract import Message, Signal
from fairyring.core.errors import WireError
from fairyring.core.packing import pack_words, unpack_words


def pack(message: Message, signal: Signal) -> bytes:
    """The bytes of one encoded message.

    Args:
        message: NumPy arrays: vector `[signal.dimension]` (float32, or int32/uint32 where `signal.integer`),
            side float32 `[len(signal.side)]`.
        signal: what the bound chain says of it.

    Raises:
        WireError: the message does not have this form.
    """
    vector, side = np.asarray(message.vector), np.asarray(message.side)
    if vector.shape != (signal.dimension,) or side.shape != (len(signal.side),):
        _refuse(
            "message",
            f"shapes {vector.shape} and {side.shape}",
            f"[{signal.dimension}] and [{len(signal.side)}]",
        )
    if vector.dtype != _dtype(signal) or side.dtype != np.float32:
        _refuse("message", f"{vector.dtype} and {side.dtype}", f"{_dtype(signal)} and float32")
    if signal.integer:
        _check_range(vector, signal)
    words = vector.view(np.uint32)
    if signal.nonzero is None:
        body = pack_words(words, signal.bits)
    else:
        index = _places(vector, signal)
        bits = np.concatenate([_to_bits(index, signal.index_bits), _to_bits(words[index], signal.bits)])
        body = np.packbits(bits, bitorder="little").tobytes()
    return body + side.astype("<f4").tobytes()


def unpack(data: bytes, signal: Signal) -> Message:
    """The message that `data` holds, as NumPy arrays: the inverse of `pack`.

    The length is checked before anything is allocated. Whether real numbers are finite is not checked here.

    Raises:
        WireError: `data` is not exactly `signal.bytes` long, has stray bits, a level out of range, or
            indices that are not ascending or not within the vector.
    """
    if len(data) != signal.bytes:
        _refuse("message", f"{len(data)} bytes", f"exactly {signal.bytes} bytes")
    body = np.frombuffer(data, np.uint8, signal.vector_bytes)
    side = np.frombuffer(data, "<f4", len(signal.side), signal.vector_bytes).astype(np.float32)
    if signal.nonzero is None:
        try:
            words = unpack_words(body.data, signal.bits, signal.dimension, np.uint32)
        except ValueError:
            _refuse("message", "stray bits after the last value", "zeros")
    else:
        bits = np.unpackbits(body, bitorder="little")
        middle = signal.nonzero * signal.index_bits
        end = middle + signal.nonzero * signal.bits
        if bits[end:].any():
            _refuse("message", "stray bits after the last value", "zeros")
        index = _from_bits(bits[:middle], signal.index_bits)
        if (np.diff(index.astype(np.int64)) <= 0).any() or (index >= signal.dimension).any():
            _refuse("message", "indices out of order or range", f"ascending indices below {signal.dimension}")
        words = np.zeros(signal.dimension, np.uint32)
        words[index] = _signed(_from_bits(bits[middle:end], signal.bits), signal)
    if signal.nonzero is None:
        words = _signed(words, signal)
    vector = words.view(_dtype(signal))
    if signal.integer:
        _check_range(vector, signal)
    return Message(cast(Any, vector), cast(Any, side))


def _dtype(signal: Signal) -> np.dtype:
    if not signal.integer:
        return np.dtype(np.float32)
    return np.dtype(np.int32 if signal.modulus_bits is None else np.uint32)


def _check_range(vector: np.ndarray, signal: Signal) -> None:
    if signal.modulus_bits is not None:
        if signal.modulus_bits < 32 and (vector >> np.uint32(signal.modulus_bits)).any():
            _refuse("message", "a value beyond the modulus", f"values below 2^{signal.modulus_bits}")
    elif signal.linf is not None and vector.size and max(vector.max(), -int(vector.min())) > signal.linf:
        _refuse("message", "a level out of range", f"levels from -{signal.linf:g} to {signal.linf:g}")


def _places(vector: np.ndarray, signal: Signal) -> np.ndarray:
    """Indices of exactly `nonzero` coordinates, all that are not zero among them, ascending: uint32."""
    full = np.flatnonzero(vector)
    spare = (signal.nonzero or 0) - len(full)
    if spare < 0:
        _refuse("message", f"{len(full)} nonzero coordinates", f"at most {signal.nonzero}")
    index = np.sort(np.concatenate([full, np.flatnonzero(vector == 0)[:spare]]))
    return index.astype(np.uint32)


def _signed(words: np.ndarray, signal: Signal) -> np.ndarray:
    """Two's complement of `signal.bits` bits carried to 32, where the vector is signed."""
    if not signal.integer or signal.modulus_bits is not None or signal.bits == 32:
        return words
    spare = 32 - signal.bits
    return ((words << np.uint32(spare)).view(np.int32) >> np.int32(spare)).view(np.uint32)


def _to_bits(words: np.ndarray, width: int) -> np.ndarray:
    """The low `width` bits of each word, least significant first: uint8 `[len(words) * width]`."""
    whole = words.astype("<u4").view(np.uint8).reshape(-1, 4)
    return np.unpackbits(whole, axis=1, count=width, bitorder="little").reshape(-1)


def _from_bits(bits: np.ndarray, width: int) -> np.ndarray:
    count = len(bits) // width
    whole = np.zeros((count, 4), np.uint8)
    packed = np.packbits(bits.reshape(count, width), axis=1, bitorder="little")
    whole[:, : packed.shape[1]] = packed
    return whole.reshape(-1).view("<u4").astype(np.uint32)


def _refuse(what: str, given: str, expected: str) -> Never:
    raise WireError(what, given=given, expected=expected, do="Encode and pack it with the same plan.")
