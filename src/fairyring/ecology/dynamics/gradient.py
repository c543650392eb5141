"""A gradient fitted to flows along edges, and whether noise alone leaves as much of them over."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fairyring.statistics import permutation_p
from fairyring.statistics.samples import Floats


@dataclass(frozen=True, eq=False)
class GradientFit:
    """Potentials on nodes fitted to flows on edges, by weighted least squares.

    Attributes:
        incidence: `[edges, nodes]`: +1 at the node whose potential counts for a flow, -1 at the other.
        weights: `[edges]`, above 0.
    """

    incidence: Floats
    weights: Floats

    @cached_property
    def _factors(self) -> tuple[Floats, Floats, Floats]:
        root = np.sqrt(self.weights)
        # One node's potential is free: without its column the rest have full rank on a connected graph.
        q, r = np.linalg.qr(self.incidence[:, 1:] * root[:, None])
        return root, q, r

    def potentials(self, flows: Floats) -> Floats:
        """`[nodes]`, with mean 0."""
        root, q, r = self._factors
        found = np.concatenate([[0.0], np.linalg.solve(r, q.T @ (flows * root))])
        return found - found.mean()

    def remover(self) -> Floats:
        """`[edges, edges]`: takes flows to what no potential explains, so scaled that its squares sum to the energy."""
        root, q, _ = self._factors
        return (np.eye(len(root)) - q @ q.T) * root

    def energy(self, flows: Floats) -> float:
        """The weighted sum of squares of flows."""
        return float((self.weights * flows**2).sum())


@dataclass(frozen=True, eq=False)
class Resampled:
    """Noise of group means redrawn from the groups' own residuals.

    Attributes:
        means: `[resamples, groups * numbers]`: of each group, with the true mean taken to be 0.
        spread: `[resamples]`: squares about those means, summed.
        observed_spread: the same of the data.
    """

    means: Floats
    spread: Floats
    observed_spread: float

    def p(self, left_over: Floats, observed: float, scale: float) -> float:
        """Chance of as much left over, each draw measured by its own spread.

        What is left of flows after the fit does not depend on their potentials, so noise alone is its null, whatever
        the potentials are; and divided by the spread it hardly depends on how well few replicates show the noise.

        Args:
            left_over: `[resamples]`, energy that the fit leaves of `means`.
            observed: what it leaves of the data.
            scale: energy of the data in all, by which rounding is told from something.
        """

        def ratio(energy: Floats, spread: Floats) -> Floats:
            with np.errstate(divide="ignore", invalid="ignore"):  # what is not kept of it
                return np.where(energy > 1e-20 * scale, energy / np.maximum(spread, 1e-24 * scale), 0.0)

        drawn = ratio(left_over, self.spread)
        own = float(ratio(np.array([observed]), np.array([self.observed_spread]))[0])
        return permutation_p(drawn, own, False, 1e-9 * own)


def resample(groups: Sequence[Floats], rng: np.random.Generator, resamples: int) -> Resampled:
    """Residual bootstrap of groups `[replicates, numbers]`, each of two replicates or more.

    Args:
        groups: their replicates are worlds; a world's numbers stay together.
        rng: where draws come from.
        resamples: how many.
    """
    means, spread, observed = [], np.zeros(resamples), 0.0
    for group in groups:
        count = len(group)
        residuals = group - group.mean(axis=0)
        observed += float((residuals**2).sum())
        residuals *= np.sqrt(count / (count - 1))  # residuals are smaller than the noise they are left of
        drawn = residuals[rng.integers(0, count, (resamples, count))]
        mean = drawn.mean(axis=1)
        spread += ((drawn - mean[:, None]) ** 2).sum(axis=(1, 2))
        means.append(mean)
    return Resampled(np.concatenate(means, axis=1), spread, observed)
