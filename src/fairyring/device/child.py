"""The process that trains: `python -m fairyring.device.child`. It reads a program, then arrays, and writes the program's results.

It has NumPy and a runtime, and none of the device's keys. It ends with the device's process, or when that has no more for it.
"""

import os
import sys
import time

import numpy as np

from fairyring.core.platforms import end_with_parent, limit_memory, peak_memory, yield_to_others
from fairyring.device._pipe import receive, send
from fairyring.device.runtimes import loaded

_EVERYTHING = 1 << 62  # bytes: the device sends what it has checked
# What runtimes say when they get no memory.
_SAYS_MEMORY = ("RESOURCE_EXHAUSTED", "bad_alloc", "Out of memory", "out of memory", "Cannot allocate")


def main() -> None:
    """Serve one device, by standard input and output."""
    end_with_parent()
    # What a runtime prints must not come between the results.
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = sys.stdin.buffer
    settings, program = receive(requests, _EVERYTHING)
    yield_to_others(settings["nice"], settings["cores"])
    try:
        run = loaded(settings["target"], program[0].tobytes())
    except Exception as error:
        send(results, {"failed": "crashed", "said": _said(error)})
        return
    if settings["memory"] is not None:
        limit_memory(settings["memory"])
    while True:
        try:
            _, arguments = receive(requests, _EVERYTHING)
        except EOFError:
            return
        except MemoryError:
            send(results, {"failed": "memory", "said": "the arrays of the round"})
            return
        began = time.perf_counter()
        try:
            found = [np.asarray(array) for array in run(arguments)]
        except Exception as error:
            said = _said(error)
            short = isinstance(error, MemoryError) or any(word in said for word in _SAYS_MEMORY)
            send(results, {"failed": "memory" if short else "crashed", "said": said})
            return
        facts = {"seconds": time.perf_counter() - began, "memory": peak_memory() or 0}
        send(results, facts, found)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]


if __name__ == "__main__":
    main()
