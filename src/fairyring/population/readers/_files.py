"""The files of a published data set: finding, checking and fetching them."""

import gzip
import hashlib
import os
import zlib
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from fairyring.core.errors import DataUnavailable
from fairyring.population.readers.dataset import Dataset, File

_BLOCK = 1 << 20
_TIMEOUT = 30.0  # seconds without a byte


def cache() -> Path:
    """The folder for fetched data sets."""
    return Path.home() / ".cache" / "fairyring"


def folders(dataset: Dataset) -> list[Path]:
    """The folders that are searched for the files of a data set, in order."""
    root = os.environ.get("FAIRYRING_DATA")
    first = [Path(root) / dataset.folder] if root else []
    return [*first, cache() / dataset.folder, *map(Path, dataset.system)]


def find(dataset: Dataset) -> list[Path]:
    """The files of a data set in the order of `dataset.files`, all from one folder and with the right checksums.

    Raises:
        DataUnavailable: no folder has all files, or files are damaged.
    """
    damaged: list[Path] = []
    for folder in folders(dataset):
        paths = [folder / file.name for file in dataset.files]
        if all(path.is_file() for path in paths):
            bad = [p for p, f in zip(paths, dataset.files, strict=True) if checksum(p) != f.sha256]
            if not bad:
                return paths
            damaged += bad
    if damaged:
        file = next(f for f in dataset.files if f.name == damaged[0].name)
        raise DataUnavailable(
            f"data {dataset.name!r}, {damaged[0]}",
            given=f"sha256 {checksum(damaged[0]) or 'of no readable archive'}",
            expected=f"sha256 {file.sha256}",
            do=f"The file is damaged or another version; delete it. {instructions(dataset)}",
        )
    searched = [str(folder) for folder in folders(dataset)]
    raise DataUnavailable(
        f"data {dataset.name!r}",
        given=f"not all of its files in {' or '.join(searched)}",
        expected=", ".join(file.name for file in dataset.files),
        do=instructions(dataset),
    )


def instructions(dataset: Dataset) -> str:
    """How to get the files of a data set."""
    place = folders(dataset)[0]
    by_hand = f"put {', '.join(f.name for f in dataset.files)} into {place}"
    if all(file.url for file in dataset.files):
        steps = f"With a network, fairyring.population.fetch({dataset.name!r}) downloads them. Without one, download "
        steps += f"{', '.join(str(f.url) for f in dataset.files)} on another machine and {by_hand}."
    else:
        page = f" ({dataset.page})" if dataset.page else ""
        steps = f"Get it from {dataset.source}{page} and {by_hand}. {dataset.how}"
    return steps


def fetch(dataset: Dataset, into: Path | None = None) -> list[Path]:
    """Download missing and damaged files. A file appears in the folder only once it is complete and checked.

    Args:
        dataset: the data set.
        into: the folder; by default the data set's folder in `~/.cache/fairyring`.

    Raises:
        DataUnavailable: no network, no public address, a wrong checksum, or no space.
    """
    folder = cache() / dataset.folder if into is None else into
    without_url = []
    for file in dataset.files:
        path = folder / file.name
        if path.is_file() and checksum(path) == file.sha256:
            continue
        if file.url is None:
            without_url.append(file.name)
        else:
            _download(dataset, file, path)
    if without_url:
        raise DataUnavailable(
            f"data {dataset.name!r}",
            given=f"no public address of {', '.join(without_url)}",
            expected=f"files that can be fetched, or are in {folder}",
            do=instructions(dataset),
        )
    return [folder / file.name for file in dataset.files]


def _download(dataset: Dataset, file: File, path: Path) -> None:
    # Imported here: nothing else in this room needs a network, and these modules take longer to import than all of it.
    import urllib.request
    from http.client import HTTPException
    from urllib.error import HTTPError

    partial = path.with_name(f".{path.name}.{uuid4().hex[:8]}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(str(file.url), timeout=_TIMEOUT) as reply, partial.open("wb") as out:
            while block := reply.read(_BLOCK):
                out.write(block)
        actual = checksum(partial)
        if actual != file.sha256:
            raise DataUnavailable(
                f"data {dataset.name!r}, {file.url}",
                given=f"sha256 {actual or 'of no readable archive'}, {partial.stat().st_size} bytes",
                expected=f"sha256 {file.sha256}",
                do="The download was cut short, or the file has changed at its source; nothing was kept. Try "
                "again.",
            )
        os.replace(partial, path)
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()
        reason = getattr(error, "reason", None) or error
        raise DataUnavailable(
            f"data {dataset.name!r}, {file.url}",
            given=str(reason),
            expected="a reply from its published address, and space for the file",
            do=f"Without a network, download it elsewhere and put it at {path}.",
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def checksum(path: Path) -> str:
    """SHA-256 of a file, or of the contents of a `.gz` file; empty for an archive that cannot be unpacked."""
    stat = path.stat()
    return _checksum(str(path), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _checksum(path: str, size: int, mtime_ns: int) -> str:
    # Size and modification time are part of the cache's key, so a file that changes is read again.
    with open(path, "rb") as raw:
        if raw.read(2) != b"\x1f\x8b":
            return _digest(raw)
        try:
            with gzip.open(path, "rb") as unpacked:
                return _digest(unpacked)
        except (OSError, EOFError, zlib.error):
            return ""


def _digest(file: "BinaryIO | gzip.GzipFile") -> str:
    file.seek(0)
    digest = hashlib.sha256()
    while block := file.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()
