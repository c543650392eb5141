"""Empirical epsilon from one run: canaries whose signal in the releases is compared with chance.

A canary takes part like a client, but its update is a random direction. If the mechanism does what it claims, the noise
hides the canary as well as the claim says. With a missing clip, too little noise or noise that is used twice, it stands
out (Andrew, Kairouz, Oh, Oprea, McMahan and Suriyakumar 2023, "One-shot Empirical Privacy Estimation for Federated
Learning"). Here the observer sees every release and combines them optimally for each canary.
"""

import math
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import IO, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fairyring.core.checks import whole_number
from fairyring.core.errors import PlanError, PrivacyError
from fairyring.privacy._distinguishing import epsilon_between

_WORDS = 256  # random words per chunk of a canary, whose bits are drawn chunk by chunk
_CHUNK = 32 * _WORDS
_IN_MEMORY = 1 << 30  # bytes of releases kept in memory; above, they are in a temporary file
_RIDGE = 1e-10  # fraction of a release's variance: above float32 rounding errors, below any real noise
_MINIMUM_DIMENSION = 100


@dataclass(frozen=True)
class Canaries:
    """Canaries: artificial clients that measure what a run really spends.

    Each canary is a client whose update is a random direction, far longer than the clip norm, with a huge number of
    examples. How well the releases reveal the canaries gives a lower bound on epsilon; a claim below it is wrong. Their
    updates cost the model some accuracy: `n` canaries in a round act like noise of `sqrt(n/d)` clip norms per coordinate,
    for `d` parameters.

    Args:
        count: number of canaries; the estimate's error falls with its square root.
        confidence: confidence of the lower bound, for one run.

    Raises:
        PlanError: `count` is not a whole number >= 30, or `confidence` is not in (0.5, 1).
    """

    count: int = 1000
    confidence: float = 0.999

    def __post_init__(self) -> None:
        do = "Set count=1000; fewer show little."
        object.__setattr__(self, "count", whole_number("canaries count", self.count, least=30, do=do))
        if not 0.5 < self.confidence < 1.0:
            raise PlanError(
                "canaries confidence",
                given=self.confidence,
                expected="a number between 0.5 and 1",
                do="Set confidence=0.999: one honest run in a thousand then fails.",
            )


@partial(jax.jit, static_argnums=2)
def canary(key: jax.Array, index: int | jax.Array, dimension: int) -> jax.Array:
    """The direction of one canary: float32 `[dimension]` of norm 1, random signs divided by `sqrt(dimension)`.

    Args:
        key: typed key of all canaries in the run.
        index: index of the canary; may be traced.
        dimension: length of the released vector.
    """
    chunks = jnp.arange(-(-dimension // _CHUNK), dtype=jnp.uint32)
    of_canary = jax.random.fold_in(key, index)
    signs = jax.vmap(partial(_chunk_of, of_canary))(chunks)
    return signs.reshape(-1)[:dimension] / np.float32(math.sqrt(dimension))


def _chunk_of(of_canary: jax.Array, chunk: jax.Array) -> jax.Array:
    """Signs `[_CHUNK]` of one canary from coordinate `chunk * _CHUNK` on."""
    words = jax.random.bits(jax.random.fold_in(of_canary, chunk), (_WORDS,), jnp.uint32)
    bits = (words[:, None] >> np.arange(32, dtype=np.uint32)) & np.uint32(1)
    return 1.0 - 2.0 * bits.reshape(-1).astype(jnp.float32)


@partial(jax.jit, static_argnums=2)
def _signs(key: jax.Array, chunk: jax.Array, count: int) -> jax.Array:
    """One chunk of the signs of all canaries: float32 `[count, _CHUNK]`."""
    indices = jnp.arange(count, dtype=jnp.uint32)
    return jax.vmap(lambda index: _chunk_of(jax.random.fold_in(key, index), chunk))(indices)


@dataclass(frozen=True)
class Estimate:
    """What the canaries of one run showed.

    Attributes:
        epsilon: the point estimate: of `N(0, 1)` against a normal distribution of the scores' mean and standard
            deviation (at least 1). Slightly high on average, and not a bound.
        lower: with `confidence`, the true epsilon is not below it.
        mean: mean of the scores; 0 for directions that took no part.
        std: standard deviation of the scores; 1 for directions that took no part.
        canaries: number of canaries with a score.
        delta: delta of both epsilons.
        confidence: confidence of `lower`.
        requested: number of canaries in the run, some of which may never have been drawn; 0 if unknown.
    """

    epsilon: float
    lower: float
    mean: float
    std: float
    canaries: int
    delta: float
    confidence: float
    requested: int = 0

    @property
    def statement(self) -> str:
        """In words."""
        if self.canaries < 2:
            return "Fewer than two canaries took part: nothing is known of the epsilon of this run."
        who = f"{self.canaries:,} canaries"
        if self.requested > self.canaries:
            who = f"{self.canaries:,} of {self.requested:,} canaries took part; they"
        confident = f"with {100 * self.confidence:.6g} % confidence"
        return (
            f"{who} score {self.mean:.3g} on average, where chance scores 0 ± 1: at delta "
            f"{self.delta:.3g} epsilon is about {self.epsilon:.3g}, and "
            + (
                f"{confident} not below {self.lower:.3g}."
                if self.lower > 0
                else f"{confident} this shows nothing."
            )
        )


def verdict(claimed_epsilon: float, estimate: Estimate) -> bool:
    """Whether a claimed epsilon, at the estimate's delta, can be true: False if it is below the lower bound."""
    return not claimed_epsilon < estimate.lower


class Scores(NamedTuple):
    """How far each canary stands out; `[n]` each, for the canaries that took part.

    Attributes:
        scores: distributed as `N(0, 1)` for a direction that took no part in the releases.
        expected: average score of a canary of unit size; 0 if it could not be seen.
    """

    scores: np.ndarray
    expected: np.ndarray


class Audit:
    """Collects the releases of a run and measures the canaries in them.

    The `T` releases, `R` `[T, d]`, are projected on every canary: `D_j = R c_j`. On a random direction that took no
    part, they would be distributed as `N(0, R R^T / d)`, whatever model updates and noise are in `R`: this covariance is
    known, not assumed. So the best linear observer of canary `j`, which took part in the releases `P_j` `[T]`, computes
    `score_j = P_j^T S_j^-1 D_j / sqrt(P_j^T S_j^-1 P_j)`, with `S_j` the covariance without `c_j`'s own contribution: a matched
    filter. Like the adversary in the definition, this observer knows everybody else, so the other canaries' contributions,
    at their average size, are first subtracted from `R`. For independent noise of multiplier z and T participations, the
    scores' mean is `sqrt(T) / z`, the largest that any observer can reach. Correlated noise is whitened. The difference of
    two releases with the same noise has next to no variance, and reveals a canary in one of them.

    Estimating the covariance costs a factor `sqrt(1 - T/d)` of the mean, and model updates act as noise. If there are more
    than `d / 4` releases, neighbouring ones are added first. That is still a valid observer, but one that cannot see a fault
    that cancels in such a sum. Nor are coordinates distinguished: noise missing from some appears as less noise in all.

    The releases are kept as float32, above 1 GiB in a temporary file.

    Args:
        dimension: d, length of a release, >= 100.
        key: typed key of the canaries.
        canaries: number of canaries, and the confidence.
        known: whether the observer knows who took part when. If the claim rests on secret sampling, the observer does not,
            and weights the releases equally for all canaries.

    Raises:
        PlanError: `dimension` is below 100, where directions are not random enough.
    """

    def __init__(self, dimension: int, key: jax.Array, canaries: Canaries, *, known: bool = True) -> None:
        if dimension < _MINIMUM_DIMENSION:
            raise PlanError(
                "audit with canaries",
                given=f"a model of {dimension} parameters",
                expected=f"at least {_MINIMUM_DIMENSION}",
                do="Audit a larger model of the same plan.",
            )
        self._dimension, self._key, self._canaries, self._known = dimension, key, canaries, known
        self._rows: list[np.ndarray] = []
        self._file: IO[bytes] | None = None
        self._taken: list[np.ndarray] = []
        self._sizes: list[float] = []

    def __repr__(self) -> str:
        return f"Audit({self._canaries.count} canaries in {len(self)} releases of {self._dimension})"

    def __len__(self) -> int:
        return len(self._sizes)

    def record(self, release: np.ndarray, taken: np.ndarray, size: float = 1.0) -> None:
        """Record one release; a release of zeros only is ignored.

        Args:
            release: the noisy sum that the round released, `[d]`.
            taken: indices of the canaries that took part in it.
            size: norm of one canary's contribution if the plan keeps its promise, in any unit that is the same for all
                releases: only its change between releases matters.

        Raises:
            PrivacyError: the release is not `d` finite numbers, or an index is out of range.
        """
        row = np.array(release, np.float32)
        if row.shape != (self._dimension,) or not np.isfinite(row).all():
            raise PrivacyError(
                "release to be audited",
                given=f"shape {row.shape}, {int((~np.isfinite(row)).sum())} not finite",
                expected=f"{self._dimension} finite numbers",
                do="Record what the round released: the noisy sum, flat.",
            )
        who = np.asarray(taken, np.int64).reshape(-1)
        if len(who) and not 0 <= who.min() <= who.max() < self._canaries.count:
            raise PrivacyError(
                "canaries of a release",
                given=f"indices from {who.min()} to {who.max()}",
                expected=f"indices from 0 to {self._canaries.count - 1}",
                do="Pass the indices of the canaries in this round's cohort.",
            )
        if not row.any():
            return
        part = np.zeros(self._canaries.count, bool)
        part[who] = True
        self._taken.append(part)
        self._sizes.append(float(size))
        self._rows.append(row)
        if self._file is None and len(self) * row.nbytes > _IN_MEMORY:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115
            weakref.finalize(self, self._file.close)
        if self._file is not None:
            for kept in self._rows:
                self._file.write(kept.tobytes())
            self._rows.clear()

    def scores(self) -> Scores:
        """The scores of the canaries that took part, or of all canaries if the observer does not know who did.

        This takes `k d (T + 8)` multiplications for `k` canaries, which are drawn again here.
        """
        taken = np.asarray(self._taken, np.float64).reshape(len(self), self._canaries.count)
        if not taken.any():
            return Scores(np.zeros(0), np.zeros(0))
        parts = taken if self._known else np.ones_like(taken)
        parts = parts * np.asarray(self._sizes)[:, None]
        nothing = np.zeros_like(parts)
        scores, expected = _matched(*self._observed(nothing), nothing, parts, self._dimension)
        if self._known:
            # The others' contributions, at their average size, are known to this observer.
            marks = parts * (expected @ scores / max(float(expected @ expected), 1e-300))
            scores, expected = _matched(*self._observed(marks), marks, parts, self._dimension)
        used = parts.any(axis=0)
        return Scores(scores[used], expected[used])

    def estimate(self, delta: float) -> Estimate:
        """Epsilon at `delta` from the scores: the point estimate and a lower bound.

        Canaries are weighted by the square of their expected score, so that those in more releases, or in releases with
        less noise, count more. The weighted mean is still not above the mean of the most exposed. The lower bound is the
        epsilon of `N(0, 1)` against `N(m, 1)`, with `m` the lower confidence limit of the mean. It does not use the scores'
        standard deviation: a spread above 1 can only increase the true epsilon, and its estimation error would cause false
        alarms far out in the tail, where delta is. The limit allows for the dependence between canaries, each of which is
        noise to the others.

        Raises:
            PlanError: `delta` is not in (0, 1).
        """
        if not 0.0 < delta < 1.0:
            raise PlanError("delta", given=delta, expected="a number between 0 and 1", do="Set delta=1e-6.")
        confidence = self._canaries.confidence
        scores, expected = self.scores()
        weights = expected**2
        if len(scores) < 2 or not weights.sum() > 0.0:
            return Estimate(0.0, 0.0, 0.0, 1.0, 0, delta, confidence, self._canaries.count)
        from scipy.special import ndtri

        weights /= weights.sum()
        mean = float(weights @ scores)
        effective = 1.0 / float(weights @ weights)
        spread = float(weights @ (scores - mean) ** 2)
        # If one canary outweighs all others, the sample has no spread; by chance it has 1.
        std = math.sqrt(spread * effective / (effective - 1.0)) if effective > 1.5 else 1.0
        # Each canary's direction is in the scores of all others, and the covariance has an estimation error:
        # together no more than 3/2 mean^2 / d.
        error = math.sqrt(max(1.0, std) ** 2 / effective + 1.5 * mean**2 / self._dimension)
        lower = epsilon_between(max(0.0, mean - float(ndtri(confidence)) * error), 1.0, delta)
        epsilon = epsilon_between(mean, max(1.0, std), delta) if mean > 0.0 else 0.0
        requested = self._canaries.count
        return Estimate(max(epsilon, lower), lower, mean, std, len(scores), delta, confidence, requested)

    def _observed(self, marks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`X X^T` `[T, T]` and `X c_j` `[T, k]`, float64, of the releases without the marks `[T, k]`: `X = R - marks C`."""
        root = math.sqrt(self._dimension)
        gram, products = np.zeros((len(self), len(self))), np.zeros(marks.shape)
        taken_out = (marks / root).astype(np.float32)
        for chunk, rows in self._chunks():
            signs = np.asarray(_signs(self._key, jnp.uint32(chunk), marks.shape[1]))[:, : rows.shape[1]]
            left = rows - taken_out @ signs if marks.any() else rows
            products += left @ signs.T
            wide = left.astype(np.float64)
            gram += wide @ wide.T
        return gram, products / root

    def _chunks(self) -> Iterator[tuple[int, np.ndarray]]:
        """The columns of the releases by chunks: the chunk's number and `[T, <= _CHUNK]`."""
        if self._file is None:
            rows = self._rows
        else:
            self._file.flush()
            rows = np.memmap(self._file, np.float32, "r", shape=(len(self), self._dimension))
        for start in range(0, self._dimension, _CHUNK):
            yield start // _CHUNK, np.stack([row[start : start + _CHUNK] for row in rows])


def _matched(
    gram: np.ndarray, own: np.ndarray, marks: np.ndarray, parts: np.ndarray, dimension: int
) -> tuple[np.ndarray, np.ndarray]:
    """Scores and expected scores `[k]`.

    Args:
        gram: `X X^T` `[T, T]` of the releases without the marks.
        own: `X c_j` `[T, k]`.
        marks: contribution of each canary that was subtracted from the releases, `[T, k]`.
        parts: which canary took part in which release, `[T, k]`.
        dimension: d.
    """
    # Each release is weighted as if alone, and neighbours are added if there are too many for the covariance.
    sums = _neighbours(parts.max(axis=1) * dimension / np.diag(gram), dimension // 4)
    gram = sums @ gram @ sums.T / dimension
    scale = np.sqrt(np.diag(gram))
    scale = np.where(scale > 0.0, scale, 1.0)  # zero if no canary is in any of the neighbours
    gram, sums = gram / np.outer(scale, scale), sums / scale[:, None]
    own, parts = sums @ own, sums @ parts
    products = own + sums @ marks  # as if only the others' marks had been subtracted
    # Solved with the covariance that includes the canaries' own marks, which are then removed from each solution
    # (Sherman and Morrison): one factorisation for all of them.
    values, vectors = np.linalg.eigh(gram)
    inverse = (vectors / (np.maximum(values, 0.0) + _RIDGE)) @ vectors.T
    filtered, owned = inverse @ parts, inverse @ own
    remains = 1.0 - _dot(own, owned) / dimension
    with_part = _dot(own, filtered) / dimension / np.maximum(remains, 1e-12)
    overlap = _dot(products, filtered) + _dot(products, owned) * with_part
    root = np.sqrt(np.maximum(_dot(parts, filtered) + _dot(own, filtered) * with_part, 0.0))
    # The inverse of a covariance estimated from d directions is too large by 1 / (1 - T/d), and so is the null spread.
    shrunk = 1.0 - len(gram) / dimension
    return np.divide(shrunk * overlap, root, out=np.zeros_like(root), where=root > 0.0), shrunk * root


def _dot(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Inner products of the columns of two matrices `[T, k]`: `[k]`."""
    return np.einsum("tk,tk->k", first, second)


def _neighbours(weights: np.ndarray, maximum: int) -> np.ndarray:
    """The matrix `[min(T, maximum), T]` that adds weighted neighbouring releases; diagonal if there are few."""
    count = len(weights)
    if count <= maximum:
        return np.eye(count)
    sums = np.zeros((maximum, count))
    sums[np.arange(count) * maximum // count, np.arange(count)] = weights
    return sums
