"""Files written whole or not at all, and folders that are their owner's alone."""

import os
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

from fairyring.core.errors import StorageError

ANYBODY, OWNER = 0o666, 0o600  # who may read and write a file, less the process's own mask


def make_folder(path: Path, *, private: bool) -> None:
    """A folder, if there is none; a private one is its owner's alone from the beginning."""
    path.mkdir(0o700 if private else 0o777, parents=True, exist_ok=True)


def append_to(path: Path, *, mode: int = ANYBODY) -> BinaryIO:
    """A file open at its end; one that is made here has `mode` from the beginning."""
    return open(path, "ab", opener=partial(os.open, mode=mode))


def replace_file(path: Path, content: bytes, *, mode: int = ANYBODY) -> None:
    """Put `content` at `path`, whole or not at all, whatever happens meanwhile.

    Args:
        path: of the file.
        content: of it.
        mode: who may read it, less the process's own mask; 0o600 for its owner alone.
    """
    beside = path.with_name(path.name + ".part")
    with storage(path):
        try:
            beside.unlink(missing_ok=True)  # one left behind may be open to others
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise
        flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Make renames in `folder` last through a power cut, where the system can."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def storage(path: Path):
    """Turn an `OSError` into a `StorageError` of `path`."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            str(path),
            given=f"{error.strerror or error}",
            expected="a folder with room to write in",
            do="Free space or choose another folder; checkpoints saved before are whole, resume from them.",
        ) from error
