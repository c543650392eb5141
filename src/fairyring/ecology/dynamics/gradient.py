"""Fitting a gradient to flows along the edges of a graph, and a test of the remainder against noise."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fairyring.statistics import permutation_p
from fairyring.statistics.samples import Floats


@dataclass(frozen=True, eq=False)
class GradientFit:
    """Potentials on nodes, fitted to flows on edges by weighted least squares.

    Attributes:
        incidence: `[edges, nodes]`: +1 at the node whose potential is added, -1 at the one whose potential is subtracted.
        weights: `[edges]`, positive.
    """

    incidence: Floats
    weights: Floats

    @cached_property
    def _factors(self) -> tuple[Floats, Floats, Floats]:
        root = np.sqrt(self.weights)
        # Potentials are determined up to a constant. Without one column the rest have full rank on a connected graph.
        q, r = np.linalg.qr(self.incidence[:, 1:] * root[:, None])
        return root, q, r

    def potentials(self, flows: Floats) -> Floats:
        """The fitted potentials `[nodes]`, with mean 0."""
        root, q, r = self._factors
        fitted = np.concatenate([[0.0], np.linalg.solve(r, q.T @ (flows * root))])
        return fitted - fitted.mean()

    def remover(self) -> Floats:
        """`[edges, edges]`: maps flows to what no potential explains, scaled so that the sum of squares is its energy."""
        root, q, _ = self._factors
        return (np.eye(len(root)) - q @ q.T) * root

    def energy(self, flows: Floats) -> float:
        """The weighted sum of squares of flows."""
        return float((self.weights * flows**2).sum())


@dataclass(frozen=True, eq=False)
class Resampled:
    """Noise of group means, resampled from the residuals of the groups.

    Attributes:
        means: `[resamples, groups * numbers]`: of each group, about a true mean of 0.
        spread: `[resamples]`: sum of squares about those means.
        observed_spread: the same for the data.
    """

    means: Floats
    spread: Floats
    observed_spread: float

    def p(self, left_over: Floats, observed: float, scale: float) -> float:
        """Probability of as large a remainder, each draw relative to its own spread.

        The remainder of flows after the fit does not depend on their potentials, so its null is noise alone. Divided by the
        spread, it hardly depends on how well a few replicates represent the noise.

        Args:
            left_over: `[resamples]`, energy of the remainder of `means`.
            observed: energy of the remainder of the data.
            scale: total energy of the data, which sets the threshold for rounding errors.
        """

        def ratio(energy: Floats, spread: Floats) -> Floats:
            with np.errstate(divide="ignore", invalid="ignore"):  # in entries that `where` discards
                return np.where(energy > 1e-20 * scale, energy / np.maximum(spread, 1e-24 * scale), 0.0)

        drawn = ratio(left_over, self.spread)
        own = float(ratio(np.array([observed]), np.array([self.observed_spread]))[0])
        return permutation_p(drawn, own, False, 1e-9 * own)


def resample(groups: Sequence[Floats], rng: np.random.Generator, resamples: int) -> Resampled:
    """Residual bootstrap of groups `[replicates, numbers]`, each of two replicates or more.

    Args:
        groups: replicates are worlds; the numbers of a world stay together.
        rng: random generator.
        resamples: how many.
    """
    means, spread, observed = [], np.zeros(resamples), 0.0
    for group in groups:
        count = len(group)
        residuals = group - group.mean(axis=0)
        observed += float((residuals**2).sum())
        residuals *= np.sqrt(count / (count - 1))  # residuals are smaller than the noise that caused them
        drawn = residuals[rng.integers(0, count, (resamples, count))]
        mean = drawn.mean(axis=1)
        spread += ((drawn - mean[:, None]) ** 2).sum(axis=(1, 2))
        means.append(mean)
    return Resampled(np.concatenate(means, axis=1), spread, observed)
