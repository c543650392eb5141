"""Federated statistics of a population's features, from sums over clients; and standardisation by them.

Every number is made of what clients can add up among them. The first round of sums gives counts and means; the second, about those
means, gives deviations, so nothing cancels where values are large and alike (T. Chan, G. Golub, R. LeVeque, *Algorithms for Computing
the Sample Variance*, 1983: the two-pass algorithm with its correction).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from fairyring.core.errors import PopulationError
from fairyring.population._columns import refuse_unknown_name
from fairyring.population._lazy import LazyPopulation
from fairyring.population._mapped import client_blocks
from fairyring.population.population import Population

_BLOCK = 32 << 20  # bytes of float64 in memory at a time


@dataclass(frozen=True)
class SummaryStatistics:
    """What `summary_statistics` found of one column. Arrays have the shape of a row; float64 unless said.

    Attributes:
        column: the name of the column.
        features: a name for each of its numbers.
        count: how many values there are, int64.
        missing: how many are missing (NaN), int64.
        mean: of the values that are there; NaN where there is none, as in those that follow.
        deviation: their standard deviation (the mean squared deviation's square root, not that of a sample).
        minimum, maximum: the smallest and the largest of them.
        categories: for the features that were asked for, how often each value occurs, by feature and value, ascending.
        by_client: the same for each client that has examples, by its id; empty unless it was asked for.
    """

    column: str
    features: tuple[str, ...]
    count: np.ndarray
    missing: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    minimum: np.ndarray
    maximum: np.ndarray
    categories: Mapping[str, Mapping[float, int]]
    by_client: Mapping[Any, "SummaryStatistics"] = field(default_factory=dict, repr=False)

    def table(self) -> dict[str, np.ndarray]:
        """One row per feature, as columns, for `pandas.DataFrame(summary.table())`.

        With statistics by client there is one row per client and feature, and a column `client`.
        """
        if self.by_client:
            tables = {client: one.table() for client, one in self.by_client.items()}
            owner = np.repeat(np.asarray(list(tables)), len(self.features))
            first = next(iter(tables.values()))
            return {"client": owner} | {
                name: np.concatenate([table[name] for table in tables.values()]) for name in first
            }
        names = ("count", "missing", "mean", "deviation", "minimum", "maximum")
        return {"feature": np.asarray(self.features)} | {name: getattr(self, name).ravel() for name in names}

    def standardize(self, *, indicators: bool = False) -> "Standardize":
        """What gives features mean 0 and standard deviation 1 where these statistics come from, and fills in missing values.

        Args:
            indicators: append a feature `NAME missing` for each feature of which a value was missing here: 1 where it is
                missing, otherwise 0. For rows of shape `[k]`.

        Raises:
            PopulationError: a feature has no value at all, or `indicators` are asked for of rows that are not `[k]`.
        """
        if not self.count.all():
            empty = [name for name, n in zip(self.features, self.count.ravel(), strict=True) if not n]
            raise PopulationError(
                f"column {self.column!r}",
                given=f"no value at all of {', '.join(empty)}"[:200],
                expected="a value of every feature in some row",
                do="Leave these features out.",
            )
        if indicators and self.count.ndim != 1:
            raise PopulationError(
                "indicators",
                given=f"rows of shape {self.count.shape}",
                expected="rows of shape [k]",
                do="Leave them out.",
            )
        scale = np.where(self.deviation > 0, self.deviation, 1.0)
        flagged = np.flatnonzero(self.missing) if indicators else np.zeros(0, np.int64)
        return Standardize(self.column, self.features, self.mean, scale, flagged)


@dataclass(frozen=True)
class Standardize:
    """Features minus a mean, divided by a scale; a missing value becomes 0, the mean. From `SummaryStatistics.standardize`.

    Attributes:
        column: the name of the column.
        features: a name for each of its numbers, before it is applied.
        mean, scale: float64, of the shape of a row. The scale of a constant feature is 1.
        flagged: the features for which there is an indicator of missing values, int64.
    """

    column: str
    features: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray
    flagged: np.ndarray

    def __call__(self, population: Population) -> Population:
        """The same clients with the column standardised, float32 `[rows, ...]`; other columns are as they were.

        It is a copy in memory; clients that are loaded by a function are standardised whenever they are loaded.

        Raises:
            PopulationError: the population has no such column, or its features are others.
        """
        refuse_unknown_name("column", self.column, population.names)
        given = features_of(population, self.column)
        if population.shape(self.column) != self.mean.shape or given != self.features:
            differ = sorted(set(given) ^ set(self.features)) or ["their order"]
            raise PopulationError(
                f"column {self.column!r}",
                given=f"{len(given)} features, rows of shape {population.shape(self.column)}",
                expected=f"the {len(self.features)} features that were summarised; they differ in "
                + ", ".join(differ[:8]),
                do="Make both populations with the same inputs and categories.",
            )
        names: dict[str, Sequence[str]] = dict(population.feature_names)
        if self.column in names:
            names[self.column] = [*self.features, *(f"{self.features[i]} missing" for i in self.flagged)]
        if not population.stored:
            return LazyPopulation(
                population.ids,
                lambda i: self._replaced(population.client(i)),
                sizes=population.sizes,
                attributes=population.attributes,
                feature_names=names,
                source=population,
            )
        columns, _ = population.rows()
        sizes = population.sizes
        return Population(
            self._replaced(columns),
            np.cumsum(sizes) - sizes,
            sizes,
            population.ids,
            population.attributes,
            feature_names=names,
        )

    def _replaced(self, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        x = np.asarray(columns[self.column], np.float64)
        gone = np.isnan(x)
        values = np.where(gone, 0.0, (x - self.mean) / self.scale).astype(np.float32)
        if len(self.flagged):
            values = np.concatenate([values, gone[:, self.flagged].astype(np.float32)], axis=1)
        return {**columns, self.column: values}


def summary_statistics(
    population: Population, column: str = "x", *, categories: Sequence[str] = (), by_client: bool = False
) -> SummaryStatistics:
    """Counts, means, deviations and ranges of a column over all clients, as sums over clients give them.

    They are exact: no noise is added, and a privacy budget does not cover them. What each reveals is in `docs/data.md`.

    Args:
        population: the training population. NaN is a missing value.
        column: its name; numbers of any shape.
        categories: features whose values are counted one by one, by name; a column of one number per row is one feature
            with the name of the column.
        by_client: also give the statistics of each client.

    Returns:
        The statistics.

    Raises:
        PopulationError: the column, or a feature of `categories`, is unknown.
    """
    refuse_unknown_name("column", column, population.names)
    features = features_of(population, column)
    for name in categories:
        refuse_unknown_name("categories of feature", name, features)
    places = {name: features.index(name) for name in categories}
    shape, whole = population.shape(column), population.dtype(column).kind != "f"
    first = _Sums.zeros(len(features))
    counted: list[dict[float, int]] = [{} for _ in places]
    for x, _ in _blocks(population, column):
        first = first.plus(_Sums.of(x, np.zeros(len(features))))
        for counts, place in zip(counted, places.values(), strict=True):
            for value, n in _counts(x[:, place], whole).items():
                counts[value] = counts.get(value, 0) + n
    mean = first.mean()
    second = _Sums.zeros(len(features))
    each: dict[Any, SummaryStatistics] = {}
    for x, clients in _blocks(population, column):
        second = second.plus(_Sums.of(x, mean))
        edges = np.concatenate([[0], np.cumsum(population.sizes[clients])]) if by_client else ()
        for place, client in enumerate(clients if by_client else ()):
            own = x[edges[place] : edges[place + 1]]
            if len(own):
                own_mean = _Sums.of(own, np.zeros(len(features))).mean()
                values = {name: _counts(own[:, at], whole) for name, at in places.items()}
                each[population.ids[client].item()] = _statistics(
                    column, features, shape, _Sums.of(own, own_mean), own_mean, values, {}
                )
    values = dict(zip(places, counted, strict=True))
    return _statistics(column, features, shape, second, mean, values, each)


def features_of(population: Population, column: str) -> tuple[str, ...]:
    """A name for each number of a row: the given ones, the column's, or the column's with a place."""
    shape = population.shape(column)
    if column in population.feature_names:
        return population.feature_names[column]
    if not shape:
        return (column,)
    return tuple(f"{column}[{', '.join(map(str, place))}]" for place in np.ndindex(*shape))


@dataclass(frozen=True)
class _Sums:
    """What clients add up, about a centre `[k]` that all know. All arrays are `[k]`."""

    centre: np.ndarray
    count: np.ndarray
    missing: np.ndarray
    total: np.ndarray
    squares: np.ndarray
    minimum: np.ndarray
    maximum: np.ndarray

    @classmethod
    def zeros(cls, k: int) -> "_Sums":
        whole, real = np.zeros(k, np.int64), np.zeros(k)
        return cls(real, whole, whole, real, real, np.full(k, np.inf), np.full(k, -np.inf))

    @classmethod
    def of(cls, x: np.ndarray, centre: np.ndarray) -> "_Sums":
        gone = np.isnan(x)
        away = np.where(gone, 0.0, x - np.where(np.isnan(centre), 0.0, centre))
        return cls(
            centre,
            (~gone).sum(axis=0),
            gone.sum(axis=0),
            away.sum(axis=0),
            (away * away).sum(axis=0),
            np.where(gone, np.inf, x).min(axis=0, initial=np.inf),
            np.where(gone, -np.inf, x).max(axis=0, initial=-np.inf),
        )

    def plus(self, other: "_Sums") -> "_Sums":
        return _Sums(
            other.centre,
            self.count + other.count,
            self.missing + other.missing,
            self.total + other.total,
            self.squares + other.squares,
            np.minimum(self.minimum, other.minimum),
            np.maximum(self.maximum, other.maximum),
        )

    def mean(self) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return self.centre + self.total / self.count

    def deviation(self) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            squares = self.squares - self.total**2 / self.count
            return np.sqrt(np.maximum(squares, 0) / self.count)


def _statistics(
    column: str,
    features: tuple[str, ...],
    shape: tuple[int, ...],
    sums: _Sums,
    mean: np.ndarray,
    categories: Mapping[str, Mapping[float, int]],
    by_client: Mapping[Any, SummaryStatistics],
) -> SummaryStatistics:
    none = sums.count == 0
    return SummaryStatistics(
        column,
        features,
        *(
            np.asarray(values).reshape(shape)
            for values in (
                sums.count,
                sums.missing,
                mean,
                sums.deviation(),
                np.where(none, np.nan, sums.minimum),
                np.where(none, np.nan, sums.maximum),
            )
        ),
        categories=MappingProxyType(
            {name: dict(sorted(counts.items())) for name, counts in categories.items()}
        ),
        by_client=MappingProxyType(dict(by_client)),
    )


def _blocks(population: Population, column: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The values of some clients at a time, float64 `[rows, k]`, and the indices of these clients."""
    k = max(1, int(np.prod(population.shape(column))))
    for clients in client_blocks(population.sizes, max(1, _BLOCK // (8 * k))):
        rows = population.gather(clients)[0][column]
        yield np.asarray(rows, np.float64).reshape(len(rows), k), clients


def _counts(values: np.ndarray, whole: bool) -> dict[float, int]:
    """How often each value occurs, without missing ones; values that are `whole` numbers as such."""
    distinct, counts = np.unique(values[~np.isnan(values)], return_counts=True)
    return dict(
        zip((distinct.astype(np.int64) if whole else distinct).tolist(), counts.tolist(), strict=True)
    )
