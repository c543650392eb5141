"""What a linear estimator of scikit-learn learns, read from its settings."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Never

import jax
import jax.numpy as jnp
import numpy as np

from fairyring.core.checks import whole_number
from fairyring.core.errors import ModelError
from fairyring.task.adapters._kinds import origins
from fairyring.task.linear.losses import Loss, loss_of_sgd, squared

CLASSIFIERS = ("LogisticRegression", "SGDClassifier", "Perceptron")
REGRESSORS = ("SGDRegressor", "LinearRegression", "Ridge")


@dataclass(frozen=True, eq=False)
class Linear:
    """What a linear estimator learns.

    Attributes:
        kind: the name of its class in scikit-learn.
        loss: of each score; None for the cross-entropy of all scores of an example.
        features: numbers per example.
        names: of the features, if they have some.
        classes: of a classifier, its `classes_`, `[k]`; None for a regressor.
        targets: of a regressor, how many numbers it predicts; None for one number that is no row of its own.
        intercept: whether there is one.
        l1, l2: the penalty is `l1 * sum |w| + l2 / 2 * sum w^2` over coefficients.
        intercept_scale: what intercepts are divided by to be penalised with the coefficients; infinite where they are not.
        class_weight: of each class, float32 `[k]`; None for equal ones.
        coef, intercepts: where training starts, float32 `[scores, features]` and `[scores]`.
        scaler: what a `StandardScaler` before it was asked for, and what it has learnt: its attributes by name; None without one.
        settings: of the estimator that matter here, to compare with another's.
    """

    kind: str
    loss: Loss | None
    features: int
    names: tuple[str, ...] | None
    classes: np.ndarray | None
    targets: int | None
    intercept: bool
    l1: float
    l2: float
    intercept_scale: float
    class_weight: np.ndarray | None
    coef: np.ndarray
    intercepts: np.ndarray
    scaler: dict[str, Any] | None
    settings: dict[str, Any]

    @property
    def binary(self) -> bool:
        """Whether it is a classifier of two classes: then it has one score, that of the second."""
        return self.classes is not None and len(self.classes) == 2

    @property
    def numbers(self) -> np.ndarray | None:
        """The labels in a population's column, if they are not the places of the classes: what stands for each class, `[k]`."""
        assert self.classes is not None
        if self.classes.dtype.kind not in "biuf":
            return None
        found = self.classes.astype(np.float64)
        return None if np.array_equal(found, np.arange(len(found))) else found

    @property
    def penalty(self) -> Callable[[Any], jax.Array] | None:
        """`params -> scalar`; None if there is none."""
        if self.l1 == 0 and self.l2 == 0:
            return None

        def penalty(params: Any) -> jax.Array:
            parts = [params["coef"]]
            if self.intercept and math.isfinite(self.intercept_scale):
                parts.append(params["intercept"] / self.intercept_scale)
            value = jnp.float32(0)
            for part in parts:
                value += self.l1 * jnp.abs(part).sum() if self.l1 else 0.0
                value += self.l2 / 2 * jnp.square(part).sum() if self.l2 else 0.0
            return value

        return penalty


def read_estimator(
    estimator: Any,
    features: int | Sequence[str] | None,
    classes: Any,
    examples: float | None,
    targets: int | None,
) -> Linear:
    """What an estimator learns; see `fairyring.from_sklearn` for the arguments and for what is raised."""
    final, scaler = _steps(estimator)
    kind = kind_of(final)
    if kind not in CLASSIFIERS + REGRESSORS:
        _refuse(final)
    fitted = getattr(final, "coef_", None)
    if fitted is not None and hasattr(fitted, "toarray"):  # after sparsify()
        fitted = fitted.toarray()
    width, names = _features(features, final, fitted)
    values = _classes(classes, final, kind) if kind in CLASSIFIERS else None
    if kind in REGRESSORS and classes is not None:
        _refuse_argument("classes", f"classes for {kind}", "none: it predicts numbers", "Leave classes= out.")
    if targets is not None:
        targets = whole_number("from_sklearn targets", targets, error=ModelError)
        if kind not in ("LinearRegression", "Ridge"):
            _refuse_argument(
                "targets", f"targets for {kind}", "LinearRegression or Ridge", "Leave targets= out."
            )
    elif kind in REGRESSORS and fitted is not None and np.ndim(fitted) == 2:
        targets = len(fitted)
    scores = (targets or 1) if values is None else len(values) if len(values) > 2 else 1
    coef, intercepts = _start(
        fitted, getattr(final, "intercept_", 0.0), scores, width, bool(final.fit_intercept)
    )
    linear = Linear(
        kind, None, width, names, values, targets, bool(final.fit_intercept), 0.0, 0.0, math.inf,
        _class_weight(final, values), coef, intercepts, scaler, {"loss": getattr(final, "loss", None)},
    )  # fmt: skip
    return _OBJECTIVES[kind](linear, final, examples)


def kind_of(estimator: Any) -> str:
    """The name of an estimator's nearest class in scikit-learn, if it is one; otherwise an empty string."""
    of_sklearn = (origin for origin in origins(estimator) if origin.startswith("sklearn."))
    return next(of_sklearn, "").rpartition(".")[2]


def _steps(estimator: Any) -> tuple[Any, dict[str, Any] | None]:
    """The estimator at the end of a pipeline, and the scaler before it, as its attributes."""
    if isinstance(estimator, type) or not kind_of(estimator):
        _refuse_argument(
            "estimator",
            f"the class {estimator.__name__}" if isinstance(estimator, type) else type(estimator).__name__,
            "an instance of a linear estimator of scikit-learn",
            "Pass an instance, such as LogisticRegression(C=1.0); other models go into fr.classification or fr.regression.",
        )
    if kind_of(estimator) != "Pipeline":
        return estimator, None
    steps = [step for _, step in estimator.steps if step not in (None, "passthrough")]
    before = [kind_of(step) or type(step).__name__ for step in steps[:-1]]
    if before not in ([], ["StandardScaler"]):
        _refuse_argument(
            "pipeline",
            " -> ".join([*before, type(steps[-1]).__name__]),
            "StandardScaler -> a linear estimator",
            "Apply the other steps to the data of the population before, row by row, and pass the last step alone.",
        )
    if not before:
        return steps[-1], None
    fitted = {name: value for name, value in vars(steps[0]).items() if name.endswith("_")}
    asked = {"with_mean": steps[0].with_mean, "with_std": steps[0].with_std}
    if not fitted:
        _refuse_argument(
            "pipeline",
            "a StandardScaler that is not fitted",
            "a fitted one: to fit it would pool the data of all clients",
            "Standardise by sums over clients, population = fr.summary_statistics(population).standardize()(population), and pass "
            "the last step alone.",
        )
    return steps[-1], asked | fitted


def _features(
    given: int | Sequence[str] | None, final: Any, fitted: Any
) -> tuple[int, tuple[str, ...] | None]:
    names = None if given is None or isinstance(given, int | np.integer) else tuple(map(str, given))
    if names is None and hasattr(final, "feature_names_in_"):
        names = tuple(final.feature_names_in_)
    known = np.shape(fitted)[-1] if fitted is not None else None
    width = len(names) if names is not None and not isinstance(given, int | np.integer) else given
    width = known if width is None else whole_number("from_sklearn features", width, error=ModelError)
    if width is None or (known is not None and width != known):
        _refuse_argument(
            "features",
            "none, and an estimator that is not fitted"
            if width is None
            else f"{width} features, and coefficients of {known}",
            "the number of features of an example, or their names",
            "Set features=population.shape('x')[0], or features=population.feature_names['x'].",
        )
    return width, names if names is not None and len(names) == width else None


def _classes(given: Any, final: Any, kind: str) -> np.ndarray:
    known = getattr(final, "classes_", None)
    if given is None and known is None:
        _refuse_argument(
            "classes",
            "none, and an estimator that is not fitted",
            "the number of classes, or the classes",
            "Set classes=10 for labels from 0 to 9, or classes=['no', 'yes'] for what the labels 0 and 1 stand for.",
        )
    if isinstance(given, int | np.integer) and not isinstance(given, bool):
        if given < 2:
            _refuse_argument(
                "classes",
                f"{given}",
                "at least 2",
                f"{kind} tells classes apart; for numbers take a regressor.",
            )
        values = np.arange(given) if known is None or len(known) != given else np.asarray(known)
    else:
        values = np.asarray(known if given is None else given)
    if values.ndim != 1 or len(values) < 2 or len(set(values.tolist())) < len(values):
        _refuse_argument(
            "classes", repr(given)[:80], "two classes or more, each once", "Set classes=10, or name them."
        )
    if known is not None and values.tolist() != np.asarray(known).tolist():
        _refuse_argument(
            "classes",
            f"{values.tolist()[:6]}, for an estimator that is fitted with {np.asarray(known).tolist()[:6]}",
            "the same classes in the same order",
            "Leave classes= out, or pass an estimator that is not fitted: sklearn.base.clone(estimator).",
        )
    return values


def _class_weight(final: Any, classes: np.ndarray | None) -> np.ndarray | None:
    given = getattr(final, "class_weight", None)
    if given is None or classes is None:
        return None
    if not isinstance(given, Mapping):
        _refuse_argument(
            "class_weight",
            repr(given),
            "a dict from class to weight: no client knows how many examples of each class all have",
            "Write class_weight={c: examples / (classes * count[c])}, with counts that clients may tell, such as under a secure sum.",
        )
    places = {value: place for place, value in enumerate(classes.tolist())}
    if unknown := [value for value in given if value not in places]:
        _refuse_argument(
            "class_weight",
            f"the class {unknown[0]!r}",
            f"one of {classes.tolist()[:6]}",
            "Name these classes only.",
        )
    return np.array([given.get(value, 1.0) for value in classes.tolist()], np.float32)


def _start(
    coef: Any, intercepts: Any, scores: int, width: int, has_intercept: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients and intercepts to start from: those of a fitted estimator, or zeros, as in scikit-learn."""
    if coef is None:
        return np.zeros((scores, width), np.float32), np.zeros(scores, np.float32)
    found = np.asarray(coef, np.float32).reshape(-1, width)
    if len(found) != scores:
        _refuse_argument(
            "estimator",
            f"coefficients of {len(found)} scores",
            f"of {scores}",
            "Pass an estimator that is not fitted: sklearn.base.clone(estimator).",
        )
    at = np.asarray(intercepts if has_intercept else 0.0, np.float32)
    return found, np.broadcast_to(np.ravel(at), scores).copy()


def _logistic(linear: Linear, final: Any, examples: float | None) -> Linear:
    """The mean cross-entropy, and `1 / (C * examples)` times the penalty."""
    penalty, share = getattr(final, "penalty", "deprecated"), final.l1_ratio or 0.0
    if getattr(final, "multi_class", "deprecated") == "ovr" and not linear.binary:
        _refuse_argument(
            "multi_class",
            "'ovr'",
            "one softmax over all classes",
            "Take SGDClassifier(loss='log_loss') for one-versus-rest.",
        )
    if final.solver == "liblinear" and not linear.binary:
        _refuse_argument(
            "solver", f"'liblinear' for {len(linear.classes if linear.classes is not None else ())} classes", "two classes, as in scikit-learn", "Take another solver."
        )  # fmt: skip
    if penalty is None or math.isinf(final.C):
        return linear
    share = {"l1": 1.0, "l2": 0.0}.get(penalty, share)
    strength = 1.0 / (
        final.C * _examples(examples, f"C={final.C:g}", "LogisticRegression(C=np.inf) has no penalty")
    )
    scale = float(final.intercept_scaling) if final.solver == "liblinear" else math.inf
    return replace(linear, l1=strength * share, l2=strength * (1 - share), intercept_scale=scale)


def _sgd(linear: Linear, final: Any, examples: float | None) -> Linear:
    """The mean loss, one-versus-rest, and alpha times the penalty."""
    loss = loss_of_sgd(final.loss, getattr(final, "epsilon", 0.1))
    if loss is None:
        _refuse_argument(
            "loss", repr(final.loss), "a loss of scikit-learn's SGD estimators", "Correct its name."
        )
    share = {"l1": 1.0, "l2": 0.0, "elasticnet": final.l1_ratio}.get(final.penalty, 0.0)
    alpha = final.alpha if final.penalty is not None else 0.0
    return replace(linear, loss=loss, l1=alpha * share, l2=alpha * (1 - share))


def _least_squares(linear: Linear, final: Any, examples: float | None) -> Linear:
    """The mean square of the error, and for Ridge `alpha / examples` times the square of the coefficients."""
    if getattr(final, "positive", False):
        _refuse_argument("positive", "True", "coefficients of any sign", "Leave it out.")
    linear = replace(linear, loss=squared)
    alpha = getattr(final, "alpha", 0.0)
    if np.ndim(alpha):
        _refuse_argument("alpha", "one for each target", "one number", "Train one Ridge for each.")
    if not alpha:
        return linear
    return replace(
        linear, l2=2.0 * alpha / _examples(examples, f"alpha={alpha:g}", "LinearRegression() has no penalty")
    )


_OBJECTIVES: dict[str, Callable[[Linear, Any, float | None], Linear]] = {
    "LogisticRegression": _logistic,
    "SGDClassifier": _sgd,
    "Perceptron": _sgd,
    "SGDRegressor": _sgd,
    "LinearRegression": _least_squares,
    "Ridge": _least_squares,
}


def _examples(given: float | None, what: str, otherwise: str) -> float:
    """How many examples all clients have: what a sum of losses is divided by to make a mean of it."""
    if given is None:
        _refuse_argument(
            "examples",
            f"none, with {what}: scikit-learn weighs the penalty against a sum over all examples",
            "how many examples all clients have, since training goes by the mean of the loss",
            f"Set examples=population.examples; or leave the penalty out: {otherwise}.",
        )
    if isinstance(given, bool) or not isinstance(given, int | float | np.number) or not 0 < given < np.inf:
        _refuse_argument(
            "examples",
            repr(given)[:80],
            "a number above 0: how many examples all clients have, or the sum of their weights",
            "Set examples=population.examples.",
        )
    return float(given)


def _refuse(final: Any) -> Never:
    """Of an estimator that is none of those: what to write instead."""
    kind = kind_of(final) or type(final).__name__
    tree = any(part in kind for part in ("Forest", "Tree", "Boosting", "Bagging", "AdaBoost", "Isolation"))
    instead = _INSTEAD.get(
        kind,
        "Trees are not trained by gradients, so clients cannot average them. Take a network, such as fr.zoo.two_nn(features=64, classes=10)."
        if tree
        else "Take one of these, or a network, such as fr.classification(fr.zoo.two_nn(features=64, classes=10)).",
    )
    _refuse_argument(
        "estimator",
        kind,
        f"one of {', '.join(CLASSIFIERS + REGRESSORS)}, or a pipeline that ends in one",
        instead,
    )


_INSTEAD = {
    "LinearSVC": "The same, but for a penalty of the intercept, is SGDClassifier(loss='squared_hinge', alpha=1 / (C * examples)).",
    "SVC": "With a linear kernel it is about SGDClassifier(loss='hinge', alpha=1 / (C * examples)).",
    "LinearSVR": "The same, but for a penalty of the intercept, is SGDRegressor(loss='epsilon_insensitive', epsilon=epsilon, alpha=1 / (C * examples)).",
    "Lasso": "Its objective is that of SGDRegressor(penalty='l1', alpha=alpha).",
    "ElasticNet": "Its objective is that of SGDRegressor(penalty='elasticnet', alpha=alpha, l1_ratio=l1_ratio).",
    "RidgeClassifier": "Its objective is that of SGDClassifier(loss='squared_error', alpha=alpha / examples), up to a factor of 2.",
    "HuberRegressor": "It learns the scale of the errors, too. With a scale that is known: SGDRegressor(loss='huber', epsilon=epsilon * scale).",
    "LogisticRegressionCV": "Take LogisticRegression, and choose C with fr.sweep on clients of their own.",
    "RidgeCV": "Take Ridge, and choose alpha with fr.sweep on clients of their own.",
    "MLPClassifier": "Take fr.classification(fr.zoo.two_nn(features=64, hidden=100, classes=10)), or your own network.",
    "MLPRegressor": "Take fr.regression with a network of your own.",
    "OneVsRestClassifier": "SGDClassifier is one-versus-rest by itself; LogisticRegression has one softmax over all classes.",
    "GridSearchCV": "Take its estimator, and choose its settings with fr.sweep on clients of their own.",
}  # fmt: skip


def _refuse_argument(what: str, given: str, expected: str, do: str) -> Never:
    raise ModelError(f"from_sklearn, {what}", given=given, expected=expected, do=do)
