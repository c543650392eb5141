"""A population as a folder: `population.json` and one `.npy` file per column.

    population.json           format, version, names of columns, attributes and features, counts
    starts.npy, sizes.npy     int64 [clients]
    ids.npy                   integers or strings [clients]
    columns/000.npy, ...      [examples, ...] in the order of the names in population.json; client after client
    attributes/000.npy, ...   [clients, ...]

Names are in the JSON only, so a column may have any name. Values are checked when a population is saved. Opening
it checks only shapes and runs, and maps the columns.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from uuid import uuid4

import numpy as np

from fairyring.core.errors import PopulationError, StorageError
from fairyring.core.reading import NotJson, read_json
from fairyring.population._columns import check_finite
from fairyring.population._mapped import client_blocks

if TYPE_CHECKING:
    from fairyring.population.population import Population

_FORMAT, _VERSION = "fairyring.population", 1
_BLOCK = 32 << 20  # bytes of rows in memory while a population is written

Parts = tuple[
    dict[str, np.ndarray],
    np.ndarray,
    np.ndarray,
    np.ndarray,
    dict[str, np.ndarray],
    Mapping[str, Sequence[str]],
]


def save(population: "Population", folder: Path) -> Path:
    """Write `population` to a folder that appears complete or not at all."""
    with appearing(population, folder) as partial:
        (partial / "columns").mkdir(parents=True)
        (partial / "attributes").mkdir()
        _write(population, partial)
    return folder


@contextmanager
def appearing(population: "Population", folder: Path) -> Iterator[Path]:
    """A folder beside `folder`, under another name, to write a population to. It is renamed in the end, or deleted.

    Raises:
        PopulationError: `folder` exists.
        StorageError: it cannot be written.
    """
    if folder.exists():
        raise PopulationError(
            f"folder {folder}",
            given="an existing file or folder",
            expected="a new folder",
            do="Choose another name, or delete it first.",
        )
    partial = folder.with_name(f".{folder.name}.{uuid4().hex[:8]}.partial")
    try:
        yield partial
        partial.rename(folder)
    except OSError as error:
        raise StorageError(
            f"population in {folder}",
            given=f"{error.strerror or error}",
            expected=f"space for {population.examples * population.row_bytes():,} bytes, and permission to write them",
            do="Free space or choose another folder; nothing was left behind.",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(population: "Population", folder: Path) -> None:
    sizes = np.asarray(population.sizes, np.int64)
    small = {"starts": np.cumsum(sizes) - sizes, "sizes": sizes, "ids": np.asarray(population.ids)}
    small |= {f"attributes/{i:03}": np.asarray(a) for i, a in enumerate(population.attributes.values())}
    for name, array in small.items():
        with (folder / f"{name}.npy").open("wb") as file:
            _write_header(file, array.shape, array.dtype)
            _append(file, array)
            _sync(file)
    with ExitStack() as files:
        columns = {}
        for i, name in enumerate(population.names):
            columns[name] = files.enter_context((folder / "columns" / f"{i:03}.npy").open("wb"))
            _write_header(
                columns[name], (population.examples, *population.shape(name)), population.dtype(name)
            )
        for clients in client_blocks(sizes, max(1, _BLOCK // population.row_bytes())):
            block, _ = population.gather(clients)
            check_finite(block)
            for name, file in columns.items():
                _append(file, block[name])
        for file in columns.values():
            _sync(file)
    manifest = {
        "format": _FORMAT,
        "version": _VERSION,
        "clients": len(population),
        "examples": population.examples,
        "columns": list(population.names),
        "attributes": list(population.attributes),
    }
    if population.feature_names:
        manifest["feature_names"] = {name: list(names) for name, names in population.feature_names.items()}
    with (folder / "population.json").open("wb") as file:
        file.write(json.dumps(manifest, indent=2).encode() + b"\n")
        _sync(file)


def _write_header(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _append(file: BinaryIO, array: np.ndarray) -> None:
    # Written to the file and not to a map of it, so that a full disk raises an error instead of a signal.
    file.write(np.ascontiguousarray(array).view(np.uint8).reshape(-1).data if array.size else b"")


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def read(folder: Path) -> Parts:
    """The parts of the population in `folder`, with memory-mapped columns."""
    manifest = _manifest(folder)
    clients, examples = manifest["clients"], manifest["examples"]
    columns = {
        name: _array(folder / "columns" / f"{i:03}.npy", examples, mapped=True)
        for i, name in enumerate(manifest["columns"])
    }
    attributes = {
        name: _array(folder / "attributes" / f"{i:03}.npy", clients)
        for i, name in enumerate(manifest["attributes"])
    }
    starts, sizes, ids = (_array(folder / f"{name}.npy", clients) for name in ("starts", "sizes", "ids"))
    return columns, starts, sizes, ids, attributes, manifest.get("feature_names", {})


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / "population.json"
    try:
        manifest = read_json(path.read_bytes())
    except FileNotFoundError:
        raise PopulationError(
            f"folder {folder}",
            given="no population.json",
            expected="a folder written by Population.save",
            do="Check the path; for Parquet use Population.from_parquet.",
        ) from None
    except (OSError, NotJson) as error:
        raise _damaged(path, str(error)) from None
    wanted = {"clients": int, "examples": int, "columns": list, "attributes": list}
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        raise _damaged(path, "another format")
    if manifest.get("version") != _VERSION:
        raise PopulationError(
            str(path),
            given=f"version {manifest.get('version')!r}",
            expected=f"version {_VERSION}",
            do="Open it with the version of fairyring that wrote it, or save it again.",
        )
    for name, kind in wanted.items():
        if not isinstance(manifest.get(name), kind):
            raise _damaged(path, f"{name} {manifest.get(name)!r}")
    names = manifest.get("feature_names", {})
    if not isinstance(names, dict) or not all(isinstance(features, list) for features in names.values()):
        raise _damaged(path, "feature_names that are no lists by column")
    return manifest


def _array(path: Path, rows: int, *, mapped: bool = False) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(path, str(error)) from None
    if array.ndim == 0 or len(array) != rows:
        raise _damaged(path, f"shape {array.shape} instead of {rows} rows")
    return array


def _damaged(path: Path, reason: str) -> PopulationError:
    return PopulationError(
        str(path),
        given=reason,
        expected="a file as Population.save wrote it",
        do="The folder was changed, or copied only in part; save the population again.",
    )
