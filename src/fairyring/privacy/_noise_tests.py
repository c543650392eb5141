"""Tests of numbers that should be independent and standard normal: `[T, d]`, of T rounds and d coordinates.

Every test gives one probability, already multiplied by the number of its comparisons (Bonferroni).
"""

import math
from typing import NamedTuple

import numpy as np

from fairyring.privacy._rows import Rows

_CHUNK = 1 << 13
_BINS = 32
_TAILS = (3.0, 4.0, 5.0)
MODULUS = 16  # the low bits of the noise that are tested
_IN_LINE = 1 << 16  # coordinates whose order is tested
_PAIRS = (
    1 << 26
)  # up to so many numbers in all pairs of rounds, all pairs are compared at every shift; above, only neighbours


class Measured(NamedTuple):
    """One test: its name, what was measured, its probability, and what to report if that is too small."""

    name: str
    statistic: float
    p: float
    says: str


class Summary(NamedTuple):
    """The statistics of the numbers that the tests need.

    Attributes:
        squares, sums: sums over rounds of squares and of numbers, by coordinate: `[d]`.
        of_rounds: sums of squares by round: `[T]`.
        gram: inner products of rounds: `[T, T]`.
        neighbours: sum of the products of adjacent coordinates, and the number of products.
        bins: counts of numbers in each of 32 equally likely bins.
        tails: counts of numbers further from 0 than each of `_TAILS`.
        head: the first coordinates in order, float32 `[T, <= 2^16]`.
    """

    squares: np.ndarray
    sums: np.ndarray
    of_rounds: np.ndarray
    gram: np.ndarray
    neighbours: tuple[float, int]
    bins: np.ndarray
    tails: np.ndarray
    head: np.ndarray

    @property
    def rounds(self) -> int:
        """T."""
        return len(self.of_rounds)

    @property
    def numbers(self) -> int:
        """T d."""
        return len(self.of_rounds) * len(self.squares)


def summarise(rows: Rows, mixing: np.ndarray | None) -> Summary:
    """The summary, in one pass over all numbers; `mixing` `[T, T]` is applied to them first."""
    from scipy.special import ndtri

    edges = ndtri(np.arange(1, _BINS) / _BINS)
    squares, sums = np.zeros(rows.width), np.zeros(rows.width)
    gram = np.zeros((len(rows), len(rows)))
    bins, tails = np.zeros(_BINS, np.int64), np.zeros(len(_TAILS), np.int64)
    product, last, head = 0.0, None, []
    for start, chunk in rows.columns(_CHUNK):
        white = chunk.astype(np.float64) if mixing is None else mixing @ chunk.astype(np.float64)
        end = start + white.shape[1]
        squares[start:end], sums[start:end] = np.einsum("td,td->d", white, white), white.sum(axis=0)
        gram += white @ white.T
        product += float(np.vdot(white[:, 1:], white[:, :-1]))
        product += float(np.dot(white[:, 0], last)) if last is not None else 0.0
        last = white[:, -1]
        bins += np.bincount(np.searchsorted(edges, white.ravel()), minlength=_BINS)
        tails += [int(np.count_nonzero(np.abs(white) > tail)) for tail in _TAILS]
        if start < _IN_LINE:
            head.append(white.astype(np.float32))
    pairs = len(rows) * (rows.width - 1)
    return Summary(
        squares,
        sums,
        np.diag(gram).copy(),
        gram,
        (product, pairs),
        bins,
        tails,
        np.concatenate(head, axis=1),
    )


def variances(summary: Summary, parts: dict[str, slice], rounds: list[int]) -> list[Measured]:
    """Tests for too little or too much noise: overall, in a part, in a round, in a coordinate."""
    total, times = float(summary.of_rounds.sum()), summary.rounds
    overall = _chi_square(np.array([total]), summary.numbers)[0]
    names = list(parts)
    of_parts = np.array([float(summary.squares[part].sum()) for part in parts.values()])
    sizes = np.array([times * (part.stop - part.start) for part in parts.values()])
    likely = _chi_square(of_parts, sizes)
    worst = int(np.argmin(likely))
    dimension = len(summary.squares)
    by_round = _chi_square(summary.of_rounds, dimension)
    odd = int(np.argmin(by_round))
    by_coordinate = _chi_square(summary.squares, times)
    at = int(np.argmin(by_coordinate))
    deviation = [
        math.sqrt(total / summary.numbers),
        math.sqrt(of_parts[worst] / sizes[worst]),
        math.sqrt(summary.of_rounds[odd] / dimension),
        math.sqrt(summary.squares[at] / times),
    ]
    claimed = "times the standard deviation that is claimed"
    return [
        Measured("noise in all", deviation[0], overall, f"In all it has {deviation[0]:.4g} {claimed}."),
        Measured(
            "noise in each part",
            deviation[1],
            _bonferroni(likely[worst], len(names)),
            f"In {names[worst]} it has {deviation[1]:.4g} {claimed}.",
        ),
        Measured(
            "noise in each round",
            deviation[2],
            _bonferroni(by_round[odd], times),
            f"In round {rounds[odd]} it has {deviation[2]:.4g} {claimed}.",
        ),
        Measured(
            "noise in each coordinate",
            deviation[3],
            _bonferroni(by_coordinate[at], dimension),
            f"In coordinate {at} it has {deviation[3]:.4g} {claimed}.",
        ),
    ]


def silence(zeros: int, expected: float, numbers: int) -> Measured:
    """A test for more numbers without noise than chance explains."""
    from scipy.special import bdtrc

    p = float(bdtrc(zeros - 1, numbers, expected / numbers)) if zeros else 1.0
    return Measured(
        "coordinates without noise",
        float(zeros),
        p,
        f"{zeros:,} of {numbers:,} numbers have no noise at all, where chance leaves {expected:.3g}.",
    )


def means(summary: Summary, parts: dict[str, slice]) -> list[Measured]:
    """Tests for noise whose mean is not 0: overall, in a part, in a coordinate."""
    times, dimension = summary.rounds, len(summary.sums)
    in_all = float(summary.sums.sum()) / math.sqrt(summary.numbers)
    names = list(parts)
    of_parts = np.array(
        [
            float(summary.sums[part].sum()) / math.sqrt(times * max(1, part.stop - part.start))
            for part in parts.values()
        ]
    )
    worst = int(np.argmax(np.abs(of_parts)))
    of_each = summary.sums / math.sqrt(times)
    at = int(np.argmax(np.abs(of_each)))
    return [
        Measured(
            "mean of the noise",
            of_parts[worst],
            _bonferroni(_normal(of_parts[worst]), len(names)),
            f"In {names[worst]} it is {of_parts[worst]:.3g} standard errors from 0 on average (in all: {in_all:.3g}).",
        ),
        Measured(
            "mean in each coordinate",
            float(of_each[at]),
            _bonferroni(_normal(float(of_each[at])), dimension),
            f"In coordinate {at} it is {of_each[at]:.3g} standard errors from 0 on average.",
        ),
    ]


def following(cosines: list[float], dimension: int) -> Measured:
    """A test for noise that is correlated with the true sum."""
    worst = max(cosines, key=abs)
    return Measured(
        "noise apart from the sum",
        worst,
        _bonferroni(_aligned(worst, dimension), len(cosines)),
        f"The noise of a round points along its true sum: cosine {worst:.3g}.",
    )


def repeats(summary: Summary, rounds: list[int]) -> list[Measured]:
    """Tests for repeated noise: in another round, in the next coordinate, or at any shift."""
    product, pairs = summary.neighbours
    dimension, times = len(summary.squares), summary.rounds
    along = product / max(1e-300, float(summary.of_rounds.sum()))
    results = []
    if pairs:
        results.append(
            Measured(
                "neighbouring coordinates",
                along,
                _bonferroni(_autocorrelated(along, summary.numbers), 1),
                f"Neighbouring coordinates have noise in common: correlation {along:.3g}.",
            )
        )
    if times > 1:
        lengths = np.sqrt(summary.of_rounds)
        cosines = summary.gram / np.maximum(np.outer(lengths, lengths), 1e-300)
        i, j = np.triu_indices(times, 1)
        worst = int(np.argmax(np.abs(cosines[i, j])))
        cosine = float(cosines[i[worst], j[worst]])
        results.append(
            Measured(
                "noise of two rounds",
                cosine,
                _bonferroni(_aligned(cosine, dimension), len(i)),
                f"Rounds {rounds[i[worst]]} and {rounds[j[worst]]} have noise in common: correlation {cosine:.3g}.",
            )
        )
        results.append(_apart(summary, rounds))
    results.append(_shifted(summary, rounds))
    return results


def _apart(summary: Summary, rounds: list[int]) -> Measured:
    """A test for correlation of rounds at a fixed distance, over all such pairs: it finds weaker correlation."""
    number = np.asarray(rounds)
    i, j = np.triu_indices(len(number), 1)
    apart = number[j] - number[i]
    # For each coordinate, rounds at a fixed distance form paths, so the bound for autocorrelation holds for all at once.
    correlations = np.bincount(apart, summary.gram[i, j]) / max(1e-300, float(summary.of_rounds.sum()))
    tested = np.unique(apart)
    worst = int(tested[np.argmax(np.abs(correlations[tested]))])
    return Measured(
        "rounds so many apart",
        float(correlations[worst]),
        _bonferroni(_autocorrelated(float(correlations[worst]), summary.numbers), len(tested)),
        f"Rounds that are {worst} apart have noise in common: correlation {correlations[worst]:.3g}.",
    )


def _shifted(summary: Summary, rounds: list[int]) -> Measured:
    """A test for correlation of a round with itself and with others at any shift."""
    from scipy.fft import irfft, next_fast_len, rfft

    rows = summary.head.astype(np.float64)
    times, width = rows.shape
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)
    length = next_fast_len(2 * width, real=True)  # padded, so that nothing wraps around
    waves = np.asarray(rfft(rows, length, axis=1))
    reach = times if times * times * width <= _PAIRS else 2
    worst, place, compared = 0.0, (0, 0, 0), 0
    for apart in range(reach):
        for first in range(times - apart):
            curve = np.asarray(irfft(waves[first + apart] * np.conj(waves[first]), length))
            shifts = (
                curve[1:width] if not apart else np.concatenate([curve[:width], curve[length - width + 1 :]])
            )
            compared += len(shifts)
            if len(shifts) and abs(shifts[at := int(np.argmax(np.abs(shifts)))]) > abs(worst):
                worst = float(shifts[at])
                place = (
                    first,
                    first + apart,
                    at + 1 if not apart else at if at < width else at - len(shifts),
                )
    first, second, shift = place
    return Measured(
        "noise at any shift",
        worst,
        _bonferroni(_autocorrelated(worst, width), max(1, compared)),
        f"The noise of round {rounds[second]} is that of round {rounds[first]} moved by {shift} coordinates: "
        f"correlation {worst:.3g}.",
    )


def shape(summary: Summary) -> list[Measured]:
    """Tests of the distribution: counts in 32 equally likely bins, and in the tails."""
    from scipy.special import ndtr

    likely = _binomial(summary.bins, summary.numbers, np.full(_BINS, 1 / _BINS))
    worst = int(np.argmin(likely))
    chances = 2 * ndtr(-np.array(_TAILS))
    rare = _binomial(summary.tails, summary.numbers, chances)
    odd = int(np.argmin(rare))
    return [
        Measured(
            "shape of the noise",
            float(summary.bins[worst] * _BINS / summary.numbers),
            _bonferroni(likely[worst], _BINS),
            f"Its {worst + 1}th of {_BINS} equally likely ranges holds {summary.bins[worst] * _BINS / summary.numbers:.4g} "
            "times the numbers it should.",
        ),
        Measured(
            "tails of the noise",
            float(summary.tails[odd] / (summary.numbers * chances[odd])),
            _bonferroni(rare[odd], len(_TAILS)),
            f"{summary.tails[odd]:,} numbers are beyond {_TAILS[odd]:g} standard deviations, where "
            f"{summary.numbers * chances[odd]:.3g} are expected.",
        ),
    ]


def low_bits(sigma: float) -> int:
    """The largest power of two, at most `MODULUS`, modulo which this noise is uniform to within 10^-34; 1 if there is none."""
    return min(MODULUS, 1 << max(0, math.floor(math.log2(sigma)) - 2))


def lattice(counts: np.ndarray) -> list[Measured]:
    """A test for noise on a coarser grid than the sum's, whose gaps would reveal the sum.

    Empty if the noise is too small to be uniform modulo 2.
    """
    numbers, modulus = int(counts.sum()), len(counts)
    if modulus < 2:
        return []
    likely = _binomial(counts, numbers, np.full(modulus, 1 / modulus))
    worst = int(np.argmin(likely))
    ratio = float(counts[worst] * modulus / numbers)
    return [
        Measured(
            "grid of the noise",
            ratio,
            _bonferroni(likely[worst], modulus),
            f"Numbers that are {worst} modulo {modulus} occur {ratio:.4g} times as often as they should.",
        )
    ]


def _chi_square(squares: np.ndarray, freedom: np.ndarray | int) -> np.ndarray:
    """Two-sided p-values of sums of squares of standard normal numbers."""
    from scipy.special import chdtr, chdtrc

    return np.minimum(1.0, 2 * np.minimum(chdtr(freedom, squares), chdtrc(freedom, squares)))


def _binomial(counts: np.ndarray, numbers: int, chances: np.ndarray) -> np.ndarray:
    """Two-sided p-values of binomial counts out of `numbers`."""
    from scipy.special import betainc

    # P(X >= k) = I_p(k, n - k + 1); this also works for integers beyond int32.
    at_least = np.where(counts > 0, betainc(np.maximum(counts, 1), numbers - counts + 1.0, chances), 1.0)
    at_most = np.where(
        counts < numbers, betainc(np.maximum(numbers - counts, 1), counts + 1.0, 1 - chances), 1.0
    )
    return np.minimum(1.0, 2 * np.minimum(at_least, at_most))


def _normal(z: float) -> float:
    return math.erfc(abs(z) / math.sqrt(2))


def _aligned(cosine: float, dimension: int) -> float:
    """Exact two-sided p-values of the cosine of two independent Gaussian vectors."""
    from scipy.special import betainc

    if dimension < 2:
        return 1.0
    return float(betainc((dimension - 1) / 2, 0.5, max(0.0, 1.0 - cosine**2)))


def _autocorrelated(correlation: float, width: int) -> float:
    """Chernoff's bound on the p-value of the correlation of a Gaussian vector with a shift of itself: `2 (1 - c^2)^(n/2)`.

    Along a path of coordinates the quadratic form has the eigenvalues `cos(pi j / (n + 1))`. Their generating function is a
    Chebyshev polynomial, which gives `1 - c^2` at its best point. The bound also holds for two independent vectors.
    """
    return min(1.0, 2 * math.exp(width / 2 * math.log1p(-min(correlation**2, 1 - 1e-16))))


def _bonferroni(p: float, comparisons: int) -> float:
    return float(min(1.0, p * comparisons))
