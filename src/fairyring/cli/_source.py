"""Which file a run was trained from, noted in its folder so that an audit finds plan and data again."""

from pathlib import Path
from typing import Self

import msgspec

from fairyring.core.errors import RunDamaged, RunError
from fairyring.core.reading import NotJson, read_json
from fairyring.records.folder import RunFolder
from fairyring.records.layout import RUN, SOURCE


class Source(msgspec.Struct, frozen=True):
    """The file and the settings it was changed by."""

    file: str
    settings: dict[str, str]

    def note(self, run: Path) -> None:
        """Note it in a run folder, if a run has got as far as having one."""
        if (run / RUN).is_file():
            RunFolder.open(run).write(SOURCE, msgspec.to_builtins(self))

    @classmethod
    def read(cls, run: Path) -> Self:
        """What is noted in a run folder.

        Raises:
            RunError: nothing is: the run was not made by `fairyring train`.
            RunDamaged: what is there is no such note, or names a file of the run folder itself. A run writes no programs
                there: whoever passed the folder on put it in, to have it run.
        """
        path = RunFolder.open(run).path / SOURCE
        if not path.is_file():
            raise RunError(
                f"run folder {run}",
                given="a run that was not made by `fairyring train`",
                expected="the file that defines its plan and population",
                do=f"Give it: fairyring audit {run} FILE.py, or call fr.audit_run(run, plan, population).",
            )
        try:
            found = read_json(path.read_bytes(), cls)
        except (OSError, NotJson) as error:
            raise RunDamaged(
                str(path), given=f"{error}", expected="a file's name", do="Give the file."
            ) from error
        if Path(found.file).resolve().is_relative_to(path.parent.resolve()):
            raise RunDamaged(
                str(path),
                given=f"{found.file!r}, a program in the run folder itself",
                expected="the file outside of it that the run was trained from",
                do=f"Give the file, one you know: fairyring audit {run} FILE.py.",
            )
        return found
