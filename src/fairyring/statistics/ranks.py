"""Comparing two groups by ranks: the Mann-Whitney test and Cliff's delta."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fairyring.statistics import samples
from fairyring.statistics.samples import Floats

_ENTRIES = 1 << 21  # numbers permuted at once: 16 MB
_EXACT = 160  # number of values up to which a rank test is exact; beyond, it draws permutations
_DRAWN = 99_999  # permutations drawn then: a p of .001 has a relative error of a tenth


@dataclass(frozen=True)
class RankTest:
    """A one-sided comparison of two groups.

    Attributes:
        u: number of pairs in which the first group's value is above the second's; ties count as half.
        p: probability of a `u` at least as large, over all permutations of the labels.
        delta: Cliff's delta, in `[-1, 1]`.
        method: `"exact"` (no ties), `"exact with ties"` or `"permutation"`.
        least_p: the smallest possible `p`, for a first group above the second in every pair.
    """

    u: float
    p: float
    delta: float
    method: str
    least_p: float


def pairs_above(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Mann and Whitney's U: the number of pairs in which `x` `[m]` is above `y` `[n]`; ties count as half.

    Divided by `m * n` it is the area under a ROC curve.

    Raises:
        StatisticsError: a group is empty, or a value not finite.
    """
    x, y = samples.sample("first group", x), samples.sample("second group", y)
    order = np.sort(y)
    below, upto = np.searchsorted(order, x, "left"), np.searchsorted(order, x, "right")
    return float((below + upto).sum()) / 2.0


def cliffs_delta(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Cliff's delta (1993): the share of pairs with `a` above `b` minus the share with `b` above `a`, in `[-1, 1]`.

    Args:
        a: `[m]`.
        b: `[n]`.

    Raises:
        StatisticsError: a group is empty, or a value not finite.
    """
    x, y = samples.sample("first group", a), samples.sample("second group", b)
    return 2.0 * pairs_above(x, y) / (len(x) * len(y)) - 1.0


def mann_whitney(a: npt.ArrayLike, b: npt.ArrayLike, *, seed: int = 0) -> RankTest:
    """The exact one-sided test whether the values of `a` lie above those of `b` (Mann & Whitney 1947).

    Without ties p is SciPy's exact one. With ties the usual distribution does not hold; then p is counted over all assignments of
    the observed mid-ranks (shift algorithm; Streitberg & Röhmel 1986), which is exact for any ties. Beyond 160 values in all, the
    labels are permuted at random 99,999 times, and the observed assignment counts as one of them (Phipson & Smyth 2010), so p is
    never too small.

    Args:
        a: `[m]`, one number for each unit of replication; the group that is tested for being larger.
        b: `[n]`, likewise.
        seed: of the permutations, if they are drawn.

    Raises:
        StatisticsError: a group is empty, or a value not finite.
    """
    from scipy.stats import mannwhitneyu

    x, y = samples.sample("first group", a), samples.sample("second group", b)
    rng = samples.generator(seed)
    u, both = pairs_above(x, y), np.concatenate([x, y])
    ties = len(np.unique(both)) < len(both)
    if len(both) > _EXACT:
        p, method = _permuted(both, len(x), u, rng), "permutation"
    elif ties:
        p, method = _shifted(both, len(x), u), "exact with ties"
    else:
        p, method = float(mannwhitneyu(x, y, alternative="greater", method="exact").pvalue), "exact"
    least = 1.0 / math.comb(len(both), len(x))
    if method == "permutation":
        least = max(least, 1.0 / (_DRAWN + 1))
    return RankTest(u, min(p, 1.0), 2.0 * u / (len(x) * len(y)) - 1.0, method, least)


def _doubled_ranks(both: Floats) -> npt.NDArray[np.int64]:
    """Twice the mid-ranks from 1, which are whole numbers also for ties."""
    order = np.sort(both)
    return np.searchsorted(order, both, "left") + np.searchsorted(order, both, "right") + 1


def _shifted(both: Floats, first: int, u: float) -> float:
    """P(U >= u) over all choices of `first` mid-ranks, by counting the subsets of each size with each sum."""
    ranks = _doubled_ranks(both)
    ways = np.zeros((first + 1, int(ranks.sum()) + 1))
    ways[0, 0] = 1.0
    for rank in ranks:
        ways[1:, rank:] += ways[:-1, :-rank].copy()  # a copy, so that each value is chosen at most once
    least = round(2.0 * u) + first * (first + 1)  # of the doubled rank sum
    return float(ways[first, least:].sum() / ways[first].sum())


def _permuted(both: Floats, first: int, u: float, rng: np.random.Generator) -> float:
    ranks = _doubled_ranks(both)
    least, block, hits, left = round(2.0 * u) + first * (first + 1), max(1, _ENTRIES // len(both)), 0, _DRAWN
    while left:
        deals = rng.permuted(np.tile(ranks, (min(block, left), 1)), axis=1)
        hits += int((deals[:, :first].sum(axis=1) >= least).sum())
        left -= len(deals)
    return (hits + 1) / (_DRAWN + 1)
