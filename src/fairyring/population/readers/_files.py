"""Files of a published set: looked for, checked, fetched."""

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
    """Where fetched sets are kept."""
    return Path.home() / ".cache" / "fairyring"


def folders(dataset: Dataset) -> list[Path]:
    """Where the files of a set are looked for, in order."""
    own = os.environ.get("FAIRYRING_DATA")
    places = [Path(own) / dataset.folder] if own else []
    return [*places, cache() / dataset.folder, *map(Path, dataset.system)]


def find(dataset: Dataset) -> list[Path]:
    """The files of a set, in its order, all from one folder, each with the checksum it should have.

    Raises:
        DataUnavailable: no folder has them all; or one has, and they are damaged.
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
        wanted = next(f for f in dataset.files if f.name == damaged[0].name)
        raise DataUnavailable(
            f"data {dataset.name!r}, {damaged[0]}",
            given=f"sha256 {checksum(damaged[0]) or 'of no readable archive'}",
            expected=f"sha256 {wanted.sha256}",
            do=f"The file is damaged or another version; remove it. {what_to_do(dataset)}",
        )
    looked = [str(folder) for folder in folders(dataset)]
    raise DataUnavailable(
        f"data {dataset.name!r}",
        given=f"not all of its files in {' or '.join(looked)}",
        expected=", ".join(file.name for file in dataset.files),
        do=what_to_do(dataset),
    )


def what_to_do(dataset: Dataset) -> str:
    """How a person gets the files of a set."""
    place = folders(dataset)[0]
    by_hand = f"put {', '.join(f.name for f in dataset.files)} into {place}"
    if all(file.url for file in dataset.files):
        steps = f"With a network, fairyring.population.fetch({dataset.name!r}) gets them. Without one, get "
        steps += f"{', '.join(str(f.url) for f in dataset.files)} on another machine and {by_hand}."
    else:
        page = f" ({dataset.page})" if dataset.page else ""
        steps = f"Get it from {dataset.source}{page} and {by_hand}. {dataset.how}"
    return steps


def fetch(dataset: Dataset, into: Path | None = None) -> list[Path]:
    """Fetch what is missing or damaged from its published address; each file appears whole and checked.

    Args:
        dataset: the set.
        into: the folder; by default the set's folder in `~/.cache/fairyring`.

    Raises:
        DataUnavailable: no network, no public address, another checksum, or no room.
    """
    folder = cache() / dataset.folder if into is None else into
    homeless = []
    for file in dataset.files:
        target = folder / file.name
        if target.is_file() and checksum(target) == file.sha256:
            continue
        if file.url is None:
            homeless.append(file.name)
        else:
            _download(dataset, file, target)
    if homeless:
        raise DataUnavailable(
            f"data {dataset.name!r}",
            given=f"no public address of {', '.join(homeless)}",
            expected=f"files that can be fetched, or are in {folder}",
            do=what_to_do(dataset),
        )
    return [folder / file.name for file in dataset.files]


def _download(dataset: Dataset, file: File, target: Path) -> None:
    # Imported here: the rest of the room needs no network, and these take longer to load than all of it.
    import urllib.request
    from http.client import HTTPException
    from urllib.error import HTTPError

    partial = target.with_name(f".{target.name}.{uuid4().hex[:8]}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(str(file.url), timeout=_TIMEOUT) as reply, partial.open("wb") as out:
            while block := reply.read(_BLOCK):
                out.write(block)
        found = checksum(partial)
        if found != file.sha256:
            raise DataUnavailable(
                f"data {dataset.name!r}, {file.url}",
                given=f"sha256 {found or 'of no readable archive'}, {partial.stat().st_size} bytes",
                expected=f"sha256 {file.sha256}",
                do="The reply was cut short or the file has changed at its source; nothing was kept. Try "
                "again.",
            )
        os.replace(partial, target)
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()
        reason = getattr(error, "reason", None) or error
        raise DataUnavailable(
            f"data {dataset.name!r}, {file.url}",
            given=str(reason),
            expected="a reply from its published address, and room for the file",
            do=f"Without a network, get it elsewhere and put it at {target}.",
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def checksum(path: Path) -> str:
    """SHA-256 of a file, of a `.gz` file's contents; empty for an archive that cannot be unpacked."""
    stat = path.stat()
    return _checksum(str(path), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _checksum(path: str, size: int, mtime_ns: int) -> str:
    # Size and time are part of the address, so a file that changes is read again.
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
