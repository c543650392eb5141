"""Where each client's rows lie in Parquet files: found in one pass over the client column, and kept in the user's cache folder.

Rows are numbered through all files, in the order of their names. A client's rows have to lie together, so that it is one run of them; a run
may go on in the next row group, or in the next file.
"""

import hashlib
import io
import json
import os
import time
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np

from fairyring.core.errors import PopulationError
from fairyring.core.interrupts import Background, interruptible, result_of
from fairyring.core.platforms import is_own
from fairyring.core.reading import NotJson, read_json
from fairyring.population._columns import refuse_unknown_name
from fairyring.population.parquet.ranges import read_columns
from fairyring.population.parquet.storage import File, Files

_VERSION = 1
_THREADS = 16  # each of which mostly waits for an answer
_FILES = 64  # whose footers are in memory
_GROUPS, _ROWS = 16, 1 << 20  # that one thread looks at, one row group after the other
_RECENT = (
    10_000_000_000  # nanoseconds: more than clocks differ, and than the steps in which storages tell time
)


Runs = tuple[np.ndarray, np.ndarray]  # clients, and how many rows of each follow


class Index(NamedTuple):
    """Where rows are.

    Attributes:
        files: by name.
        file_of: the file of each row group, int64 `[groups]`.
        number_of: its number in that file, int64 `[groups]`.
        edges: the first row of each row group, and the end, int64 `[groups + 1]`.
        ids: of the clients, in the order of their rows, `[runs]`.
        starts: the first row of each of them, and the end, int64 `[runs + 1]`.
        types: of the data columns, as Arrow calls them: name -> type.
    """

    files: tuple[File, ...]
    file_of: np.ndarray
    number_of: np.ndarray
    edges: np.ndarray
    ids: np.ndarray
    starts: np.ndarray
    types: dict[str, str]


class _Scanned(NamedTuple):
    """One file.

    Attributes:
        file: with its ETag.
        rows: of each row group.
        types: of all columns, the client's without how it is encoded.
        parts: row groups that are looked at together; the clients of their runs and the lengths of these, where statistics say that each row group has
            one client; otherwise None.
        footer: of the file, until its clients are known.
    """

    file: File
    rows: list[int]
    types: dict[str, str]
    parts: list[tuple[list[int], "Runs | None"]]
    footer: Any


def index_of(files: Files, client: str) -> Index:
    """The index of some files: the one that is kept, if they are still the same, or else a new one.

    Raises:
        DataUnavailable: files cannot be read.
        PopulationError: they are of different columns, a row has no client, or the rows of a client do not lie together.
    """
    [listed] = interruptible(files.list)
    kept = _kept(files, client)
    found = _read(kept, listed) if kept is not None else None
    if found is None:
        began = time.time_ns()
        found = _scan(files, listed, client)
        # A file that was written a moment ago may be written again with the same time of change.
        if kept is not None and max(file.modified for file in listed) < began - _RECENT:
            _write(kept, found)
    return found


def forget(files: Files, client: str) -> None:
    """Keep no index of some files: one of them is another now, although it looks the same in a list."""
    if kept := _kept(files, client):
        with suppress(OSError):
            kept.unlink(missing_ok=True)


# -- one pass over the client column ---------------------------------------------------------------------


def _scan(files: Files, listed: Sequence[File], client: str) -> Index:
    files.system  # noqa: B018 - made once, before threads ask for it
    background = Background(_THREADS)
    scanned: list[_Scanned] = []
    found: list[Runs] = []
    try:
        for begin in range(0, len(listed), _FILES):
            some = listed[begin : begin + _FILES]
            runs: list[Runs | Future[Runs]] = []
            for looked in [background.submit(partial(_look, files, file, client)) for file in some]:
                one = result_of(looked)
                _compare(files, scanned[0] if scanned else one, one)
                for groups, known in one.parts:
                    runs.append(
                        background.submit(partial(_read_runs, files, one, groups, client))
                        if known is None
                        else known
                    )
                scanned.append(one._replace(parts=[], footer=None))
            found += [result_of(one) if isinstance(one, Future) else one for one in runs]
    finally:
        background.cancel()
    values = [ids for ids, _ in found]
    if not values:
        raise PopulationError(
            f"files {files.shown}",
            given="files without a row",
            expected="at least one example",
            do="Check what was written there.",
        )
    groups = [(i, g, rows) for i, one in enumerate(scanned) for g, rows in enumerate(one.rows) if rows]
    file_of, number_of, rows = np.array(groups, np.int64).T
    ids, lengths = np.concatenate(values), np.concatenate([lengths for _, lengths in found])
    # A client whose rows go on in the next row group has a run in each.
    first = np.concatenate([[True], ids[1:] != ids[:-1]])
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    index = Index(
        tuple(one.file for one in scanned),
        file_of,
        number_of,
        np.concatenate([[0], np.cumsum(rows)]).astype(np.int64),
        ids[first],
        np.append(starts[:-1][first], starts[-1]),
        {name: kind for name, kind in scanned[0].types.items() if name != client},
    )
    _refuse_scattered(files, index, client)
    return index


def _look(files: Files, file: File, client: str) -> _Scanned:
    """A file's footer, and what it says of its clients."""
    import pyarrow.parquet as pq

    shown = files.show(file.name)

    def once() -> _Scanned:
        with files.open(file) as handle:
            known, footer = files.identify(file, handle), pq.read_metadata(handle)
        schema = footer.schema.to_arrow_schema()
        refuse_unknown_name(f"client column of {shown}", client, schema.names)
        kind = schema.field(client).type
        types = {field.name: str(field.type) for field in schema} | {client: _check_type(client, kind, shown)}
        rows = [footer.row_group(i).num_rows for i in range(footer.num_row_groups)]
        leaf = [footer.schema.column(i).path for i in range(footer.num_columns)].index(client)
        parts = [(groups, _one_client(footer, groups, leaf, kind)) for groups in _parts(rows)]
        return _Scanned(known, rows, types, parts, footer)

    return files.trying(shown, once)


def _read_runs(files: Files, one: _Scanned, groups: list[int], client: str) -> Runs:
    """Runs of clients of some row groups, by reading their client column."""
    shown = files.show(one.file.name)

    def once() -> Runs:
        with files.open(one.file) as handle:
            column = read_columns(handle, one.footer, groups, [client]).column(client)
        return _runs(column, f"client column {client!r} of {shown}", sum(one.rows[: groups[0]]))

    return files.trying(shown, once)


def _parts(rows: Sequence[int]) -> Iterator[list[int]]:
    """Row groups that are looked at together."""
    part: list[int] = []
    for group, count in enumerate(rows):
        if len(part) == _GROUPS or (part and sum(rows[i] for i in part) + count > _ROWS):
            yield part
            part = []
        part += [group] if count else []
    if part:
        yield part


def _check_type(client: str, kind: Any, shown: str) -> str:
    """What the clients are, however they are encoded."""
    import pyarrow as pa

    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    if not (
        types.is_integer(kind)
        or types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_boolean(kind)
    ):
        raise PopulationError(
            f"client column {client!r} of {shown}",
            given=f"values of type {kind}",
            expected="integers or strings",
            do="Write the ids as one of these.",
        )
    return str(kind).removeprefix("large_")


def _one_client(footer: Any, groups: list[int], leaf: int, kind: Any) -> Runs | None:
    """The runs of row groups, if their statistics say that each is of one client; then clients need not be read."""
    import pyarrow as pa

    chunks = [footer.row_group(group).column(leaf) for group in groups]
    values = []
    for chunk in chunks:
        facts = chunk.statistics if chunk.is_stats_set else None
        if facts is None or not facts.has_min_max or not facts.has_null_count or facts.null_count:
            return None
        if facts.min != facts.max or not isinstance(facts.min, int | str):
            return None
        values.append(facts.min)
    ids = pa.array(values, kind.value_type if pa.types.is_dictionary(kind) else kind)
    return _as_ids(ids), np.array([chunk.num_values for chunk in chunks], np.int64)


def _runs(column: Any, what: str, begin: int) -> Runs:
    """The clients of some rows, each as often as a run of its rows begins, and the lengths of these runs.

    Args:
        column: the clients of the rows.
        what: it is, for errors.
        begin: the first row's number in its file.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.null_count:
        row = begin + int(np.flatnonzero(np.asarray(column.is_null()))[0])
        raise PopulationError(
            f"{what}, row {row}",
            given=f"no client, here and in {column.null_count - 1:,} of the next {len(column):,} rows",
            expected="a client in every row",
            do="Drop these rows, or give them a client.",
        )
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    array = pa.concat_arrays(column.chunks)
    encoded = pc.run_end_encode(array)  # pyright: ignore[reportAttributeAccessIssue]
    ends = np.asarray(encoded.run_ends, np.int64)
    return _as_ids(encoded.values), np.diff(ends, prepend=0)


def _as_ids(array: Any) -> np.ndarray:
    """Integers or strings of Arrow, as ids of a population."""
    values = array.to_numpy(zero_copy_only=False)
    if values.dtype.kind == "O":
        return values.astype(str)
    return values.astype(np.int64) if values.dtype.kind == "b" else values


def _compare(files: Files, first: _Scanned, other: _Scanned) -> None:
    """Raise `PopulationError` unless two files have the same columns."""
    differ = [n for n in {**first.types, **other.types} if first.types.get(n) != other.types.get(n)]
    if differ:
        name = differ[0]
        raise PopulationError(
            f"file {files.show(other.file.name)}",
            given=f"{name!r} of type {other.types[name]}"
            if name in other.types
            else f"no column like {name!r}",
            expected=f"the columns of {files.show(first.file.name)}"
            + (f", where it is {first.types[name]}" if name in first.types else ", which has no such column"),
            do="Write all files with one schema.",
        )


def _refuse_scattered(files: Files, index: Index, client: str) -> None:
    order = np.argsort(index.ids, kind="stable")
    again = np.flatnonzero(index.ids[order][1:] == index.ids[order][:-1])
    if not len(again):
        return
    pair = order[again[0] : again[0] + 2]

    def place(row: int) -> str:
        group = int(np.searchsorted(index.edges, row, "right")) - 1
        file = int(index.file_of[group])
        first = index.edges[np.searchsorted(index.file_of, file)]
        return f"row {row - first} of {files.show(index.files[file].name)}"

    raise PopulationError(
        f"rows of client {index.ids[pair[0]].item()!r}",
        given=f"rows in several places: from {place(int(index.starts[pair[0]]))}, and from {place(int(index.starts[pair[1]]))}"
        f"; {len(np.unique(index.ids[order][again])):,} clients are scattered like this",
        expected="each client's rows one after another, in files that follow each other by name",
        do=f"Sort the rows by {client!r}: a data base does that for any size (ORDER BY), and for what fits into memory "
        f"fr.Population.from_parquet(path, {client!r}, in_memory=True).to_parquet(folder, {client!r}).",
    )


# -- kept for the next time -------------------------------------------------------------------------------


def _kept(files: Files, client: str) -> Path | None:
    """The file for an index in the user's cache; None where there is no folder that is the user's alone."""
    folder = Path.home() / ".cache" / "fairyring" / "indexes"
    try:
        folder.mkdir(0o700, parents=True, exist_ok=True)
        if not is_own(folder):
            return None
    except OSError:
        return None
    name = json.dumps([_VERSION, files.shown, files.storage.endpoint, client])
    return folder / f"{hashlib.sha256(name.encode()).hexdigest()}.npz"


def _write(path: Path, index: Index) -> None:
    """Keep an index, if there is room on the disk."""
    facts = {"files": [list(file) for file in index.files], "types": index.types}
    arrays = {name: getattr(index, name) for name in ("file_of", "number_of", "edges", "ids", "starts")}
    content = io.BytesIO()
    np.savez_compressed(content, facts=np.frombuffer(json.dumps(facts).encode(), np.uint8), **arrays)
    beside = path.with_name(f"{path.name}.{uuid4().hex[:8]}.part")
    with suppress(OSError):
        try:
            with open(beside, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                file.write(content.getbuffer())
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)


def _read(path: Path, listed: Sequence[File]) -> Index | None:
    """The index that is kept, if it is of files that look like these. ETags are compared when a file is opened."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            arrays = {name: kept[name] for name in ("file_of", "number_of", "edges", "ids", "starts")}
            facts = read_json(kept["facts"].tobytes())
        files = tuple(File(*one) for one in facts["files"])
        if [one._replace(etag="") for one in files] != list(listed):
            return None
        return Index(files, types=facts["types"], **arrays)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, NotJson):
        return None
