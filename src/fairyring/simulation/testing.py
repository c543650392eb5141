"""The populations that a run is tested on: one, or several with names."""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from fairyring.core.errors import PlanError
from fairyring.evaluation import Evaluation, Evaluator
from fairyring.lowering import Hardware
from fairyring.population import Population
from fairyring.records.round_record import Means
from fairyring.task import RowsChecked, Task

TestPopulations = Population | Mapping[str, Population]
"""One, or several by name: by the first of them a run stops early, and tells which model is the best."""


class Tests:
    """Evaluates models on the test populations of a run.

    Args:
        test: one, or several by name.
        task: gives the loss and the metrics.
        hardware: computes them.

    Attributes:
        evaluations: by name, what the last call measured; of a single population without a name, under `test`.

    Raises:
        PlanError: it is something else.
    """

    def __init__(self, test: TestPopulations, task: Task, hardware: Hardware) -> None:
        self.named = not isinstance(test, Population)
        self.populations = _named(test)
        self.evaluators = {name: Evaluator(task, one, hardware) for name, one in self.populations.items()}
        self.evaluations: dict[str, Evaluation] = {}

    @property
    def rows_checked(self) -> dict[str, RowsChecked]:
        """How much of each was checked."""
        return {name: one.rows_checked for name, one in self.evaluators.items()}

    def fingerprint(self) -> str:
        """Of the data of all of them, 64 hexadecimal digits."""
        prints = {name: one.fingerprint() for name, one in self.populations.items()}
        if not self.named:
            return prints["test"]
        return hashlib.sha256(msgspec.json.encode(prints)).hexdigest()

    def describe(self) -> dict[str, Any]:
        """The first in numbers, and if they have names all of them under `tests`."""
        each = {name: one.describe() for name, one in self.populations.items()}
        first = next(iter(each.values()))
        return {"test": first, "tests": each} if self.named else {"test": first}

    def begin(self, params: Any) -> None:
        """Begin to compile what evaluates models like this one."""
        for evaluator in self.evaluators.values():
            evaluator.begin(params)

    def __call__(self, params: Any) -> Means:
        """Evaluate a model; returns the means on the first."""
        self.evaluations = {name: evaluator(params) for name, evaluator in self.evaluators.items()}
        return self.first.means

    @property
    def first(self) -> Evaluation:
        """What the last call measured on the first."""
        return next(iter(self.evaluations.values()))

    def means(self) -> dict[str, Means] | None:
        """What the last call measured on each of several with names; None if there is one without."""
        return {name: one.means for name, one in self.evaluations.items()} if self.named else None

    def by_client(self) -> dict[str, np.ndarray]:
        """What the last call measured for each client, as the run folder has it."""
        arrays = self.first.by_client() if self.evaluations else {}
        if self.named:
            for name, one in self.evaluations.items():
                arrays |= {f"tests.{name}{key.removeprefix('test')}": v for key, v in one.by_client().items()}
        return arrays


def _named(test: object) -> dict[str, Population]:
    """Populations by name.

    Raises:
        PlanError: it is something else.
    """
    named = {"test": test} if isinstance(test, Population) else test
    pairs = named.items() if isinstance(named, Mapping) else ()
    if pairs and all(isinstance(name, str) and isinstance(one, Population) for name, one in pairs):
        return dict(pairs)
    raise PlanError(
        "test",
        given=repr(test)[:80],
        expected="a population to evaluate on, or several by name",
        do='Give test=population, or test={"clinic A": one, "clinic B": another}.',
    )
