"""How a piece of work is timed, the same in every system: a small one in this process, a program in one of its own."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any


def median_seconds(
    work: Callable[[], object], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> float:
    """The median time of `work`, after one call that is not counted."""
    work()
    times = []
    for _ in range(repeats):
        began = clock()
        work()
        times.append(clock() - began)
    return statistics.median(times)


def fresh_process(program: str, *arguments: str, **options: Any) -> tuple[Any, float]:
    """Run a program's text in a new Python; what it prints last, as JSON, and seconds from the start of Python to its end.

    Args:
        program: Python code.
        arguments: its `sys.argv` from 1.
        options: for `subprocess.run`.
    """
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True, check=True, **options
    )
    return json.loads(done.stdout.splitlines()[-1]), time.perf_counter() - began
