"""What a client does with its examples in one round, and the shapes in which that is compiled."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import optax

from fairyring.aggregation.contract import Stage
from fairyring.core.checks import whole_number
from fairyring.core.errors import PlanError, refuse_unknown
from fairyring.learning.optimizers import check_function_of_round

Optimizer = optax.GradientTransformation
OptimizerOfRound = Callable[..., Optimizer]


@dataclass(frozen=True)
class LocalTraining:
    """Local training on the client's own examples. The optimiser starts afresh in every round.

    Args:
        optimizer: any optax optimiser; or a function from the round's number (int32 scalar, 1 for the first) to
            one, such as ``lambda r: optax.sgd(0.1 * 0.99**r)``. A schedule inside the optimiser counts local steps.
        epochs: number of passes over the client's examples; 1 if neither `epochs` nor `steps` is given.
        steps: instead of `epochs`, a fixed number of steps, whatever the client's size. Batches wrap around.
        batch_size: number of examples in a step. A client's last batch of an epoch holds the remaining examples.
        shuffle: use a new random order in each epoch (with `steps`, in each round).
        examples: the stages that each example's gradient goes through, such as ``fr.chain(fr.clip(1.0), fr.gaussian_noise())``,
            for a plan whose budget has the unit `"example"`. There is then noise in every step. The sum of a step is divided by
            `batch_size`, whatever the size of the batch, so larger clients move further. A column `weight` counts if the first
            stage is `fr.weight_by_examples(bound=...)`.
        rate: with `examples` and `steps`, the probability with which each example is in each step's batch, independently. Set
            `batch_size` to about the expected batch of the largest client.
        importance: the column whose sum over a client's examples is how much the client counts in a mean over clients
            (`weight_by_examples`). By default that is the column `weight`, which also weights the examples in the loss, or the
            number of examples if there is no such column. The same holds with `epochs` and with `steps`.

    Raises:
        PlanError: a field is unknown or out of range, or the fields do not fit together.
    """

    optimizer: Optimizer | OptimizerOfRound
    epochs: int | None = None
    steps: int | None = None
    batch_size: int = 10
    shuffle: bool = True
    examples: Stage | None = None
    rate: float | None = None
    importance: str | None = None

    def __new__(cls, *args: object, **fields: object) -> "LocalTraining":
        refuse_unknown("LocalTraining", fields, cls.__dataclass_fields__)
        return object.__new__(cls)

    def __post_init__(self) -> None:
        if self.epochs is None and self.steps is None:
            object.__setattr__(self, "epochs", 1)
        if self.epochs is not None and self.steps is not None:
            raise PlanError(
                "LocalTraining",
                given=f"epochs={self.epochs} and steps={self.steps}",
                expected="one of the two",
                do="Give epochs for passes over each client's examples, or steps for a fixed number of steps.",
            )
        for name in ("epochs", "steps", "batch_size"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, whole_number(f"LocalTraining {name}", value))
        self._check_examples()
        if not isinstance(self.optimizer, optax.GradientTransformation) and not callable(self.optimizer):
            raise PlanError(
                "LocalTraining optimizer",
                given=type(self.optimizer).__name__,
                expected="an optax optimiser, or a function from the round to one",
                do="Try optax.sgd(0.1).",
            )
        if not isinstance(self.optimizer, optax.GradientTransformation):
            check_function_of_round(self.optimizer)

    def _check_examples(self) -> None:
        """Raise `PlanError` unless noisy steps have batches that are accounted for: Poisson samples, or whole epochs."""
        if self.examples is not None and not isinstance(self.examples, Stage):
            raise PlanError(
                "LocalTraining examples",
                given=repr(self.examples)[:80],
                expected="stages, such as fr.chain(fr.clip(1.0), fr.gaussian_noise())",
                do="Give the stages that each example's gradient goes through, or leave it out.",
            )
        if self.importance is not None and (not isinstance(self.importance, str) or not self.importance):
            raise PlanError(
                "LocalTraining importance",
                given=repr(self.importance)[:80],
                expected="the name of a column",
                do='Set importance="importance", and give the population such a column.',
            )
        if self.importance is not None and self.examples is not None:
            raise PlanError(
                "LocalTraining importance",
                given=f"the column {self.importance!r}, and noise that protects examples",
                expected="one of the two: a sum over a client's examples would leave it without noise",
                do="Leave importance= out: every client counts once.",
            )
        if self.rate is not None:
            number = isinstance(self.rate, int | float) and not isinstance(self.rate, bool)
            if not number or not 0 < self.rate <= 1:
                raise PlanError(
                    "LocalTraining rate",
                    given=repr(self.rate),
                    expected="a number in (0, 1]",
                    do="Try 0.1: a tenth of the examples in each step.",
                )
        if (self.rate is not None) != (self.examples is not None and self.steps is not None):
            raise PlanError(
                "LocalTraining rate",
                given="no rate, with a fixed number of noisy steps"
                if self.rate is None
                else f"{self.rate}"
                + (", with epochs" if self.steps is None else ", without stages for examples"),
                expected="rate and steps together, with stages for examples; or epochs, and no rate",
                do="Give examples=, steps= and rate= for Poisson batches, or epochs= for batches of a shuffled order.",
            )

    def optimizer_of(self, round: object) -> Optimizer:
        """The optimiser of a round (int32 scalar, from 1)."""
        if isinstance(self.optimizer, optax.GradientTransformation):
            return self.optimizer
        return self.optimizer(round)


@dataclass(frozen=True)
class Workload:
    """The shapes in which local training is compiled: one program for all clients of a population.

    Full batches run in a loop that is as long as the client needs, so they waste nothing. The last partial batch of an epoch
    runs in the smallest of a few capacities that holds it.

    Attributes:
        longest: number of examples of the largest client.
        smallest: number of examples of the smallest client that has any.
        tails: capacities for the last partial batch of an epoch, ascending; empty if no client has one.
        unroll: batches in a loop iteration: full batches of an epoch, or batches of a fixed number of steps.
        even: whether every client's number of full batches is a multiple of `unroll`.
    """

    longest: int
    smallest: int
    tails: tuple[int, ...]
    unroll: int = 1
    even: bool = True

    @classmethod
    def of(cls, sizes: np.ndarray, local: LocalTraining, *, unroll: int = 1) -> "Workload":
        """The shapes for clients with these numbers of examples.

        Args:
            sizes: number of examples of each client, `[clients]`; at least one is above 0.
            local: the plan's local training.
            unroll: the most full batches in a loop iteration.
        """
        sizes = np.unique(sizes[sizes > 0])
        longest, smallest = int(sizes[-1]), int(sizes[0])
        if local.steps is not None:
            width = next(u for u in range(min(unroll, local.steps), 0, -1) if local.steps % u == 0)
            return cls(longest, smallest, _tails(sizes % local.batch_size), width, True)
        full = np.unique(sizes // local.batch_size)
        if full[-1] == 0:
            return cls(longest, smallest, _tails(sizes % local.batch_size))
        width = next((u for u in range(unroll, 1, -1) if not np.any(full % u)), 0)
        if not width:
            width = max(1, min(unroll, int(np.median(full)) // 2))
        return cls(longest, smallest, _tails(sizes % local.batch_size), width, not np.any(full % width))

    @cached_property
    def orders(self) -> tuple[int, ...]:
        """The lengths at which an order of examples is shuffled: ascending, by factors of four."""
        lengths = [self.longest]
        while lengths[-1] > 256:
            lengths.append(-(-lengths[-1] // 4))
        return tuple(reversed(lengths))

    def usual_steps(self, local: LocalTraining) -> int:
        """How many steps a client takes whose size is between those of the smallest and the largest one."""
        if local.steps is not None:
            return local.steps
        return (local.epochs or 1) * -(-(self.smallest + self.longest) // (2 * local.batch_size))

    def padding(self, sizes: np.ndarray, local: LocalTraining) -> float:
        """The number of computed rows that hold no example, divided by the number of examples."""
        sizes = sizes[sizes > 0]
        if local.steps is not None:
            return 0.0
        remainders = sizes % local.batch_size
        capacity = np.array((0, *self.tails))
        wasted = capacity[np.searchsorted(capacity, remainders)] - remainders
        return float(wasted.sum() / sizes.sum())


def _tails(remainders: np.ndarray, maximum: int = 4, tolerated: float = 0.5) -> tuple[int, ...]:
    """The fewest capacities that waste at most `tolerated` rows per epoch, on average over the `remainders` above 0.

    There are at most `maximum` of them, even if they waste more.

    Each capacity is one more copy of the training step to compile, so few are better. This is an exact dynamic programme
    over the distinct remainders (over 128 of them, if there are more): the best `k` capacities end at the largest remainder.
    """
    remainders = remainders[remainders > 0]
    values = np.unique(remainders)
    if len(values) == 0:
        return ()
    if len(values) > 128:
        values = np.unique(values[np.linspace(0, len(values) - 1, 128).astype(int)])
    capacity = values[np.searchsorted(values, remainders)]
    count = np.array([(capacity == v).sum() for v in values])
    best = np.array([int((values[j] - values[: j + 1]) @ count[: j + 1]) for j in range(len(values))], float)
    chosen: list[list[int]] = [[int(v)] for v in values]
    for _ in range(maximum - 1):
        if best[-1] <= tolerated * count.sum():
            break
        fresh, picks = best.copy(), list(chosen)
        for j in range(1, len(values)):
            for i in range(j):
                cost = best[i] + int((values[j] - values[i + 1 : j + 1]) @ count[i + 1 : j + 1])
                if cost < fresh[j]:
                    fresh[j], picks[j] = cost, [*chosen[i], int(values[j])]
        best, chosen = fresh, picks
    return tuple(chosen[-1])
