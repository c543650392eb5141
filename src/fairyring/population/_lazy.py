"""A population whose clients are loaded by a function, one at a time, when their rows are needed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from fairyring.core.errors import PopulationError
from fairyring.population._columns import (
    as_attributes,
    as_columns,
    as_feature_names,
    as_ids,
    check_finite,
    check_unique,
    proper_fraction,
    refuse_unknown_name,
    whole_number,
)
from fairyring.population._splitting import (
    classes_of,
    draw_stratified,
    draw_within,
    first_part_sizes,
    refuse_order_and_stratify,
)
from fairyring.population.population import Population

Columns = dict[str, np.ndarray]


class LazyPopulation(Population):
    """See `Population.from_function`.

    `starts` are the ones that stored rows would have. A view keeps the indices with which the function was defined.
    """

    def __init__(
        self,
        clients: int | Sequence[Any] | np.ndarray,
        load: Callable[[int], Mapping[str, Any]],
        *,
        sizes: Any = None,
        example: Mapping[str, Any] | None = None,
        attributes: Mapping[str, Any] | None = None,
        feature_names: Mapping[str, Sequence[str]] | None = None,
        source: Population | None = None,
    ) -> None:
        self._source = source  # the population whose clients `load` reads, by the same indices
        ids = np.arange(whole_number("clients", clients, 1)) if isinstance(clients, int) else as_ids(clients)
        check_unique(ids)
        self._load = load
        self._original = np.arange(len(ids))
        counted = np.asarray([self._count(i) for i in range(len(ids))] if sizes is None else sizes)
        if counted.shape != ids.shape or counted.dtype.kind not in "iu" or (counted < 0).any():
            raise PopulationError(
                "sizes",
                given=f"an array {counted.dtype} {counted.shape}",
                expected=f"{len(ids)} whole numbers of at least 0, one per client",
                do="Give the number of examples of each client, or leave out sizes to have them counted.",
            )
        counted = counted.astype(np.int64)
        self._set_clients(np.cumsum(counted) - counted, counted, ids, as_attributes(attributes, len(ids)))
        self._columns = self._schema(example)
        self.feature_names = as_feature_names(feature_names, self._columns)

    def _count(self, i: int) -> int:
        columns = self._load(i)
        return len(next(iter(columns.values()))) if columns else 0

    def _schema(self, example: Mapping[str, Any] | None) -> Columns:
        """Columns without rows, which have the names, row shapes and types."""
        if example is None:
            first = int(np.flatnonzero(self.sizes)[0])
            return {name: column[:0] for name, column in as_columns(self._load(first)).items()}
        rows = as_columns({name: np.asarray(value)[None] for name, value in example.items()})
        return {name: column[:0] for name, column in rows.items()}

    @property
    def columns(self) -> Mapping[str, np.ndarray]:
        raise PopulationError(
            "columns",
            given="a population whose clients are read when they are needed",
            expected="one whose rows are stored",
            do="Use gather(clients), or in_memory() if all rows fit into memory.",
        )

    @property
    def stored(self) -> bool:
        return False

    @property
    def reads_ahead(self) -> bool:
        return self._source is not None and self._source.reads_ahead

    def prefetch(self, clients: Any) -> None:
        """See `Population.prefetch`."""
        if self._source is not None:
            self._source.prefetch(self._original[self._indices(clients)])

    def client(self, i: int) -> Columns:
        """The columns of client `i`, loaded and checked."""
        [i] = self._indices([i])
        if not self.sizes[i]:
            return dict(self._columns)
        try:
            rows = as_columns(self._load(int(self._original[i])))
            self._compare(rows, int(self.sizes[i]))
            check_finite(rows)
        except PopulationError as error:
            raise PopulationError(
                f"client {self.ids[i]}, {error.what}", given=error.given, expected=error.expected, do=error.do
            ) from error
        return {name: rows[name] for name in self._columns}

    def _compare(self, rows: Columns, size: int) -> None:
        for name in rows:
            refuse_unknown_name("column", name, self._columns)
        for name, expected in self._columns.items():
            wanted = f"{expected.dtype} {(size, *expected.shape[1:])}"
            given = f"{rows[name].dtype} {rows[name].shape}" if name in rows else "nothing"
            if given != wanted:
                raise PopulationError(
                    f"column {name!r}",
                    given=given,
                    expected=wanted,
                    do="For every client, return the columns, types and row shapes of the example, and as many "
                    "rows as sizes says.",
                )

    def gather(self, clients: Any) -> tuple[Columns, np.ndarray]:
        """See `Population.gather`. The function is called once for each of `clients`."""
        clients = self._indices(clients)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.sizes[clients])])
        gathered = {
            name: np.empty((int(offsets[-1]), *column.shape[1:]), column.dtype)
            for name, column in self._columns.items()
        }
        for j, i in enumerate(clients):
            for name, column in self.client(i).items():
                gathered[name][offsets[j] : offsets[j + 1]] = column
        return gathered, offsets

    def rows(self) -> tuple[Columns, np.ndarray]:
        owner = np.repeat(np.arange(len(self)), self.sizes)
        return self.gather(np.arange(len(self)))[0], owner

    def _view(self, clients: np.ndarray) -> Self:
        view = object.__new__(type(self))
        view._columns, view._load, view.feature_names = self._columns, self._load, self.feature_names
        view._original, view._source = self._original[clients], self._source
        sizes = self.sizes[clients]
        attributes = {name: values[clients] for name, values in self.attributes.items()}
        view._set_clients(np.cumsum(sizes) - sizes, sizes, self.ids[clients], attributes)
        return view

    def split_within(
        self, fraction: float, seed: int | None, *, stratify: str | None = None
    ) -> tuple[Population, Population]:
        """See `Population.split_within`. Both parts are loaded by the function, too; to stratify, each client is loaded once."""
        fraction = proper_fraction("fraction", fraction)
        refuse_order_and_stratify(seed, stratify)
        seed = None if seed is None else whole_number("seed", seed, 0)
        first = first_part_sizes(self.sizes, fraction)
        if stratify is not None:
            first = np.array([self._drawn(i, fraction, seed, stratify).sum() for i in range(len(self))])
        return (
            self._part_of_each(first, lambda i: self._drawn(i, fraction, seed, stratify)),
            self._part_of_each(self.sizes - first, lambda i: ~self._drawn(i, fraction, seed, stratify)),
        )

    def _drawn(self, i: int, fraction: float, seed: int | None, stratify: str | None) -> np.ndarray:
        size = self.sizes[i : i + 1]
        if seed is None:
            return np.arange(size[0]) < first_part_sizes(size, fraction)[0]
        own = np.random.SeedSequence([seed, int(self._original[i])]).generate_state(2, np.uint64)
        owner = np.zeros(size[0], np.int64)
        if stratify is None:
            return draw_within(size, owner, fraction, int(own[0]))
        classes = classes_of(self.client(i), stratify, "column to stratify by")
        return draw_stratified(size, owner, classes, fraction, int(own[0]))

    def _part_of_each(self, sizes: np.ndarray, drawn: Callable[[int], np.ndarray]) -> Population:
        def load(i: int) -> Columns:
            mask = drawn(i)
            return {name: column[mask] for name, column in self.client(i).items()}

        example = {name: np.zeros(c.shape[1:], c.dtype) for name, c in self._columns.items()}
        return LazyPopulation(
            self.ids,
            load,
            sizes=sizes,
            example=example,
            attributes=self.attributes,
            feature_names=self.feature_names,
            source=self,
        )
