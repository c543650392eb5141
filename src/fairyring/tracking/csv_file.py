"""The tracker that needs nothing: a CSV file for each run."""

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fairyring.core.files import replace_file, storage
from fairyring.tracking.tracker import Numbers, Session, TrackedRun


@dataclass(frozen=True)
class CsvTracker:
    """Keep the numbers of each run in a CSV file: a row for each round, a column for each number.

    The file is ``NAME-IDENTITY.csv`` in the folder, and grows while the run goes on: `pandas.read_csv` reads it at any time. What was
    not recorded of a round is empty, and NaN is ``nan``.

    Args:
        folder: created if there is none.
    """

    folder: str | os.PathLike[str] = "metrics"

    @property
    def name(self) -> str:
        """For messages."""
        return f"csv:{os.fspath(self.folder)}"

    def open(self, run: TrackedRun) -> Session:
        """Open the run's file. Rows of rounds that will come again are left out."""
        folder = Path(self.folder)
        with storage(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return _Rows(folder / f"{run.file_name}.csv", run.after)


class _Rows:
    """A file that is appended to; it is written anew where there are new columns."""

    def __init__(self, path: Path, after: int) -> None:
        self.path, self.columns = path, ["round"]
        rows: list[dict[str, str]] = []
        if after and path.is_file():
            with storage(path), path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                rows = [row for row in reader if _round(row) <= after]
                self.columns = list(reader.fieldnames or self.columns)
        self._replace(rows)

    def log(self, rounds: Sequence[Numbers]) -> None:
        """Append a row for each."""
        rows = [{"round": str(n.round), **{k: _text(v) for k, v in n.values.items()}} for n in rounds]
        new = dict.fromkeys(name for row in rows for name in row if name not in self.columns)
        if new:
            self.columns += new
            with storage(self.path), self.path.open(newline="", encoding="utf-8") as file:
                earlier = list(csv.DictReader(file))
            self._replace([*earlier, *rows])
            return
        with storage(self.path), self.path.open("r+b") as file:
            file.seek(self.size)  # behind what is whole: a row that a full disk has cut is overwritten
            written = file.write(self._lines(rows))
            file.truncate()
        self.size += written

    def close(self, finished: bool) -> None:
        """There is nothing to close."""

    def _replace(self, rows: Sequence[dict[str, str]]) -> None:
        head = io.StringIO()
        csv.writer(head, lineterminator="\n").writerow(self.columns)
        content = head.getvalue().encode() + self._lines(rows)
        replace_file(self.path, content)
        self.size = len(content)

    def _lines(self, rows: Sequence[dict[str, str]]) -> bytes:
        text = io.StringIO()
        csv.DictWriter(text, self.columns, restval="", lineterminator="\n").writerows(rows)
        return text.getvalue().encode()


def _round(row: dict[str, str]) -> int:
    """The round of a row; one that no rounds come before where the row was cut."""
    number = row.get("round") or ""
    return int(number) if number.isdecimal() else 1 << 62


def _text(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < 1 << 53 else repr(value)
