"""Compiled programs in the user's cache folder, so that a later process need not compile them again.

A compiled program is machine code: whoever can write to this folder can run code as whoever reads from it. So the folder belongs to
its user alone, and is not used if others could write to it.
"""

import hashlib
import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from fairyring.core.platforms import is_own

FOLDER = "FAIRYRING_PROGRAMS"  # names another folder, or is "none"
LIMIT = 1 << 30  # bytes of all programs together
ABANDONED = 3600  # seconds after which a file that nobody has finished is deleted

# What this class writes. A folder named by its user may hold other files, which are not to be deleted.
_NAME = re.compile(r"[0-9a-f]{64}(\.[0-9a-f]{32}\.part)?")
_DIGEST = 32  # bytes before a program: their SHA-256


class Size(NamedTuple):
    """How much a cache holds."""

    programs: int
    bytes: int


class ProgramCache:
    """A folder of compiled programs, each named by a key of 64 hexadecimal digits. Other files there are left alone. Any number of processes may use it at once.

    A program appears complete or not at all. Once they are more than `limit` bytes, those that were not used for longest are deleted.

    Args:
        folder: created if it does not exist.
        limit: bytes of all programs together.
    """

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        self.folder, self.limit = folder, limit

    @classmethod
    def of_user(cls) -> "ProgramCache | None":
        """The cache of this process's user; None if there is to be none, or none that is the user's alone."""
        given = os.environ.get(FOLDER)
        if given == "none":
            return None
        cache = cls(Path(given) if given else Path.home() / ".cache" / "fairyring" / "programs")
        return cache if cache._is_safe() else None

    def read(self, key: str) -> bytes | None:
        """A program; None if it is not there, or damaged."""
        path = self.folder / key
        with suppress(OSError):
            content = path.read_bytes()
            program = content[_DIGEST:]
            if hashlib.sha256(program).digest() == content[:_DIGEST]:
                os.utime(path)
                return program
            path.unlink()
        return None

    def write(self, key: str, program: bytes) -> None:
        """Keep a program, if there is room on the disk."""
        beside = self.folder / f"{key}.{uuid4().hex}.part"
        with suppress(OSError):
            try:
                beside.write_bytes(hashlib.sha256(program).digest() + program)
                os.replace(beside, self.folder / key)
            finally:
                beside.unlink(missing_ok=True)
            self._shrink()

    def size(self) -> Size:
        """How many programs there are, and their bytes."""
        sizes = [size for _, size, _ in self._programs()]
        return Size(len(sizes), sum(sizes))

    def clear(self) -> None:
        """Delete all programs."""
        for _, _, path in self._programs():
            path.unlink(missing_ok=True)

    def _programs(self) -> list[tuple[float, int, Path]]:
        """When each file was last used, its bytes, and its path."""
        programs = []
        with suppress(OSError):
            for path in self.folder.iterdir():
                if not _NAME.fullmatch(path.name):
                    continue
                with suppress(FileNotFoundError):  # another process has deleted it
                    status = path.stat()
                    programs.append((status.st_mtime, status.st_size, path))
        return programs

    def _shrink(self) -> None:
        programs = sorted(self._programs())
        excess = sum(size for _, size, _ in programs) - self.limit
        for used, size, path in programs:
            if excess > 0 or (path.suffix == ".part" and time.time() - used > ABANDONED):
                path.unlink(missing_ok=True)
                excess -= size

    def _is_safe(self) -> bool:
        """Whether the folder is there, and only its user can write to it."""
        try:
            self.folder.mkdir(0o700, parents=True, exist_ok=True)
            return is_own(self.folder)
        except OSError:
            return False
