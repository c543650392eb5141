"""The folder of a device: its keys, and where its examples, its ledger and what it fetched are. Only its owner can read it."""

import os
import shutil
import stat
from pathlib import Path

from fairyring.core.errors import RunDamaged, StorageError
from fairyring.core.files import OWNER, make_folder, replace_file, storage
from fairyring.core.lock import Lock
from fairyring.core.platforms import is_own
from fairyring.privacy.entropy import KEY_BYTES, fresh
from fairyring.secagg.identity import Identity


class DeviceFolder:
    """All that a device keeps.

    Its keys are made when they are first asked for, and are on the disk before they are given.

    Args:
        path: of the folder, which is made if there is none.
        locked: hold the folder's lock: one agent runs in a folder. Without it the folder is only looked at.

    Attributes:
        path: of the folder.
        examples: path of the example store.
        ledger: path of the device's ledger.
        sessions: folder of what a session under way needs to go on.
        blobs: folder of programs, models and manifests that were fetched.

    Raises:
        RunError: another process has the lock.
        StorageError: the folder cannot be written, or others can write to it.
    """

    def __init__(self, path: str | os.PathLike[str], *, locked: bool = True) -> None:
        self.path = Path(path)
        self.examples, self.ledger = self.path / "examples.sqlite", self.path / "ledger.sqlite"
        self.sessions, self.blobs = self.path / "sessions", self.path / "blobs"
        with storage(self.path):
            make_folder(self.path, private=True)
            if not is_own(self.path):
                raise StorageError(
                    f"device folder {self.path}",
                    given="a folder that others can write to",
                    expected="one that only its owner can use: it holds this device's keys",
                    do="Take the rights of others away with chmod 700, or choose another folder.",
                )
            if stat.S_IMODE(self.path.stat().st_mode) & 0o077:
                self.path.chmod(0o700)
        self._lock = None
        if locked:
            self._lock = Lock(
                self.path / "lock",
                what=f"device folder {self.path}",
                why="two agents would each count only their own participations",
            )
        try:
            with storage(self.path):
                for folder in (self.sessions, self.blobs):
                    make_folder(folder, private=True)
        except BaseException:
            self.close()
            raise

    @property
    def identity(self) -> Identity:
        """The device's key pair.

        Raises:
            RunDamaged: its file does not hold a key.
        """
        return Identity(self._kept(self.path / "identity.key", lambda: Identity.generate().private_bytes()))

    @property
    def secret(self) -> bytes:
        """The 32 bytes that this device's own randomness is made from.

        Raises:
            RunDamaged: its file does not hold them.
        """
        return self._kept(self.path / "secret.key", fresh)

    def forget(self, *, ledger: bool = False) -> None:
        """Delete the keys, all examples and all that was fetched. The device is another one afterwards, and must be enrolled again.

        Keys are deleted last: whatever ends this halfway, it can be called again. The bytes of examples are overwritten before the file
        goes (see `ExampleStore.forget`).

        Args:
            ledger: delete the record of what this device took part in, too. Without it, earlier participations count on: they are what
                a plan's promise to the people behind the examples rests on.

        Raises:
            StorageError: something cannot be deleted.
        """
        from fairyring.device.examples import ExampleStore

        if self.examples.exists():
            store = ExampleStore(self.examples)
            try:
                store.forget()
            finally:
                store.close()
        with storage(self.path):
            for folder in (self.sessions, self.blobs):
                shutil.rmtree(folder, ignore_errors=True)
                make_folder(folder, private=True)
            databases = [self.examples, *([self.ledger] if ledger else [])]
            files = [path.with_name(path.name + end) for path in databases for end in ("", "-wal", "-shm")]
            states = self.path.glob("state-*")  # what algorithms remember of this device's examples
            for path in (*states, *files, self.path / "secret.key", self.path / "identity.key"):
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Release the lock. A second call does nothing."""
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> "DeviceFolder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"DeviceFolder({str(self.path)!r})"

    def _kept(self, path: Path, make) -> bytes:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            content = make()
            replace_file(path, content, mode=OWNER)
        except OSError as error:
            raise StorageError(
                str(path),
                given=f"{error.strerror or error}",
                expected="a file that its owner can read",
                do="Run the device as the user whose folder it is.",
            ) from error
        if len(content) != KEY_BYTES:
            raise RunDamaged(
                str(path),
                given=f"{len(content)} bytes",
                expected=f"the {KEY_BYTES} bytes of this device's key",
                do="Put the file back, or delete it and enrol this device as a new one.",
            )
        return content
