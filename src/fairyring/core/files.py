"""Files that are written completely or not at all, and folders that only their owner can access."""

import hashlib
import os
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

from fairyring.core.errors import StorageError
from fairyring.core.platforms import BINARY, flush_folder

ANYBODY, OWNER = 0o666, 0o600  # modes of a file, to which the umask of the process applies


def make_folder(path: Path, *, private: bool) -> None:
    """Create a folder if it does not exist. A private one is accessible only to its owner from the beginning."""
    path.mkdir(0o700 if private else 0o777, parents=True, exist_ok=True)


def plain_name(text: str, *, most: int = 100) -> str:
    """A text in characters that file names have on every system, at most so many of them. Two texts may have one name."""
    return "".join(c if c.isalnum() or c in "._=,+-()" else "-" for c in text)[:most]


def own_name(text: str) -> str:
    """A file name for a text that no other text has: where it is not the text itself, the beginning of a digest follows."""
    name = plain_name(text)
    return name if name == text else f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def append_to(path: Path, *, mode: int = ANYBODY) -> BinaryIO:
    """Open a file for appending. If it is created, it has `mode` from the beginning."""
    return open(path, "ab", opener=partial(os.open, mode=mode))


def replace_file(path: Path, content: bytes, *, mode: int = ANYBODY) -> None:
    """Replace a file atomically: after a crash it has either its old or its new content.

    Args:
        path: of the file.
        content: the new content.
        mode: of the file, to which the umask of the process applies; 0o600 for its owner only.

    Raises:
        StorageError: the file cannot be written.
    """
    beside = path.with_name(path.name + ".part")
    with storage(path):
        try:
            beside.unlink(missing_ok=True)  # one left over from a crash may have another mode
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | BINARY, mode)
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise
        flush_folder(path.parent)


@contextmanager
def storage(path: Path):
    """Convert an `OSError` to a `StorageError` for `path`."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            str(path),
            given=f"{error.strerror or error}",
            expected="a writable folder with free space",
            do="Free space or choose another folder. Earlier checkpoints are complete; you can resume from them.",
        ) from error
