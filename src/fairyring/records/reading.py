"""Reading a run folder that may have been changed: typed, and refused in words where it does not fit."""

from pathlib import Path
from typing import Any, TypeVar

import msgspec
import safetensors

from fairyring.core.errors import PlanError, RunDamaged, SecureSumError
from fairyring.core.reading import read_json
from fairyring.core.vector import digest

Kind = TypeVar("Kind")


class Header(msgspec.Struct):
    """Of run.json, what is looked at."""

    status: str
    rounds: int
    fingerprints: dict[str, str]
    code: dict[str, Any]
    privacy: dict[str, Any] | None = None

    @property
    def init(self) -> object:
        """Digest of the program of the model's first parameters, as far as there is one."""
        programs = self.code.get("programs")
        return programs.get("init") if isinstance(programs, dict) else None


def model_of(path: Path) -> tuple[dict[str, Any], bytes]:
    """A checkpoint's facts, and the digest of its model."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            facts = read_json((file.metadata() or {}).get("fairyring", ""), dict[str, Any])
            names = [name for name in sorted(file.keys()) if name.startswith("server/")]
            parts = [[n for n in names if n[11:].startswith(part)] for part in (".params", ".shared")]
            return facts, digest(file.get_tensor(name) for part in parts for name in part)
    except (OSError, safetensors.SafetensorError, ValueError) as error:
        raise damaged(path, error) from error


def content_of(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        RunDamaged: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise damaged(path, error.strerror) from error


def read_as(kind: type[Kind], path: Path) -> Kind:
    """A file of MessagePack.

    Raises:
        RunDamaged: it is missing, or not in the one form it is written in.
    """
    content = content_of(path)
    found = decoded(path, content, kind, msgspec.msgpack)
    if msgspec.msgpack.encode(found) != content:
        raise damaged(path, "an unusual form")
    return found


def decoded(path: Path, content: bytes, kind: Any, form: Any = msgspec.json) -> Any:
    """Part of a file as a `kind`.

    Raises:
        RunDamaged: it is none.
    """
    try:
        return form.decode(content, type=kind)
    except (ValueError, RecursionError, PlanError) as error:
        raise damaged(path, error) from error


def converted(path: Path, value: Any, kind: Any) -> Any:
    """Plain values of a file as a `kind`.

    Raises:
        RunDamaged: they are none.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise damaged(path, error) from error


def require(holds: bool, what: str, given: str, expected: str) -> None:
    """Raise `SecureSumError` unless something holds."""
    if not holds:
        raise SecureSumError(
            what,
            given=given,
            expected=expected,
            do="Do not trust this run: it was changed after it was written, or never was.",
        )


def damaged(path: Path, problem: object) -> RunDamaged:
    """The error of a file that cannot be read, or is missing."""
    return RunDamaged(
        str(path), given=f"{problem}", expected="a file this run wrote", do="Restore it from a copy."
    )
