"""Reports: a run folder, or the folder of a study, as one HTML file that a person can read, print and send.

`write_report` draws whatever a run has left so far; what is missing is said in a sentence. `write_study_report` does the
same for an experiment with worlds of evolving learners.
"""

import os
from contextlib import suppress
from functools import partial
from pathlib import Path

from fairyring.core.errors import PlanError, StorageError
from fairyring.core.files import ANYBODY, OWNER
from fairyring.records.layout import REPORT
from fairyring.report.kit import page, units
from fairyring.sweeps import SWEEP, Comparison

__all__ = ["units", "write_comparison", "write_report", "write_study_report"]


def write_report(run_folder: str | Path, out: str | Path | None = None) -> Path:
    """Write the report of a run, or of a sweep, and return where it lies.

    The file is self-contained: styles and figures are inside, and nothing is loaded when it is opened. The report of a
    private run shows what its promise does not cover: only its owner may read it, wherever it lies.

    Args:
        run_folder: a folder written by `simulate(..., run=folder)`, of a run in any state; or by `sweep(..., folder=folder)`.
        out: the HTML file; `report.html` in the run folder if not given.

    Raises:
        RunError: `run_folder` is not the folder of a run or of a sweep.
        RunDamaged: its record cannot be read.
        StorageError: the file could not be written; an older report there is left as it was.
        MissingExtra: matplotlib is not installed.
    """
    from fairyring.report.run import ReportedRun, document

    if (Path(run_folder) / SWEEP).is_file():
        return _write_sweep_report(Path(run_folder), out)
    folder = ReportedRun.read(run_folder)
    path = Path(out) if out is not None else folder.path / REPORT
    return _written(page(document(folder)), path, mode=OWNER if folder.run.get("privacy") else ANYBODY)


def write_comparison(comparison: Comparison, out: str | Path) -> Path:
    """Write the report of a comparison (`fr.compare`), and return where it lies. Where a run is private, it is its owner's alone.

    Args:
        comparison: of runs.
        out: the HTML file.

    Raises:
        StorageError: the file could not be written; an older report there is left as it was.
        MissingExtra: matplotlib is not installed.
    """
    from fairyring.report.comparison import document

    if not isinstance(comparison, Comparison):
        raise PlanError(
            "write_comparison",
            given=repr(comparison)[:80],
            expected="what fr.compare returns",
            do="Write fr.write_comparison(fr.compare(runs), out).",
        )
    runs = (run for one in comparison.settings for run in one.runs)
    private = any(run.header.get("privacy") is not None for run in runs)
    return _written(page(document(comparison)), Path(out), mode=OWNER if private else ANYBODY)


def _write_sweep_report(folder: Path, out: str | Path | None) -> Path:
    from fairyring.report.sweep import document, is_private

    path = Path(out) if out is not None else folder / REPORT
    return _written(page(document(folder)), path, mode=OWNER if is_private(folder) else ANYBODY)


def write_study_report(folder: str | Path, out: str | Path | None = None) -> Path:
    """Write the report of a study of evolving worlds, from its `study.json`, and return where it lies.

    The file is self-contained, as a run's is. What it shows is in `study.json`, or is a mean or an interval over the worlds
    that are in it.

    Args:
        folder: of the study, as `fairyring.ecology.study_world1` and its kin, and `fairyring ecology study`, write it.
        out: the HTML file; `report.html` in the folder if not given.

    Raises:
        RunError: there is no study in `folder`.
        RunDamaged: `study.json` is not what a study writes.
        StorageError: the file could not be written; an older report there is left as it was.
        MissingExtra: matplotlib is not installed.
    """
    from fairyring.report.study import Study, document

    study = Study.read(folder)
    return _written(page(document(study)), Path(out) if out is not None else study.path / REPORT)


def _written(text: str, path: Path, *, mode: int = ANYBODY) -> Path:
    if path.is_dir() or not path.name:
        raise StorageError(
            f"report {str(path)!r}",
            given="a folder",
            expected="the name of a file",
            do="Give one, such as report.html.",
        )
    beside = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.unlink(missing_ok=True)  # one left behind may be open to others
        with open(beside, "w", encoding="utf-8", opener=partial(os.open, mode=mode)) as file:
            file.write(text)
        os.replace(beside, path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise StorageError(
            f"report {str(path)!r}",
            given=error.strerror or type(error).__name__,
            expected="a file that can be written",
            do="Free space, or give another place with out=.",
        ) from error
    return path
