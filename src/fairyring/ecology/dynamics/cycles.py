"""HodgeRank: how much of a pairwise comparison no ranking explains."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fairyring.core.errors import EcologyError
from fairyring.ecology.dynamics.gradient import GradientFit, resample
from fairyring.statistics import samples
from fairyring.statistics.samples import Floats


@dataclass(frozen=True)
class CyclicShare:
    """A pairwise comparison split into a ranking and cycles.

    Attributes:
        share: of the squared norm that no ranking explains, in `[0, 1]`: 0 for a transitive comparison, 1 for
            rock-paper-scissors; 0 also if all differences are 0.
        potentials: `[n]`, the ranking: `potentials[i] - potentials[j]` is the fitted difference of i and j; mean 0.
        p: probability of cycles as strong under the fitted ranking alone; None without replicates.
        null_share: mean share under that ranking, above 0 because of noise; None without replicates.
    """

    share: float
    potentials: tuple[float, ...]
    p: float | None = None
    null_share: float | None = None


def cyclic_share(matrix: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> CyclicShare:
    """The cyclic share of a pairwise matrix by HodgeRank (Jiang, Lim, Yao & Ye 2011).

    The matrix is made antisymmetric, `(M - M^T) / 2`, so both win fractions and payoffs can be used. Potentials are fitted by
    weighted least squares. Since all pairs were compared, there is no harmonic part, and the remainder consists of cycles of
    three. Norms are `sum_{i<j} w_ij y_ij^2`.

    Args:
        matrix: `[n, n]`, by how much i beats j; the diagonal does not matter. n is 3 or more.
        weights: `[n, n]`, symmetric and positive off the diagonal, usually the number of replicates of a pair; 1 if None.

    Raises:
        EcologyError, StatisticsError: shapes that do not fit, or invalid weights.
    """
    m = samples.array("matrix", matrix, axes=2)
    w = np.ones_like(m) if weights is None else samples.counts("weights", weights, axes=2)
    n = _populations(m.shape[0], m.shape)
    off = ~np.eye(n, dtype=bool)
    if w.shape != m.shape or not (np.array_equal(w[off], w.T[off]) and (w[off] > 0).all()):
        raise EcologyError(
            "weights",
            given=f"shape {w.shape}",
            expected=f"symmetric {m.shape}, above 0 for every pair",
            do="Compare every pair at least once.",
        )
    upper = np.triu_indices(n, 1)
    fit = GradientFit(_incidence(n), w[upper])
    return _split(fit, ((m - m.T) / 2.0)[upper])


def cyclic_test(
    outcomes: npt.ArrayLike | Sequence[Sequence[npt.ArrayLike]], *, seed: int = 0, resamples: int = 9999
) -> CyclicShare:
    """The cyclic share of replicated comparisons, and its p-value under a ranking alone.

    The mean of each pair is a flow, weighted by its number of replicates. Null: the fitted ranking, with residuals of the
    replicates resampled within each pair. The test statistic is not the share but the lack-of-fit ratio: the remainder of the
    fit over the spread of the replicates, with each draw's own spread. The share of pure noise depends on how different the
    populations are; the remainder does not.

    If replicates do not vary at all, there is no noise to resample, and any cycle gets the smallest p. Readers should then be told
    how many worlds that rests on.

    Args:
        outcomes: `[n, n, replicates]`, or nested sequences if pairs differ in their number of replicates. `outcomes[i][j]`
            holds, for each world in which i met j, by how much i beat j. `outcomes[j][i]` may hold the same worlds from the
            other side (exact negatives in the same order, which count once), other worlds (whose sign is reversed), or
            nothing. NaN stands for a missing world. Each pair needs at least two worlds.
        seed: of the resampling.
        resamples: how many.

    Raises:
        EcologyError, StatisticsError: outcomes of another shape, or a pair with fewer than two worlds.
    """
    groups, n = _pairs(outcomes)
    rng, resamples = samples.generator(seed), samples.resamples(resamples)
    fit = GradientFit(_incidence(n), np.array([float(len(group)) for group in groups]))
    flows = np.array([group.mean() for group in groups])
    split, total, remove = _split(fit, flows), fit.energy(flows), fit.remover()
    noise = resample([group[:, None] for group in groups], rng, resamples)
    left_over = ((noise.means @ remove.T) ** 2).sum(axis=1)
    p = noise.p(left_over, split.share * total, total)
    ranked = total * (1.0 - split.share)
    null_share = float((left_over / np.maximum(left_over + ranked, 1e-300)).mean())
    return CyclicShare(split.share, split.potentials, p, null_share)


def _split(fit: GradientFit, flows: Floats) -> CyclicShare:
    potentials = fit.potentials(flows)
    total = fit.energy(flows)
    share = fit.energy(flows - fit.incidence @ potentials) / total if total > 0.0 else 0.0
    return CyclicShare(min(share, 1.0), tuple(potentials.tolist()))


def _incidence(n: int) -> Floats:
    pairs = list(itertools.combinations(range(n), 2))
    incidence = np.zeros((len(pairs), n))
    for row, (i, j) in enumerate(pairs):
        incidence[row, i], incidence[row, j] = 1.0, -1.0
    return incidence


def _populations(n: int, shape: tuple[int, ...]) -> int:
    if n < 3 or shape[:2] != (n, n):
        raise EcologyError(
            "populations compared",
            given=f"shape {shape}",
            expected="[n, n] with n >= 3",
            do="Compare three or more; two cannot form a cycle.",
        )
    return n


def _pairs(outcomes: npt.ArrayLike | Sequence[Sequence[npt.ArrayLike]]) -> tuple[list[Floats], int]:
    """The replicates of each pair i < j, and the number of populations."""
    rows = [list(row) for row in outcomes]  # pyright: ignore[reportArgumentType, reportGeneralTypeIssues]
    n = _populations(len(rows), (len(rows), *{len(row) for row in rows}))
    groups = []
    for i, j in itertools.combinations(range(n), 2):
        forth, back = (np.asarray(cell, np.float64).ravel() for cell in (rows[i][j], rows[j][i]))
        if np.array_equal(forth, -back, equal_nan=True):
            back = back[:0]
        both = np.concatenate([forth, -back])
        groups.append(samples.sample(f"worlds of populations {i} and {j}", both[~np.isnan(both)], least=2))
    return groups, n
