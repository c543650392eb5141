"""Which of a run's models are kept, beside the last one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fairyring.core.errors import PlanError
from fairyring.records.round_record import Means, RoundRecord, higher_is_better

Kept = Literal["best", "all"] | int | None


@dataclass(frozen=True)
class Keeping:
    """Which models are kept, of those in rounds that are followed by an evaluation.

    Attributes:
        last: the last so many; None for all of them.
        best_by: if not None, only the best one by this: ``"loss"``, or a metric on the test population.
        declared: by the name of a metric, whether a larger value is the better one; the name decides of any other.
    """

    last: int | None
    best_by: str | None = None
    declared: Mapping[str, bool] | None = None

    @classmethod
    def of(
        cls, keep: Kept, *, best_by: str, tested: bool, declared: Mapping[str, bool] | None = None
    ) -> "Keeping":
        """What `simulate(keep=)` means.

        Args:
            keep: ``"best"``, ``"all"`` or how many of the last ones; None for none.
            best_by: what tells the best.
            tested: whether there is a test population.
            declared: see above.

        Raises:
            PlanError: it is something else, or nothing tells which model is the best.
        """
        if keep == "all":
            return cls(None)
        if keep == "best":
            if not tested:
                raise PlanError(
                    "keep",
                    given='"best", and no test population',
                    expected="evaluations that tell which model is the best",
                    do='Give test=, or keep="all".',
                )
            return cls(None, best_by, declared)
        whole = isinstance(keep, int | np.integer) and not isinstance(keep, bool)
        if keep is not None and not (whole and keep >= 0):
            raise PlanError(
                "keep",
                given=repr(keep)[:80],
                expected='"best", "all", or how many of the last models: a whole number',
                do='Set keep="best", or leave it out.',
            )
        return cls(int(keep or 0))

    def describe(self) -> dict[str, Any]:
        """As plain values, for run.json."""
        return {"last": self.last, "best_by": self.best_by}

    @classmethod
    def saved(cls, keep: Mapping[str, Any] | None, declared: Mapping[str, bool] | None = None) -> "Keeping":
        """What `describe` said of it; None is nothing."""
        return cls(keep["last"], keep["best_by"], declared) if keep else NONE

    def keeps(self, records: Sequence[RoundRecord]) -> bool:
        """Whether the model after the last of these rounds, which was evaluated, is kept for now."""
        if self.best_by is not None:
            return best_round(records, self.best_by, self.declared) == records[-1].round
        return self.last != 0

    def dropped(self, rounds: Sequence[int], records: Sequence[RoundRecord]) -> list[int]:
        """Of the rounds whose models are there, ascending, those whose model is no longer kept, given the records of all rounds so far."""
        if self.best_by is not None:
            best = best_round(
                [record for record in records if record.round in rounds], self.best_by, self.declared
            )
            return [round for round in rounds if round != best]
        return list(rounds[: -self.last] if self.last else [] if self.last is None else rounds)


NONE = Keeping(0)


def best_round(
    records: Sequence[RoundRecord], metric: str, declared: Mapping[str, bool] | None = None
) -> int | None:
    """The round after which the test population was served best, the first of several; None if there was no finite evaluation.

    Args:
        records: of the rounds to choose from.
        metric: ``"loss"``, or a metric of the task.
        declared: by the name of a metric, whether a larger value is the better one; the name decides of any other.
    """
    sign = -1.0 if higher_is_better(metric, declared) else 1.0
    values = {
        record.round: sign * value_of(record.test, metric) for record in records if record.test is not None
    }
    finite = {round: value for round, value in values.items() if math.isfinite(value)}
    return min(finite, key=lambda round: finite[round]) if finite else None


def value_of(means: Means, metric: str) -> Any:
    """``"loss"`` of means, or a metric."""
    return means.loss if metric == "loss" else means.metrics[metric]
