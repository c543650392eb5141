"""Arrays between a device and its child process: a line of JSON that describes them, then their bytes. Nothing of it is code."""

import json
from collections.abc import Sequence
from typing import IO, Any

import numpy as np

LONGEST = 1 << 20  # bytes of a line


def send(pipe: IO[bytes], facts: dict[str, Any], arrays: Sequence[np.ndarray] = ()) -> None:
    """Write facts and arrays."""
    arrays = [np.ascontiguousarray(array).reshape(np.shape(array)) for array in arrays]
    forms = [[array.dtype.str, *array.shape] for array in arrays]
    pipe.write(json.dumps({**facts, "arrays": forms}).encode() + b"\n")
    for array in arrays:
        if array.size:
            pipe.write(array.reshape(-1).view(np.uint8).data)
    pipe.flush()


def receive(pipe: IO[bytes], most: int) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Read facts and arrays of at most so many bytes.

    Raises:
        EOFError: the other end is closed.
        ValueError: what comes is something else.
    """
    line = pipe.readline(LONGEST)
    if not line:
        raise EOFError
    facts = json.loads(line)
    if not isinstance(facts, dict):
        raise ValueError("no facts")
    arrays: list[np.ndarray] = []
    for kind, *shape in facts.pop("arrays"):
        array = np.dtype(kind)
        if array.hasobject or any(not isinstance(n, int) or n < 0 for n in shape):
            raise ValueError("no array")
        size = int(np.prod(shape, dtype=object)) * array.itemsize
        most -= size
        if most < 0:
            raise ValueError("more bytes than there can be")
        data = bytearray(size)
        view, at = memoryview(data), 0
        while at < size:
            read = pipe.readinto(view[at:])  # type: ignore[attr-defined]
            if not read:
                raise EOFError
            at += read
        arrays.append(np.frombuffer(data, array).reshape(shape))
    return facts, arrays
