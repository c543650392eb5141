"""The sign-flip test: what a mean would be had each world been as likely to come out the other way."""

import numpy as np
import numpy.typing as npt

from fairyring.ecology import _samples
from fairyring.ecology._samples import Floats

_ENUMERATED = 16  # signs of so many worlds are all gone through: 65,536


def flips(size: int, rng: np.random.Generator, resamples: int) -> tuple[Floats, bool]:
    """Rows of signs `[rows, size]`, and whether they are all there are (the observed, all +1, among them)."""
    if size <= _ENUMERATED:
        bits = np.arange(2**size)[:, None] >> np.arange(size) & 1
        return 1.0 - 2.0 * bits, True
    return rng.choice(np.array([1.0, -1.0]), (resamples, size)), False


def p_value(drawn: Floats, observed: float, complete: bool, slack: float) -> float:
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
    """Two-sided p of a mean of `[n]` values being 0 if each could as well have had the other sign (Fisher 1935).

    All signs are gone through for up to 16 values, which is exact; beyond they are drawn. It needs no shape of a
    distribution, only its symmetry about 0: what a statistic has that a symmetry of the world turns round.

    Raises:
        EcologyError: no values, one not finite, or a seed or number of resamples that is none.
    """
    x = _samples.sample("values", values)
    signs, complete = flips(len(x), _samples.generator(seed), _samples.resamples(resamples))
    return p_value(np.abs(signs @ x), float(abs(x.sum())), complete, 1e-12 * float(np.abs(x).sum()))
