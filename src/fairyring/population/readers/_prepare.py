"""What several readers do to columns before they become a population."""

import numpy as np

from fairyring.core.errors import PopulationError
from fairyring.population import partition
from fairyring.population._columns import share, whole_number
from fairyring.population.population import Population


def images(array: np.ndarray) -> np.ndarray:
    """Grey images `[n, h, w]` as `[n, h, w, 1]`."""
    return array[..., None]


def held_out(groups: np.ndarray, test_share: float, seed: int) -> np.ndarray:
    """Which rows are held out, bool `[rows]`: the same share of every group, drawn at random."""
    rng = np.random.default_rng(whole_number("seed", seed, 0))
    share("test_share", test_share)
    mask = np.zeros(len(groups), bool)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        mask[rng.permutation(members)[: round(len(members) * test_share)]] = True
    return mask


def standardised(values: np.ndarray, training: np.ndarray) -> np.ndarray:
    """`values` `[rows, features]` with mean 0 and variance 1 over the training rows, float32; NaN becomes 0.

    Args:
        values: NaN where missing.
        training: bool `[rows]`; only these rows are looked at for means and deviations, so nothing of the
            test rows enters. Missing values become the training mean. A feature that is constant is only
            centred.
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
    """Those rows of a set without clients, dealt with Dirichlet label skew, or uniformly if alpha is None."""
    part = {name: column[rows] for name, column in columns.items()}
    if alpha is None:
        return partition.uniform(part, clients=clients, seed=seed)
    return partition.dirichlet(part, clients=clients, alpha=alpha, seed=seed)
