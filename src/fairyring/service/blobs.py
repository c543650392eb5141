"""Blobs: bytes that are kept by their SHA-256, in a folder or in a bucket of S3. A damaged one is never handed out."""

import hashlib
import os
import secrets
import threading
from collections.abc import Hashable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from fairyring.core.errors import MissingExtra, PlanError, RunDamaged, RunError, StorageError
from fairyring.core.files import OWNER, make_folder
from fairyring.core.platforms import BINARY, flush_folder

_DIGEST_BYTES = 32
_PIECE = 1 << 20  # bytes hashed at once
_RETRIES, _RETRIED_SECONDS = 5, 60  # of a bucket that does not answer
_REMEMBERED = 10_000  # blobs that are known to be whole


class BlobMissing(RunError):
    """There is no blob of this digest."""


class _Store(Protocol):
    """Where blobs lie, by a name that is made of their digest."""

    shown: str

    def put(self, name: str, data: bytes) -> None: ...
    def get(self, name: str, start: int, stop: int) -> bytes: ...
    def look(self, name: str) -> tuple[int, Hashable]:
        """The size, and what changes when the content does, as far as that can be told without reading it."""
        ...

    def delete(self, name: str) -> None: ...


class Blobs:
    """A store of blobs. Several threads and processes may use it.

    Args:
        place: a folder, which is created if it does not exist, or `s3://bucket/prefix`. Credentials of S3 come from the
            environment: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, and `AWS_ENDPOINT_URL` for a storage other than AWS.

    Raises:
        PlanError: the URL is of another kind, or has more in it than a bucket and a prefix.
        StorageError: the folder cannot be made.
        MissingExtra: obstore is not installed.
    """

    def __init__(self, place: str | os.PathLike[str]) -> None:
        text = os.fspath(place)
        self._store: _Store = _Bucket(text) if "://" in text else _Folder(Path(text).absolute())
        self._whole: dict[bytes, Hashable] = {}
        self._lock = threading.Lock()

    def put(self, data: bytes) -> bytes:
        """Keep bytes. Returns their SHA-256, 32 bytes. They are stored, against a power cut too, when this returns.

        Raises:
            StorageError: they cannot be written.
        """
        digest = hashlib.sha256(data).digest()
        with suppress(BlobMissing, RunDamaged):
            self._verify(digest)
            return digest
        self._store.put(_name(digest), data)
        return digest

    def get(self, digest: bytes) -> bytes:
        """All bytes of a blob.

        Raises:
            BlobMissing: there is none of this digest.
            RunDamaged: it is not what was put there.
            StorageError: it cannot be read.
        """
        name = _name(digest)
        data = self._store.get(name, 0, self._store.look(name)[0])
        if hashlib.sha256(data).digest() != digest:
            raise self._damaged(digest)
        return data

    def size(self, digest: bytes) -> int:
        """How many bytes a blob has.

        Raises:
            BlobMissing, StorageError: as for `get`.
        """
        return self._store.look(_name(digest))[0]

    def read(self, digest: bytes, start: int, stop: int) -> bytes:
        """A part of a blob: bytes `start` to `stop`, or to its end. The blob is read and verified as a whole once, and when it changes.

        Raises:
            PlanError: the part begins before the blob or after its end, or ends before it begins.
            BlobMissing, RunDamaged, StorageError: as for `get`.
        """
        size = self._verify(digest)
        if not 0 <= start <= min(stop, size):
            raise PlanError(
                f"part of blob {digest.hex()[:16]}",
                given=f"bytes {start} to {stop}",
                expected=f"a part of {size} bytes",
                do="Ask for its size first.",
            )
        return self._store.get(_name(digest), start, min(stop, size))

    def path(self, digest: bytes) -> Path | None:
        """The file of a blob that was verified; None where blobs are no files of this machine.

        Raises:
            BlobMissing, RunDamaged, StorageError: as for `get`.
        """
        if not isinstance(self._store, _Folder):
            return None
        self._verify(digest)
        return self._store.path(_name(digest))

    def exists(self, digest: bytes) -> bool:
        """Whether there is a blob of this digest."""
        try:
            self._store.look(_name(digest))
        except BlobMissing:
            return False
        return True

    def delete(self, digest: bytes) -> None:
        """Delete a blob, if there is one."""
        with self._lock:
            self._whole.pop(digest, None)
        self._store.delete(_name(digest))

    def __repr__(self) -> str:
        return f"Blobs({self._store.shown!r})"

    def _verify(self, digest: bytes) -> int:
        """Returns the size."""
        name = _name(digest)
        size, mark = self._store.look(name)
        if self._whole.get(digest) == mark:
            return size
        state = hashlib.sha256()
        for start in range(0, size, _PIECE):
            state.update(self._store.get(name, start, min(start + _PIECE, size)))
        if state.digest() != digest:
            raise self._damaged(digest)
        with self._lock:
            if len(self._whole) >= _REMEMBERED:
                self._whole.clear()
            self._whole[digest] = mark
        return size

    def _damaged(self, digest: bytes) -> RunDamaged:
        return RunDamaged(
            f"blob {digest.hex()[:16]} in {self._store.shown}",
            given="other bytes than were put there",
            expected="bytes of its digest",
            do="Put it there again, or restore it from a copy.",
        )


class _Folder:
    """Blobs as files."""

    def __init__(self, root: Path) -> None:
        self._root, self.shown = root, str(root)
        try:
            make_folder(root, private=True)
        except OSError as error:
            raise self._failed(error) from error

    def path(self, name: str) -> Path:
        return self._root / name

    def put(self, name: str, data: bytes) -> None:
        path = self.path(name)
        beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")  # two may put the same
        try:
            make_folder(path.parent, private=True)
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | BINARY
                with open(os.open(beside, flags, OWNER), "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(beside, path)
            except BaseException:
                beside.unlink(missing_ok=True)
                raise
            flush_folder(path.parent)
        except OSError as error:
            raise self._failed(error) from error

    def get(self, name: str, start: int, stop: int) -> bytes:
        try:
            with open(self.path(name), "rb") as file:
                file.seek(start)
                return file.read(stop - start)
        except OSError as error:
            raise self._failed(error, name) from error

    def look(self, name: str) -> tuple[int, Hashable]:
        try:
            status = os.stat(self.path(name))
        except OSError as error:
            raise self._failed(error, name) from error
        return status.st_size, (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def delete(self, name: str) -> None:
        try:
            self.path(name).unlink(missing_ok=True)
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError, name: str = "") -> RunError:
        if name and isinstance(error, FileNotFoundError):
            return _missing(name, self.shown)
        return _unusable(self.shown, error.strerror or type(error).__name__)


class _Bucket:
    """Blobs in a bucket of S3, or of what speaks its protocol."""

    def __init__(self, url: str) -> None:
        scheme, _, rest = url.partition("://")
        bucket, _, prefix = rest.strip("/").partition("/")
        if scheme != "s3" or not bucket or any(c in rest for c in "@?#:") or ".." in rest.split("/"):
            raise PlanError(
                "place of blobs",
                # Not what was given: it may hold a password.
                given=f"a URL of {scheme!r}"
                + (" with more than a bucket and a prefix" if scheme == "s3" else ""),
                expected="a folder, or s3://bucket/prefix",
                do="Give credentials and options in the environment: AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL.",
            )
        self.shown = f"s3://{bucket}/{prefix}".rstrip("/")
        try:
            import obstore
            from obstore.store import S3Store
        except ImportError as error:
            raise MissingExtra("obstore", extra="service", purpose="blobs in a bucket") from error
        plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
        self._obstore: Any = obstore
        self._bucket: Any = S3Store(
            bucket,
            prefix=prefix or None,
            client_options={"allow_http": plain, "timeout": "60s", "connect_timeout": "10s"},
            retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_RETRIED_SECONDS)},
        )

    def put(self, name: str, data: bytes) -> None:
        self._trying(lambda: self._obstore.put(self._bucket, name, data))

    def get(self, name: str, start: int, stop: int) -> bytes:
        if stop <= start:
            return b""
        return bytes(
            self._trying(lambda: self._obstore.get_range(self._bucket, name, start=start, end=stop), name)
        )

    def look(self, name: str) -> tuple[int, Hashable]:
        head = self._trying(lambda: self._obstore.head(self._bucket, name), name)
        return head["size"], (head["size"], head["e_tag"], head["last_modified"])

    def delete(self, name: str) -> None:
        with suppress(BlobMissing):
            self._trying(lambda: self._obstore.delete(self._bucket, name), name)

    def _trying(self, call: Any, name: str = "") -> Any:
        from obstore.exceptions import BaseError

        try:
            return call()
        except FileNotFoundError:
            raise _missing(name, self.shown) from None
        except (BaseError, OSError, ValueError) as error:
            # By its kind alone: the whole text may show how it was signed.
            raise _unusable(self.shown, type(error).__name__) from None


def _name(digest: bytes) -> str:
    if not isinstance(digest, bytes) or len(digest) != _DIGEST_BYTES:
        raise PlanError(
            "digest of a blob",
            given=f"{len(digest)} bytes" if isinstance(digest, bytes) else type(digest).__name__,
            expected=f"{_DIGEST_BYTES} bytes",
            do="Give what `put` returned.",
        )
    text = digest.hex()
    return f"{text[:2]}/{text}"


def _missing(name: str, shown: str) -> BlobMissing:
    return BlobMissing(
        f"blob {name[3:19]} in {shown}", given="none", expected="one that was put there", do="Put it there."
    )


def _unusable(shown: str, given: str) -> StorageError:
    return StorageError(
        f"blobs in {shown}",
        given=given,
        expected="a place that can be read and written",
        do="Check that there is free space, and that this process may read and write there.",
    )
