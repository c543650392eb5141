"""An attacker's prior knowledge of an example: what other people's examples look like."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fairyring.core.errors import PlanError

_MAXIMUM_VALUES = 256  # largest number of values in a grid: those of a byte
_ENTROPY = 0.5 * np.log(2 * np.pi)


@dataclass(frozen=True)
class Prior:
    """Knowledge of examples that does not depend on the attacked ones: it comes from those of others.

    Attributes:
        low, high: range of each feature, `[features]`.
        mean, variance: mean and variance of each feature, `[features]`.
        usual: most frequent value of each feature, `[features]`: a black corner, for instance, says nothing.
        frequency: fraction of examples with that value, `[features]`.
        grid: the values that features have, ascending, such as the 256 of a byte; None if there are too many.
    """

    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    usual: np.ndarray
    frequency: np.ndarray
    grid: np.ndarray | None

    @classmethod
    def of(cls, examples: np.ndarray) -> "Prior":
        """The prior from examples `[n, features]` of others.

        Raises:
            PlanError: there are no examples.
        """
        examples = np.asarray(examples, np.float64)
        if examples.ndim != 2 or not examples.size:
            raise PlanError(
                "prior knowledge of examples",
                given=f"examples of shape {examples.shape}",
                expected="[n, features] of others, with n >= 1",
                do="Keep some clients out of the cohort that is attacked.",
            )
        values = np.unique(examples)
        usual, frequency = np.empty(examples.shape[1]), np.empty(examples.shape[1])
        for feature, column in enumerate(examples.T):
            distinct, counts = np.unique(column, return_counts=True)
            usual[feature], frequency[feature] = distinct[counts.argmax()], counts.max() / len(column)
        # Far fewer values than entries: otherwise any data would be a grid of itself.
        known = 1 < len(values) <= _MAXIMUM_VALUES and examples.size >= 20 * len(values)
        return cls(
            examples.min(axis=0),
            examples.max(axis=0),
            examples.mean(axis=0),
            examples.var(axis=0),
            usual,
            frequency,
            values if known else None,
        )

    @cached_property
    def spread(self) -> float:
        """Root mean variance of the features."""
        return float(np.sqrt(self.variance.mean()))

    @cached_property
    def step(self) -> float:
        """The smallest step of the grid; without a grid, a tenth of the widest range of a feature."""
        if self.grid is not None:
            return float(np.diff(self.grid).min())
        return 0.1 * max(float((self.high - self.low).max()), 1e-12)

    @property
    def tolerance(self) -> float:
        """Largest error of a feature in a reading that counts as exact: a tenth of a step."""
        return 0.1 * self.step

    def snapped(self, values: np.ndarray) -> np.ndarray:
        """The nearest values of the grid; without a grid, values clipped to the features' ranges. `[n, features]`."""
        if self.grid is None:
            return np.clip(values, self.low, self.high)
        return self.grid[np.searchsorted(0.5 * (self.grid[1:] + self.grid[:-1]), values)]

    def evidence(self, values: np.ndarray, error: np.ndarray) -> np.ndarray:
        """Evidence that readings `[n, features]` lie on the grid, as log likelihood ratios `[n]`.

        A mean of several examples is spread evenly between the values of the grid. A single example lies on the grid up to
        an error, which is estimated from the reading and at least `error` `[n]`. Features at their usual value do not count,
        since they have it in every mean. The result is about zero if the error is as wide as a step, very negative for
        values out of range, and minus infinity without a grid or with fewer than four unusual features.
        """
        if self.grid is None:
            return np.full(len(values), -np.inf)
        off = np.abs(values - self.snapped(values))
        telling = np.abs(values - self.usual) > 0.5 * self.step
        count = telling.sum(axis=1)
        square = (off**2 * telling).sum(axis=1) / np.maximum(count, 1)
        width = np.maximum(np.maximum(np.sqrt(square), error), 0.01 * self.step)[:, None]
        near = -0.5 * (off / width) ** 2
        # The true value may also be a neighbouring one: an error as wide as a step says nothing either way.
        inside = off <= 0.5 * self.step
        around = sum(np.exp(-0.5 * ((self.step * k + off) / width) ** 2) for k in (-3, -2, -1, 1, 2, 3))
        density = np.logaddexp(near, np.log(np.where(inside, around, 0.0) + 1e-300))
        each = np.log(self.step / width) - _ENTROPY + density
        alone = np.where(telling, each + self._unusual, self._usual).sum(axis=1)
        return np.where(count >= 4, alone, -np.inf)

    @cached_property
    def _usual(self) -> np.ndarray:
        """Evidence of a feature at its usual value for one example rather than a mean of two, `[features]`."""
        return -0.5 * np.log(self.frequency)

    @cached_property
    def _unusual(self) -> np.ndarray:
        """The same for a feature at another value. Both are halved, because neighbouring features are similar."""
        return -0.5 * np.log1p(self.frequency)
