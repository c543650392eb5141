"""Relative yield totals: what populations yield together, over what each yields by itself."""

import warnings

import numpy as np

from fairyring.core.errors import EcologyError
from fairyring.ecology.lab import Jar
from fairyring.statistics import Interval


def relative_yield_total(
    together: Jar, *alone: Jar, confidence: float = 0.95, seed: int = 0, resamples: int = 1999
) -> Interval | None:
    """Relative yield total (de Wit 1960): the sum over labels of the mean yield together over the mean yield alone.

    1 where labels share one resource by replacing each other; above, they use what the other leaves; below, they harm each
    other. The interval is a BCa bootstrap over jars, of those together and of each of those alone. Jars alone that stand
    for two labels (a population under two names) are one sample, and drawn as one.

    Args:
        together: of some labels.
        alone: of each of these, in order, by itself; the same jar where two labels are one population.
        confidence: of the interval.
        seed: of the resampling.
        resamples: how many.

    Returns:
        The interval, or None where some label has no yield alone.

    Raises:
        EcologyError: not one jar alone for each label.
    """
    from scipy.stats import DegenerateDataWarning, bootstrap

    if len(alone) != len(together.labels):
        raise EcologyError(
            "jars alone", given=len(alone), expected=f"{len(together.labels)}, one a label", do="Pass them."
        )
    different = list(dict.fromkeys(alone))  # a jar is equal to itself only
    of = [different.index(one) for one in alone]
    mixed, single = together.yields(), [one.yields().sum(1) for one in different]
    if min(float(one.mean()) for one in single) <= 0:
        return None

    def total(rows: np.ndarray, *each: np.ndarray, axis: int = -1) -> np.ndarray:
        # Rows of a jar are drawn by number, so that its labels stay together.
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
        )  # where draws do not differ: quantiles below say so
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
