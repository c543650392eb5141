"""p-values: of the sign-flip test, of permutation tests, and adjusted for families of tests (Holm)."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from fairyring.core.errors import StatisticsError
from fairyring.statistics import samples
from fairyring.statistics.samples import Floats

_ENUMERATED = 16  # up to so many values all combinations of signs are enumerated: 65,536


def sign_rows(size: int, rng: np.random.Generator, resamples: int) -> tuple[Floats, bool]:
    """Rows of signs `[rows, size]`, and whether these are all combinations (including the observed one, all +1)."""
    if size <= _ENUMERATED:
        bits = np.arange(2**size)[:, None] >> np.arange(size) & 1
        return 1.0 - 2.0 * bits, True
    return rng.choice(np.array([1.0, -1.0]), (resamples, size)), False


def permutation_p(drawn: Floats, observed: float, complete: bool, slack: float) -> float:
    """The share of values that are at least the observed one.

    If the values are a random sample, the observed one counts as one of them (Phipson & Smyth 2010).

    Args:
        drawn: `[rows]`, values under the null.
        observed: the value in question.
        complete: whether `drawn` enumerates all possibilities.
        slack: tolerance for rounding, so that the observed value counts as equal to itself.
    """
    hits = int((drawn >= observed - slack).sum())
    return hits / len(drawn) if complete else (hits + 1) / (len(drawn) + 1)


def sign_flip_p(values: npt.ArrayLike, seed: int = 0, *, resamples: int = 9999) -> float:
    """The sign-flip test (Fisher 1935): two-sided p that the mean of `[n]` values is 0, if both signs of each are equally likely.

    For up to 16 values all combinations of signs are enumerated, so the test is exact; beyond, they are drawn. It assumes nothing
    about the distribution except symmetry about 0, as for a statistic whose sign a symmetry of the system reverses.

    Raises:
        StatisticsError: no values, one not finite, or an invalid seed or number of resamples.
    """
    x = samples.sample("values", values)
    signs, complete = sign_rows(len(x), samples.generator(seed), samples.resamples(resamples))
    return permutation_p(np.abs(signs @ x), float(abs(x.sum())), complete, 1e-12 * float(np.abs(x).sum()))


def holm(p_values: Iterable[float]) -> tuple[float, ...]:
    """p-values adjusted for a family of tests (Holm 1979), in the order given.

    If tests with an adjusted p at or below a level are rejected, the probability of rejecting any true null is at most that
    level, however the tests depend on each other.

    Raises:
        StatisticsError: one is not in `[0, 1]`.
    """
    p = samples.array("p-values", list(p_values), axes=1)
    if not ((p >= 0.0) & (p <= 1.0)).all():
        raise StatisticsError(
            "p-values", given=f"{p.tolist()}", expected="each in [0, 1]", do="Compute them again."
        )
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return tuple(adjusted.tolist())
