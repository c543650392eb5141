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
    asked = linear.scaler or {}
    scaling = {name: getattr(steps[0], name, None) for name in ("with_mean", "with_std") if name in asked}
    if given == expected and any(scaling[name] != asked[name] for name in scaling):
        raise ModelError(
            "run.into(pipeline)",
            given=f"a StandardScaler with {', '.join(f'{n}={v}' for n, v in scaling.items())}",
            expected=", ".join(f"{name}={asked[name]}" for name in scaling),
            do="Pass the pipeline that the task was given, or one like it.",
        )
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
        # Whatever of scikit-learn is given a classifier expects its classes in ascending order.
        order = np.argsort(linear.classes, kind="stable")
        if linear.binary:
            sign = 1.0 if order[0] == 0 else -1.0
            coef, intercept = sign * coef, sign * intercept
        else:
            coef, intercept = coef[order], intercept[order]
        final.classes_ = linear.classes[order]
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
    elif hasattr(final, "feature_names_in_"):  # of another fit
        del final.feature_names_in_
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
