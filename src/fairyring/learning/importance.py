"""The column of a population that says how much a client counts, if it is not `weight`."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from fairyring.task import Column, Task


def with_importance(task: Task, name: str | None) -> Task:
    """A task that also reads this column, where a population has it, and checks it; the task itself if it reads the column already.

    Args:
        task: what is learned.
        name: of the column; None for none. Populations to evaluate on need not have it.
    """
    if name is None or name in (*task.columns, *task.optional):
        return task

    def check(columns: Mapping[str, Column], outputs: Callable[[], Any]) -> None:
        column = columns.get(name)
        if column is not None:
            column.require_shape((), do="Give one number per example: a client counts as much as their sum.")
            column.require(
                lambda values: np.isfinite(values) & (values >= 0),
                expected="finite numbers of at least 0",
                do="Correct the column; a client whose numbers are all 0 does not count.",
            )

    return replace(task, optional=(*task.optional, name), data_checks=(*task.data_checks, check))
