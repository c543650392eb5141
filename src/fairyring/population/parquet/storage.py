"""Where Parquet files lie: a folder, or a prefix of a bucket of S3 or of what speaks its protocol.

Credentials are nowhere in here: each process takes its own, from its environment. So nothing of ours that is sent, written or shown
has any.
"""

import atexit
import errno
import os
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from fairyring.core.errors import DataUnavailable, PopulationError
from fairyring.core.interrupts import end_work, leaves_work

PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds, before each further attempt at a read that failed
_CONNECT, _REQUEST = 10.0, 60.0  # seconds until a try counts as failed
_SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_DENIED = ("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "EXPIRED_TOKEN", "INVALID_CLIENT_TOKEN", "HTTP status 403")  # fmt: skip
_PASSING = {
    getattr(errno, name)
    for name in ("EIO", "EAGAIN", "ETIMEDOUT", "ECONNRESET", "ECONNABORTED", "ENETUNREACH", "ESTALE")
    if hasattr(errno, name)
}
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]+")  # so nothing that begins with a user and a password

T = TypeVar("T")


class FileChanged(DataUnavailable):
    """A file is not the one any more that was looked at."""


@dataclass(frozen=True)
class S3Storage:
    """Which S3, and how it is spoken to: `fr.Population.from_parquet("s3://bucket/people", ..., storage=fr.S3Storage(...))`.

    Without it, and for what it leaves out, AWS's own settings count: `AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_PROFILE`. Credentials are never given here.
    Every process takes its own, as AWS's tools do: from `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, from a profile, or from the role of its machine.

    Attributes:
        endpoint: of a store other than AWS, such as `"http://minio:9000"`.
        region: of the bucket; by default it is asked for.
        anonymous: read a public bucket without credentials.

    Raises:
        PopulationError: the endpoint is not the address of a server alone.
    """

    endpoint: str | None = None
    region: str | None = None
    anonymous: bool = False

    def __post_init__(self) -> None:
        if self.endpoint is None:
            return
        scheme, _, server = self.endpoint.partition("://")
        if scheme not in ("http", "https") or not server.strip("/") or "@" in server or "?" in server:
            raise PopulationError(
                "endpoint of S3",
                # What was given is not shown: it may hold a password.
                given="something else than a server's address",
                expected="an address such as 'http://minio:9000', without a user or password",
                do="Give credentials by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment.",
            )


class File(NamedTuple):
    """A file, as it was when it was looked at.

    Attributes:
        name: below the folder or prefix.
        size: in bytes.
        modified: nanoseconds since 1970.
        etag: of its content, where the storage says one; otherwise empty.
    """

    name: str
    size: int
    modified: int
    etag: str = ""


def location(path: str | Path) -> str:
    """A path or a URL as text; a `Path` of a URL has lost one of its slashes."""
    text = str(path)
    return text.replace("s3:/", "s3://", 1) if text.startswith("s3:/") and text[4:5] != "/" else text


class Files:
    """The Parquet files of a data set. It can be sent to another process, which opens the same ones.

    Args:
        path: a file, a folder, or `s3://bucket/prefix`.
        storage: see `S3Storage`; only for the latter.

    Raises:
        PopulationError: the path is neither, or has credentials in it.
    """

    def __init__(self, path: str | Path, storage: S3Storage | None) -> None:
        text = location(path)
        self.remote = "://" in text
        if self.remote:
            bucket = text.removeprefix("s3://").strip("/")
            if (
                not text.startswith("s3://")
                or not _BUCKET.fullmatch(bucket.partition("/")[0])
                or "?" in bucket
            ):
                raise PopulationError(
                    "path of Parquet files",
                    given=f"a URL of {text.partition('://')[0]!r}"
                    + (" with more than a bucket and a path" if text.startswith("s3://") else ""),
                    expected="a path, or s3://bucket/path without a user, a password or options",
                    do="Give options by storage=fr.S3Storage(...), and credentials in the environment.",
                )
            self.root, self.shown = bucket, f"s3://{bucket}"
        else:
            # Not resolved: nodes of a cluster have it under the same path, whatever that leads to here.
            self.root = self.shown = os.path.abspath(text)
        if storage is not None and not (self.remote and isinstance(storage, S3Storage)):
            raise PopulationError(
                "storage",
                given=f"{type(storage).__name__} for {self.shown}",
                expected="fr.S3Storage(...), for a path that begins with s3://",
                do="Leave it out for files on a disk.",
            )
        self.storage = storage or S3Storage()
        self._system: Any = None

    def __getstate__(self) -> dict[str, Any]:
        # A connection may hold credentials, so it stays in its process.
        return vars(self) | {"_system": None}

    @property
    def system(self) -> Any:
        """The file system of pyarrow, as this process reaches it."""
        if self._system is None:
            self._system = self._s3() if self.remote else _arrow().LocalFileSystem()
        return self._system

    def _s3(self) -> Any:
        fs, storage = _arrow(), self.storage
        endpoint = (
            storage.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        )
        region = storage.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        options: dict[str, Any] = {
            "anonymous": storage.anonymous,
            "connect_timeout": _CONNECT,
            "request_timeout": _REQUEST,
            # Failures are tried again here, with our own pauses, and so that they are said as ours.
            "retry_strategy": fs.AwsStandardS3RetryStrategy(max_attempts=0),
        }
        if endpoint:
            scheme, _, server = endpoint.partition("://")
            options |= {
                "endpoint_override": server.rstrip("/") or scheme,
                "scheme": scheme if server else "https",
            }
            region = region or "us-east-1"
        elif not region and not os.environ.get("AWS_PROFILE"):
            region = self.trying(self.shown, lambda: fs.resolve_s3_region(self.root.partition("/")[0]))
        atexit.unregister(_before_the_end)
        atexit.register(_before_the_end)  # after pyarrow's own, so that it comes before it
        return fs.S3FileSystem(**options, **({"region": region} if region else {}))

    def path(self, name: str) -> str:
        """Of a file, as pyarrow takes it."""
        return f"{self.root}/{name}" if name else self.root

    def show(self, name: str) -> str:
        """A file, as an error names it."""
        return f"{self.shown}/{name}" if name else self.shown

    def list(self) -> list[File]:
        """All files, by name. What begins with `_` or `.` is no data.

        Raises:
            DataUnavailable: there is none, or the storage cannot be read.
        """
        fs = _arrow()

        def once() -> list[File]:
            [this] = self.system.get_file_info([self.root])
            if this.type == fs.FileType.File:
                return [File("", this.size, this.mtime_ns or 0)]
            found = self.system.get_file_info(fs.FileSelector(self.root, recursive=True))
            files = [
                File(one.path[len(self.root) + 1 :], one.size, one.mtime_ns or 0)
                for one in found
                if one.type == fs.FileType.File
            ]
            return [one for one in files if not any(p[:1] in ("_", ".") for p in one.name.split("/"))]

        files = sorted(self.trying(self.shown, once))
        if not files:
            raise DataUnavailable(
                f"files {self.shown}",
                given="no file",
                expected="at least one Parquet file",
                do="Check the path.",
            )
        return files

    def open(self, file: File) -> Any:
        """Open a file that is still the one that was looked at.

        Raises:
            FileChanged: it is another.
            OSError: it cannot be read.
        """
        handle = self.system.open_input_file(self.path(file.name))
        try:
            now = self._now(file.name, handle)
            # A list has no ETags, so a file that was not opened yet is known by size and time alone.
            other = now.etag != file.etag if file.etag else now.modified not in (file.modified, 0)
            if now.size != file.size or other:
                raise FileChanged(
                    f"file {self.show(file.name)}",
                    given="another content than when its clients were counted: its size, ETag or time of change differs",
                    expected="files that stay as they are while a population of them is used",
                    do="Make the population again, with from_parquet. A run on the old files cannot go on with the new ones.",
                )
            return handle
        except BaseException:
            handle.close()
            raise

    def identify(self, file: File, handle: Any) -> File:
        """A file from a list with all that tells it from another."""
        return file._replace(etag=self._now(file.name, handle).etag)

    def _now(self, name: str, handle: Any) -> File:
        if not self.remote:
            status = os.stat(self.path(name))
            return File(name, status.st_size, status.st_mtime_ns)
        facts = handle.metadata() or {}
        return File(name, handle.size(), 0, facts.get("ETag", b"").decode("ascii", "replace"))

    def trying(self, shown: str, read: Callable[[], T]) -> T:
        """What `read` returns; again after a pause if the network or the storage failed, a few times.

        Raises:
            DataUnavailable: it failed to the last, for good, or what it read is no Parquet file.
        """
        for pause in (*PAUSES, None):
            try:
                return read()
            except (OSError, ValueError) as error:  # pyarrow's errors are one of these
                if isinstance(error, PopulationError):
                    raise
                if pause is None or not _passes(error):
                    raise _unavailable(shown, error) from None
                time.sleep(pause * random.uniform(0.5, 1.5))  # many nodes should not come back all at once
        raise AssertionError


def _before_the_end() -> None:
    """Let pyarrow's own end not wait for reads that nobody waits for."""
    if leaves_work():
        atexit.unregister(_arrow().ensure_s3_finalized)
    else:
        end_work()


def _arrow() -> Any:
    from pyarrow import fs

    return fs


def _passes(error: BaseException) -> bool:
    """Whether another attempt may succeed."""
    text = str(error)
    if "AWS Error" in text:
        return not any(
            code in text for code in (*_DENIED, "NO_SUCH_BUCKET", "NO_SUCH_KEY", "HTTP status 301")
        )
    return isinstance(error, OSError) and error.errno in _PASSING


def _unavailable(shown: str, error: BaseException) -> DataUnavailable:
    text = _first_line(error)
    if any(code in text for code in _DENIED):
        given, expected = "access denied", "credentials that may list and read it"
        do = (
            "Give this process credentials as AWS's tools take them: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or the "
            "machine's role. For a public bucket give storage=fr.S3Storage(anonymous=True)."
        )
    elif "NO_SUCH_BUCKET" in text or ("Bucket" in text and "not found" in text):
        given, expected, do = (
            "no such bucket",
            "one that is there",
            "Check its name, and endpoint and region of storage=fr.S3Storage(...).",
        )
    elif isinstance(error, FileNotFoundError):
        given, expected, do = "nothing there", "a Parquet file or a folder of them", "Check the path."
    elif isinstance(error, PermissionError):
        given, expected, do = "no permission to read it", "a file that can be read", "Change its permissions."
    elif _passes(error):
        given = f"{len(PAUSES) + 1} attempts that failed, the last with: {text}"
        expected = "a network and a storage that answer"
        do = "Try again when they do. A run that is kept in a folder goes on from its last checkpoint, with resume=True."
    else:
        given, expected = text, "a Parquet file or a folder of them"
        do = "Check how the file was written, and whether it was copied as a whole."
    return DataUnavailable(f"file {shown}", given=given, expected=expected, do=do)


def _first_line(error: BaseException) -> str:
    """An error's first line, without any credentials."""
    text = (str(error).splitlines() or [type(error).__name__])[0]
    for name in _SECRETS:
        if secret := os.environ.get(name):
            text = text.replace(secret, "***")
    return text
