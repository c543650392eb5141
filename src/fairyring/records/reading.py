"""Typed reading of a run folder that may have been changed, with errors that say what does not fit."""

from pathlib import Path
from typing import Any, TypeVar

import msgspec
import safetensors

from fairyring.core.digest import digest
from fairyring.core.errors import PlanError, RunDamaged, SecureSumError
from fairyring.core.reading import read_json

Kind = TypeVar("Kind")


class Header(msgspec.Struct):
    """The part of run.json that verification looks at."""

    status: str
    rounds: int
    fingerprints: dict[str, str]
    code: dict[str, Any]
    privacy: dict[str, Any] | None = None

    @property
    def init(self) -> object:
        """Digest of the program that initialises the model; None if there is none."""
        programs = self.code.get("programs")
        return programs.get("init") if isinstance(programs, dict) else None


def model_of(path: Path) -> tuple[dict[str, Any], bytes]:
    """A checkpoint's facts, and the digest of its model."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            facts = read_json((file.metadata() or {}).get("fairyring", ""), dict[str, Any])
            names = [name for name in sorted(file.keys()) if name.startswith("server/")]
            parts = [[n for n in names if n[11:].startswith(part)] for part in (".params", ".algorithm")]
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
        RunDamaged: it is missing, or not encoded as we encode it.
    """
    content = content_of(path)
    value = decoded(path, content, kind, msgspec.msgpack)
    if msgspec.msgpack.encode(value) != content:
        raise damaged(path, "an unusual form")
    return value


def decoded(path: Path, content: bytes, kind: Any, form: Any = msgspec.json) -> Any:
    """Part of a file, decoded as a `kind`.

    Raises:
        RunDamaged: it cannot be.
    """
    try:
        return form.decode(content, type=kind)
    except (ValueError, RecursionError, PlanError) as error:
        raise damaged(path, error) from error


def converted(path: Path, value: Any, kind: Any) -> Any:
    """Plain values of a file, converted to a `kind`.

    Raises:
        RunDamaged: they cannot be.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise damaged(path, error) from error


def require(holds: bool, what: str, given: str, expected: str) -> None:
    """Raise `SecureSumError` unless `holds`."""
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
