"""Exact intervals of proportions, and the sign test."""

import math
from dataclasses import dataclass

import numpy.typing as npt

from fairyring.core.errors import StatisticsError
from fairyring.statistics import samples


def clopper_pearson(
    successes: int, trials: int, confidence: float = 0.95, *, side: str = "both"
) -> tuple[float, float]:
    """Exact interval of a proportion (Clopper & Pearson 1934): `(low, high)`.

    Args:
        successes: number of successes among `trials`.
        trials: 1 or more.
        confidence: of the interval, or of the bound.
        side: `"both"`, or `"upper"` for an upper bound with a lower end of 0.

    Raises:
        StatisticsError: more successes than trials, no trials, or another side.
    """
    from scipy.stats import binomtest

    if not (0 <= successes <= trials and trials >= 1) or side not in ("both", "upper"):
        raise StatisticsError(
            "clopper_pearson",
            given=f"{successes} of {trials}, side {side!r}",
            expected="successes out of 1 or more trials, side 'both' or 'upper'",
            do="Count again.",
        )
    alternative = "two-sided" if side == "both" else "less"
    test = binomtest(int(successes), int(trials), alternative=alternative)
    low, high = test.proportion_ci(samples.confidence(confidence), method="exact")
    return float(low), float(high)


def clustered_limit(counts: npt.ArrayLike, sizes: npt.ArrayLike, quantile: float) -> float:
    """A one-sided Clopper-Pearson limit of a proportion whose trials are clustered (Korn & Graubard 1998).

    Trials of one cluster are correlated, so counts vary more than binomially. The effective number of trials is reduced by the
    design effect, and again because few clusters leave the design effect uncertain. If counts vary no more than binomially, it is
    the limit of Clopper and Pearson.

    Args:
        counts: `[clusters]`, successes.
        sizes: `[clusters]`, trials; clusters without trials are left out.
        quantile: below one half for a lower limit, which the proportion is below with this probability; above one half for an
            upper limit, which the proportion is below with this probability.

    Raises:
        StatisticsError: no trials, more successes than trials, or a quantile outside `(0, 1)`.
    """
    from scipy.special import betaincinv, ndtri, stdtrit

    counts, sizes = samples.counts("counts", counts, axes=1), samples.counts("sizes", sizes, axes=1)
    if counts.shape != sizes.shape or (counts > sizes).any() or not sizes.any():
        raise StatisticsError(
            "clustered_limit",
            given=f"{counts.sum():g} successes in {sizes.sum():g} trials of {len(sizes)} clusters",
            expected="one count for each cluster, out of 1 or more trials in all",
            do="Count again.",
        )
    quantile = samples.confidence(quantile)
    counts, sizes = counts[sizes > 0], sizes[sizes > 0]
    total, successes, clusters = int(sizes.sum()), int(counts.sum()), len(sizes)
    rate, weight = successes / total, 1.0
    if 0 < successes < total and clusters > 1:
        spread = float(((counts - rate * sizes) ** 2).sum()) * clusters / (clusters - 1)
        if spread > total * rate * (1 - rate):
            unsure = float(ndtri(quantile) / stdtrit(clusters - 1, quantile)) ** 2
            weight = total * rate * (1 - rate) / spread * unsure
    n, k = total * weight, successes * weight
    if quantile < 0.5:
        return float(betaincinv(k, n - k + 1, quantile)) if k else 0.0
    return float(betaincinv(k + 1, n - k, quantile)) if k < n else 1.0


@dataclass(frozen=True)
class SignFraction:
    """Signs of some values, with the sign test.

    Attributes:
        positive, negative, zero: numbers of values.
        fraction: share of positive values among those that are not zero; NaN if all are zero.
        p: exact two-sided p of the sign test (binomial with one half); 1 if all are zero.
        low, high: Clopper-Pearson interval of the fraction.
    """

    positive: int
    negative: int
    zero: int
    fraction: float
    p: float
    low: float
    high: float


def sign_fraction(values: npt.ArrayLike, confidence: float = 0.95) -> SignFraction:
    """The share of `[n]` values that are above 0, with the exact two-sided sign test; zeros are left out.

    Raises:
        StatisticsError: no values, or one not finite.
    """
    from scipy.stats import binomtest

    x = samples.sample("values", values)
    positive, negative = int((x > 0).sum()), int((x < 0).sum())
    signed = positive + negative
    if not signed:
        return SignFraction(0, 0, len(x), math.nan, 1.0, 0.0, 1.0)
    p = min(1.0, float(binomtest(positive, signed).pvalue))
    low, high = clopper_pearson(positive, signed, confidence)
    return SignFraction(positive, negative, len(x) - signed, positive / signed, p, low, high)
