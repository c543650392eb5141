"""The settings of a grid: their plans, and what they are called."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import optax

from fairyring.aggregation import Stage
from fairyring.core.errors import PlanError
from fairyring.learning import Algorithm, Plan, override
from fairyring.learning.describe import read_optimizer
from fairyring.sweeps.results import short_names

Values = Sequence[object] | Mapping[str, object]


class Setting(NamedTuple):
    """One setting of a grid.

    Attributes:
        name: for people, and for its folder: ``learning_rate=0.1,batch_size=10``.
        labels: by the name of each field that the grid varies, what its value is called.
        plan: with these values.
    """

    name: str
    labels: dict[str, str]
    plan: Plan


def settings_of(make_plan: Plan | Callable[..., Plan], grid: Mapping[str, Values]) -> list[Setting]:
    """All settings of a grid, the last field varying fastest.

    Args:
        make_plan: a plan, whose fields the grid overrides; or a function of the grid's fields that returns one.
        grid: field -> its values, or label -> value for values that have no short name.

    Raises:
        PlanError: the grid is empty, two of its settings have one name, or one has no valid plan.
    """
    values = [_labelled(field, values) for field, values in grid.items()]
    if not all(values) or not values:
        raise PlanError(
            "grid",
            given=dict(grid),
            expected="at least one field, each with at least one value",
            do='Give {"local.optimizer.learning_rate": [0.03, 0.1, 0.3]}, for example.',
        )
    short = short_names(list(grid))
    settings = []
    for chosen in itertools.product(*values):
        labels = {field: label for field, (label, _) in zip(grid, chosen, strict=True)}
        values = {field: value for field, (_, value) in zip(grid, chosen, strict=True)}
        name = ",".join(f"{short[field]}={label}" for field, label in labels.items())
        settings.append(Setting(name, labels, _plan(make_plan, values, name)))
    names = [setting.name for setting in settings]
    for name in names:
        if names.count(name) > 1:
            raise PlanError(
                "grid",
                given=f"two settings named {name}",
                expected="settings with different names",
                do="Name the values: give a mapping of label to value.",
            )
    return settings


def _plan(make_plan: Plan | Callable[..., Plan], values: Mapping[str, object], name: str) -> Plan:
    try:
        plan = override(make_plan, values) if isinstance(make_plan, Plan) else make_plan(**values)
    except PlanError as error:
        error.add_note(f"in the setting {name}")
        raise
    if not isinstance(plan, Plan):
        raise PlanError(
            "make_plan",
            given=f"a function that returned {type(plan).__name__}, for {name}",
            expected="one that returns a plan",
            do="Return fr.Plan(...).",
        )
    return plan


def _labelled(field: str, values: Values) -> list[tuple[str, object]]:
    """Each value of a field with its label.

    Raises:
        PlanError: there is no list of values, or one needs a label.
    """
    if isinstance(values, Mapping):
        return [(str(label), value) for label, value in values.items()]
    if isinstance(values, np.ndarray):
        values = values.tolist()
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise PlanError(
            f"grid, {field}",
            given=repr(values),
            expected="a list of values",
            do="Put the values into a list.",
        )
    return [(_label(field, value), value) for value in values]


def _label(field: str, value: Any) -> str:
    """What a value is called: as it is written, if it is plain, else by its name and numbers."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return f"{value:g}"
    if value is None or isinstance(value, int | str):
        return str(value).lower() if isinstance(value, bool | None) else str(value)
    if isinstance(value, Stage):
        return value.name
    if isinstance(value, Algorithm):
        return _call(field, value.name, dict(value.settings))
    if isinstance(value, optax.GradientTransformation):
        reading = read_optimizer(value)
        ((name, numbers),) = reading.value.items()
        if reading.complete and name != "chain":
            return _call(field, name, numbers)
    raise PlanError(
        f"grid, {field}",
        given=repr(value)[:80],
        expected="values with names: numbers, text, stages, algorithms, or optimisers of optax",
        do="Give a mapping of label to value.",
    )


def _call(field: str, name: str, settings: Mapping[str, Any]) -> str:
    return f"{name}({', '.join(f'{key}={_label(field, value)}' for key, value in settings.items() if value is not None)})"
