"""p-values: of the sign-flip test, of any statistic under drawn signs, and of several tests asked at once (Holm)."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from fairyring.core.errors import StatisticsError
from fairyring.statistics import samples
from fairyring.statistics.samples import Floats

_ENUMERATED = 16  # signs of so many values are all gone through: 65,536


def sign_rows(size: int, rng: np.random.Generator, resamples: int) -> tuple[Floats, bool]:
    """Rows of signs `[rows, size]`, and whether they are all there are (the observed, all +1, among them)."""
    if size <= _ENUMERATED:
        bits = np.arange(2**size)[:, None] >> np.arange(size) & 1
        return 1.0 - 2.0 * bits, True
    return rng.choice(np.array([1.0, -1.0]), (resamples, size)), False


def permutation_p(drawn: Floats, observed: float, complete: bool, slack: float) -> float:
    """Share of values at least the observed one; of drawn ones the observed counts too (Phipson & Smyth 2010).

    Args:
        drawn: `[rows]`.
        observed: the value in question.
        complete: whether all rows there are were gone through.
        slack: what rounding may take from equal values, so that the observed one is never below itself.
    """
    hits = int((drawn >= observed - slack).sum())
    return hits / len(drawn) if complete else (hits + 1) / (len(drawn) + 1)


def sign_flip_p(values: npt.ArrayLike, seed: int = 0, *, resamples: int = 9999) -> float:
    """The sign-flip test: two-sided p of a mean of `[n]` values being 0, had each as well the other sign (Fisher 1935).

    All signs are gone through for up to 16 values, which is exact; beyond they are drawn. It needs no shape of a
    distribution, only its symmetry about 0: what a statistic has that a symmetry of the world turns round.

    Raises:
        StatisticsError: no values, one not finite, or a seed or number of resamples that is none.
    """
    x = samples.sample("values", values)
    signs, complete = sign_rows(len(x), samples.generator(seed), samples.resamples(resamples))
    return permutation_p(np.abs(signs @ x), float(abs(x.sum())), complete, 1e-12 * float(np.abs(x).sum()))


def holm(p_values: Iterable[float]) -> tuple[float, ...]:
    """p-values adjusted for all of them being asked at once (Holm 1979), in the order given.

    Those at or below a level are rejected with that chance at most of rejecting any true one, however they depend.

    Raises:
        StatisticsError: one is not within `[0, 1]`.
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
