"""Niche overlap of two populations, with a permutation test of their labels."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fairyring.core.errors import EcologyError
from fairyring.statistics import permutation_p, samples, sign_rows
from fairyring.statistics.samples import Floats

_KINDS = ("pianka", "schoener")


@dataclass(frozen=True)
class Overlap:
    """How far two populations use the same niches.

    Attributes:
        overlap: of the two mean uses, in `[0, 1]`.
        expected: its mean under permuted labels, as for two labels of one population.
        p: probability of an overlap at least as small under permuted labels.
        worlds: number of worlds, of both groups together if they are not paired.
        kind: `"pianka"` or `"schoener"`.
    """

    overlap: float
    expected: float
    p: float
    worlds: int
    kind: str


def overlap(a_use: npt.ArrayLike, b_use: npt.ArrayLike, kind: str = "pianka") -> float:
    """Overlap of two uses `[bins]` of the same niches, each normalised to proportions; 0 if disjoint, 1 if equal.

    Pianka (1973): `sum p q / sqrt(sum p^2 sum q^2)`. Schoener (1968): `1 - sum |p - q| / 2`.

    Raises:
        EcologyError, StatisticsError: the shapes differ, a count is negative, a population used nothing, or the kind is unknown.
    """
    a, b = (
        samples.counts("use of the first", a_use, axes=1),
        samples.counts("use of the second", b_use, axes=1),
    )
    p, q = _proportions(a[None], b[None], kind)
    return float(_overlaps(p, q, kind)[0])


def niche_overlap(
    a_counts: npt.ArrayLike,
    b_counts: npt.ArrayLike,
    *,
    kind: str = "pianka",
    paired: bool = True,
    seed: int = 0,
    resamples: int = 9999,
) -> Overlap:
    """Whether two populations use different niches: a permutation test over worlds.

    The use in each world is normalised to proportions, worlds have equal weight, and the overlap is that of the two means. Under
    the null the labels mean nothing, so they may be exchanged within each jar (paired), or worlds may be reassigned to the two
    groups (not paired). Individuals are never permuted, since those of one world share its history. With n jars p is at
    least `2 / 2^n`.

    Args:
        a_counts: `[worlds, bins]`, how often the first population was in each bin (places, food levels, ...).
        b_counts: `[worlds, bins]`, for the second: in the same jars, or if not paired in any number of other worlds.
        kind: `"pianka"` or `"schoener"`.
        paired: whether both populations of a row lived in the same jar.
        seed: of the permutations.
        resamples: how many are drawn; for up to 16 jars all exchanges are enumerated instead.

    Raises:
        EcologyError, StatisticsError: shapes that do not fit, a negative count, or a population that used nothing in some world.
    """
    a = samples.counts("use of the first", a_counts, axes=2)
    b = samples.counts("use of the second", b_counts, axes=2)
    if paired and len(a) != len(b):
        raise EcologyError(
            "worlds of the two populations",
            given=f"{len(a)} and {len(b)}",
            expected="the same jars",
            do="Pass jars in the same order, or paired=False for separate worlds.",
        )
    p, q = _proportions(a, b, kind)
    rng, resamples = samples.generator(seed), samples.resamples(resamples)
    observed = float(_overlaps(p.mean(axis=0), q.mean(axis=0), kind))
    if paired:
        signs, complete = sign_rows(len(p), rng, resamples)
        middle, half = (p + q).mean(axis=0) / 2.0, signs @ (p - q) / (2.0 * len(p))
        drawn = _overlaps(middle + half, middle - half, kind)
        worlds = len(p)
    else:
        pool, complete, worlds = np.concatenate([p, q]), False, len(p) + len(q)
        keys = rng.random((resamples, worlds)).argsort(axis=1) < len(p)
        drawn = _overlaps(keys @ pool / len(p), ~keys @ pool / len(q), kind)
    return Overlap(
        observed, float(drawn.mean()), permutation_p(-drawn, -observed, complete, 1e-12), worlds, kind
    )


def _proportions(a: Floats, b: Floats, kind: str) -> tuple[Floats, Floats]:
    if kind not in _KINDS:
        raise EcologyError(
            "kind", given=repr(kind), expected=" or ".join(map(repr, _KINDS)), do="Choose one."
        )
    if a.shape[1] != b.shape[1] or not a.size or not b.size:
        raise EcologyError(
            "bins of the two populations",
            given=f"{a.shape} and {b.shape}",
            expected="worlds and the same bins, at least one of each",
            do="Count both over the same bins.",
        )
    if not (a.sum(axis=1).all() and b.sum(axis=1).all()):
        raise EcologyError(
            "use of a niche",
            given="a world in which a population used none",
            expected="some use in each world",
            do="Leave out worlds in which one population was excluded, and report them as exclusions.",
        )
    return a / a.sum(axis=1, keepdims=True), b / b.sum(axis=1, keepdims=True)


def _overlaps(p: Floats, q: Floats, kind: str) -> Floats:
    """Over the last axis."""
    if kind == "schoener":
        return 1.0 - np.abs(p - q).sum(axis=-1) / 2.0
    return (p * q).sum(axis=-1) / np.sqrt((p * p).sum(axis=-1) * (q * q).sum(axis=-1))
