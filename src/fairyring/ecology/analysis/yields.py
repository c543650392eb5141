"""Relative yield totals: the yields of populations together, over their yields in monoculture."""

import warnings

import numpy as np

from fairyring.core.errors import EcologyError
from fairyring.ecology.lab import Coculture
from fairyring.statistics import Interval


def relative_yield_total(
    together: Coculture, *alone: Coculture, confidence: float = 0.95, seed: int = 0, resamples: int = 1999
) -> Interval | None:
    """Relative yield total (de Wit 1960): the sum over labels of the mean yield together over the mean yield alone.

    It is 1 if the labels replace each other on one resource, above 1 if each uses what the other leaves, and below 1 if they
    harm each other. The interval is a BCa bootstrap over jars, of the co-culture and of each monoculture. A monoculture that
    stands for two labels of one population is one sample, and is resampled once.

    Args:
        together: co-culture of some labels.
        alone: monoculture of each of these labels, in order; the same object if two labels are one population.
        confidence: of the interval.
        seed: of the resampling.
        resamples: how many.

    Returns:
        The interval, or None if some label has no yield alone.

    Raises:
        EcologyError: not one monoculture for each label.
    """
    from scipy.stats import DegenerateDataWarning, bootstrap

    if len(alone) != len(together.labels):
        raise EcologyError(
            "monocultures",
            given=len(alone),
            expected=f"{len(together.labels)}, one for each label",
            do="Pass them.",
        )
    different = list(dict.fromkeys(alone))  # co-cultures compare by identity
    of = [different.index(one) for one in alone]
    mixed, single = together.yields(), [one.yields().sum(1) for one in different]
    if min(float(one.mean()) for one in single) <= 0:
        return None

    def total(rows: np.ndarray, *each: np.ndarray, axis: int = -1) -> np.ndarray:
        # Jars are drawn by number, so that the labels of one jar stay together.
        yields = mixed[rows.astype(int)].mean(axis=axis - 1)  # the labels' axis comes last
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.sum([yields[..., i] / each[j].mean(axis=axis) for i, j in enumerate(of)], axis=0)

    estimate = float(total(np.arange(len(mixed)), *single))
    size = len(mixed)
    if min(size, *map(len, single)) < 3:
        return Interval(estimate, -np.inf, np.inf, confidence, size, "too few")
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter(
            "ignore", DegenerateDataWarning
        )  # equal draws are handled by the quantiles below
        result = bootstrap(
            (np.arange(size), *single),
            total,
            confidence_level=confidence,
            n_resamples=resamples,
            vectorized=True,
            method="BCa",
            rng=np.random.default_rng(seed),
        )
    low, high = (float(end) for end in result.confidence_interval)
    if np.isfinite([low, high]).all():
        return Interval(estimate, low, high, confidence, size, "BCa")
    drawn = result.bootstrap_distribution
    tail = (1 - confidence) / 2
    low, high = (float(end) for end in np.quantile(drawn[np.isfinite(drawn)], [tail, 1 - tail]))
    return Interval(estimate, low, high, confidence, size, "percentile")
