"""A fitted estimator of scikit-learn from trained parameters."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fairyring.core.errors import ModelError
from fairyring.task.linear.estimator import Linear, kind_of


def fit(linear: Linear, params: Mapping[str, Any], estimator: Any, rounds: int) -> Any:
    """Set what `fit` of scikit-learn would set, in place, and return the estimator.

    Args:
        linear: what was learned.
        params: `coef` `[scores, features]`, and `intercept` `[scores]` if there is one.
        estimator: of the same class and loss; or a pipeline of a `StandardScaler` and such an estimator, if the task was given one.
        rounds: what `n_iter_` becomes.

    Raises:
        ModelError: the estimator is another.
    """
    steps = [step for _, step in estimator.steps] if kind_of(estimator) == "Pipeline" else [estimator]
    steps = [step for step in steps if step not in (None, "passthrough")]
    expected = ["StandardScaler"] * (linear.scaler is not None) + [linear.kind]
    given = [kind_of(step) or type(step).__name__ for step in steps]
    settings = {name: getattr(steps[-1], name, None) for name in linear.settings}
    if given != expected or settings != linear.settings:
        loss = ", ".join(
            f" with {name}={value!r}" for name, value in linear.settings.items() if value is not None
        )
        raise ModelError(
            "run.into(estimator)",
            given=" -> ".join(given)
            + "".join(f" with {n}={v!r}" for n, v in settings.items() if v is not None),
            expected=" -> ".join(expected) + loss,
            do="Pass the estimator that the task was given, or one like it.",
        )
    final = steps[-1]
    coef = np.asarray(params["coef"], np.float64)
    intercept = np.asarray(params.get("intercept", np.zeros(len(coef))), np.float64)
    if linear.classes is not None:
        final.classes_ = linear.classes.copy()
        final.coef_, final.intercept_ = coef, intercept
    elif linear.kind == "SGDRegressor":
        final.coef_, final.intercept_ = coef[0], intercept
    elif linear.targets is None:
        final.coef_, final.intercept_ = coef[0], float(intercept[0])
    else:
        final.coef_, final.intercept_ = coef, intercept
    final.n_features_in_ = linear.features
    if linear.names is not None:
        final.feature_names_in_ = np.array(linear.names, object)
    if linear.kind == "LogisticRegression":
        final.n_iter_ = np.array([rounds], np.int32)
    elif linear.kind == "Ridge":
        final.n_iter_ = None  # as after a solver that counts none
    elif linear.kind != "LinearRegression":
        final.n_iter_, final.t_ = rounds, 1.0  # partial_fit begins with its first, largest steps
    if linear.scaler is not None:
        for name, value in linear.scaler.items():
            setattr(steps[0], name, value)
    return estimator
