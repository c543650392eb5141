"""Dividing data without clients among simulated clients, to study the effect of skew.

Each function takes columns `[rows, ...]` and returns a `Population` in which every row belongs to exactly one client.
The same seed gives the same clients. The order of a client's rows is that of the columns.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from fairyring.core.errors import PopulationError
from fairyring.population._columns import (
    as_columns,
    check_finite,
    positive,
    refuse_unknown_name,
    whole_number,
)
from fairyring.population._grouping import by_owner
from fairyring.population._splitting import classes_of
from fairyring.population.population import Population

_DRAWS = 1000  # divisions that are drawn until every client has the minimum


def uniform(columns: Mapping[str, Any], *, clients: int, seed: int) -> Population:
    """Divide rows at random. Clients have the same distribution, and sizes that differ by at most one."""
    columns, rows, rng = _prepare(columns, clients, seed)
    return _population(columns, rng.permutation(np.arange(rows) % clients), clients)


def dirichlet(
    columns: Mapping[str, Any],
    *,
    clients: int,
    alpha: float,
    seed: int,
    label: str = "y",
    sizes: Literal["equal", "free"] = "equal",
    minimum: int = 0,
) -> Population:
    """Divide rows with skewed labels. With a small `alpha` clients have few classes; with a large one, all in proportion.

    Args:
        columns: arrays `[rows, ...]`.
        clients: the number of clients.
        alpha: the concentration, above 0.
        seed: decides which row goes to which client.
        label: the name of the column with the class, one integer per row.
        sizes: With `"equal"`, every client draws class proportions from Dirichlet(alpha * prior), where prior is the
            class proportions of all rows, and takes examples of each class accordingly, without replacement. The
            proportions are renormalised over the classes that are left. Sizes differ by at most one. The last clients
            receive what remains; which clients these are is random. Hsu, Qi, Brown, *Measuring the Effects of
            Non-Identical Data Distribution for Federated Visual Classification*, 2019.
            With `"free"`, every class is divided among the clients in proportions from Dirichlet(alpha), so sizes
            differ, too, and a client may have no examples. Yurochkin et al., *Bayesian Nonparametric Federated
            Learning of Neural Networks*, 2019. Here alpha is per client, and not scaled by the prior.
        minimum: the number of rows that every client has at least. With `"free"` sizes the division is drawn again until this
            holds, as in Li et al., *Federated Learning on Non-IID Data Silos*, 2022, who use 10; so it changes the distribution.

    Raises:
        PopulationError: there are more clients than rows, alpha is not above 0, the label column is unknown, or `minimum` is
            out of reach: there are too few rows, or none of 1,000 draws had it.
    """
    columns, rows, rng = _prepare(columns, clients, seed)
    alpha = positive("alpha", alpha)
    classes = classes_of(columns, label)
    counts = np.bincount(classes)
    minimum = whole_number("minimum", minimum, 0)
    _refuse_too_few(rows, clients, minimum)
    if sizes == "equal":
        wanted = rng.permutation(_even(rows, clients))
        table = _hsu(counts, wanted, alpha, rng)[rng.permutation(clients)]
    elif sizes == "free":
        table = _free(counts, clients, alpha, minimum, rng)
    else:
        raise PopulationError("sizes", given=repr(sizes), expected="'equal' or 'free'", do="Choose one.")
    owner = np.empty(rows, np.int64)
    for k, members in enumerate(np.split(np.argsort(classes, kind="stable"), np.cumsum(counts)[:-1])):
        owner[rng.permutation(members)] = np.repeat(np.arange(clients), table[:, k])
    return _population(columns, owner, clients)


def _hsu(counts: np.ndarray, wanted: np.ndarray, alpha: float, rng: np.random.Generator) -> np.ndarray:
    """The number of examples of each class for each client, int64 `[clients, classes]`."""
    left = counts.copy()
    prior = counts / counts.sum()
    table = np.zeros((len(wanted), len(counts)), np.int64)
    for client, need in enumerate(wanted):
        shares = _simplex(rng, alpha * prior)
        while need:
            open_shares = np.where(left > 0, shares, 0.0)
            if open_shares.sum() < 1e-12:
                open_shares = left.astype(np.float64)
            take = np.minimum(rng.multinomial(need, open_shares / open_shares.sum()), left)
            table[client] += take
            left -= take
            need -= take.sum()
    return table


def _free(
    counts: np.ndarray, clients: int, alpha: float, minimum: int, rng: np.random.Generator
) -> np.ndarray:
    """The number of examples of each class for each client, int64 `[clients, classes]`; `minimum` in all for each."""
    fewest = []
    for _ in range(_DRAWS):
        table = np.stack(
            [_rounded(_simplex(rng, np.full(clients, alpha)), count) for count in counts], axis=1
        )
        fewest.append(int(table.sum(axis=1).min()))
        if fewest[-1] >= minimum:
            return table
    raise PopulationError(
        "minimum",
        given=f"{minimum} rows for each of {clients} clients, with alpha={alpha:g}",
        expected=f"at most {max(fewest)}, the best of {_DRAWS:,} draws",
        do="Lower minimum or clients, raise alpha, or use sizes='equal'.",
    )


def shards(
    columns: Mapping[str, Any], *, clients: int, seed: int, per_client: int = 2, label: str = "y"
) -> Population:
    """Divide rows so that each client has few classes.

    Rows are sorted by label and cut into `clients * per_client` shards, and each client receives `per_client` of them.
    Sizes of shards differ by at most one. McMahan et al., *Communication-Efficient Learning of Deep Networks from
    Decentralized Data*, 2017.

    Args:
        columns: arrays `[rows, ...]`.
        clients: the number of clients.
        seed: decides which shard goes to which client.
        per_client: the number of shards of each client.
        label: the name of the column with the class.

    Raises:
        PopulationError: there are more shards than rows, or the label column is unknown.
    """
    columns, rows, rng = _prepare(columns, clients, seed)
    count = clients * whole_number("per_client", per_client, 1)
    if count > rows:
        raise PopulationError(
            "shards",
            given=f"{clients} clients x {per_client} shards",
            expected=f"at most {rows}, the number of rows",
            do="Use fewer clients, or fewer shards per client.",
        )
    mixed = rng.permutation(rows)
    by_label = mixed[np.argsort(classes_of(columns, label)[mixed], kind="stable")]
    dealt = rng.permutation(np.repeat(np.arange(clients), per_client))
    owner = np.empty(rows, np.int64)
    owner[by_label] = np.repeat(dealt, _even(rows, count))
    return _population(columns, owner, clients)


def quantity_skew(
    columns: Mapping[str, Any],
    *,
    clients: int,
    seed: int,
    alpha: float | None = None,
    sigma: float | None = None,
    minimum: int = 0,
) -> Population:
    """Divide rows among clients of unequal size, each with a random sample of the rows.

    Args:
        columns: arrays `[rows, ...]`.
        clients: the number of clients.
        seed: decides which row goes to which client.
        alpha: sizes are drawn from Dirichlet(alpha), as in Li et al., *Federated Learning on Non-IID Data Silos*, 2022.
        sigma: sizes are proportional to log-normal draws whose logarithm has this standard deviation. Give either
            `alpha` or `sigma`.
        minimum: the number of rows that every client has at least. With 0 a client may have no examples.

    Raises:
        PopulationError: both or neither of `alpha` and `sigma` are given, or there are too few rows for `minimum`.
    """
    columns, rows, rng = _prepare(columns, clients, seed)
    minimum = whole_number("minimum", minimum, 0)
    if (alpha is None) == (sigma is None):
        raise PopulationError(
            "quantity skew",
            given=f"alpha={alpha}, sigma={sigma}",
            expected="one of the two",
            do="Give alpha for Dirichlet sizes, sigma for log-normal ones.",
        )
    _refuse_too_few(rows, clients, minimum)
    if alpha is not None:
        weights = _simplex(rng, np.full(clients, positive("alpha", alpha)))
    else:
        weights = np.exp(positive("sigma", sigma) * rng.standard_normal(clients))
    sizes = minimum + _rounded(weights / weights.sum(), rows - clients * minimum)
    return _population(columns, rng.permutation(np.repeat(np.arange(clients), sizes)), clients)


def by_column(
    columns: Mapping[str, Any], column: str, *, clients: int | None = None, seed: int = 0, keep: bool = False
) -> Population:
    """Divide rows by the values of a column: one client per value, or the values divided among fewer clients.

    Args:
        columns: arrays `[rows, ...]`; `column` may hold integers or strings.
        column: the name of the column.
        clients: divide the values at random among this many clients, whose numbers of values differ by at most one. By
            default every value is a client, and the value is its id.
        seed: decides which value goes to which client, if `clients` is given.
        keep: whether the column stays a data column.

    Raises:
        PopulationError: the column is unknown, or it has fewer values than `clients`.
    """
    refuse_unknown_name("column", column, columns)
    rest = {name: values for name, values in columns.items() if keep or name != column}
    if clients is None:
        return Population.from_arrays(rest, columns[column])
    values, value_of_row = np.unique(np.asarray(columns[column]), return_inverse=True)
    checked, rows, rng = _prepare(rest, clients, seed)
    if len(value_of_row) != rows or clients > len(values):
        raise PopulationError(
            f"column {column!r}",
            given=f"{len(values)} values in {len(value_of_row)} rows",
            expected=f"at least {clients} values in {rows} rows",
            do="Use at most as many clients as there are values.",
        )
    owner = rng.permutation(np.arange(len(values)) % clients)[value_of_row]
    return _population(checked, owner, clients)


def _prepare(
    columns: Mapping[str, Any], clients: int, seed: int
) -> tuple[dict[str, np.ndarray], int, np.random.Generator]:
    checked = as_columns(columns)
    check_finite(checked)
    rows = len(next(iter(checked.values())))
    if whole_number("clients", clients, 1) > rows:
        raise PopulationError(
            "clients", given=clients, expected=f"at most {rows}, the number of rows", do="Use fewer clients."
        )
    return checked, rows, np.random.default_rng(whole_number("seed", seed, 0))


def _refuse_too_few(rows: int, clients: int, minimum: int) -> None:
    if clients * minimum > rows:
        raise PopulationError(
            "minimum",
            given=f"{minimum} rows for each of {clients} clients",
            expected=f"at most {rows} rows in total",
            do="Lower minimum or clients.",
        )


def _population(columns: dict[str, np.ndarray], owner: np.ndarray, clients: int) -> Population:
    return Population(*by_owner(columns, owner, clients))


def _simplex(rng: np.random.Generator, alphas: np.ndarray) -> np.ndarray:
    """A draw from Dirichlet(alphas). If they are too small for floating point, a draw from the limit: one corner."""
    shares = rng.dirichlet(np.maximum(alphas, 1e-300))
    if np.isfinite(shares).all() and shares.sum() > 0.5:
        return shares
    return np.eye(len(alphas))[rng.choice(len(alphas), p=alphas / alphas.sum())]


def _even(total: int, parts: int) -> np.ndarray:
    """`total` divided into `parts` whole numbers that differ by at most one."""
    return total // parts + (np.arange(parts) < total % parts).astype(np.int64)


def _rounded(shares: np.ndarray, total: int) -> np.ndarray:
    """Whole numbers near `shares * total` whose sum is `total` (method of largest remainders)."""
    exact = shares * total
    rounded = np.floor(exact).astype(np.int64)
    missing = int(total - rounded.sum())
    rounded[np.argsort(rounded - exact, kind="stable")[:missing]] += 1
    return rounded
