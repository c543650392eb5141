"""The options of `simulate`, checked before anything is compiled."""

import inspect
import os
from collections.abc import Callable
from typing import Any

from fairyring.core.checks import callable_or_none
from fairyring.core.errors import PlanError
from fairyring.learning.plan import Plan
from fairyring.population import Population
from fairyring.rounds.stopping import EarlyStopping


def check_options(
    plan: Plan,
    population: object,
    secure_sum: object,
    test: object,
    stop: EarlyStopping | None,
    run: object,
    resume: bool,
    overwrite: bool,
    engine: object,
) -> None:
    """Raise `PlanError` unless the options of a run are of the right kind, and fit each other."""
    kinds = {
        "plan": (plan, Plan, "fr.Plan(...)"),
        "population": (population, Population, "a population, such as fr.Population.from_arrays(...)"),
        "stop": (stop, EarlyStopping | None, "fr.EarlyStopping(...)"),
        "run": (run, str | os.PathLike | None, "a folder's path"),
    }
    for name, (value, kind, expected) in kinds.items():
        if not isinstance(value, kind):
            raise PlanError(name, given=repr(value)[:80], expected=expected, do=f"Give {name}= one of those.")
    if stop is not None and (test is None or stop.metric not in plan.task.evaluated):
        raise PlanError(
            "early stopping",
            given=f"metric {stop.metric!r}" if test is not None else "no test population",
            expected=f"a test population and one of {plan.task.evaluated}",
            do="Give test=, and a metric of the task.",
        )
    if secure_sum not in ("ideal", "protocol") or (secure_sum == "protocol" and plan.terms is None):
        raise PlanError(
            "secure_sum",
            given=repr(secure_sum) + ("" if plan.bound.spec.masking else ", for a plan without a secure sum"),
            expected="'ideal', or 'protocol' for a plan whose aggregation ends in secure_sum()",
            do="End the plan's chain with quantize(...) and secure_sum().",
        )
    for name, wanted in (("resume", resume), ("overwrite", overwrite)):
        if run is None and wanted:
            raise PlanError(
                name,
                given="no run folder",
                expected="run=, the folder of the run",
                do=f"Give run= the folder to {name}.",
            )
    if resume and overwrite:
        raise PlanError(
            "overwrite",
            given="resume=True, too",
            expected="one of the two",
            do="Resume the run that is there, or overwrite it.",
        )
    if engine not in ("compiled", "debug") and (isinstance(engine, type) or not hasattr(engine, "worker")):
        raise PlanError(
            "engine",
            given=repr(engine),
            expected="'compiled', 'debug' or fr.ray(...)",
            do="Leave it out, except to debug a loss or a model.",
        )


def takes_params(on_round: Callable[..., Any] | None) -> bool:
    """Whether a function of rounds takes the parameters, too: it has two positional parameters without a default.

    Raises:
        PlanError: it is not a function.
    """
    callable_or_none("on_round", on_round, expected="a function of a round's record")
    if on_round is None:
        return False
    try:
        parameters = [*inspect.signature(on_round).parameters.values()]
    except (TypeError, ValueError):  # of some built-in functions nothing is known
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = sum(one.kind in positional and one.default is inspect.Parameter.empty for one in parameters)
    takes = sum(one.kind in positional for one in parameters)
    rest = any(one.kind is inspect.Parameter.VAR_POSITIONAL for one in parameters)
    if required > 2 or (takes == 0 and not rest):
        raise PlanError(
            "on_round",
            given=f"a function of {required} arguments",
            expected="a function of a round's record, or of that and the parameters",
            do="Write it as def on_round(record) or def on_round(record, params).",
        )
    return required == 2
