"""What every run gives, in memory or loaded from its folder: its model, earlier ones, and its records as a table."""

import os
from abc import ABC, abstractmethod
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from fairyring.core.errors import RunError
from fairyring.core.rounding import at_most
from fairyring.records.round_record import Means, RoundRecord, table
from fairyring.rounds.keeping import best_round, value_of
from fairyring.runs.model import TrainedModel

Tree = Any


class Results(ABC):
    """The results of a run.

    Attributes:
        records: a record for each round, as in the run folder's metrics.jsonl.
        header: what run.json holds: seed, versions, machine, status, what was assumed.
        folder: the run folder, if there is one.
    """

    records: list[RoundRecord]
    header: dict[str, Any]
    folder: Path | None

    @abstractmethod
    def at(self, round: int) -> TrainedModel:
        """The model after a round: the last one, or one that was kept (`simulate(keep=)`).

        Raises:
            RunError: it was not kept; the error says which were.
        """

    @abstractmethod
    def kept(self) -> list[int]:
        """The rounds whose models are here, ascending."""

    @abstractmethod
    def model(self) -> TrainedModel:
        """The last model."""

    @property
    @abstractmethod
    def task_name(self) -> str:
        """The name of the plan's task."""

    @property
    @abstractmethod
    def higher_is_better(self) -> dict[str, bool]:
        """For ``"loss"`` and each metric, whether a larger value is the better one."""

    @property
    def last_test(self) -> Means | None:
        """Means of the last evaluation on the test population, if there is one."""
        return next((record.test for record in reversed(self.records) if record.test is not None), None)

    @property
    def params(self) -> Tree:
        """The trained parameters."""
        return self.model().params

    @property
    def whole_params(self) -> Tree:
        """All parameters of the last model; see `TrainedModel.whole_params`."""
        return self.model().whole_params

    @property
    def rounds(self) -> int:
        """How many rounds were run."""
        return len(self.records)

    def best(self, metric: str = "loss") -> TrainedModel:
        """The model that served the test population best.

        Args:
            metric: ``"loss"``, or a metric of the task.

        Raises:
            RunError: nothing was evaluated; or that model was not kept. `simulate(keep="best")` keeps the best by loss, or by the metric of
                its `stop`; `keep="all"` keeps the models of all evaluations.
        """
        tests = [record for record in self.records if record.test is not None]
        names = ["loss", *(tests[-1].test.metrics if tests and tests[-1].test else ())]
        if tests and metric not in names:
            raise RunError(
                "best model", given=f"by {metric!r}", expected=f"one of {names}", do="Choose by one of these."
            )
        round = best_round(tests, metric, self.higher_is_better)
        if round is None:
            raise RunError(
                "best model",
                given="a run without a finite evaluation",
                expected="evaluations that tell which model is the best",
                do="Run with test=.",
            )
        if round in self.kept():
            return self.at(round)
        value = value_of(next(r.test for r in tests if r.round == round and r.test is not None), metric)
        raise RunError(
            "best model",
            given=f"{metric} {value:.4g} after round {round}, whose model was not kept",
            expected=f"one of the rounds {', '.join(map(str, self.kept())) or '(none)'}",
            do='Run with keep="all", or with keep="best" and, for a metric, stop=fr.EarlyStopping(metric=...).',
        )

    def predict(self, x: Any) -> Tree:
        """The last model's outputs for inputs as the population has them; see `TrainedModel.predict`."""
        return self.model().predict(x)

    def export(self, path: str | os.PathLike[str], *, to: str | None = None, rows: int = 1) -> Path:
        """Write the last model as a file for other software; see `TrainedModel.export`."""
        return self.model().export(path, to=to, rows=rows)

    def state_dict(self) -> Any:
        """The last model as PyTorch's state dict; see `TrainedModel.state_dict`."""
        return self.model().state_dict()

    def into(self, module: Any) -> Any:
        """Load the last model into a module, model or estimator of its framework, in place, and return it; see `TrainedModel.into`."""
        return self.model().into(module)

    def table(self) -> dict[str, np.ndarray]:
        """The records as columns, an array `[rounds]` each, for plots and data frames: `pandas.DataFrame(run.table())`.

        `loss` and `metrics.accuracy` are of training, `test.loss` and `test.metrics.accuracy` of evaluations, and so on: fields
        of fields and metrics are named with dots. What was not recorded of a round is NaN, False or an empty string.
        """
        return table(self.records)

    def __repr__(self) -> str:
        parts = [f"{self.rounds} round{'s' * (self.rounds != 1)} of {self.task_name}"]
        if self.last_test is not None:
            parts.append(f"{self.last_test} on test clients")
        elif self.records:
            parts.append(f"{self.records[-1].training} in training")
        spent = (self.header.get("privacy") or {}).get("spent")
        parts += [f"epsilon {at_most(spent)}"] if spent is not None else []
        rounds = self.kept()
        if not rounds or rounds[-1] < self.rounds:  # it was stopped between two checkpoints
            parts.append(f"with the model after round {rounds[-1]}" if rounds else "without a model yet")
        parts += [f"in {self.folder}"] if self.folder is not None else []
        return f"<Run: {', '.join(parts)}>"

    def _repr_html_(self) -> str:
        """For notebooks: the means of training and test at the end, as a table."""
        rows = {"training": self.records[-1].training} if self.records else {}
        rows |= {"test": self.last_test} if self.last_test is not None else {}
        names = list(dict.fromkeys(name for means in rows.values() for name in ("loss", *means.metrics)))
        head = "".join(f"<th>{escape(name)}</th>" for name in names)
        body = "".join(
            f"<tr><th>{what}</th>"
            + "".join(f"<td>{_shown({'loss': means.loss, **means.metrics}.get(name))}</td>" for name in names)
            + "</tr>"
            for what, means in rows.items()
        )
        return f"<p>{escape(repr(self)[1:-1])}</p><table><tr><th></th>{head}</tr>{body}</table>"


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
