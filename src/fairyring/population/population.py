"""The population: rows of columns, grouped by client, stored once.

A client owns a run of rows: `starts[i] : starts[i] + sizes[i]` of every column. To select clients is to select runs, so
a cohort, a held-out set of clients or a memory-mapped file with a million of them needs no copy of any row.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Self

import numpy as np

from fairyring.core.errors import PopulationError
from fairyring.population import (
    _csv,
    _fingerprint,
    _frames,
    _grouping,
    _mapped,
    _sources,
    _store,
    _tabular,
    _text,
)
from fairyring.population._columns import (
    as_attributes,
    as_columns,
    as_feature_names,
    as_ids,
    by_id,
    check_finite,
    check_unique,
    proper_fraction,
    refuse_unknown_name,
    whole_number,
)
from fairyring.population._runs import as_runs, one_run
from fairyring.population._splitting import (
    classes_of,
    draw_stratified,
    draw_within,
    first_part_sizes,
    refuse_order_and_stratify,
    warn_of_one_class,
)
from fairyring.population.parquet.storage import Files, S3Storage, location

_NAMED = 50  # clients, up to which a description has their ids


class Population:
    """Examples of many clients, in columns.

    Args:
        columns: arrays `[rows, ...]` of numbers, all with the same number of rows; a mapped file stays on disk.
        starts: int64 `[clients]`, the first row of each client.
        sizes: int64 `[clients]`, the number of rows of each client; 0 is allowed.
        ids: integers or strings `[clients]` that identify the clients; by default 0, 1, 2, ...
        attributes: properties of the clients, arrays `[clients, ...]` of numbers or strings.
        feature_names: for columns of shape `[rows, k]`, the names of the `k` features.

    Raises:
        PopulationError: columns are not numeric or differ in length, feature names do not match their column, a run lies outside of them, or there is no client
            or no example. The values are checked by the `from_...` constructors, not here.
    """

    def __init__(
        self,
        columns: Mapping[str, Any],
        starts: Any,
        sizes: Any,
        ids: Any = None,
        attributes: Mapping[str, Any] | None = None,
        *,
        feature_names: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        checked = as_columns(columns)
        starts, sizes = as_runs(starts, sizes, rows=len(next(iter(checked.values()))))
        ids = np.arange(len(sizes)) if ids is None else as_ids(ids)
        if len(ids) != len(sizes):
            raise PopulationError(
                "client ids",
                given=f"{len(ids)} ids",
                expected=f"{len(sizes)}, one per client",
                do="Give every client an id.",
            )
        self._columns = checked
        self.feature_names = as_feature_names(feature_names, checked)
        self._set_clients(starts, sizes, ids, as_attributes(attributes, len(sizes)))

    def _set_clients(
        self, starts: np.ndarray, sizes: np.ndarray, ids: np.ndarray, attributes: Mapping[str, np.ndarray]
    ) -> None:
        self.starts, self.sizes, self.ids = starts, sizes, ids
        self.attributes: Mapping[str, np.ndarray] = MappingProxyType(dict(attributes))
        if not self.examples:
            raise PopulationError(
                "population",
                given=f"{len(sizes)} clients without examples" if len(sizes) else "no client",
                expected="at least one client with at least one example",
                do="Check what was read, and how clients were selected.",
            )

    # -- constructors ------------------------------------------------------------------------------------

    @classmethod
    def from_arrays(
        cls,
        columns: Mapping[str, Any],
        client: Any,
        *,
        clients: Any = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> "Population":
        """A population from arrays with one row per example, in any order.

        Rows are grouped by one stable sort. If they are grouped already, nothing is copied.

        Args:
            columns: arrays (or lists) `[rows, ...]` of numbers.
            client: the client of each row, integers or strings `[rows]`; or the name of the column with it, which is
                then not a data column.
            clients: the ids of all clients, if some own no row; their order is kept. By default the clients that own
                rows, sorted.
            attributes: arrays `[clients, ...]`, in the order of the ids.

        Raises:
            PopulationError: see the class; or a value is NaN or infinite (the error gives column and row).
        """
        data, client = _grouping.split_off_client(columns, client)
        checked = as_columns(data)
        check_finite(checked)
        ids, owner = _grouping.owners(client, len(next(iter(checked.values()))), clients)
        return Population(*_grouping.by_owner(checked, owner, len(ids)), ids, attributes)

    @classmethod
    def from_dataframe(
        cls,
        frame: Any,
        client: str | None = None,
        *,
        label: str | None = "y",
        inputs: Sequence[str] | None = None,
        categories: Mapping[str, Sequence[Any]] | None = None,
        missing: Literal["refuse", "keep"] = "refuse",
        clients: Any = None,
    ) -> "Population":
        """A population from a data frame with one row per example, in any order: columns `x` and `y`.

        The input columns are stacked to `x`, float32 `[rows, features]`, in the order of the frame, and
        `feature_names["x"]` has their names. Numbers and booleans are one feature each. A column with `categories`
        becomes a feature `name=category` for each of them, 1 where the row has it and otherwise 0 (one-hot). If the only
        input is a column of arrays of equal shape, `x` is these arrays.

        Args:
            frame: a data frame of pandas (with NumPy's, nullable or Arrow types) or polars, or a PyArrow table; or a
                mapping from client ids to such tables with the same columns, one for each client.
            client: the name of the column with the client of each row; None if `frame` is a mapping.
            label: the name of the column that becomes `y`, or None if there is none. Integers stay what they are,
                booleans and categories become int32, floating-point numbers float32.
            inputs: the names of the input columns; by default all except client and label.
            categories: the values that a column can have, by its name, such as `{"pain": ["none", "typical"]}`. They are
                needed where a column holds text, unless its type declares them (polars' `Enum`, pandas' ordered categories),
                and must be the same for all populations of a task. A label becomes the place of its value in the list.
            missing: `"refuse"` missing values in inputs, or `"keep"` them as NaN, for `SummaryStatistics.standardize`
                to fill in. A missing client or label is always refused.
            clients: see `from_arrays`.

        Raises:
            PopulationError: see `from_arrays`; values are missing (the error counts them by column); or a column has dates,
                text without categories, mixed types, or numbers that float32 does not tell apart.
        """
        fields, owner = _tabular.tables_of(frame, _frames.read_frame, client)
        return cls._from_fields(fields, owner, clients, label, inputs, categories, missing)

    @classmethod
    def from_csv(
        cls,
        path: str | Path | Mapping[Any, str | Path],
        client: str | None = None,
        *,
        label: str | None = "y",
        inputs: Sequence[str] | None = None,
        categories: Mapping[str, Sequence[Any]] | None = None,
        missing: Literal["refuse", "keep"] = "refuse",
        clients: Any = None,
        names: Sequence[str] | None = None,
        missing_values: Sequence[str] = _csv.MISSING,
        delimiter: str = ",",
        encoding: str = "utf-8",
    ) -> "Population":
        """A population from a CSV file, or from one file for each client.

        The file is read by Python's own `csv`, so it gives the same population whatever else is installed. A column of which all
        values are numbers is one of numbers, and one of `true` and `false` is one of booleans; any other is text. Large
        tables are better kept as Parquet, or read by a data frame library and passed to `from_dataframe`.

        Args:
            path: the file; or a mapping from client ids to files, one for each client.
            client: the name of the column with the client of each row; None if `path` is a mapping.
            label, inputs, categories, missing, clients: see `from_dataframe`.
            names: the names of the columns, if the file has no header.
            missing_values: what stands for a missing value.
            delimiter: what stands between two values.
            encoding: of the file.

        Raises:
            PopulationError: see `from_dataframe`; or a file is not there, has another encoding, or has a line with more or
                fewer values than its header.
        """

        def read(one: str | Path) -> dict[str, Any]:
            return _csv.read_csv(
                Path(one), names=names, delimiter=delimiter, encoding=encoding, missing_values=missing_values
            )

        fields, owner = _tabular.tables_of(path, read, client)
        fields = _csv.typed(fields, client, categories)
        return cls._from_fields(fields, owner, clients, label, inputs, categories, missing)

    @classmethod
    def _from_fields(
        cls,
        fields: Mapping[str, Any],
        owner: Any,
        clients: Any,
        label: str | None,
        inputs: Sequence[str] | None,
        categories: Mapping[str, Sequence[Any]] | None,
        missing: Literal["refuse", "keep"],
    ) -> "Population":
        columns, owner, features = _tabular.as_tabular(
            fields, owner, label=label, inputs=inputs, categories=categories, missing=missing
        )
        checked = as_columns(columns)
        check_finite({name: column for name, column in checked.items() if name != "x" or missing == "refuse"})
        ids, owners = _grouping.owners(owner, len(checked["x"]), clients)
        names = {"x": features} if features else None
        return Population(*_grouping.by_owner(checked, owners, len(ids)), ids, feature_names=names)

    @classmethod
    def from_parquet(
        cls,
        path: str | Path,
        client: str,
        *,
        columns: Sequence[str] | None = None,
        clients: Any = None,
        in_memory: bool | None = None,
        storage: S3Storage | None = None,
        cache_bytes: int = 512 << 20,
    ) -> "Population":
        """A population from Parquet files with a column for the client, on a disk or on S3.

        In memory, all rows are read at once, and may be in any order. Otherwise a client's rows are read when they are needed, so the data
        may be larger than memory, and each node of a cluster reads those of its own clients. Then the rows of a client have to lie together, as they do
        where rows are sorted by client; a run of them may go on in the next row group, or the next file by name. Where each client is, is found by one pass
        over the client column and kept in `~/.cache/fairyring/indexes`, which so has the clients' ids. To read one client, the whole of its row groups is read:
        small ones are best, as `to_parquet` writes them. Such a population has no `columns`; everything else works, and runs have the same bits.

        Args:
            path: a file; or a folder, or `"s3://bucket/prefix"`, with all files below. What begins with `_` or `.` is left out.
            client: the name of the column with the client of each row.
            columns: the data columns to read; by default all except `client`. Lists of equal length become axes: a
                column of lists of `k` numbers is read as `[rows, k]`.
            clients: see `from_arrays`.
            in_memory: read all rows at once; by default, those that are on a disk.
            storage: which S3, and how it is spoken to. Credentials are taken from the environment, as AWS's tools do; every node uses its own.
            cache_bytes: bytes of rows that are kept or read ahead, where not all are in memory.

        Raises:
            MissingExtra: pyarrow is not installed.
            PopulationError: see `from_arrays`; or a value is null (the error gives column and row), files have different columns, or a client's rows lie in
                several places.
            DataUnavailable: files are not there, cannot be read even after a few attempts, are damaged, or have changed since
                their clients were counted. Where rows are read when they are needed, this and the values' errors may come later, in a run.

        Warns:
            PerformanceWarning: row groups are so large that reading a single client takes long.
        """
        if in_memory is None:
            in_memory = "://" not in location(path)
        if in_memory:
            read = _sources.read_parquet(Files(path, storage), client, columns)
            return cls.from_arrays(read, client, clients=clients)
        from fairyring.population.parquet.population import ParquetPopulation

        return ParquetPopulation(
            path, client, columns=columns, clients=clients, storage=storage, cache_bytes=cache_bytes
        )

    @classmethod
    def from_huggingface(
        cls, dataset: Any, client: str, *, columns: Sequence[str] | None = None, clients: Any = None
    ) -> "Population":
        """A population from one split of a Hugging Face `datasets.Dataset`, or a `datasets.IterableDataset` as a whole.

        Any object with `column_names` and access by column name, or with `to_dict()`, works, and so does a mapping of
        columns. Images become uint8 arrays.

        Args:
            dataset: the split. Of a large stream take a part first: `dataset.take(100_000)`.
            client, columns, clients: see `from_parquet`.

        Raises:
            PopulationError: see `from_arrays`; or `dataset` is a dictionary of splits.
        """
        return cls.from_arrays(_sources.read_table(dataset, client, columns), client, clients=clients)

    @classmethod
    def from_text(
        cls,
        texts: Any,
        client: Any = None,
        *,
        tokenize: Callable[[str], Iterable[int]],
        length: int,
        end: int | None = None,
        padding: int | None = None,
        clients: Any = None,
    ) -> "Population":
        """A population for `next_token(..., labels="y")`: sequences of tokens `x`, and the token after each of them, `y`.

        The texts of a client follow each other in one stream of tokens, which is cut into sequences that do not overlap.

        Args:
            texts: strings `[texts]`, such as a column of a data frame; or a mapping from client ids to a string or several.
            client: the client of each text; None if `texts` is a mapping.
            tokenize: `text -> tokens`, whole numbers from 0 on. Its vocabulary is part of what is trained: one that was made
                from the clients' own texts tells of them, and no privacy budget covers that.
            length: tokens in a sequence.
            end: a token that is put after each text.
            padding: a token that no text has, which fills the last sequence of a client; targets equal to it are to be ignored
                (`next_token(..., padding=padding)`). By default what does not fill a sequence is left out, and a client without
                one has no examples.
            clients: see `from_arrays`.

        Returns:
            Columns `x` and `y`, int32 `[rows, length]`.

        Raises:
            PopulationError: a text is missing, the tokeniser returns something else, or no client has a sequence.

        Warns:
            PopulationWarning: clients have texts, and too few tokens for a sequence.
        """
        columns, sizes, ids = _text.read_text(
            texts, client, tokenize, length=length, end=end, padding=padding, clients=clients
        )
        return Population(columns, np.cumsum(sizes) - sizes, sizes, ids)

    @classmethod
    def from_function(
        cls,
        clients: int | Sequence[Any] | np.ndarray,
        load: Callable[[int], Mapping[str, Any]],
        *,
        sizes: Any = None,
        example: Mapping[str, Any] | None = None,
        attributes: Mapping[str, Any] | None = None,
        feature_names: Mapping[str, Sequence[str]] | None = None,
    ) -> "Population":
        """A population whose clients are loaded one at a time, when their rows are needed, and not kept.

        Such a population has no `columns`; everything else works. The rows that `load` returns are checked each time.

        Args:
            clients: the number of clients, or their ids.
            load: `load(i)` returns the columns of the client with index `i`, arrays `[sizes[i], ...]`. It must return
                the same values each time.
            sizes: int64 `[clients]`. By default every client is loaded once to count its rows.
            example: one example, a value for each column (without the row axis), which gives names, row shapes and
                types. By default the first client with examples is loaded for this.
            attributes: arrays `[clients, ...]`.
            feature_names: see the class.

        Raises:
            PopulationError: see `from_arrays`; or `sizes` or the rows of a client do not match.
        """
        from fairyring.population._lazy import LazyPopulation

        return LazyPopulation(
            clients, load, sizes=sizes, example=example, attributes=attributes, feature_names=feature_names
        )

    # -- contents ----------------------------------------------------------------------------------------

    @property
    def columns(self) -> Mapping[str, np.ndarray]:
        """The stored arrays `[rows, ...]`, including rows of clients that are not selected."""
        return MappingProxyType(self._columns)

    @property
    def stored(self) -> bool:
        """Whether there are `columns`: False if clients are read when they are needed, or loaded by a function."""
        return True

    @property
    def reads_ahead(self) -> bool:
        """Whether `prefetch` helps: rows are read when they are needed, and kept for a while."""
        return False

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self._columns)

    def shape(self, column: str) -> tuple[int, ...]:
        """The shape of one row of a column."""
        refuse_unknown_name("column", column, self.names)
        return self._columns[column].shape[1:]

    def dtype(self, column: str) -> np.dtype:
        """The type of a column."""
        refuse_unknown_name("column", column, self.names)
        return self._columns[column].dtype

    def row_bytes(self, columns: Sequence[str] | None = None) -> int:
        """Bytes of one row in some columns; in all of them by default."""
        names = self.names if columns is None else columns
        return sum(math.prod(self.shape(name)) * self.dtype(name).itemsize for name in names)

    @property
    def mapped(self) -> bool:
        """Whether rows are in files, of which only what is read is in memory."""
        return any(map(_mapped.is_mapped, self._columns.values()))

    def __getstate__(self) -> dict[str, Any]:
        """For another process: rows in memory are copied, and files are opened there again, by their paths."""
        columns = {
            name: _mapped.MappedFile.of(column) if _mapped.is_mapped(column) else column  # type: ignore[arg-type]
            for name, column in self._columns.items()
        }
        return vars(self) | {
            "_columns": columns,
            "attributes": dict(self.attributes),
            "feature_names": dict(self.feature_names),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.attributes = MappingProxyType(state["attributes"])
        self.feature_names = MappingProxyType(state["feature_names"])
        self._columns = {
            name: column.open() if isinstance(column, _mapped.MappedFile) else column
            for name, column in state["_columns"].items()
        }

    def __len__(self) -> int:
        """The number of clients, including those without examples."""
        return len(self.sizes)

    @cached_property
    def examples(self) -> int:
        """The number of rows of all clients."""
        return int(self.sizes.sum())

    def __repr__(self) -> str:
        columns = ", ".join(f"{n}: {self.dtype(n)}{list(self.shape(n))}" for n in self.names)
        return f"<{type(self).__name__}: {len(self)} clients, {self.examples} examples, {columns}>"

    # -- reading -----------------------------------------------------------------------------------------

    def client(self, i: int) -> dict[str, np.ndarray]:
        """The columns of client `i`: views `[sizes[i], ...]`; nothing is copied."""
        [i] = self._indices([i])
        run = slice(self.starts[i], self.starts[i] + self.sizes[i])
        return {name: column[run] for name, column in self._columns.items()}

    def gather(self, clients: Any) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Copies of the rows of some clients, one client after another, and where the rows of each begin.

        Args:
            clients: indices `[k]` in any order, with or without duplicates; or a boolean mask; or a slice.

        Returns:
            Columns `[rows, ...]`, and offsets, int64 `[k + 1]`: client `clients[j]` has the rows
            `offsets[j] : offsets[j + 1]`.
        """
        clients = self._indices(clients)
        starts, sizes = self.starts[clients], self.sizes[clients]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
        run = one_run(starts, sizes)
        if run is not None:
            gathered = {name: np.array(column[run]) for name, column in self._columns.items()}
        else:
            rows = np.repeat(starts - offsets[:-1], sizes) + np.arange(offsets[-1])
            # mode="clip" saves NumPy a second buffer; the indices are known to be valid.
            gathered = {
                name: np.take(np.asarray(column), rows, axis=0, mode="clip")
                for name, column in self._columns.items()
            }
        _mapped.release(self._columns)
        return gathered, offsets

    def prefetch(self, clients: Any) -> None:
        """Begin to read the rows of clients that will be asked for next, in this order, as far as there is room for them.

        It returns at once. Where rows are in memory, or nothing is kept of what is read, nothing happens.

        Args:
            clients: see `gather`.
        """

    def rows(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """All rows of all clients, one client after another, and the index of each row's client, int64 `[examples]`.

        Columns are views if the rows are in this order already, and otherwise copies.
        """
        owner = np.repeat(np.arange(len(self)), self.sizes)
        run = one_run(self.starts, self.sizes)
        if run is not None:
            return {name: column[run] for name, column in self._columns.items()}, owner
        return self.gather(np.arange(len(self)))[0], owner

    def in_memory(self) -> "Population":
        """The same clients, with only their rows copied into memory."""
        columns, offsets = self.gather(np.arange(len(self)))
        return self._with(columns, offsets[:-1], self.sizes)

    # -- selecting ---------------------------------------------------------------------------------------

    def select(self, clients: Any) -> Self:
        """The population of some clients. It is a view; no row is copied.

        Args:
            clients: indices `[k]` without duplicates, a boolean mask `[clients]`, or a slice.

        Raises:
            PopulationError: a client is unknown or occurs twice, or none of them has examples.
        """
        clients = self._indices(clients)
        check_unique(clients, "selected clients")
        return self._view(clients)

    def with_attributes(self, attributes: Mapping[str, Any]) -> Self:
        """The same population with more client attributes, or with others in place of those of the same name. It is a view.

        Args:
            attributes: arrays `[clients, ...]` of numbers or strings, in the order of `ids`; or mappings from the id of every
                client to its value.

        Raises:
            PopulationError: an array does not have a value for each client, or a mapping lacks a client or has a stranger.
        """
        view = self._view(np.arange(len(self)))
        given = {name: by_id(name, value, self.ids) for name, value in attributes.items()}
        view.attributes = MappingProxyType(dict(self.attributes) | as_attributes(given, len(self)))
        return view

    def _view(self, clients: np.ndarray) -> Self:
        view = object.__new__(type(self))
        view._columns, view.feature_names = self._columns, self.feature_names
        attributes = {name: values[clients] for name, values in self.attributes.items()}
        view._set_clients(self.starts[clients], self.sizes[clients], self.ids[clients], attributes)
        return view

    def split_clients(self, fraction: float, seed: int) -> tuple[Self, Self]:
        """Two populations without a client in common, drawn at random. They are views.

        Args:
            fraction: the fraction of the clients in the first population, rounded; each has at least one client.
            seed: decides which clients.

        Raises:
            PopulationError: there is only one client, or `fraction` is not between 0 and 1.
        """
        fraction, seed = proper_fraction("fraction", fraction), whole_number("seed", seed, 0)
        if len(self) < 2:
            raise PopulationError(
                "split by clients",
                given="a population of one client",
                expected="at least two",
                do="Split the rows of the client instead: split_within(fraction, seed).",
            )
        order = np.random.default_rng(seed).permutation(len(self))
        count = min(max(1, round(fraction * len(self))), len(self) - 1)
        return self._view(np.sort(order[:count])), self._view(np.sort(order[count:]))

    def split_within(
        self, fraction: float, seed: int | None, *, stratify: str | None = None
    ) -> tuple["Population", "Population"]:
        """Two populations of the same clients, with a fraction of each client's rows in the first.

        Args:
            fraction: the fraction of a client's rows in the first population, rounded. A client with two or more rows
                has at least one in each; a single row goes to the larger part.
            seed: decides which rows, drawn at random; their order is kept, and both parts are copies in memory. With
                None the first part has the first rows of each client, and both parts are views.
            stratify: the name of the column with the class, whose proportions each part of a client keeps. A class of which a
                client has two or more rows has at least one in each part.

        Raises:
            PopulationError: one part has no rows, `fraction` is not between 0 and 1, or `stratify` is not a column with a
                class for each row, or is given without a seed.

        Warns:
            PopulationWarning: of up to 50 clients, some have a part with only one class of the label `y` although they have
                several rows of others. `stratify` prevents this.
        """
        fraction = proper_fraction("fraction", fraction)
        refuse_order_and_stratify(seed, stratify)
        if seed is None:
            first = first_part_sizes(self.sizes, fraction)
            return (
                self._part(self.starts, first),
                self._part(self.starts + first, self.sizes - first),
            )
        columns, owner = self.rows()
        seed = whole_number("seed", seed, 0)
        if stratify is None:
            chosen = draw_within(self.sizes, owner, fraction, seed)
            warn_of_one_class(columns, owner, chosen, self.ids)
        else:
            classes = classes_of(columns, stratify, "column to stratify by")
            chosen = draw_stratified(self.sizes, owner, classes, fraction, seed)
        parts = []
        for mask in (chosen, ~chosen):
            sizes = np.bincount(owner[mask], minlength=len(self)).astype(np.int64)
            part = {name: np.asarray(column)[mask] for name, column in columns.items()}
            _refuse_empty_part(sizes)
            parts.append(self._with(part, np.cumsum(sizes) - sizes, sizes))
        return parts[0], parts[1]

    def _part(self, starts: np.ndarray, sizes: np.ndarray) -> "Population":
        _refuse_empty_part(sizes)
        return self._with(self._columns, starts, sizes)

    def _with(self, columns: Mapping[str, np.ndarray], starts: np.ndarray, sizes: np.ndarray) -> "Population":
        """The same clients with other rows of the same columns."""
        return Population(columns, starts, sizes, self.ids, self.attributes, feature_names=self.feature_names)

    def _indices(self, clients: Any) -> np.ndarray:
        if isinstance(clients, slice):
            return np.arange(len(self))[clients]
        indices = np.asarray(clients)
        if indices.size == 0 and indices.ndim == 1:
            return np.zeros(0, np.int64)
        if indices.dtype == bool and indices.shape == (len(self),):
            return np.flatnonzero(indices)
        if indices.ndim != 1 or indices.dtype.kind not in "iu":
            raise PopulationError(
                "clients",
                given=f"an array {indices.dtype} {indices.shape}",
                expected=f"indices [k], a mask [{len(self)}] or a slice",
                do="Find a client's index by its id: np.flatnonzero(population.ids == id).",
            )
        if indices.min() < 0 or indices.max() >= len(self):
            outside = indices[(indices < 0) | (indices >= len(self))][0]
            raise PopulationError(
                "client index",
                given=int(outside),
                expected=f"0 to {len(self) - 1}",
                do="Use indices into this population, not into the one it was selected from.",
            )
        return indices.astype(np.int64, copy=False)

    # -- storing and describing---------------------------------------------------------------------------

    def save(self, folder: str | Path) -> Path:
        """Write the clients' rows to `folder`, one `.npy` file per column, for `open`.

        The folder appears complete or not at all.

        Raises:
            PopulationError: `folder` exists, or values are not finite; nothing is written.
            StorageError: the disk is full, or permission is missing.
        """
        return _store.save(self, Path(folder))

    def to_parquet(
        self,
        folder: str | Path,
        client: str = "client",
        *,
        row_group_bytes: int = 256 << 10,
        file_bytes: int = 256 << 20,
    ) -> Path:
        """Write the clients' rows to Parquet files as `from_parquet` reads them best: client after client, in small row groups.

        A row group ends between two clients, so only a client larger than that has several. Axes of rows become lists of fixed length. Attributes, names of
        features and clients without rows are not written; the order of clients is that of their ids again when they are read, unless `from_parquet` is given
        `clients=`. The folder appears complete or not at all.

        Args:
            folder: a new one.
            client: the name of the column for the ids.
            row_group_bytes: of a row group, as it is in memory. To read a client, all of its row group is read: small ones are best for rounds of few of
                many clients, and ones of some MiB for data that is mostly read as a whole, at fewer requests.
            file_bytes: of the rows of a file, likewise.

        Raises:
            MissingExtra: pyarrow is not installed.
            PopulationError: `folder` exists, a column is called like `client`, or values are not finite; nothing is written.
            StorageError: the disk is full, or permission is missing.
        """
        from fairyring.population.parquet.writing import write_parquet

        return write_parquet(
            self, Path(folder), client, row_group_bytes=row_group_bytes, file_bytes=file_bytes
        )

    @classmethod
    def open(cls, folder: str | Path) -> "Population":
        """The population saved in `folder`. Its columns are memory-mapped, so only rows that are used are read.

        Raises:
            PopulationError: there is no population, or a file is missing, truncated or of another shape.
        """
        columns, starts, sizes, ids, attributes, names = _store.read(Path(folder))
        return Population(columns, starts, sizes, ids, attributes, feature_names=names)

    def fingerprint(self) -> str:
        """A hash of the population that is fast to compute: 64 hexadecimal digits.

        It is SHA-256 over names, types, row shapes, sizes, ids, attributes and rows. Up to 16 MiB of data all rows are
        hashed; beyond, and if a function loads the clients, the rows of a fixed sample of clients are. It does not
        depend on how rows are stored: a population that is saved and opened has the same fingerprint.
        """
        return _fingerprint.fingerprint(self)

    def describe(self, test: "Population | None" = None) -> dict[str, Any]:
        """Counts for the record of a run.

        Args:
            test: the population to evaluate on, if there is one.

        Returns:
            `clients`; `examples`; `skipped`, the number of clients without examples; `sizes`, the minimum, 10th
            percentile, median, 90th percentile and maximum of the other clients' numbers of examples; `ids` of the clients, if
            there are at most 50 and they are more than the numbers from 0 on; `feature_names`, if they are known; `test`, the same for the test population, or None.
        """
        sizes = self.sizes[self.sizes > 0]
        smallest, p10, median, p90, largest = np.percentile(sizes, [0, 10, 50, 90, 100]).tolist()
        summary: dict[str, Any] = {
            "clients": len(self),
            "examples": self.examples,
            "skipped": len(self) - len(sizes),
            "sizes": {
                "min": int(smallest),
                "p10": round(p10, 1),
                "median": round(median, 1),
                "p90": round(p90, 1),
                "max": int(largest),
            },
        }
        if len(self) <= _NAMED and not np.array_equal(self.ids, np.arange(len(self))):
            summary["ids"] = self.ids.tolist()
        if self.feature_names:
            summary["feature_names"] = {name: list(names) for name, names in self.feature_names.items()}
        if test is not None:
            summary["test"] = {k: v for k, v in test.describe().items() if k != "test"}
        else:
            summary["test"] = None
        return summary


def _refuse_empty_part(sizes: np.ndarray) -> None:
    if not sizes.any():
        raise PopulationError(
            "split within clients",
            given="clients with one example each",
            expected="a client with at least two examples",
            do="Split by clients instead: split_clients(fraction, seed).",
        )
