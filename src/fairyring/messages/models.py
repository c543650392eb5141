"""A model on its way to devices: its arrays as bytes, its digest, and what changed since a version that a device has."""

import zlib
from collections.abc import Sequence

import numpy as np

from fairyring.core.digest import digest
from fairyring.core.errors import WireError
from fairyring.messages.manifest import Array


def model_bytes(arrays: Sequence[np.ndarray]) -> bytes:
    """Arrays one after another, little-endian and row-major."""
    little = (np.ascontiguousarray(array, array.dtype.newbyteorder("<")) for array in map(np.asarray, arrays))
    return b"".join(array.tobytes() for array in little)


def model_arrays(data: bytes, forms: Sequence[Array]) -> list[np.ndarray]:
    """The arrays in `data`, read-only: the inverse of `model_bytes`.

    Raises:
        WireError: `data` has another length.
    """
    expected = sum(form.nbytes for form in forms)
    if len(data) != expected:
        raise WireError(
            "model",
            given=f"{len(data)} bytes",
            expected=f"{expected}, as the manifest says",
            do="Fetch it again; the service sends another model than the plan's.",
        )
    arrays, at = [], 0
    for form in forms:
        arrays.append(np.frombuffer(data, form.dtype, form.size, at).reshape(form.shape))
        at += form.nbytes
    return arrays


def model_digest(arrays: Sequence[np.ndarray]) -> bytes:
    """The digest that a secure sum is bound to: see `Coordinator.model`."""
    return digest(arrays)


def delta(old: bytes, new: bytes, width: int = 4) -> bytes:
    """What changed from `old` to `new`, of one length: compressed, losslessly.

    Most numbers of a model keep their sign, exponent and first digits from one round to the next, so the bits that differ are gathered by
    their place in a number of `width` bytes before they are compressed.
    """
    changed = np.frombuffer(old, np.uint8) ^ np.frombuffer(new, np.uint8)
    whole = len(changed) // width * width
    planes = changed[:whole].reshape(-1, width).T.tobytes()
    return zlib.compress(planes + changed[whole:].tobytes(), 1)


def patched(old: bytes, change: bytes, width: int = 4) -> bytes:
    """`new`, from `old` and `delta(old, new)`.

    Raises:
        WireError: `change` is no change of a model of this length.
    """
    inflater = zlib.decompressobj()
    try:
        # One byte more than there can be: a change that would grow beyond is refused before it does.
        flat = np.frombuffer(inflater.decompress(change, len(old) + 1), np.uint8)
    except zlib.error:
        flat = np.zeros(0, np.uint8)
    if len(flat) != len(old) or not inflater.eof:
        raise WireError(
            "change of a model",
            given=f"{len(change)} bytes that do not give {len(old)}",
            expected="the change from the version that this device has",
            do="Fetch the whole model.",
        )
    whole = len(flat) // width * width
    changed = np.empty(len(flat), np.uint8)
    changed[:whole] = flat[:whole].reshape(width, -1).T.reshape(-1)
    changed[whole:] = flat[whole:]
    return (np.frombuffer(old, np.uint8) ^ changed).tobytes()
