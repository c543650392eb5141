"""A task from a linear estimator of scikit-learn: its model, its loss and its penalty."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fairyring.core.errors import ModelError
from fairyring.task.adapters._parameters import as_float32
from fairyring.task.classification import cross_entropy, is_argmax
from fairyring.task.given_metrics import AnyMetric, merge_metrics
from fairyring.task.linear import Linear, fit, read_estimator
from fairyring.task.metric import Batch, Metric, weight_of
from fairyring.task.model import Model
from fairyring.task.pooled import PooledMetric
from fairyring.task.task import Task
from fairyring.task.validation import Column


def from_sklearn(
    estimator: Any,
    features: int | Sequence[str] | None = None,
    classes: int | Sequence[Any] | None = None,
    *,
    examples: float | None = None,
    targets: int | None = None,
    inputs: str = "x",
    labels: str = "y",
    prepare: Callable[[jax.Array], jax.Array] | None = None,
    metrics: Mapping[str, AnyMetric] | None = None,
    columns: tuple[str, ...] = (),
    loss_bound: float = 100.0,
    name: str | None = None,
) -> Task:
    """A task that trains a linear estimator of scikit-learn: its model, with its own loss and penalty.

    `run.into(estimator)` gives the estimator back fitted. What is minimised is the mean over examples of a loss, and a penalty:

    - `LogisticRegression`: the cross-entropy, of several classes with one softmax; and `r(w) / (C * examples)`.
    - `SGDClassifier`, `Perceptron`: its `loss=`, of several classes summed over them (one-versus-rest); and `alpha * r(w)`.
    - `SGDRegressor`: its `loss=`; and `alpha * r(w)`.
    - `LinearRegression`: the squared error.
    - `Ridge`: the squared error; and `alpha * sum(w^2) / examples`.

    `r(w)` is `sum(w^2) / 2` for an L2 penalty, `sum(|w|)` for L1, and `l1_ratio` of the second with `1 - l1_ratio` of the first for elastic
    net. Intercepts are not penalised, except by the solver `liblinear`, as in scikit-learn. scikit-learn weighs `C`, and Ridge its
    `alpha`, against a *sum* over all examples: so these need `examples`. The penalty is part of every step's gradient. That of L1 is its
    subgradient, so coefficients come near 0 and not to it. `loss` in records is that of the examples, without the penalty.

    How an estimator would be fitted (`solver`, `max_iter`, `tol`, `learning_rate`, `average`, `early_stopping`) does not matter: the plan
    says how it is trained. Training starts from the coefficients of a fitted estimator, otherwise from zeros.

    The outputs are scores, as of `decision_function`, of two classes beside a score of 0 for the first, `[B, 2]`; or predictions, `[B]`.

    Args:
        estimator: one of those above, or a pipeline of a fitted `StandardScaler` and one of those.
        features: the numbers of an example, which are flattened, or the names of the features. Not needed of a fitted estimator.
        classes: how many, for labels from 0 to classes - 1; or the classes, at least two. If these are numbers, they are what is in the
            column of labels. If they are text, the column has their places in this list, as from `Population.from_dataframe` with
            these `categories`. Not needed of a fitted estimator.
        examples: how many all clients have, such as `population.examples`; with a column `weight`, their sum. Needed for `C` and for
            Ridge's `alpha`.
        targets: for LinearRegression and Ridge, the length of a row of targets; None for one number per example.
        inputs: the column that the model reads.
        labels: the column of labels or targets.
        prepare: applied to a batch of inputs inside the compiled program. By default inputs are taken as they are, bytes too: what is
            prepared here must be prepared for the estimator, too.
        metrics: further metrics: name -> `Metric`, `PooledMetric`, or a function `(outputs, batch) -> value [B]`. `batch` has the places
            of classes as labels.
        columns: further columns that these metrics read.
        loss_bound: the largest loss of a client that an integer sum carries; larger ones are clipped to it. See `Task`.
        name: the task's name in the plan's record; by default the estimator's class.

    Raises:
        ModelError: the estimator is no linear one of those, or has a setting that cannot be trained here; the error says what to
            write instead. Or an argument is missing that only a fitted estimator makes unnecessary.
    """
    linear = read_estimator(estimator, features, classes, examples, targets)
    learned = _Learned(linear, labels)
    own = {"accuracy": Metric(learned.accuracy, 1.0)}
    if linear.classes is None:
        own = {"mae": Metric(learned.absolute_error, math.inf)}
    means, pooled = merge_metrics(own, metrics)
    if linear.classes is not None and linear.numbers is not None:
        means = {n: one if one is own.get(n) else learned.with_places(one) for n, one in means.items()}
        pooled = {n: learned.with_places(metric) for n, metric in pooled.items()}
    return Task(
        name=name or linear.kind,
        loss_bound=loss_bound,
        model=_model(linear),
        loss=learned.loss,
        metrics=means,
        pooled=pooled,
        inputs=inputs,
        columns=(inputs, labels, *columns),
        prepare=_prepare(linear, prepare),
        data_checks=(learned.check,),
        penalty=linear.penalty,
        takes_logits=linear.classes is not None,
    )


def _model(linear: Linear) -> Model:
    start = {"coef": linear.coef} | ({"intercept": linear.intercepts} if linear.intercept else {})

    def init(key: jax.Array) -> Any:
        return as_float32(start)

    def apply(params: Any, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        x = x.reshape(x.shape[0], -1).astype(jnp.float32)
        if x.shape[1] != linear.features:
            raise ModelError(
                linear.kind,
                given=f"{x.shape[1]} numbers per example",
                expected=f"{linear.features}",
                do=f"Set features={x.shape[1]}.",
            )
        scores = x @ params["coef"].T
        scores = scores + params["intercept"] if linear.intercept else scores
        if linear.binary:
            return jnp.concatenate([jnp.zeros_like(scores), scores], axis=1)
        return scores[:, 0] if linear.classes is None and linear.targets is None else scores

    return Model(init, apply, into=lambda params, other, rounds: fit(linear, params, other, rounds))


def _prepare(
    linear: Linear, given: Callable[[jax.Array], jax.Array] | None
) -> Callable[[jax.Array], jax.Array]:
    """The user's preparation, and then that of the pipeline's scaler."""
    first = given or (lambda x: x.astype(jnp.float32))
    if linear.scaler is None:
        return first
    # scikit-learn learns a mean even where it is not to be subtracted.
    mean, scale = linear.scaler.get("mean_"), linear.scaler.get("scale_")
    centred, scaled = linear.scaler["with_mean"], linear.scaler["with_std"]
    shift = np.asarray(mean, np.float32) if centred and mean is not None else np.float32(0)
    factor = np.asarray(scale, np.float32) if scaled and scale is not None else np.float32(1)

    def prepare(x: jax.Array) -> jax.Array:
        x = first(x)
        return (x.reshape(x.shape[0], -1).astype(jnp.float32) - shift) / factor

    return prepare


@dataclass(frozen=True, eq=False)
class _Learned:
    """The loss and the metrics of what an estimator learns.

    Attributes:
        linear: what it learns.
        labels: the name of the column.
    """

    linear: Linear
    labels: str

    def places(self, batch: Batch) -> jax.Array:
        """The place of each example's class among the classes, int32 `[B]`."""
        label, numbers = batch[self.labels], self.linear.numbers
        if numbers is None:
            return label.astype(jnp.int32)
        equal = label[:, None] == numbers.astype(label.dtype)
        return (equal * jnp.arange(len(numbers))).sum(axis=1)

    def loss(self, outputs: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """The loss of each example, and its weight."""
        linear, weight = self.linear, weight_of(batch, outputs.shape[0])
        outputs = outputs.astype(jnp.float32)
        if linear.classes is None:
            targets = batch[self.labels].astype(jnp.float32).reshape(outputs.shape)
            assert linear.loss is not None
            values = linear.loss(outputs, targets)
            return values if values.ndim == 1 else values.sum(axis=1), weight
        place = self.places(batch)
        if linear.loss is None:
            value = cross_entropy(outputs, place)
            return value if linear.class_weight is None else value * self._of_class(place), weight
        if linear.binary:
            value = linear.loss(outputs[:, 1] - outputs[:, 0], 2.0 * (place == 1) - 1.0)
            return value if linear.class_weight is None else value * self._of_class(place), weight
        own = place[:, None] == jnp.arange(outputs.shape[1])
        values = linear.loss(outputs, jnp.where(own, 1.0, -1.0))
        if linear.class_weight is not None:  # in one-versus-rest the rest has the weight 1
            values = jnp.where(own, linear.class_weight, 1.0) * values
        return values.sum(axis=1), weight

    def _of_class(self, place: jax.Array) -> jax.Array:
        assert self.linear.class_weight is not None
        own = place[:, None] == jnp.arange(len(self.linear.class_weight))
        return jnp.where(own, self.linear.class_weight, 0.0).sum(axis=1)

    def accuracy(self, outputs: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Whether the class is right."""
        right = is_argmax(outputs, self.places(batch))
        return right.astype(jnp.float32), weight_of(batch, outputs.shape[0])

    def absolute_error(self, outputs: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """The absolute error, of several targets the mean over them."""
        targets = batch[self.labels].astype(jnp.float32).reshape(outputs.shape)
        error = jnp.abs(outputs - targets)
        return error if error.ndim == 1 else error.mean(axis=1), weight_of(batch, outputs.shape[0])

    def with_places(self, metric: Any) -> Any:
        """A metric that sees the places of classes in the column of labels, as metrics of classes expect."""
        field = "statistic" if isinstance(metric, PooledMetric) else "measure"
        own = getattr(metric, field)

        def measure(outputs: Any, batch: Batch) -> Any:
            return own(outputs, {**batch, self.labels: self.places(batch)})

        return metric._replace(**{field: measure})

    def check(self, data: Mapping[str, Column], outputs: Callable[[], Any]) -> None:
        """Raise an error unless labels are the classes, or targets are numbers of the right shape."""
        column, linear, classes = data[self.labels], self.linear, self.linear.classes
        if classes is None:
            shape = () if linear.targets is None else (linear.targets,)
            if column.shape != (1,) or shape != ():  # rows of one number are taken for the number
                column.require_shape(
                    shape, do="Set targets= to the length of a row, or leave it out for one number."
                )
            if column.dtype.kind == "f":
                column.require(np.isfinite, expected="finite numbers", do="Drop or fill in missing values.")
            return
        column.require_shape((), do="Give one label per example: take the argmax of one-hot rows.")
        numbers = linear.numbers
        if numbers is not None:
            listed = ", ".join(map(str, classes[:6]))
            column.require(
                lambda values: np.isin(values, numbers),
                expected=f"one of the classes {listed}",
                do="Name all classes in classes=.",
            )
            return
        column.require_integers(do="Number the classes from 0, in the order of classes=.")
        column.require(
            lambda values: (values >= 0) & (values < len(classes)),
            expected=f"labels from 0 to {len(classes) - 1}, the places of the classes",
            do="Number the classes from 0, or give classes= all of them.",
        )
