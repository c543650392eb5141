"""Exact reads of examples, and the best guess of somebody who has seen no update."""

import math
from dataclasses import dataclass

import numpy as np

from fairyring.core.errors import PlanError
from fairyring.privacy.reconstruction import blind


def best_guess(images: np.ndarray, cohort: int, *, seed: int = 0) -> np.ndarray:
    """The best single guess without seeing an update, if it is judged against the nearest of many examples: float32 `[...]`.

    Candidates are the mean of the images and a hundred of them. The best is, on average over draws, nearest to the nearest
    of `cohort` other images. Against one example that is the mean; against many, a typical example is nearer.

    Args:
        images: images of others, `[n, ...]`.
        cohort: number of examples that the guess is judged against.
        seed: seed of the draws.

    Raises:
        PlanError: there are no images.
    """
    mean = blind(images)
    flat = np.asarray(images, np.float32).reshape(len(images), -1)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(flat))
    quoted, met = order[: min(100, len(flat) // 2)], order[min(100, len(flat) // 2) :]
    guesses = np.concatenate([mean.reshape(1, -1), flat[quoted]])
    errors = _squares(guesses, flat[met])
    size = min(cohort, len(met))
    draws = [errors[:, rng.choice(len(met), size, replace=False)].min(axis=1) for _ in range(25)]
    return guesses[int(np.mean(draws, axis=0).argmin())].reshape(mean.shape)


@dataclass(frozen=True)
class Nearest:
    """For each of `n` readings, the nearest true example.

    Attributes:
        index: index of the true example, `[n]`.
        mse: mean squared error, `[n]`.
        largest: largest error of a feature, `[n]`.
    """

    index: np.ndarray
    mse: np.ndarray
    largest: np.ndarray


def nearest(images: np.ndarray, truths: np.ndarray) -> Nearest:
    """For each of the images `[n, ...]`, the nearest of the truths `[m, ...]` by mean squared error.

    Raises:
        PlanError: the shapes do not match, or there are no truths.
    """
    images, truths = np.asarray(images, np.float64), np.asarray(truths, np.float64)
    if images.shape[1:] != truths.shape[1:] or not len(truths):
        raise PlanError(
            "reconstructions",
            given=f"shape {images.shape}, for truths of shape {truths.shape}",
            expected="[n, ...] and [m, ...], with m >= 1",
            do="Reshape both to the same images.",
        )
    flat, targets = images.reshape(len(images), -1), truths.reshape(len(truths), -1)
    index = np.zeros(len(flat), np.int64)
    for start in range(0, len(flat), 256):
        index[start : start + 256] = _squares(flat[start : start + 256], targets).argmin(axis=1)
    errors = np.abs(flat - targets[index])
    return Nearest(index, (errors**2).mean(axis=1), errors.max(axis=1, initial=0.0))


def _squares(images: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """Mean squared differences of all pairs, up to rounding: `[n, m]`."""
    norms = (images**2).sum(axis=1)[:, None] + (truths**2).sum(axis=1)
    return (norms - 2.0 * images @ truths.T) / images.shape[1]


@dataclass(frozen=True)
class Reads:
    """Examples that were read exactly: every feature within a tolerance far below a step of the grid.

    Attributes:
        targets: number of releases, each attacked separately.
        exact: number of releases whose best-ranked reading is one of their examples.
        distinct: number of different examples that some reading gives exactly, over all releases.
        examples: number of examples, over all releases.
        readings: number of readings of all ranks, over all releases.
        sure: number of readings that the attack was sure of.
        wrong: number of those that are not an example.
        chance: fraction of other clients' examples that would have counted as exact if guessed.
        quoted: number of examples guessed for `chance`.
        tolerance: largest error of a feature.
    """

    targets: int
    exact: int
    distinct: int
    examples: int
    readings: int
    sure: int
    wrong: int
    chance: float
    quoted: int
    tolerance: float

    @property
    def p(self) -> float:
        """Probability of at least this many exact best-ranked readings by guessing others' examples.

        The rate is the observed one with one more success: a rate of 0 in the sample need not be 0.
        """
        chance = min(1.0, (self.chance * self.quoted + 1.0) / (self.quoted + 1.0))
        counts = range(self.exact, self.targets + 1)
        return sum(
            math.comb(self.targets, k) * chance**k * (1.0 - chance) ** (self.targets - k) for k in counts
        )

    @property
    def none(self) -> bool:
        """Whether no more was read than by guessing others' examples as often."""
        return self.exact <= self.targets * self.chance and self.distinct <= self.readings * self.chance

    def statement(self, of: str) -> str:
        """The result as text; `of` is what was attacked, such as "releases"."""
        words = f"The best-ranked reading is an example, exactly, in {self.exact} of {self.targets} {of}"
        if self.exact:
            words += f" (by chance {self.targets * self.chance:.2g}, p {self.p:.2g})"
        if self.examples > self.targets:
            words += (
                f"; {self.distinct} of the {self.examples} examples in them are among all "
                f"{self.readings} readings"
            )
        return f"{words}."
