"""Reports: a run folder as one HTML file that a person can read, print and send.

`write_report` draws whatever a run has left so far; what is missing is said in a sentence.
"""

import os
from pathlib import Path

from fairyring.core.errors import StorageError

__all__ = ["write_report"]


def write_report(run_folder: str | Path, out: str | Path | None = None) -> Path:
    """Write the report of a run and return where it lies.

    The file is self-contained: styles and figures are inside, and nothing is loaded when it is opened.

    Args:
        run_folder: a folder written by `simulate(..., run=folder)`, of a run in any state.
        out: the HTML file; `report.html` in the run folder if not given.

    Raises:
        RunError: `run_folder` is not a run folder.
        RunDamaged: its record cannot be read.
        StorageError: the file could not be written; an older report there is left as it was.
        MissingExtra: matplotlib is not installed.
    """
    from fairyring.report._folder import RunFolder
    from fairyring.report._page import page

    folder = RunFolder.read(run_folder)
    path = Path(out) if out is not None else folder.path / "report.html"
    text = page(folder)
    beside = path.with_name(f".{path.name}.part")
    try:
        beside.write_text(text, "utf-8")
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise StorageError(
            f"report {str(path)!r}",
            given=error.strerror or type(error).__name__,
            expected="a file that can be written",
            do="Free space, or give another place with out=.",
        ) from error
    return path
