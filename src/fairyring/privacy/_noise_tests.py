"""Tests of numbers that should be independent and standard normal: `[T, d]`, of T rounds and d coordinates.

Every test gives one probability, already multiplied by how many comparisons it makes (Bonferroni).
"""

import math
from typing import NamedTuple

import numpy as np

from fairyring.privacy._rows import Rows

_CHUNK = 1 << 13
_BINS = 32
_TAILS = (3.0, 4.0, 5.0)
MODULUS = 16  # the low bits of noise that are looked at
_IN_LINE = 1 << 16  # coordinates whose order is looked at
_PAIRS = 1 << 26  # numbers in all pairs of rounds that are compared at every shift; beyond, neighbours only


class Measured(NamedTuple):
    """One test: its name, what was measured, how likely that is, and what to say of it if it is too unlikely."""

    name: str
    statistic: float
    p: float
    says: str


class Summary(NamedTuple):
    """All that the tests need of the numbers.

    Attributes:
        squares, sums: by coordinate, over rounds: `[d]`.
        of_rounds: squares by round: `[T]`.
        gram: products of rounds: `[T, T]`.
        neighbours: sum of the products of adjacent coordinates, and of how many.
        bins: how many numbers are in each of 32 equally likely bins.
        tails: how many are further from 0 than each of `_TAILS`.
        head: the first coordinates in their order, float32 `[T, <= 2^16]`.
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
    """Go over all numbers once; `mixing` `[T, T]` is applied to them first."""
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


def variances(found: Summary, parts: dict[str, slice], rounds: list[int]) -> list[Measured]:
    """Too little noise or too much: in all, in a part, in a round, in a coordinate."""
    total, times = float(found.of_rounds.sum()), found.rounds
    overall = _chi_square(np.array([total]), found.numbers)[0]
    names = list(parts)
    of_parts = np.array([float(found.squares[part].sum()) for part in parts.values()])
    sizes = np.array([times * (part.stop - part.start) for part in parts.values()])
    likely = _chi_square(of_parts, sizes)
    worst = int(np.argmin(likely))
    dimension = len(found.squares)
    by_round = _chi_square(found.of_rounds, dimension)
    odd = int(np.argmin(by_round))
    by_coordinate = _chi_square(found.squares, times)
    at = int(np.argmin(by_coordinate))
    deviation = [
        math.sqrt(total / found.numbers),
        math.sqrt(of_parts[worst] / sizes[worst]),
        math.sqrt(found.of_rounds[odd] / dimension),
        math.sqrt(found.squares[at] / times),
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
    """Coordinates with no noise at all, more of them than chance leaves without."""
    from scipy.special import bdtrc

    p = float(bdtrc(zeros - 1, numbers, expected / numbers)) if zeros else 1.0
    return Measured(
        "coordinates without noise",
        float(zeros),
        p,
        f"{zeros:,} of {numbers:,} numbers have no noise at all, where chance leaves {expected:.3g}.",
    )


def means(found: Summary, parts: dict[str, slice]) -> list[Measured]:
    """Noise around 0: in all, in a part, in a coordinate."""
    times, dimension = found.rounds, len(found.sums)
    in_all = float(found.sums.sum()) / math.sqrt(found.numbers)
    names = list(parts)
    of_parts = np.array(
        [
            float(found.sums[part].sum()) / math.sqrt(times * max(1, part.stop - part.start))
            for part in parts.values()
        ]
    )
    worst = int(np.argmax(np.abs(of_parts)))
    of_each = found.sums / math.sqrt(times)
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
    """Noise that has something of the true sum in it."""
    worst = max(cosines, key=abs)
    return Measured(
        "noise apart from the sum",
        worst,
        _bonferroni(_aligned(worst, dimension), len(cosines)),
        f"The noise of a round points along its true sum: cosine {worst:.3g}.",
    )


def repeats(found: Summary, rounds: list[int]) -> list[Measured]:
    """Noise that comes again: in another round, in the next coordinate, or at any shift."""
    product, pairs = found.neighbours
    dimension, times = len(found.squares), found.rounds
    along = product / max(1e-300, float(found.of_rounds.sum()))
    results = []
    if pairs:
        results.append(
            Measured(
                "neighbouring coordinates",
                along,
                _bonferroni(_autocorrelated(along, found.numbers), 1),
                f"Neighbouring coordinates have noise in common: correlation {along:.3g}.",
            )
        )
    if times > 1:
        lengths = np.sqrt(found.of_rounds)
        cosines = found.gram / np.maximum(np.outer(lengths, lengths), 1e-300)
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
        results.append(_apart(found, rounds))
    results.append(_shifted(found, rounds))
    return results


def _apart(found: Summary, rounds: list[int]) -> Measured:
    """Correlation of rounds so many apart, over all such pairs: weaker, but everywhere."""
    number = np.asarray(rounds)
    i, j = np.triu_indices(len(number), 1)
    apart = number[j] - number[i]
    # Of every coordinate the rounds so many apart lie along paths: the bound of the autocorrelation holds for all at once.
    correlations = np.bincount(apart, found.gram[i, j]) / max(1e-300, float(found.of_rounds.sum()))
    tested = np.unique(apart)
    worst = int(tested[np.argmax(np.abs(correlations[tested]))])
    return Measured(
        "rounds so many apart",
        float(correlations[worst]),
        _bonferroni(_autocorrelated(float(correlations[worst]), found.numbers), len(tested)),
        f"Rounds that are {worst} apart have noise in common: correlation {correlations[worst]:.3g}.",
    )


def _shifted(found: Summary, rounds: list[int]) -> Measured:
    """Correlation of a round with itself and others at any shift."""
    from scipy.fft import irfft, next_fast_len, rfft

    rows = found.head.astype(np.float64)
    times, width = rows.shape
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)
    length = next_fast_len(2 * width, real=True)  # padded, so that nothing comes in again at the other end
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


def shape(found: Summary) -> list[Measured]:
    """The whole distribution, by how many numbers are in each of 32 equally likely bins; and its tails."""
    from scipy.special import ndtr

    likely = _binomial(found.bins, found.numbers, np.full(_BINS, 1 / _BINS))
    worst = int(np.argmin(likely))
    chances = 2 * ndtr(-np.array(_TAILS))
    rare = _binomial(found.tails, found.numbers, chances)
    odd = int(np.argmin(rare))
    return [
        Measured(
            "shape of the noise",
            float(found.bins[worst] * _BINS / found.numbers),
            _bonferroni(likely[worst], _BINS),
            f"Its {worst + 1}th of {_BINS} equally likely ranges holds {found.bins[worst] * _BINS / found.numbers:.4g} "
            "times the numbers it should.",
        ),
        Measured(
            "tails of the noise",
            float(found.tails[odd] / (found.numbers * chances[odd])),
            _bonferroni(rare[odd], len(_TAILS)),
            f"{found.tails[odd]:,} numbers are beyond {_TAILS[odd]:g} standard deviations, where "
            f"{found.numbers * chances[odd]:.3g} are expected.",
        ),
    ]


def low_bits(sigma: float) -> int:
    """The largest power of two, at most `MODULUS`, modulo which noise of this size is uniform but for 10^-34; 1 if there is none."""
    return min(MODULUS, 1 << max(0, math.floor(math.log2(sigma)) - 2))


def lattice(counts: np.ndarray) -> list[Measured]:
    """Noise on a coarser grid than the sum's, whose gaps tell the sum; no test of noise too small to be uniform."""
    numbers, modulus = int(counts.sum()), len(counts)
    if modulus < 2:
        return []
    likely = _binomial(counts, numbers, np.full(modulus, 1 / modulus))
    worst = int(np.argmin(likely))
    share = float(counts[worst] * modulus / numbers)
    return [
        Measured(
            "grid of the noise",
            share,
            _bonferroni(likely[worst], modulus),
            f"Numbers that are {worst} modulo {modulus} occur {share:.4g} times as often as they should.",
        )
    ]


def _chi_square(squares: np.ndarray, freedom: np.ndarray | int) -> np.ndarray:
    """How likely sums of squares of so many standard normal numbers are to be so far off, either way."""
    from scipy.special import chdtr, chdtrc

    return np.minimum(1.0, 2 * np.minimum(chdtr(freedom, squares), chdtrc(freedom, squares)))


def _binomial(counts: np.ndarray, numbers: int, chances: np.ndarray) -> np.ndarray:
    """How likely so many of `numbers` are to be so far off, either way."""
    from scipy.special import betainc

    # P(X >= k) = I_p(k, n - k + 1); whole numbers beyond int32 are no trouble to it.
    at_least = np.where(counts > 0, betainc(np.maximum(counts, 1), numbers - counts + 1.0, chances), 1.0)
    at_most = np.where(
        counts < numbers, betainc(np.maximum(numbers - counts, 1), counts + 1.0, 1 - chances), 1.0
    )
    return np.minimum(1.0, 2 * np.minimum(at_least, at_most))


def _normal(z: float) -> float:
    return math.erfc(abs(z) / math.sqrt(2))


def _aligned(cosine: float, dimension: int) -> float:
    """How likely the directions of two independent Gaussian vectors are to be so close, or so opposed: exact."""
    from scipy.special import betainc

    if dimension < 2:
        return 1.0
    return float(betainc((dimension - 1) / 2, 0.5, max(0.0, 1.0 - cosine**2)))


def _autocorrelated(correlation: float, width: int) -> float:
    """A bound on how likely a Gaussian vector is to be so correlated with itself, moved: Chernoff's, `2 (1 - c^2)^(n/2)`.

    Along a path of coordinates the form has the eigenvalues `cos(pi j / (n + 1))`, whose generating function is a
    Chebyshev polynomial; at its best place it gives `1 - c^2`. Two independent vectors keep it too.
    """
    return min(1.0, 2 * math.exp(width / 2 * math.log1p(-min(correlation**2, 1 - 1e-16))))


def _bonferroni(p: float, comparisons: int) -> float:
    return float(min(1.0, p * comparisons))
