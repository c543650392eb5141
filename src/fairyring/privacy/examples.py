"""Privacy of single examples: what training by noisy clipped gradients spends of them, by how batches are made.

DP-SGD (Abadi and others 2016): in a step, the gradient of each example in the batch is clipped, the clipped ones are
added, and Gaussian noise is added to the sum. `noise multiplier` is the standard deviation of that noise over the clip
norm. What is accounted for is all sums of all steps, each step depending on those before; a model made of them tells no
more. The unit is one example: a person with several in one data set, or in several, is not covered as a whole.
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
    """Each example is in each step's batch with probability `rate`, by its own coin, which nobody else sees.

    Batches differ in size, and may be empty: a step without an example releases its noise all the same, and the sum is
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
        """As an accountant takes it."""
        return PoissonSampled(self.rate)


@dataclass(frozen=True)
class DrawnBatches:
    """Each step's batch is `size` of `examples`, every such set equally likely, each step anew, and nobody sees which."""

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
        """As an accountant takes it."""
        return FixedSize(self.size, self.examples)


@dataclass(frozen=True)
class ShuffledBatches:
    """Examples are put in an order, cut into `steps_per_epoch` batches, and each is in one of them an epoch.

    No amplification is claimed, whether or not the order is a secret: that it is random is worth next to nothing where
    the noise is small, and Poisson sampling's figure would be too little by as much as one likes (Chua and others 2024,
    "How private are DP-SGD implementations?").
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
        """As an accountant takes it: once in each epoch that was begun."""
        return AtMost(-(-steps // self.steps_per_epoch))


Batches = PoissonBatches | DrawnBatches | ShuffledBatches


def spent(counts: Mapping[float, int], *, delta: float, batches: Batches) -> Spent:
    """What so many steps at each noise multiplier spend together of one example.

    With shuffled batches an epoch that was begun counts whole, and one ends before the next begins. A client that puts
    its examples in a new order every round, and leaves off in the middle of it, begins more epochs than its steps tell:
    give it `steps_per_epoch` times the epochs that it began.

    Args:
        counts: steps of each noise multiplier.
        delta: in `(0, 1)`; well below one over the number of examples.
        batches: how they were made.

    Raises:
        PlanError: an argument is out of range.
        MissingExtra: dp-accounting is not installed.
    """
    _check(batches)
    releases: dict[OfRound, int] = {Release("gaussian", z): n for z, n in counts.items()}
    steps = sum(_checks.counts(releases).values())
    found = Accountant(batches.taking_part(max(1, steps)), delta).spent(releases)
    return replace(found, unit="example", relation=batches.relation, sampling=batches.sampling)


def epsilon(noise_multiplier: float, *, steps: int, delta: float, batches: Batches) -> Spent:
    """What so many equal steps spend of one example.

    Args:
        noise_multiplier: standard deviation of the noise in the sum of clipped gradients, over the clip norm.
        steps: how many.
        delta: in `(0, 1)`.
        batches: how they are made.

    Raises:
        PlanError: an argument is out of range.
        MissingExtra: dp-accounting is not installed.
    """
    _checks.rounds(steps)
    return spent({noise_multiplier: steps}, delta=delta, batches=batches)


def calibrate(
    *, epsilon: float, delta: float, steps: int, batches: Batches, precision: float = 1e-4
) -> float:
    """The least noise multiplier, to a relative precision and rounded up, at which so many steps fit a budget.

    Args:
        epsilon: of the budget, finite.
        delta: of the budget, in `(0, 1)`.
        steps: how many.
        batches: how they are made.
        precision: relative, of the result.

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
    """Refuse batches that nobody can make."""
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
                expected="whole numbers, at least 1 and no more than there are",
                do="Draw fewer examples.",
            )
    elif not _whole(batches.steps_per_epoch):
        raise PlanError(
            "ShuffledBatches.steps_per_epoch",
            given=batches.steps_per_epoch,
            expected="a whole number from 1",
            do="Give the number of batches an epoch is cut into.",
        )


def _whole(value: float) -> bool:
    return math.isfinite(value) and float(value).is_integer() and value >= 1
