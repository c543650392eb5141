"""Python's garbage collector, at rest while much is made that stays.

A trace makes hundreds of thousands of objects, few of them garbage. At such a rate the collector walks through all objects of the process
again and again, which takes a tenth of the time of a trace.
"""

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_resting = 0  # how many callers want it to be at rest


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Nothing is collected meanwhile, in any thread. A collector that its user has switched off stays off."""
    global _resting
    ours = False
    try:
        with _lock:
            if _resting or gc.isenabled():
                ours, _resting = True, _resting + 1
                gc.disable()
        yield
    finally:
        if ours:
            with _lock:
                _resting -= 1
                if not _resting:
                    gc.enable()
