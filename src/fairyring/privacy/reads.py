"""What was read of examples, and what one who has seen no update would have got: exact reads and the fairest guess."""

import math
from dataclasses import dataclass

import numpy as np

from fairyring.core.errors import PlanError
from fairyring.privacy.reconstruction import blind


def best_guess(images: np.ndarray, cohort: int, *, seed: int = 0) -> np.ndarray:
    """The best single guess of who is judged by the nearest of so many examples, and has seen others only: float32 `[...]`.

    Of the mean of images and a hundred of them, whichever comes nearest to the nearest of `cohort` of the rest, on
    average over draws. Against one example that is the mean; against many, a common example comes nearer.

    Args:
        images: of others, `[n, ...]`.
        cohort: how many examples the guess is judged against.
        seed: of the draws.

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
    """Of each of `n` readings, the truth that it comes nearest to.

    Attributes:
        index: which, `[n]`.
        mse: mean squared error, `[n]`.
        largest: the largest error of a feature, `[n]`.
    """

    index: np.ndarray
    mse: np.ndarray
    largest: np.ndarray


def nearest(images: np.ndarray, truths: np.ndarray) -> Nearest:
    """The nearest by mean squared error of truths `[m, ...]` to each of images `[n, ...]`.

    Raises:
        PlanError: the shapes do not fit, or there are no truths.
    """
    images, truths = np.asarray(images, np.float64), np.asarray(truths, np.float64)
    if images.shape[1:] != truths.shape[1:] or not len(truths):
        raise PlanError(
            "reconstructions",
            given=f"shape {images.shape}, for truths of shape {truths.shape}",
            expected="[n, ...] and [m, ...], with m >= 1",
            do="Reshape both to the same images.",
        )
    flat, sought = images.reshape(len(images), -1), truths.reshape(len(truths), -1)
    index = np.zeros(len(flat), np.int64)
    for start in range(0, len(flat), 256):
        index[start : start + 256] = _squares(flat[start : start + 256], sought).argmin(axis=1)
    off = np.abs(flat - sought[index])
    return Nearest(index, (off**2).mean(axis=1), off.max(axis=1, initial=0.0))


def _squares(images: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """Mean squared differences of all pairs, up to rounding: `[n, m]`."""
    norms = (images**2).sum(axis=1)[:, None] + (truths**2).sum(axis=1)
    return (norms - 2.0 * images @ truths.T) / images.shape[1]


@dataclass(frozen=True)
class Reads:
    """Examples that were read exactly: every feature within a tolerance far below a step of the values they have.

    Attributes:
        targets: releases, each attacked by itself.
        exact: of how many of them the best-ranked reading is an example that is in it.
        distinct: different examples that any reading of a release gives exactly, over all releases.
        examples: how many there were, over all releases.
        readings: how many readings, of all ranks, over all releases.
        sure: of how many of those the attack was sure.
        wrong: how many of those it was sure of are no example.
        chance: the share of other clients' examples that, quoted as a reading, would have counted as exact.
        quoted: of how many.
        tolerance: see above.
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
        """The chance of so many or more exact best-ranked readings by quoting others' examples.

        By the share that was seen, and one more: a chance that was never seen is not none.
        """
        share = min(1.0, (self.chance * self.quoted + 1.0) / (self.quoted + 1.0))
        counts = range(self.exact, self.targets + 1)
        return sum(
            math.comb(self.targets, k) * share**k * (1.0 - share) ** (self.targets - k) for k in counts
        )

    @property
    def none(self) -> bool:
        """Whether no more was read than by quoting others' examples as often."""
        return self.exact <= self.targets * self.chance and self.distinct <= self.readings * self.chance

    def statement(self, of: str) -> str:
        """In words; `of` is what was attacked, such as "releases"."""
        words = f"The best-ranked reading is an example, exactly, in {self.exact} of {self.targets} {of}"
        if self.exact:
            words += f" (by chance {self.targets * self.chance:.2g}, p {self.p:.2g})"
        if self.examples > self.targets:
            words += (
                f"; {self.distinct} of the {self.examples} examples in them are among all "
                f"{self.readings} readings"
            )
        return f"{words}."
