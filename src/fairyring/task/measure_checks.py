"""Checks of losses and metrics: they are traced, and nothing is computed."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.interpreters import partial_eval

from fairyring.core.errors import FairyringError, PlanError
from fairyring.task.metric import Measure
from fairyring.task.pooled import PooledMetric, Sparse, finished

EXAMPLES = 3  # rows in the batch for finding shapes; an axis of a model is unlikely to have this length


def check_measure(
    what: str, measure: Measure, weight_bound: float | None, outputs: Any, batch: dict[str, Any]
) -> None:
    """Raise `PlanError` unless a loss or a metric has a value and a weight for each example, and says of its weights what is true.

    Args:
        what: what it is, for the error.
        measure: the function.
        weight_bound: see `fairyring.task.Metric`.
        outputs, batch: of the model and of the population, as shapes and dtypes of `EXAMPLES` examples.
    """
    value, weight = _shapes(what, measure, outputs, batch)
    if value.shape != (EXAMPLES,) or weight.shape != (EXAMPLES,):
        shown = [tuple("B" if n == EXAMPLES else n for n in part.shape) for part in (value, weight)]
        raise PlanError(
            what,
            given=f"value and weight of shapes {shown[0]} and {shown[1]}",
            expected="shapes (B,) and (B,): one number per example",
            do="Take the mean over all axes but the first.",
        )
    field = "loss_weight_bound" if what == "loss" else "weight_bound"
    if weight_bound is not None and not weight_bound > 0:
        raise PlanError(
            f"{what}, {field}",
            given=weight_bound,
            expected="a number above 0: the largest weight, as a multiple of the example's",
            do=f"Set {field}=1.0 if an example counts at most once.",
        )
    if weight_bound is None and _has_own_weights(measure, outputs, batch):
        raise PlanError(
            what,
            given="weights of its own: they are not those of the examples alone, or leave the column `weight` out",
            expected=f"weight_of(batch, B); or {field}=, so that the weights travel with an update, too: a mean over clients would "
            "not be the mean over their examples",
            do=f"Give {field}= the largest weight, as a multiple of the example's: 1.0 if an example counts at most once.",
        )


def _shapes(what: str, function: Callable[..., Any], outputs: Any, batch: dict[str, Any]) -> Any:
    """What a loss or a metric returns, as shapes and dtypes."""
    try:
        return jax.eval_shape(function, outputs, batch)
    except KeyError as error:
        raise PlanError(
            what,
            given=f"a function that reads column {error.args[0]!r}",
            expected=f"one of the task's columns: {', '.join(batch)}",
            do="Give the task the names of the further columns that it reads (columns=).",
        ) from error
    except FairyringError:
        raise
    except Exception as error:  # it is the user's code, and may raise anything
        raise PlanError(
            what,
            given=f"a function that raises {type(error).__name__}: {(str(error).splitlines() or [''])[0]}",
            expected="(outputs, batch) -> numbers, written in jax.numpy: it is compiled, and sees a batch of outputs and columns",
            do="Write it so: `batch` has the columns by name. A metric of scikit-learn is computed from predictions, after the run.",
        ) from error


def check_pooled(what: str, metric: PooledMetric, outputs: Any, batch: dict[str, Any]) -> None:
    """Raise `PlanError` unless a pooled metric has a statistic `[B, k]`, and a value or a table from sums `[..., k]`."""
    statistic = _shapes(what, metric.statistic, outputs, batch)
    sparse = isinstance(statistic, Sparse)
    shapes = {part.shape for part in ((statistic.places, statistic.values) if sparse else (statistic,))}
    shape = shapes.pop()
    if shapes or len(shape) != 2 or shape[0] != EXAMPLES:
        raise PlanError(
            what,
            given=f"a statistic of shape {tuple('B' if n == EXAMPLES else n for n in shape)}",
            expected="shape (B, k): what each example adds to k sums",
            do="Give each example a row of numbers that add.",
        )
    length = statistic.length if sparse else shape[1]
    try:
        found = [finished(metric, np.zeros((*axes, length))).shape for axes in ((), (4, 2))]
    except Exception as error:  # it is the user's code, and may raise anything
        raise PlanError(
            what,
            given=f"a finish that raises {type(error).__name__}: {(str(error).splitlines() or [''])[0]}",
            expected="sums [..., k] -> value [...], for any number of leading axes, written in NumPy",
            do="Address sums from the last axis, as in sums[..., 0] / sums[..., 1].",
        ) from error
    if found[1] != (4, 2, *found[0]) or (found[0] != ()) != metric.table:
        raise PlanError(
            what,
            given=f"{'a table' if metric.table else 'a number'} of shape {found[0]} from sums of shape ({length},), "
            f"and of shape {found[1]} from sums of shape (4, 2, {length})",
            expected="a number from each row of sums, or a table if table=True",
            do="Address sums from the last axis, as in sums[..., 0] / sums[..., 1].",
        )


def _has_own_weights(measure: Measure, outputs: Any, batch: dict[str, Any]) -> bool:
    """Whether the weights depend on more than the column `weight`, or do not depend on it where there is one."""
    rest = {name: column for name, column in batch.items() if name != "weight"}
    weight = {"weight": batch["weight"]} if "weight" in batch else {}
    program = jax.make_jaxpr(lambda weight, outputs, rest: measure(outputs, {**rest, **weight})[1])(
        weight, outputs, rest
    )
    _, reads = partial_eval.dce_jaxpr(program.jaxpr, [True])
    return any(reads[len(weight) :]) or not all(reads[: len(weight)])
