"""The plan file that a run was trained from, stored in the run folder so that an audit can run it again."""

from pathlib import Path
from typing import Self

import msgspec

from fairyring.core.errors import RunDamaged, RunError
from fairyring.core.reading import NotJson, read_json
from fairyring.records.folder import RunFolder
from fairyring.records.layout import RUN, SOURCE


class Source(msgspec.Struct, frozen=True):
    """A plan file, and the settings that override fields of its plan.

    Attributes:
        file: its path.
        settings: name of a field -> value.
    """

    file: str
    settings: dict[str, str]

    def store(self, run: Path) -> None:
        """Store it in a run folder, if the run has created one."""
        if (run / RUN).is_file():
            RunFolder.open(run).write(SOURCE, msgspec.to_builtins(self))

    @classmethod
    def read(cls, run: Path) -> Self:
        """Read it from a run folder.

        Raises:
            RunError: there is none, because the run was not made by `fairyring train`.
            RunDamaged: it is damaged, or names a file in the run folder itself. A run never writes programs there, so
                somebody who passed the folder on put it there in order to have it run.
        """
        path = RunFolder.open(run).path / SOURCE
        if not path.is_file():
            raise RunError(
                f"run folder {run}",
                given="a run that was not made by `fairyring train`",
                expected="the file that defines its plan and population",
                do=f"Give the file: fairyring audit {run} FILE.py, or call fr.audit_run(run, plan, population).",
            )
        try:
            source = read_json(path.read_bytes(), cls)
        except (OSError, NotJson) as error:
            raise RunDamaged(
                str(path), given=f"{error}", expected="the name of a file", do="Give the file."
            ) from error
        if Path(source.file).resolve().is_relative_to(path.parent.resolve()):
            raise RunDamaged(
                str(path),
                given=f"{source.file!r}, a program in the run folder itself",
                expected="the file outside of it that the run was trained from",
                do=f"Give a file that you trust: fairyring audit {run} FILE.py.",
            )
        return source
