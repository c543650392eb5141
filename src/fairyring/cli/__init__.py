"""The command line, thin: every command is a few calls of the public API.

fairyring demo                the main job on embedded data, and its report
fairyring train FILE.py       train the plan of a file on its population
fairyring report RUN          one self-contained HTML file from a run folder
fairyring data [NAME]         the published data sets: what, where from, which licence
fairyring bench [NAME]        the benchmarks, on this machine
"""

from collections.abc import Sequence

__all__ = ["main"]


def main(tokens: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        tokens: the arguments; those of the process if not given.

    Returns:
        The exit status: 0, or 2 for an error of fairyring's, or 130 when interrupted.
    """
    from fairyring.cli._app import launch

    return launch(tokens)
