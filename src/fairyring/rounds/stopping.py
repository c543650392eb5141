"""Early stopping: a run ends when its evaluations no longer get better."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fairyring.core.checks import number_in, whole_number
from fairyring.core.errors import PlanError
from fairyring.records.round_record import Means, higher_is_better


@dataclass(frozen=True)
class EarlyStopping:
    """Stop when `metric` on the test population has not improved for `patience` evaluations.

    Args:
        metric: ``"loss"``, which is the task's loss, or a metric of the task. Whether more of it is better is what the metric
            says (`Metric.higher_is_better`). If it does not say, more is better unless the name is that of an error: it ends with
            loss, error, mse, mae, rmse or perplexity.
        patience: evaluations without improvement before stopping.
        by: the smallest change that counts as improvement.
        target: stop as soon as the metric reaches this value; None for no such value.
    """

    metric: str = "loss"
    patience: int = 5
    by: float = 0.0
    target: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "patience", whole_number("early stopping patience", self.patience))
        if not isinstance(self.metric, str):
            raise PlanError(
                "early stopping metric",
                given=repr(self.metric)[:80],
                expected='"loss", or the name of a metric of the task',
                do='Set metric="loss".',
            )
        for name in ("by", "target"):
            value = getattr(self, name)
            if value is not None or name == "by":
                low, high = (0.0, math.inf) if name == "by" else (-math.inf, math.inf)
                expected = "a number of at least 0" if name == "by" else "a number"
                do = "Leave it out, or give such a number."
                number_in(f"early stopping {name}", value, low, high, expected=expected, do=do)

    def value(self, evaluation: Means) -> float:
        """What is judged of an evaluation."""
        return evaluation.loss if self.metric == "loss" else evaluation.metrics[self.metric]

    def judge(self, evaluations: Sequence[Means], declared: Mapping[str, bool] | None = None) -> bool:
        """Whether to stop.

        Args:
            evaluations: every evaluation so far.
            declared: by the name of a metric, whether a larger value is the better one; the name decides of any other.
        """
        sign = -1.0 if higher_is_better(self.metric, declared) else 1.0
        history = [self.value(one) for one in evaluations]
        if history and self.target is not None and sign * history[-1] <= sign * self.target:
            return True
        best, waited = math.inf, 0
        for value in history:
            if sign * value < best - self.by:
                best, waited = sign * value, 0
            else:
                waited += 1
        return waited >= self.patience
