"""Operations on columns that several readers use."""

import numpy as np

from fairyring.core.errors import PopulationError
from fairyring.population import partition
from fairyring.population._columns import proper_fraction, whole_number
from fairyring.population.population import Population


def images(array: np.ndarray) -> np.ndarray:
    """Grey images `[n, h, w]` as `[n, h, w, 1]`."""
    return array[..., None]


def held_out(groups: np.ndarray, test_fraction: float, seed: int) -> np.ndarray:
    """Whether each row is held out, bool `[rows]`: the same fraction of every group, drawn at random."""
    rng = np.random.default_rng(whole_number("seed", seed, 0))
    proper_fraction("test_fraction", test_fraction)
    mask = np.zeros(len(groups), bool)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        mask[rng.permutation(members)[: round(len(members) * test_fraction)]] = True
    return mask


def standardised(values: np.ndarray, training: np.ndarray) -> np.ndarray:
    """Standardised `values`, float32 `[rows, features]`: mean 0 and variance 1 over the training rows.

    A missing value becomes 0, the training mean. A constant feature is only centred.

    Args:
        values: `[rows, features]`, NaN where missing.
        training: bool `[rows]`; means and standard deviations are those of these rows, so no test row enters.
    """
    known = np.where(training[:, None], values, np.nan)
    counted = np.maximum((~np.isnan(known)).sum(axis=0), 1)
    mean = np.nansum(known, axis=0) / counted
    deviation = np.sqrt(np.nansum((known - mean) ** 2, axis=0) / counted)
    return np.nan_to_num((values - mean) / np.where(deviation > 0, deviation, 1.0)).astype(np.float32)


def one_of(option: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise `PopulationError` unless `value` is one of `choices`."""
    if value not in choices:
        raise PopulationError(
            f"option {option!r}",
            given=repr(value),
            expected=" or ".join(map(repr, choices)),
            do="Choose one.",
        )


def deal(
    columns: dict[str, np.ndarray], rows: np.ndarray, clients: int, alpha: float | None, seed: int
) -> Population:
    """Some rows of a data set without clients, divided with Dirichlet label skew, or uniformly if `alpha` is None."""
    part = {name: column[rows] for name, column in columns.items()}
    if alpha is None:
        return partition.uniform(part, clients=clients, seed=seed)
    return partition.dirichlet(part, clients=clients, alpha=alpha, seed=seed)
