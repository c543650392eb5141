"""A lock that allows one process at a time to write a run, or a sweep."""

import os
import socket
from datetime import UTC, datetime
from pathlib import Path

from fairyring.core.errors import RunError, StorageError
from fairyring.core.files import OWNER, storage
from fairyring.core.platforms import BINARY, lock


class Lock:
    """A file that one process at a time can lock.

    The lock is the operating system's, on the open file: it ends with the process, however that ends. The content of the file
    only says who has the lock. On a network file system the lock is as good as that system's locks.

    Args:
        path: of the file, created if there is none. It is not removed: a lock on a removed file would lock nothing.
        mode: who may read it, as for `replace_file`.
        what: is locked, for an error; by default the run folder that the file is in.
        why: one process at a time.

    Raises:
        RunError: another process has the lock.
        StorageError: it cannot be written.
    """

    def __init__(
        self,
        path: Path,
        *,
        mode: int = OWNER,
        what: str | None = None,
        why: str = "two would release the same rounds twice",
    ) -> None:
        with storage(path):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | BINARY, mode)
        try:
            lock(self._descriptor)
        except BlockingIOError:
            who = os.read(self._descriptor, 200).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise RunError(
                what or f"run folder {path.parent}",
                given=f"one that is being written by {who or 'another process'}",
                expected=f"one process a folder: {why}",
                do="Wait until it has ended, or end it; then resume.",
            ) from None
        except OSError as error:
            os.close(self._descriptor)
            raise StorageError(
                str(path),
                given=f"{error.strerror or error}",
                expected="a file system that has locks",
                do="Keep the run folder on another one.",
            ) from error
        try:
            since = datetime.now(UTC).isoformat(timespec="seconds")
            who = f"process {os.getpid()} on {socket.gethostname()} since {since}"
            with storage(path):
                os.ftruncate(self._descriptor, 0)
                os.lseek(self._descriptor, 0, os.SEEK_SET)
                os.write(self._descriptor, who.encode())
        except BaseException:
            os.close(self._descriptor)
            raise

    def release(self) -> None:
        """Release the lock. A second call does nothing."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            try:
                os.ftruncate(descriptor, 0)
            finally:
                os.close(descriptor)
