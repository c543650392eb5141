"""The command line. It is thin: every command makes a few calls of the public API.

fairyring demo                train on data that comes with the package, audit the run, write a report
fairyring train FILE.py       train the plan of a file on its population
fairyring report RUN          write one self-contained HTML file about a run
fairyring data [NAME]         list or describe the published data sets
fairyring bench [NAME]        list or run the benchmarks
"""

from collections.abc import Sequence

__all__ = ["main"]


def main(tokens: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        tokens: the arguments; by default those of the process.

    Returns:
        The exit status: 0 for success, 2 for a `FairyringError`, 130 for an interruption; some commands return 1.
    """
    from fairyring.cli._app import launch

    return launch(tokens)
