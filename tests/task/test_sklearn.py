"""Linear estimators of scikit-learn: they minimise what scikit-learn does, and come back fitted."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest

import fairyring as fr
from fairyring.core.errors import ModelError, PlanError, PopulationError
from fairyring.learning.device import objective_of

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import (
    HuberRegressor,
    LinearRegression,
    LogisticRegression,
    Perceptron,
    Ridge,
    SGDClassifier,
    SGDRegressor,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils.validation import check_is_fitted

ROWS, FEATURES = 60, 4
LOCAL = fr.LocalTraining(optax.sgd(0.1), batch_size=32)


def data(classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows and labels that no line separates."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(ROWS, FEATURES)).astype(np.float32)
    scores = x @ rng.normal(size=(FEATURES, classes)) + rng.gumbel(size=(ROWS, classes))
    return x, scores.argmax(axis=1).astype(np.int32)


def objective(
    task: fr.task.Task, params: Any, x: np.ndarray, y: np.ndarray
) -> tuple[float, dict[str, np.ndarray]]:
    """What a client descends on: value and gradient."""
    loss = objective_of(task)
    batch = {"x": jnp.asarray(x), "y": jnp.asarray(y)}
    (value, _), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(
        params, batch, None, jax.random.key(0)
    )
    return float(value), {name: np.asarray(part) for name, part in gradient.items()}


def some(task: fr.task.Task, seed: int = 1) -> dict[str, jax.Array]:
    """Parameters near enough that both sides of every kink occur."""
    rng = np.random.default_rng(seed)
    start = task.model.init(jax.random.key(0))
    return {name: jnp.asarray(rng.normal(size=part.shape) * 0.5, jnp.float32) for name, part in start.items()}


# -- what is minimised ----------------------------------------------------------------------------------------------


def half_square(p: Any, y: Any) -> Any:
    return (p - y) ** 2 / 2


# Where scikit-learn has no Python function: the loss and its derivative.
CLOSED: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "log_loss": (lambda p, y: np.log1p(np.exp(-p * y)), lambda p, y: -y / (1 + np.exp(p * y))),
    "squared_error": (half_square, lambda p, y: p - y),
    "huber": (
        lambda p, y: np.where(abs(p - y) <= 0.3, half_square(p, y), 0.3 * abs(p - y) - 0.045),
        lambda p, y: np.clip(p - y, -0.3, 0.3),
    ),
}
PENALTIES = {None: (0.0, 0.0), "l2": (0.0, 1.0), "l1": (1.0, 0.0), "elasticnet": (0.25, 0.75)}


def check_against_sgd(
    estimator: Any, task: fr.task.Task, x: np.ndarray, y: np.ndarray, targets: np.ndarray
) -> None:
    """Value and gradient of the sum of losses of each score and its target, and of alpha times the penalty."""
    if estimator.loss in CLOSED:
        loss, slope = CLOSED[estimator.loss]
    else:
        own = estimator._get_loss_function(estimator.loss)
        loss, slope = np.vectorize(own.py_loss), np.vectorize(own.py_dloss)
    params = some(task)
    w, b = np.asarray(params["coef"], float), np.asarray(params["intercept"], float)
    scores = x @ w.T + b
    l1, l2 = (estimator.alpha * share for share in PENALTIES[estimator.penalty])
    slopes = slope(scores, targets)
    value, gradient = objective(task, params, x, y)
    expected = loss(scores, targets).sum(axis=1).mean() + l1 * abs(w).sum() + l2 / 2 * (w**2).sum()
    assert value == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(gradient["coef"], slopes.T @ x / ROWS + l1 * np.sign(w) + l2 * w, atol=1e-5)
    np.testing.assert_allclose(gradient["intercept"], slopes.mean(axis=0), atol=1e-5)
    assert 0 < np.mean(loss(scores, targets) > 0) <= 1


@pytest.mark.parametrize(
    ("loss", "penalty", "classes"),
    [
        ("log_loss", "l2", 2),
        ("log_loss", "elasticnet", 3),
        ("hinge", "l1", 3),
        ("hinge", None, 2),
        ("squared_hinge", "l2", 3),
        ("modified_huber", "elasticnet", 2),
        ("perceptron", "l2", 3),
        ("squared_error", "l2", 3),
        ("huber", "l1", 2),
    ],
)
def test_a_classifier_minimises_what_sgd_does(loss: str, penalty: str | None, classes: int) -> None:
    x, y = data(classes)
    estimator = SGDClassifier(loss=loss, penalty=penalty, alpha=0.2, l1_ratio=0.25, epsilon=0.3)
    signs = np.where(y[:, None] == np.arange(classes), 1.0, -1.0)[:, 1 if classes == 2 else 0 :]
    check_against_sgd(estimator, fr.from_sklearn(estimator, FEATURES, classes), x, y, signs)


@pytest.mark.parametrize(
    "loss", ["squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive"]
)
def test_a_regressor_minimises_what_sgd_does(loss: str) -> None:
    x, _ = data(2)
    y = np.random.default_rng(3).normal(size=ROWS).astype(np.float32)
    estimator = SGDRegressor(loss=loss, penalty="elasticnet", alpha=0.2, l1_ratio=0.25, epsilon=0.3)
    check_against_sgd(estimator, fr.from_sklearn(estimator, FEATURES), x, y, y[:, None])


@pytest.mark.parametrize("classes", [2, 3])
def test_logistic_regression_minimises_what_its_solvers_do(classes: int) -> None:
    from sklearn._loss import HalfBinomialLoss, HalfMultinomialLoss
    from sklearn.linear_model._linear_loss import LinearModelLoss

    x, y = data(classes)
    weights = {0: 0.5, 1: 2.0}
    estimator = LogisticRegression(C=0.3, class_weight=weights)
    task = fr.from_sklearn(estimator, FEATURES, classes, examples=ROWS)
    params = some(task)
    own = HalfBinomialLoss() if classes == 2 else HalfMultinomialLoss(n_classes=3)
    coef = np.concatenate(
        [params["coef"], np.asarray(params["intercept"])[:, None]], axis=1, dtype=np.float64
    )
    each = np.array([weights.get(label, 1.0) for label in y.tolist()])
    value, gradient = LinearModelLoss(own, fit_intercept=True).loss_gradient(
        np.asfortranarray(coef[0] if classes == 2 else coef), x.astype(np.float64), y.astype(np.float64), each,
        l2_reg_strength=1 / (0.3 * each.sum()),
    )  # fmt: skip
    # It divides by the sum of weights, and a plan by the number of examples.
    share = each.sum() / ROWS
    ours, slopes = objective(task, params, x, y)
    assert ours == pytest.approx(value * share, rel=1e-5)
    found = np.concatenate([slopes["coef"], slopes["intercept"][:, None]], axis=1)
    np.testing.assert_allclose(found.ravel(), np.ravel(gradient, order="C") * share, atol=1e-5)


def test_liblinear_penalises_the_intercept_too() -> None:
    estimator = LogisticRegression(C=0.3, solver="liblinear", intercept_scaling=2.0, l1_ratio=1.0)
    task = fr.from_sklearn(estimator, FEATURES, 2, examples=ROWS)
    w, b = np.float32([[1, -2, 0, 3]]), np.float32([4])
    assert task.penalty is not None
    assert float(task.penalty({"coef": w, "intercept": b})) == pytest.approx((6 + 4 / 2) / (0.3 * ROWS))


def test_one_versus_rest_weighs_each_class_against_the_rest() -> None:
    x, y = data(3)
    plain = fr.from_sklearn(SGDClassifier(penalty=None), FEATURES, 3)
    weighted = fr.from_sklearn(SGDClassifier(penalty=None, class_weight={1: 3.0}), FEATURES, 3)
    params = some(plain)
    scores = np.asarray(plain.model.apply(params, jnp.asarray(x), None))
    more = 2 * np.where(y == 1, np.maximum(1 - scores[:, 1], 0), 0).mean()
    assert objective(weighted, params, x, y)[0] == pytest.approx(
        objective(plain, params, x, y)[0] + more, rel=1e-5
    )


def test_another_penalty_is_another_plan() -> None:
    columns = {"x": ((FEATURES,), np.dtype(np.float32)), "y": ((), np.dtype(np.int32))}
    digests = {
        fr.Plan(fr.from_sklearn(SGDClassifier(alpha=alpha), FEATURES, 2), local=LOCAL, cohort=2).digest(
            columns
        )
        for alpha in (0.1, 0.1, 0.2)
    }
    assert len(digests) == 2
    task = fr.from_sklearn(SGDClassifier(), FEATURES, 2)
    x, y = data(2)
    vector = fr.task.Task(**{**vars(task), "penalty": lambda params: params["coef"]})
    with pytest.raises(PlanError, match=r"penalty: given a result of shape \(1, 4\)"):
        vector.validate(fr.Population.from_arrays({"x": x, "y": y}, client=np.zeros(ROWS, int)))


# -- trained, and back ----------------------------------------------------------------------------------------------


def trained(task: fr.task.Task, x: np.ndarray, y: np.ndarray, rate: float, rounds: int = 500) -> fr.Run:
    """Every round is one step on all examples, of clients of several sizes."""
    population = fr.Population.from_arrays({"x": x, "y": y}, client=np.repeat([0, 1, 2], [20, 30, 10]))
    plan = fr.Plan(
        task,
        local=fr.LocalTraining(optax.sgd(rate), batch_size=32),
        cohort=3,
        server=optax.sgd(1.0, momentum=0.8),
    )
    return fr.simulate(plan, population, rounds=rounds, processors=1)


def test_logistic_regression_comes_to_scikit_learns_own_fit_and_back(tmp_path: Any) -> None:
    x, y = data(3)
    names = ["ant", "bee", "cat"]
    reference = LogisticRegression(C=0.5, tol=1e-8, max_iter=1000).fit(x, np.array(names)[y])
    estimator = clone(reference)
    run = trained(fr.from_sklearn(estimator, FEATURES, names, examples=ROWS), x, y, 0.3)
    fitted = run.into(estimator)
    assert fitted is estimator
    check_is_fitted(fitted)
    np.testing.assert_allclose(fitted.coef_, reference.coef_, atol=1e-3)
    np.testing.assert_allclose(
        fitted.intercept_ - fitted.intercept_.mean(),
        reference.intercept_ - reference.intercept_.mean(),
        atol=1e-3,
    )
    np.testing.assert_allclose(fitted.predict_proba(x), reference.predict_proba(x), atol=1e-3)
    assert fitted.classes_.tolist() == names
    assert fitted.n_features_in_ == FEATURES
    assert fitted.n_iter_.tolist() == [500]
    scores = run.predict(x)
    np.testing.assert_allclose(scores, fitted.decision_function(x), rtol=1e-6, atol=2e-6)
    assert fitted.predict(x).tolist() == [names[place] for place in scores.argmax(axis=1)]
    assert fitted.score(x, np.array(names)[y]) == pytest.approx(
        run.evaluate(fr.Population.from_arrays({"x": x, "y": y}, client=np.zeros(ROWS, int))).metrics[
            "accuracy"
        ]
    )
    with pytest.raises(ModelError, match=r"SGDClassifier with loss='hinge'; expected LogisticRegression"):
        run.into(SGDClassifier())
    # Training goes on from where it ended: a fitted estimator is the start.
    again = fr.from_sklearn(fitted, examples=ROWS)
    np.testing.assert_array_equal(again.model.init(jax.random.key(0))["coef"], run.params["coef"])


def test_a_support_vector_machine_comes_to_the_fit_of_its_solver() -> None:
    x, y = data(2)
    y = 2 * y - 1  # as in books: -1 and 1 in the column of labels
    reference = LinearSVC(C=0.02, fit_intercept=False, tol=1e-8, max_iter=100_000).fit(x, y)
    estimator = SGDClassifier(loss="squared_hinge", alpha=1 / (0.02 * ROWS), fit_intercept=False)
    task = fr.from_sklearn(estimator, FEATURES, [-1, 1], metrics={"auc": fr.metrics.auc()})
    run = trained(task, x, y, 0.1)
    fitted = run.into(SGDClassifier(loss="squared_hinge"))
    np.testing.assert_allclose(fitted.coef_, reference.coef_, atol=1e-3)
    assert (fitted.predict(x) == reference.predict(x)).all()
    np.testing.assert_allclose(run.predict(x)[:, 1], fitted.decision_function(x), rtol=1e-6, atol=2e-6)
    judged = run.evaluate(fr.Population.from_arrays({"x": x, "y": y}, client=np.zeros(ROWS, int)))
    assert judged.metrics["accuracy"] == pytest.approx(fitted.score(x, y))
    assert judged.metrics["auc"] > 0.7  # it sees places, and not -1
    fitted.partial_fit(x.astype(np.float64), y)
    with pytest.raises(PopulationError, match=r"given 0 in row .*one of the classes -1, 1"):
        task.validate(fr.Population.from_arrays({"x": x, "y": y // 2 + 1}, client=np.zeros(ROWS, int)))


@pytest.mark.parametrize("several", [False, True])
def test_ridge_behind_a_fitted_scaler_comes_to_its_closed_form(several: bool) -> None:
    x, _ = data(2)
    x = x * np.float32([1, 20, 0.1, 3]) + np.float32([5, -100, 0, 1])
    rng = np.random.default_rng(4)
    y = (x / x.std(axis=0)) @ rng.normal(size=(FEATURES, 2)) + 1 + 0.3 * rng.normal(size=(ROWS, 2))
    y = (y if several else y[:, 0]).astype(np.float32)
    reference = make_pipeline(StandardScaler(), Ridge(alpha=6.0)).fit(x, y)
    start = make_pipeline(reference[0], Ridge(alpha=6.0))
    run = trained(
        fr.from_sklearn(start, FEATURES, examples=ROWS, targets=2 if several else None), x, y, 0.2, 200
    )
    back = run.into(make_pipeline(StandardScaler(), Ridge(alpha=6.0)))
    np.testing.assert_allclose(back[-1].coef_, reference[-1].coef_, atol=1e-3)
    assert np.shape(back[-1].intercept_) == np.shape(reference[-1].intercept_)
    np.testing.assert_allclose(back.predict(x), reference.predict(x), atol=2e-3)
    np.testing.assert_allclose(run.predict(x), back.predict(x), rtol=2e-6, atol=2e-6)
    assert back.score(x, y) == pytest.approx(reference.score(x, y), abs=1e-4)


def test_a_perceptron_leaves_its_zeros() -> None:
    x, y = data(3)
    task = fr.from_sklearn(Perceptron(), FEATURES, 3)
    gradient = objective(task, task.model.init(jax.random.key(0)), x, y)[1]
    assert np.abs(gradient["coef"]).min() > 0


# -- what is refused ------------------------------------------------------------------------------------------------

SCALER = StandardScaler().fit(np.arange(8.0).reshape(2, 4))


@pytest.mark.parametrize(
    ("estimator", "arguments", "says"),
    [
        (RandomForestClassifier(), {}, r"RandomForestClassifier; expected one of Logistic.*Trees are not trained by gradients"),
        (HuberRegressor(), {}, r"SGDRegressor\(loss='huber'"),
        (LinearSVC(), {}, r"SGDClassifier\(loss='squared_hinge', alpha=1 / \(C \* examples\)\)"),
        (LogisticRegression, {}, r"given the class LogisticRegression.*Pass an instance"),
        ("logistic", {}, r"given str; expected an instance"),
        (LogisticRegression(), {"features": 4, "classes": 2}, r"with C=1: scikit-learn weighs .*population.examples"),
        (Ridge(), {"features": 4}, r"with alpha=1"),
        (SGDClassifier(), {"classes": 2}, r"features: given none"),
        (SGDClassifier(), {"features": 4}, r"classes: given none"),
        (SGDClassifier(), {"features": 4, "classes": [1, 1]}, r"each once"),
        (SGDClassifier(), {"features": 4, "classes": 1}, r"at least 2"),
        (SGDRegressor(), {"features": 4, "classes": 2}, r"it predicts numbers"),
        (SGDRegressor(), {"features": 4, "targets": 2}, r"LinearRegression or Ridge"),
        (SGDClassifier(class_weight="balanced"), {"features": 4, "classes": 2}, r"a dict from class to weight"),
        (SGDClassifier(class_weight={7: 1.0}), {"features": 4, "classes": 2}, r"the class 7"),
        (LogisticRegression(solver="liblinear"), {"features": 4, "classes": 3}, r"'liblinear' for 3 classes"),
        (LinearRegression(positive=True), {"features": 4}, r"any sign"),
        (make_pipeline(StandardScaler(), Ridge()), {"features": 4}, r"not fitted: to fit it|fr.summary_statistics"),
        (make_pipeline(MinMaxScaler(), Ridge()), {"features": 4}, r"given MinMaxScaler -> Ridge"),
        (make_pipeline(SCALER, RandomForestClassifier()), {}, r"Trees are not"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_refused(estimator: Any, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        fr.from_sklearn(estimator, **arguments)


def test_data_that_does_not_fit_is_refused() -> None:
    x, y = data(3)
    population = fr.Population.from_arrays({"x": x, "y": y}, client=np.zeros(ROWS, int))
    with pytest.raises(ModelError, match=r"given 4 numbers per example; expected 5. Set features=4"):
        fr.from_sklearn(SGDClassifier(), 5, 3).validate(population)
    with pytest.raises(PopulationError, match=r"given 2 in row .*labels from 0 to 1"):
        fr.from_sklearn(SGDClassifier(), FEATURES, 2).validate(population)
    with pytest.raises(ModelError, match=r"Write fr.from_sklearn\(estimator"):
        fr.classification(LogisticRegression())


def test_a_run_without_its_plan_says_what_an_estimator_needs(tmp_path: Any) -> None:
    x, y = data(2)
    plan = fr.Plan(fr.from_sklearn(SGDClassifier(), FEATURES, 2), local=LOCAL, cohort=2)
    population = fr.Population.from_arrays({"x": x, "y": y}, client=np.arange(ROWS) // 20)
    run = fr.simulate(plan, population, rounds=1, processors=1, run=tmp_path / "run")
    with pytest.raises(ModelError, match=r"given SGDClassifier, and .*fr.load_run\(folder, plan=plan\)"):
        fr.load_run(tmp_path / "run").into(SGDClassifier())
    fitted = fr.load_run(tmp_path / "run", plan=plan).into(SGDClassifier())
    np.testing.assert_array_equal(fitted.coef_, run.params["coef"])


def test_names_of_features_come_back() -> None:
    task = fr.from_sklearn(LinearRegression(), ["a", "b", "c", "d"])
    assert task.model.into is not None
    fitted = task.model.into({"coef": np.ones((1, 4)), "intercept": np.ones(1)}, LinearRegression(), 1)
    assert fitted.feature_names_in_.tolist() == ["a", "b", "c", "d"]
    assert (fitted.coef_.shape, fitted.intercept_) == ((4,), 1.0)


@pytest.mark.parametrize("names", [["yes", "no"], ["z", "a", "m"]], ids=len)
def test_classes_come_back_in_the_order_that_scikit_learn_expects(names: list[str]) -> None:
    x, y = data(len(names))
    task = fr.from_sklearn(LogisticRegression(C=np.inf), FEATURES, names)
    run = trained(task, x, y, 0.3, rounds=5)
    stale = LogisticRegression().fit(pd.DataFrame(x[:, :2], columns=["b", "a"]), y > 0)
    fitted = run.into(stale.set_params(C=np.inf))
    assert fitted.classes_.tolist() == sorted(names)
    assert not hasattr(fitted, "feature_names_in_")  # those of the other fit
    scores = run.predict(x)
    assert fitted.predict(x).tolist() == [names[place] for place in scores.argmax(axis=1)]
    order = np.argsort(names)
    own = scores[:, order] if len(names) > 2 else scores[:, order[1]] - scores[:, order[0]]
    np.testing.assert_allclose(fitted.decision_function(x), own, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", [{"with_mean": False}, {"with_std": False}, {}], ids=str)
def test_a_scaler_does_what_it_was_asked_for(options: dict[str, bool]) -> None:
    x, y = data(2)
    x = 3 * x + 2
    pipeline = make_pipeline(StandardScaler(**options).fit(x), LogisticRegression(C=np.inf))
    run = trained(fr.from_sklearn(pipeline, FEATURES, 2), x, y, 0.1, rounds=3)
    fitted = run.into(pipeline)
    scores = run.predict(x)
    np.testing.assert_allclose(fitted.decision_function(x), scores[:, 1] - scores[:, 0], rtol=1e-4, atol=1e-4)
    if options:
        with pytest.raises(ModelError, match="a StandardScaler with with_mean=True, with_std=True; expected"):
            run.into(make_pipeline(StandardScaler(), LogisticRegression(C=np.inf)))
