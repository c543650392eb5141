"""The command line. It is thin: every command makes a few calls of the public API, and returns what it found.

fairyring demo                train on data that comes with the package, audit the run, write a report
fairyring train FILE.py       train the plan of a file on its population
fairyring report RUN          write one self-contained HTML file about a run
fairyring data [NAME]         list or describe the published data sets
fairyring bench [NAME]        list or run the benchmarks
"""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress

__all__ = ["main"]


def main(tokens: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        tokens: the arguments; by default those of the process. Then the process may end here: at once, if a compiler is still at work
            that was interrupted.

    Returns:
        The exit status: 0 for success, 2 for a `FairyringError`, 130 for an interruption; some commands return 1.
    """
    from fairyring.cli._app import launch

    status = launch(tokens)
    interrupts = sys.modules.get("fairyring.core.interrupts")
    if tokens is None and interrupts is not None and interrupts.at_work():
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(status)  # it cannot be stopped, and what Python does at its end could crash beside it
    return status
