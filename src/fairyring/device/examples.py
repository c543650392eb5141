"""The examples on a device: rows by source, with the consent of each source, kept for as long as its owner says and no longer.

What is deleted is overwritten in the files of the store. What a file system or a flash disk keeps of blocks that it has freed is beyond a
program's reach: encrypt the disk.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from fairyring.core.errors import PopulationError
from fairyring.device._database import Database
from fairyring.messages import Array

TRAINING, WITHHELD = "training", "withheld"
CONSENTS = (TRAINING, WITHHELD)
_TABLES = (
    """CREATE TABLE sources (
        name TEXT PRIMARY KEY, columns BLOB NOT NULL, consent TEXT NOT NULL, seconds REAL, count INTEGER)""",
    # Numbers are never given again: the order in which rows were added is part of what is computed from them.
    """CREATE TABLE examples (
        number INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL REFERENCES sources ON DELETE CASCADE,
        time REAL NOT NULL, data BLOB NOT NULL)""",
    "CREATE INDEX by_source ON examples (source, number)",
    "CREATE INDEX by_time ON examples (source, time)",
)


class Source(NamedTuple):
    """Where examples come from.

    Attributes:
        name: of the source.
        consent: what its people allow: `training`, or `withheld`.
        columns: a row of each of its columns.
        number: how many examples are here.
        oldest, newest: when they were added, in seconds since 1970; None without any.
        kept_until: when the oldest is deleted; None if no age is set, or there is none.
        most: how many are kept; None for all.
    """

    name: str
    consent: str
    columns: tuple[Array, ...]
    number: int
    oldest: float | None
    newest: float | None
    kept_until: float | None
    most: int | None


class ExampleStore:
    """Examples in an SQLite file that only its owner can read. It may be used by several threads and processes.

    Args:
        path: of the file, made if there is none; see `DeviceFolder.examples`.
        clock: the time in seconds since 1970.

    Raises:
        StorageError: the file cannot be written.
        RunDamaged: it is no store of examples.
    """

    def __init__(self, path: str | os.PathLike[str], *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._database = Database(Path(path), _TABLES, 1, "a device's examples")
        self._expire()

    def add(
        self,
        source: str,
        columns: Mapping[str, np.ndarray],
        *,
        consent: str,
        now: float | None = None,
    ) -> int:
        """Add rows, all or none of them.

        Args:
            source: where they come from, such as `keyboard`.
            columns: name -> numbers `[rows, ...]`, the same for all rows of a source.
            consent: what the people behind the rows allow: `training` or `withheld`. It must be that of the source: `allow` changes it.
            now: when they were made, in seconds since 1970; by the device's clock if it is not given.

        Returns:
            How many rows were added.

        Raises:
            PopulationError: the columns have no rows in common, have no fixed size, or differ from those of the source; or its people
                allow something else.
        """
        now = self._clock() if now is None else now
        _check_consent(consent)
        arrays = {name: np.asarray(column) for name, column in columns.items()}
        rows = _rows_of(arrays)
        forms = tuple(_form(name, array) for name, array in sorted(arrays.items()))
        with self._database.writing():
            known = self._database.rows("SELECT columns, consent FROM sources WHERE name = ?", source)
            if not known:
                self._database.execute(
                    "INSERT INTO sources VALUES (?, ?, ?, NULL, NULL)",
                    source,
                    msgspec.json.encode(forms),
                    consent,
                )
            else:
                _check_known(source, _forms(known[0][0]), forms, known[0][1], consent)
            whole = _joined(arrays, forms, rows)
            self._database.insert(
                "INSERT INTO examples (source, time, data) VALUES (?, ?, ?)",
                ((source, now, row.tobytes()) for row in whole),
            )
        self._expire()
        return rows

    def allow(self, source: str, consent: str) -> None:
        """Change what the people behind a source allow: `training` or `withheld`.

        Raises:
            PopulationError: there is no such source, or no such consent.
        """
        _check_consent(consent)
        with self._database.writing():
            self._known(source)
            self._database.execute("UPDATE sources SET consent = ? WHERE name = ?", consent, source)

    def keep(self, source: str, *, seconds: float | None = None, count: int | None = None) -> None:
        """Set how long examples of a source are kept, and how many: None for no bound. It holds from now on, also for those there.

        Examples are deleted when the store is next opened, added to or read.

        Raises:
            PopulationError: there is no such source, or a bound is negative.
        """
        if (seconds is not None and not seconds >= 0) or (count is not None and count < 0):
            raise PopulationError(
                f"how long examples of {source!r} are kept",
                given=f"{seconds} seconds, {count} examples",
                expected="numbers of at least 0, or None",
                do="Give seconds=86400 * 30, say.",
            )
        with self._database.writing():
            self._known(source)
            self._database.execute(
                "UPDATE sources SET seconds = ?, count = ? WHERE name = ?", seconds, count, source
            )
        self._expire()

    def forget(self, source: str | None = None) -> int:
        """Delete a source with its examples, or all, and overwrite their bytes.

        Returns:
            How many examples were deleted.

        Raises:
            PopulationError: there is no such source.
            StorageError: another process is reading, so that the bytes are not overwritten yet: call it again.
        """
        with self._database.writing():
            if source is None:
                number = self._database.rows("SELECT count(*) FROM examples")[0][0]
                self._database.execute("DELETE FROM examples")
                self._database.execute("DELETE FROM sources")
            else:
                # Not for a source that is gone already: what a first call could not overwrite, a second one does.
                number = self._database.rows("SELECT count(*) FROM examples WHERE source = ?", source)[0][0]
                self._database.execute("DELETE FROM examples WHERE source = ?", source)
                self._database.execute("DELETE FROM sources WHERE name = ?", source)
        self._database.scrub()
        return number

    def sources(self) -> list[Source]:
        """All sources, by name."""
        self._expire()
        rows = self._database.rows(
            "SELECT name, consent, columns, count(number), min(time), max(time), seconds, sources.count FROM sources "
            "LEFT JOIN examples ON source = name GROUP BY name ORDER BY name"
        )
        return [
            Source(
                *(name, consent, _forms(columns), number, oldest, newest),
                None if seconds is None or oldest is None else oldest + seconds,
                most,
            )
            for name, consent, columns, number, oldest, newest, seconds, most in rows
        ]

    def load(self, columns: Sequence[Array], most: int) -> dict[str, np.ndarray]:
        """The newest examples that may be trained on, in the order in which they were added.

        They come from all sources that have these columns and whose people allow training.

        Args:
            columns: a row of each column, as a manifest has them.
            most: how many examples at most.

        Returns:
            name -> `[examples, ...]`, in the dtype of `columns`. It is empty of rows where there are none.

        Raises:
            PopulationError: a source has a column of this name with another shape or dtype; or no source has all columns.
        """
        self._expire()
        with self._database.writing():  # what is read of several sources is of one moment
            allowed = self._database.rows("SELECT name, columns FROM sources WHERE consent = ?", TRAINING)
            places: dict[str, dict[str, tuple[int, Array]]] = {}
            for name, data in allowed:
                at, found = 0, {}
                for form in _forms(data):
                    found[form.name] = at, form
                    at += form.nbytes
                if all(column.name in found for column in columns):
                    _check_columns(name, columns, {n: form for n, (_, form) in found.items()})
                    places[name] = found
            if not places and allowed:
                there = {form.name for _, data in allowed for form in _forms(data)}
                missing = [column.name for column in columns if column.name not in there]
                raise PopulationError(
                    f"column {(missing or [columns[0].name])[0]!r}",
                    given="no source that has all columns of the plan: " + ", ".join(sorted(there)),
                    expected=", ".join(column.name for column in columns),
                    do="Add examples with these columns, or refuse the plan.",
                )
            marks = ", ".join("?" * len(places))
            rows = self._database.rows(
                f"SELECT source, data FROM examples WHERE source IN ({marks}) ORDER BY number DESC LIMIT ?",
                *(*places, most),
            )[::-1]
        loaded = {column.name: np.empty((len(rows), *column.shape), column.dtype) for column in columns}
        for source, found in places.items():
            at = [place for place, (of, _) in enumerate(rows) if of == source]
            table = np.frombuffer(b"".join(rows[place][1] for place in at), np.uint8)
            table = table.reshape(len(at), sum(form.nbytes for _, form in found.values()))
            for column in columns:
                begin = found[column.name][0]
                part = np.ascontiguousarray(table[:, begin : begin + column.nbytes])
                values = part.reshape(-1).view(np.dtype(column.dtype))
                loaded[column.name][at] = values.reshape(len(at), *column.shape)
        return loaded

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def __enter__(self) -> "ExampleStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _known(self, source: str) -> None:
        if not self._database.rows("SELECT 1 FROM sources WHERE name = ?", source):
            raise PopulationError(
                f"source {source!r}",
                given="no examples of it",
                expected=", ".join(row[0] for row in self._database.rows("SELECT name FROM sources"))
                or "a source with examples",
                do="Add examples of it first.",
            )

    def _expire(self) -> None:
        """Delete what is kept no longer."""
        bounded = self._database.rows(
            "SELECT name, seconds, count FROM sources WHERE seconds IS NOT NULL OR count IS NOT NULL"
        )
        if not bounded:
            return
        now, deleted = self._clock(), 0
        with self._database.writing():
            for name, seconds, count in bounded:
                if seconds is not None:
                    deleted += self._database.execute(
                        "DELETE FROM examples WHERE source = ? AND time < ?", name, now - seconds
                    ).rowcount
                if count is not None:
                    deleted += self._database.execute(
                        "DELETE FROM examples WHERE source = ? AND number <= ("
                        "SELECT number FROM examples WHERE source = ? ORDER BY number DESC LIMIT 1 OFFSET ?)",
                        *(name, name, count),
                    ).rowcount
        if deleted:
            self._database.checkpoint(patient=True)


def _check_consent(consent: str) -> None:
    if consent not in CONSENTS:
        raise PopulationError(
            "consent",
            given=repr(consent)[:80],
            expected=" or ".join(CONSENTS),
            do="Say what its people allow.",
        )


def _rows_of(arrays: Mapping[str, np.ndarray]) -> int:
    lengths = {array.shape[0] if array.ndim else -1 for array in arrays.values()}
    if len(lengths) != 1 or -1 in lengths:
        raise PopulationError(
            "columns of examples",
            given=", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items()) or "none",
            expected="arrays of one length, [rows, ...]",
            do="Give every column a row for every example.",
        )
    return lengths.pop()


def _form(name: str, array: np.ndarray) -> Array:
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise PopulationError(
            f"column {name!r}",
            given=f"{array.dtype}",
            expected="numbers of at most 64 bits, or truth values",
            do="Make numbers of it first: indices of words, say.",
        )
    return Array.of(name, array.shape[1:], array.dtype)


def _forms(data: bytes) -> tuple[Array, ...]:
    return msgspec.json.decode(data, type=tuple[Array, ...])


def _check_known(
    source: str, known: tuple[Array, ...], given: tuple[Array, ...], allowed: str, consent: str
) -> None:
    if allowed != consent:
        raise PopulationError(
            f"source {source!r}",
            given=f"examples with consent {consent!r}",
            expected=f"{allowed!r}, as for those of this source so far",
            do="Add them as another source, or change what this source allows with allow().",
        )
    if known != given:
        odd = sorted({form.name for form in set(known) ^ set(given)})
        raise PopulationError(
            f"column {odd[0]!r} of source {source!r}",
            given=_listed(form for form in given if form.name == odd[0]) or "no such column",
            expected=_listed(form for form in known if form.name == odd[0]) or "no such column",
            do="Give all examples of a source the same columns, or name another source.",
        )


def _check_columns(source: str, columns: Sequence[Array], found: Mapping[str, Array]) -> None:
    for column in columns:
        if found[column.name] != column:
            raise PopulationError(
                f"column {column.name!r} of source {source!r}",
                given=_listed([found[column.name]]),
                expected=_listed([column]) + ", as the plan reads it",
                do="Convert the examples, or refuse the plan.",
            )


def _listed(forms) -> str:
    return ", ".join(f"{np.dtype(form.dtype)} {list(form.shape)}" for form in forms)


def _joined(arrays: Mapping[str, np.ndarray], forms: Sequence[Array], rows: int) -> np.ndarray:
    """Rows as bytes, column after column: uint8 `[rows, bytes]`."""
    parts = [
        np.ascontiguousarray(arrays[form.name], np.dtype(form.dtype)).reshape(rows, form.size).view(np.uint8)
        if form.size
        else np.zeros((rows, 0), np.uint8)
        for form in forms
    ]
    return np.concatenate(parts, axis=1) if parts else np.zeros((rows, 0), np.uint8)
