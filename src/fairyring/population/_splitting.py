"""Which of a client's rows are in the first part of a split: at random, or class by class."""

import warnings
from collections.abc import Mapping

import numpy as np

from fairyring.core.errors import PopulationError, PopulationWarning
from fairyring.population._columns import refuse_unknown_name

_FEW = 50  # clients, up to which the label "y" of each is looked at after a split
_NAMED = 8  # clients that a warning names


def first_part_sizes(sizes: np.ndarray, fraction: float) -> np.ndarray:
    """The number of each client's rows in the first part of a split, int64 `[clients]`."""
    first = np.floor(sizes * fraction + 0.5).astype(np.int64)
    return np.where(
        sizes >= 2, np.clip(first, 1, np.maximum(sizes - 1, 1)), np.where(fraction >= 0.5, sizes, 0)
    )


def draw_within(sizes: np.ndarray, owner: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Whether each row, grouped by owner, is in the first part: bool `[rows]`."""
    order = np.lexsort((np.random.default_rng(seed).random(len(owner)), owner))
    rank = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    chosen = np.empty(len(owner), bool)
    chosen[order] = rank < first_part_sizes(sizes, fraction)[owner]
    return chosen


def draw_stratified(
    sizes: np.ndarray, owner: np.ndarray, classes: np.ndarray, fraction: float, seed: int
) -> np.ndarray:
    """The same, with each client's classes in both parts in proportion: bool `[rows]`.

    A class with two or more rows has at least one in each part. Beyond that, as many rows as an unstratified split would take go to the
    classes with the largest remainders, in random order where these are equal.

    Args:
        classes: the class of each row.
    """
    rng = np.random.default_rng(seed)
    pairs, stratum = np.unique(np.stack([owner, classes], axis=1), axis=0, return_inverse=True)
    stratum, client = stratum.ravel(), pairs[:, 0]
    counts = np.bincount(stratum)
    whole = (counts >= 2).astype(np.int64)
    most = np.where(whole, counts - 1, 1)
    taken = np.clip(np.floor(counts * fraction).astype(np.int64), whole, most)
    left = first_part_sizes(sizes, fraction) - np.bincount(client, weights=taken, minlength=len(sizes))
    # Classes of one client in the order in which they take one more row; those that are full come last.
    remainder = np.where(taken < most, np.round(counts * fraction - taken, 9), -np.inf)
    order = np.lexsort((rng.random(len(counts)), -remainder, client))
    strata = np.bincount(client, minlength=len(sizes))
    place = np.arange(len(order)) - np.repeat(np.cumsum(strata) - strata, strata)
    more = (place < left[client[order]]) & (taken < most)[order]
    taken[order] += more
    rows = np.lexsort((rng.random(len(owner)), stratum))
    rank = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen = np.empty(len(owner), bool)
    chosen[rows] = rank < taken[stratum[rows]]
    return chosen


def classes_of(columns: Mapping[str, np.ndarray], label: str, what: str = "label column") -> np.ndarray:
    """The class of each row, from 0 on, int64 `[rows]`.

    Raises:
        PopulationError: there is no such column, or it does not have one integer per row.
    """
    refuse_unknown_name(what, label, columns)
    if columns[label].ndim != 1 or columns[label].dtype.kind == "f":
        raise PopulationError(
            f"{what} {label!r}",
            given=f"an array {columns[label].dtype} {columns[label].shape}",
            expected="one class per row, an integer",
            do="Give the name of the column with the class.",
        )
    return np.unique(columns[label], return_inverse=True)[1]


def refuse_order_and_stratify(seed: int | None, stratify: str | None) -> None:
    """Raise `PopulationError` if a split is to be both by order and by class."""
    if seed is None and stratify is not None:
        raise PopulationError(
            "split within clients",
            given=f"seed=None and stratify={stratify!r}",
            expected="a split by the order of the rows, or one by class, which is random",
            do="Give a seed, or leave stratify out.",
        )


def warn_of_one_class(
    columns: Mapping[str, np.ndarray], owner: np.ndarray, chosen: np.ndarray, ids: np.ndarray
) -> None:
    """Warn where a random split left only one class of the label "y" in a part of a client that has more of them.

    Only of few clients: of many small ones, most have parts of one class in any split.
    """
    labels = columns.get("y")
    if labels is None or labels.ndim != 1 or labels.dtype.kind == "f" or len(ids) > _FEW:
        return
    found = []
    for client in range(len(ids)):
        own = owner == client
        common = int((np.unique(labels[own], return_counts=True)[1] >= 2).sum())
        parts = [labels[own & chosen], labels[own & ~chosen]]
        if common >= 2 and any(len(part) >= 2 and len(np.unique(part)) == 1 for part in parts):
            found.append(str(ids[client]))
    if found:
        more = f" and {len(found) - _NAMED} others" if len(found) > _NAMED else ""
        warnings.warn(
            f"After the split all rows of a part are of one class for client {', '.join(found[:_NAMED])}{more}, which has "
            "several rows of others. Measures such as the AUC are undefined there. split_within(..., stratify='y') keeps the "
            "classes of each client in proportion.",
            PopulationWarning,
            stacklevel=3,
        )
