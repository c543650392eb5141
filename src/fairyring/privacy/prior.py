"""What an attacker knows of an example before any update is seen: how other people's examples look."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fairyring.core.errors import PlanError

_MOST = 256  # values of a grid: those of a byte
_ENTROPY = 0.5 * np.log(2 * np.pi)


@dataclass(frozen=True)
class Prior:
    """Knowledge of examples that does not depend on the secret: it is taken from those of others.

    Attributes:
        low, high: range of each feature, `[features]`.
        mean, variance: of each feature, `[features]`.
        usual: the commonest value of each feature, `[features]`: the black of a corner tells nothing.
        grid: the values that features have, ascending, such as the 256 of a byte; None where they are too many.
    """

    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    usual: np.ndarray
    share: np.ndarray
    grid: np.ndarray | None

    @classmethod
    def of(cls, examples: np.ndarray) -> "Prior":
        """From examples `[n, features]` of others.

        Raises:
            PlanError: there are none.
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
        usual, share = np.empty(examples.shape[1]), np.empty(examples.shape[1])
        for feature, column in enumerate(examples.T):
            found, counts = np.unique(column, return_counts=True)
            usual[feature], share[feature] = found[counts.argmax()], counts.max() / len(column)
        # Fewer values than examples could hide: else everything is a grid of itself.
        known = 1 < len(values) <= _MOST and examples.size >= 20 * len(values)
        return cls(
            examples.min(axis=0),
            examples.max(axis=0),
            examples.mean(axis=0),
            examples.var(axis=0),
            usual,
            share,
            values if known else None,
        )

    @cached_property
    def spread(self) -> float:
        """Root mean variance of a feature."""
        return float(np.sqrt(self.variance.mean()))

    @cached_property
    def step(self) -> float:
        """The smallest step of the grid; without one, a tenth of the widest range of a feature."""
        if self.grid is not None:
            return float(np.diff(self.grid).min())
        return 0.1 * max(float((self.high - self.low).max()), 1e-12)

    @property
    def tolerance(self) -> float:
        """How far a feature may be off in a reading that is called exact: a tenth of a step."""
        return 0.1 * self.step

    def snapped(self, values: np.ndarray) -> np.ndarray:
        """The nearest values of the grid; without one, values cut to the features' ranges. `[n, features]`."""
        if self.grid is None:
            return np.clip(values, self.low, self.high)
        return self.grid[np.searchsorted(0.5 * (self.grid[1:] + self.grid[:-1]), values)]

    def evidence(self, values: np.ndarray, error: np.ndarray) -> np.ndarray:
        """How much rather readings `[n, features]` lie on the grid than anywhere, as log likelihood ratios `[n]`.

        The mean of several examples lies between the values of the grid, evenly; one example lies on them up to an error
        that is no smaller than `error` `[n]`, else as large as it looks. Features at their usual value do not count: they
        are there in every mean. About zero where the error is as wide as a step, far below for values out of range; minus
        infinity without a grid, and for readings of fewer than four unusual features.
        """
        if self.grid is None:
            return np.full(len(values), -np.inf)
        off = np.abs(values - self.snapped(values))
        telling = np.abs(values - self.usual) > 0.5 * self.step
        count = telling.sum(axis=1)
        square = (off**2 * telling).sum(axis=1) / np.maximum(count, 1)
        width = np.maximum(np.maximum(np.sqrt(square), error), 0.01 * self.step)[:, None]
        near = -0.5 * (off / width) ** 2
        # The value may also be the next one, if there is one: an error as wide as a step tells nothing, for or against.
        inside = off <= 0.5 * self.step
        around = sum(np.exp(-0.5 * ((self.step * k + off) / width) ** 2) for k in (-3, -2, -1, 1, 2, 3))
        density = np.logaddexp(near, np.log(np.where(inside, around, 0.0) + 1e-300))
        each = np.log(self.step / width) - _ENTROPY + density
        alone = np.where(telling, each + self._unusual, self._usual).sum(axis=1)
        return np.where(count >= 4, alone, -np.inf)

    @cached_property
    def _usual(self) -> np.ndarray:
        """What a feature at its usual value speaks for one example rather than a mean of two, `[features]`."""
        return -0.5 * np.log(self.share)

    @cached_property
    def _unusual(self) -> np.ndarray:
        """The same of a feature at another value. Halved both, for neighbouring features are alike."""
        return -0.5 * np.log1p(self.share)
