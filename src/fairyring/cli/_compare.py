"""`compare`: runs side by side, as a table and a report."""

from collections.abc import Sequence
from pathlib import Path

from fairyring.cli._terminal import screen
from fairyring.core.errors import MissingExtra


def compare(runs: Sequence[Path], out: Path) -> None:
    """Print the table of these runs, and write their report; see the command `compare`."""
    from fairyring.report import write_comparison
    from fairyring.sweeps import compare as compared

    comparison = compared(list(runs))
    console = screen()
    console.print(str(comparison), highlight=False, markup=False, soft_wrap=True)
    try:
        line = f"Report: {write_comparison(comparison, out)}"
    except MissingExtra as error:
        line = f"No report was written: {error.do}"
    console.print(line, highlight=False, markup=False, soft_wrap=True)
