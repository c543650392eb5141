"""Ways to deal rows among clients that were never clients: to study what skew does.

Each takes columns `[rows, ...]` and gives a `Population` in which every row belongs to exactly one client.
The same seed gives the same clients. Rows keep their order within a client.
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
from fairyring.population.population import Population


def uniform(columns: Mapping[str, Any], *, clients: int, seed: int) -> Population:
    """Rows dealt at random, sizes differing by at most one: clients alike in distribution."""
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
) -> Population:
    """Skewed labels: small `alpha`, few classes a client; large `alpha`, the classes of the whole.

    Args:
        columns: arrays `[rows, ...]`.
        clients: how many.
        alpha: concentration, above 0.
        seed: says which row goes where.
        label: the column, one number a row, whose values are the classes.
        sizes: `"equal"`: every client draws class shares from Dirichlet(alpha * prior), prior the class
            shares of all rows, and takes that many examples of each class without replacement; shares are
            renormalised over the classes that are left. Sizes differ by at most one. Clients served late get
            what remains; they are numbered at random. Hsu, Qi, Brown, *Measuring the Effects of Non-Identical
            Data Distribution for Federated Visual Classification*, 2019.
            `"free"`: every class is divided among the clients by shares from Dirichlet(alpha), so sizes
            differ too, and clients without an example are possible. Yurochkin et al., *Bayesian Nonparametric
            Federated Learning of Neural Networks*, 2019. Note that its alpha means something else: it is
            per client, not scaled by the prior.

    Raises:
        PopulationError: more clients than rows, a bad alpha, an unknown label column.
    """
    columns, rows, rng = _prepare(columns, clients, seed)
    alpha = positive("alpha", alpha)
    classes = _classes(columns, label)
    counts = np.bincount(classes)
    if sizes == "equal":
        wanted = rng.permutation(_even(rows, clients))
        table = _hsu(counts, wanted, alpha, rng)[rng.permutation(clients)]
    elif sizes == "free":
        table = np.stack(
            [_rounded(_simplex(rng, np.full(clients, alpha)), count) for count in counts], axis=1
        )
    else:
        raise PopulationError("sizes", given=repr(sizes), expected="'equal' or 'free'", do="Choose one.")
    owner = np.empty(rows, np.int64)
    for k, members in enumerate(np.split(np.argsort(classes, kind="stable"), np.cumsum(counts)[:-1])):
        owner[rng.permutation(members)] = np.repeat(np.arange(clients), table[:, k])
    return _population(columns, owner, clients)


def _hsu(counts: np.ndarray, wanted: np.ndarray, alpha: float, rng: np.random.Generator) -> np.ndarray:
    """How many examples of each class each client gets, int64 `[clients, classes]`."""
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


def shards(
    columns: Mapping[str, Any], *, clients: int, seed: int, per_client: int = 2, label: str = "y"
) -> Population:
    """Few classes a client: rows sorted by label, cut into `clients * per_client` equal shards, `per_client`
    dealt to each client. Shard sizes differ by at most one. McMahan et al., *Communication-Efficient Learning
    of Deep Networks from Decentralized Data*, 2017.

    Raises:
        PopulationError: more shards than rows, an unknown label column.
    """
    columns, rows, rng = _prepare(columns, clients, seed)
    count = clients * whole_number("per_client", per_client, 1)
    if count > rows:
        raise PopulationError(
            "shards",
            given=f"{clients} clients x {per_client} shards",
            expected=f"at most {rows}, the number of rows",
            do="Ask for fewer clients or fewer shards a client.",
        )
    mixed = rng.permutation(rows)
    by_label = mixed[np.argsort(_classes(columns, label)[mixed], kind="stable")]
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
    """Clients of unequal size, each a random sample of the whole.

    Args:
        columns: arrays `[rows, ...]`.
        clients: how many.
        seed: says which row goes where.
        alpha: sizes from Dirichlet(alpha), as in Li et al., *Federated Learning on Non-IID Data Silos*, 2022.
        sigma: or sizes in proportion to log-normal draws of this standard deviation of the logarithm.
        minimum: rows every client gets beforehand. With 0 there may be clients without an example.

    Raises:
        PopulationError: both or neither of alpha and sigma; more than the rows there are wanted as a minimum.
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
    if clients * minimum > rows:
        raise PopulationError(
            "minimum",
            given=f"{minimum} rows for each of {clients} clients",
            expected=f"at most {rows} rows together",
            do="Lower minimum or clients.",
        )
    if alpha is not None:
        weights = _simplex(rng, np.full(clients, positive("alpha", alpha)))
    else:
        weights = np.exp(positive("sigma", sigma) * rng.standard_normal(clients))
    sizes = minimum + _rounded(weights / weights.sum(), rows - clients * minimum)
    return _population(columns, rng.permutation(np.repeat(np.arange(clients), sizes)), clients)


def by_column(
    columns: Mapping[str, Any], column: str, *, clients: int | None = None, seed: int = 0, keep: bool = False
) -> Population:
    """Clients by what a column says: one for each of its values, or the values dealt among fewer clients.

    Args:
        columns: arrays `[rows, ...]`; `column` may hold integers or strings.
        column: the name of the column.
        clients: deal the values at random among this many clients, each value whole, the number of values a
            client differing by at most one. By default every value is a client, which is then its id.
        seed: says which value goes where, if `clients` is given.
        keep: keep the column as data.
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
            do="Ask for at most as many clients as there are values.",
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
            "clients", given=clients, expected=f"at most {rows}, the number of rows", do="Ask for fewer."
        )
    return checked, rows, np.random.default_rng(whole_number("seed", seed, 0))


def _population(columns: dict[str, np.ndarray], owner: np.ndarray, clients: int) -> Population:
    return Population(*by_owner(columns, owner, clients))


def _classes(columns: Mapping[str, np.ndarray], label: str) -> np.ndarray:
    refuse_unknown_name("label column", label, columns)
    if columns[label].ndim != 1 or columns[label].dtype.kind == "f":
        raise PopulationError(
            f"label column {label!r}",
            given=f"an array {columns[label].dtype} {columns[label].shape}",
            expected="one class, an integer, a row",
            do="Name the column that holds the class.",
        )
    return np.unique(columns[label], return_inverse=True)[1]


def _simplex(rng: np.random.Generator, alphas: np.ndarray) -> np.ndarray:
    """A draw from Dirichlet(alphas); where they are too small for floating point, its limit: one corner."""
    shares = rng.dirichlet(np.maximum(alphas, 1e-300))
    if np.isfinite(shares).all() and shares.sum() > 0.5:
        return shares
    return np.eye(len(alphas))[rng.choice(len(alphas), p=alphas / alphas.sum())]


def _even(total: int, parts: int) -> np.ndarray:
    """`total` in `parts` that differ by at most one."""
    return total // parts + (np.arange(parts) < total % parts).astype(np.int64)


def _rounded(shares: np.ndarray, total: int) -> np.ndarray:
    """Whole numbers near `shares * total` with the sum `total` (largest remainders)."""
    exact = shares * total
    whole = np.floor(exact).astype(np.int64)
    missing = int(total - whole.sum())
    whole[np.argsort(whole - exact, kind="stable")[:missing]] += 1
    return whole
