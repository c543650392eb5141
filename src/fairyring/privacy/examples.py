"""Privacy of single examples: what training with noisy clipped gradients spends, by the way batches are sampled.

DP-SGD (Abadi et al. 2016): in each step, the gradient of each example in the batch is clipped, the clipped gradients are
added, and Gaussian noise is added to the sum. `noise multiplier` is the standard deviation of that noise relative to the
clip norm. The accounting covers the sums of all steps, each of which may depend on the earlier ones; a model computed from
them reveals no more. The unit is one example: a person with several is not covered as a whole.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from fairyring.core.errors import PlanError
from fairyring.privacy import _checks, accounting
from fairyring.privacy.accounting import Accountant, Spent
from fairyring.privacy.participation import AtMost, FixedSize, PoissonSampled, relation_in, sampling_in
from fairyring.privacy.release import OfRound, Release


@dataclass(frozen=True)
class PoissonBatches:
    """Poisson sampling: each example is in each step's batch independently with probability `rate`, unseen by anyone.

    Batches differ in size and may be empty. A step with an empty batch releases noise like any other, and the sum is
    divided by a number that does not depend on the batch.
    """

    rate: float

    @property
    def sampling(self) -> str:
        return sampling_in(PoissonSampled(self.rate), 1, "example")

    @property
    def relation(self) -> str:
        return relation_in(PoissonSampled(self.rate), "example")

    def taking_part(self, steps: int) -> PoissonSampled:
        """The equivalent participation for an accountant."""
        return PoissonSampled(self.rate)


@dataclass(frozen=True)
class DrawnBatches:
    """Sampling without replacement: each step's batch is a fresh uniform draw of `size` of `examples`, unseen by anyone."""

    size: int
    examples: int

    @property
    def sampling(self) -> str:
        return (
            f"{self.size} of {self.examples} examples drawn without replacement in each step, which nobody who sees "
            "the releases can observe"
        )

    @property
    def relation(self) -> str:
        return "replace one example"

    def taking_part(self, steps: int) -> FixedSize:
        """The equivalent participation for an accountant."""
        return FixedSize(self.size, self.examples)


@dataclass(frozen=True)
class ShuffledBatches:
    """Shuffled batches: examples are ordered and cut into `steps_per_epoch` batches, so each is in one batch per epoch.

    No amplification is claimed, even if the order is random and secret. Shuffling is worth next to nothing if the noise is
    small, and the epsilon of Poisson sampling could be too small by any factor (Chua et al. 2024, "How private are DP-SGD
    implementations?").
    """

    steps_per_epoch: int

    @property
    def sampling(self) -> str:
        return (
            f"no amplification by sampling: an example is in one of the {self.steps_per_epoch} batches of an epoch, and "
            "anybody may know in which"
        )

    @property
    def relation(self) -> str:
        return "one example replaced by none (zero-out)"

    def taking_part(self, steps: int) -> AtMost:
        """The equivalent participation for an accountant: once in each epoch that was started."""
        return AtMost(-(-steps // self.steps_per_epoch))


Batches = PoissonBatches | DrawnBatches | ShuffledBatches


def spent(counts: Mapping[float, int], *, delta: float, batches: Batches) -> Spent:
    """What so many steps at each noise multiplier spend together, for one example.

    With shuffled batches, a started epoch counts as a whole, and epochs must not overlap. A client that reshuffles every
    round and stops in the middle of an epoch starts more epochs than its steps suggest: count `steps_per_epoch` steps for
    each epoch it started.

    Args:
        counts: number of steps by noise multiplier.
        delta: in `(0, 1)`; well below one over the number of examples.
        batches: how batches were sampled.

    Raises:
        PlanError: an argument is out of range.
        MissingExtra: dp-accounting is not installed.
    """
    _check(batches)
    releases: dict[OfRound, int] = {Release("gaussian", z): n for z, n in counts.items()}
    steps = sum(_checks.counts(releases).values())
    spent = Accountant(batches.taking_part(max(1, steps)), delta).spent(releases)
    return replace(spent, unit="example", relation=batches.relation, sampling=batches.sampling)


def epsilon(noise_multiplier: float, *, steps: int, delta: float, batches: Batches) -> Spent:
    """What so many equal steps spend, for one example.

    Args:
        noise_multiplier: standard deviation of the noise in the sum of clipped gradients, relative to the clip norm.
        steps: number of steps.
        delta: in `(0, 1)`.
        batches: how batches are sampled.

    Raises:
        PlanError: an argument is out of range.
        MissingExtra: dp-accounting is not installed.
    """
    _checks.rounds(steps)
    return spent({noise_multiplier: steps}, delta=delta, batches=batches)


def calibrate(
    *, epsilon: float, delta: float, steps: int, batches: Batches, precision: float = 1e-4
) -> float:
    """The smallest noise multiplier, to a relative precision and rounded up, at which so many steps fit a budget.

    Args:
        epsilon: epsilon of the budget, finite.
        delta: delta of the budget, in `(0, 1)`.
        steps: number of steps.
        batches: how batches are sampled.
        precision: relative precision of the result.

    Raises:
        PlanError: an argument is out of range, or no noise is enough.
        MissingExtra: dp-accounting is not installed.
    """
    _check(batches)
    _checks.rounds(steps)
    return accounting.calibrate(
        epsilon=epsilon,
        delta=delta,
        rounds=steps,
        participation=batches.taking_part(steps),
        precision=precision,
    )


def _check(batches: Batches) -> None:
    """Refuse batches that are impossible."""
    if isinstance(batches, PoissonBatches):
        if not 0 < batches.rate <= 1:
            raise PlanError(
                "PoissonBatches.rate",
                given=batches.rate,
                expected="in (0, 1]",
                do="Give batch size / examples.",
            )
    elif isinstance(batches, DrawnBatches):
        if not (_whole(batches.size) and _whole(batches.examples) and batches.size <= batches.examples):
            raise PlanError(
                "DrawnBatches",
                given=f"{batches.size} of {batches.examples} examples",
                expected="whole numbers, at least 1 and at most the examples",
                do="Draw fewer examples.",
            )
    elif not _whole(batches.steps_per_epoch):
        raise PlanError(
            "ShuffledBatches.steps_per_epoch",
            given=batches.steps_per_epoch,
            expected="a whole number from 1",
            do="Give the number of batches in an epoch.",
        )


def _whole(value: float) -> bool:
    return math.isfinite(value) and float(value).is_integer() and value >= 1
