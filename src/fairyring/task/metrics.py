"""Ready metrics that are computed from sums over all examples: see `fairyring.PooledMetric`.

They read logits and labels as `classification` and `multi_label` do. An example with a logit that is NaN has no value, and neither has a
metric over it.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fairyring.core.checks import number_in, whole_number
from fairyring.core.errors import PlanError
from fairyring.task.metric import Batch
from fairyring.task.pooled import PooledMetric, Sparse

__all__ = [
    "auc",
    "calibration_error",
    "confusion_matrix",
    "f1",
    "precision",
    "r2",
    "recall",
    "reliability",
    "rmse",
]

Average = Literal["macro", "micro", "weighted"] | int | None

_FARTHEST = 100.0  # log-odds; scores beyond share the first and the last bin
_FINE = 0.1  # log-odds; bins are about as fine around 0 as if they were even from -_FINE to _FINE, and wider outside


def confusion_matrix(*, labels: str = "y") -> PooledMetric:
    """How many examples of each class are taken for which: a table `[classes, classes]`, rows by label, columns by prediction.

    Args:
        labels: the column of labels, one whole number per example.
    """

    def statistic(logits: jax.Array, batch: Batch) -> jax.Array | Sparse:
        label = _single("confusion_matrix", logits, batch[labels])
        pairs = label * logits.shape[1] + jnp.argmax(logits, axis=1)
        return Sparse(pairs[:, None], _known(jnp.ones_like(pairs[:, None]), logits), logits.shape[1] ** 2)

    def finish(sums: np.ndarray) -> np.ndarray:
        classes = math.isqrt(sums.shape[-1])
        return sums.reshape(*sums.shape[:-1], classes, classes)

    return PooledMetric(statistic, finish, table=True)


def precision(average: Average = "macro", *, labels: str = "y") -> PooledMetric:
    """Of the predictions of a class, the share that is right: tp / (tp + fp), and 0 for a class that is never predicted.

    Args:
        average: ``"macro"``, the mean over the classes that occur, as a label or as a prediction; ``"weighted"``, the mean over classes
            by their number of examples; ``"micro"``, over the predictions of all classes; a whole number for that class alone; None for a
            table `[classes]`.
        labels: the column of labels: one whole number per example, or rows of 0 and 1 (`multi_label`).

    Raises:
        PlanError: `average` is none of these.
    """
    return _by_class("precision", average, labels, lambda right, predicted, actual: _share(right, predicted))


def recall(average: Average = "macro", *, labels: str = "y") -> PooledMetric:
    """Of the examples of a class, the share that is found: tp / (tp + fn), and 0 for a class without examples.

    Args:
        average, labels: as in `precision`.

    Raises:
        PlanError: `average` is none of the known ones.
    """
    return _by_class("recall", average, labels, lambda right, predicted, actual: _share(right, actual))


def f1(average: Average = "macro", *, labels: str = "y") -> PooledMetric:
    """The harmonic mean of precision and recall: 2 tp / (2 tp + fp + fn).

    Args:
        average, labels: as in `precision`.

    Raises:
        PlanError: `average` is none of the known ones.
    """
    return _by_class(
        "f1", average, labels, lambda right, predicted, actual: _share(2 * right, predicted + actual)
    )


def auc(bins: int = 256, *, labels: str = "y") -> PooledMetric:
    """The area under the ROC curve, from histograms of scores with fixed bins.

    It is the chance that an example of the class has a higher score than one of another class; scores that share a bin count as a
    half. So it deviates from the exact area by at most half the chance that two such scores share a bin. Bins are even in the
    inverse hyperbolic sine of the log-odds, beside those of a guess: fine around 0, wider outside, the last ones beyond 100. With 256
    bins the deviation is usually below 0.001.

    Of two classes it is the area of class 1. Of more it is the mean over classes, each against all others ("one versus rest"), and with
    rows of labels (`multi_label`) the mean over labels; of those that have examples of both kinds.

    Args:
        bins: how many. A class takes twice as many sums.
        labels: the column of labels: one whole number per example, or rows of 0 and 1.

    Raises:
        PlanError: `bins` is not a whole number of at least 2.
    """
    bins = whole_number("auc bins", bins, least=2)
    scale = math.asinh(_FARTHEST / _FINE)

    def statistic(logits: jax.Array, batch: Batch) -> jax.Array | Sparse:
        logits, label = logits.astype(jnp.float32), batch[labels]
        if label.ndim == 2:
            odds, actual = logits, label
        elif logits.shape[1] == 2:
            odds, actual = logits[:, 1:] - logits[:, :1], (label == 1)[:, None]
        else:
            guess = -math.log(
                logits.shape[1] - 1
            )  # log-odds of a class, of probabilities that are all the same
            odds, actual = _log_odds(logits) - guess, label[:, None] == jnp.arange(logits.shape[1])
        place = (jnp.arcsinh(odds / _FINE) / scale + 1) * (bins / 2)
        bin = jnp.clip(jnp.nan_to_num(jnp.floor(place)), 0, bins - 1).astype(jnp.int32)
        histogram = (
            2 * jnp.arange(odds.shape[1]) + actual
        )  # of each class: of the other examples, and of its own
        places = histogram * bins + bin
        return Sparse(places, _known(jnp.ones_like(odds), odds), 2 * bins * odds.shape[1])

    def finish(sums: np.ndarray) -> np.ndarray:
        negative, positive = np.moveaxis(sums.reshape(*sums.shape[:-1], -1, 2, bins), -2, 0)
        below = np.cumsum(negative, axis=-1) - negative / 2
        pairs = negative.sum(axis=-1) * positive.sum(axis=-1)
        return _mean_where(pairs != 0, (positive * below).sum(axis=-1) / pairs)

    return PooledMetric(statistic, finish, higher_is_better=True)


def calibration_error(bins: int = 15, *, labels: str = "y") -> PooledMetric:
    """The expected calibration error (ECE): how far the confidence of predictions is from the share of them that is right.

    Predictions are put into bins of equal width by their confidence, the largest probability (Guo et al. 2017). The distances of mean
    confidence and accuracy in a bin are averaged by the number of predictions. The error of few examples is too large: perfect
    confidence on 1,000 digits reads about 0.02, and that of single clients says little.

    Args:
        bins: how many.
        labels: the column of labels, one whole number per example.

    Raises:
        PlanError: `bins` is not a whole number of at least 1.
    """
    found = reliability(bins, labels=labels)

    def finish(sums: np.ndarray) -> np.ndarray:
        count, confidence, right = np.moveaxis(sums.reshape(*sums.shape[:-1], 3, -1), -2, 0)
        return np.abs(confidence - right).sum(axis=-1) / count.sum(axis=-1)

    return PooledMetric(found.statistic, finish, higher_is_better=False)


def reliability(bins: int = 15, *, labels: str = "y") -> PooledMetric:
    """A reliability diagram as a table `[bins, 3]`: share of the predictions, mean confidence, and accuracy, by confidence.

    Args:
        bins, labels: as in `calibration_error`.

    Raises:
        PlanError: `bins` is not a whole number of at least 1.
    """
    bins = whole_number("reliability bins", bins)

    def statistic(logits: jax.Array, batch: Batch) -> jax.Array | Sparse:
        label = _single("calibration_error", logits, batch[labels])
        probability = jax.nn.softmax(logits.astype(jnp.float32), axis=1)
        confidence = probability.max(axis=1)
        right = (jnp.argmax(logits, axis=1) == label).astype(jnp.float32)
        bin = jnp.clip(jnp.nan_to_num(jnp.floor(confidence * bins)), 0, bins - 1).astype(jnp.int32)
        parts = jnp.stack([jnp.ones_like(confidence), confidence, right], axis=1)
        return Sparse(bin[:, None] + bins * jnp.arange(3), _known(parts, logits), 3 * bins)

    def finish(sums: np.ndarray) -> np.ndarray:
        count, confidence, right = np.moveaxis(sums.reshape(*sums.shape[:-1], 3, bins), -2, 0)
        return np.stack(
            [count / count.sum(axis=-1, keepdims=True), confidence / count, right / count], axis=-1
        )

    return PooledMetric(statistic, finish, table=True)


def rmse(*, labels: str = "y") -> PooledMetric:
    """The root of the mean squared error, over all numbers of all examples.

    Args:
        labels: the column of numbers to predict.
    """

    def statistic(outputs: jax.Array, batch: Batch) -> jax.Array:
        outputs, targets = _numbers(outputs, batch[labels])
        return jnp.stack([jnp.ones(len(outputs)), jnp.square(outputs - targets).mean(axis=1)], axis=1)

    return PooledMetric(statistic, lambda sums: np.sqrt(sums[..., 1] / sums[..., 0]), higher_is_better=False)


def r2(*, labels: str = "y", center: float = 0.0) -> PooledMetric:
    """The coefficient of determination, 1 - residual / total sum of squares: of several numbers per example, the mean over them.

    Sums of squares are taken in float32 within a batch: standardise targets whose mean is many standard deviations from 0, or give a
    number near their mean.

    Args:
        labels: the column of numbers to predict.
        center: is subtracted from targets and predictions before they are squared. It does not change the metric but for rounding.
    """
    center = number_in(
        "r2 center", center, -math.inf, math.inf, expected="a finite number", do="Leave it out."
    )

    def statistic(outputs: jax.Array, batch: Batch) -> jax.Array:
        outputs, targets = (values - center for values in _numbers(outputs, batch[labels]))
        parts = [targets, jnp.square(targets), jnp.square(outputs - targets)]
        return jnp.concatenate([jnp.ones((len(outputs), 1)), *parts], axis=1)

    def finish(sums: np.ndarray) -> np.ndarray:
        count = sums[..., :1]
        first, second, residual = np.split(sums[..., 1:], 3, axis=-1)
        spread = second - np.square(first) / count
        return (1 - residual / np.where(spread > 1e-6 * second, spread, np.nan)).mean(axis=-1)

    return PooledMetric(statistic, finish, higher_is_better=True)


def _by_class(
    name: str,
    average: Average,
    labels: str,
    score: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
) -> PooledMetric:
    """A score of each class from how many predictions of it are right, how many there are, and how many examples it has."""
    if isinstance(average, bool) or not (average is None or isinstance(average, int) or average in _AVERAGES):
        raise PlanError(
            f"{name} average",
            given=repr(average)[:80],
            expected=f"one of {', '.join(map(repr, _AVERAGES))}, a class, or None for all classes",
            do='Set average="macro".',
        )

    def statistic(logits: jax.Array, batch: Batch) -> jax.Array | Sparse:
        label, classes = batch[labels], logits.shape[1]
        if isinstance(average, int) and not 0 <= average < classes:
            raise PlanError(
                f"{name} average",
                given=f"class {average}",
                expected=f"a class from 0 to {classes - 1}",
                do="Name one of the model's classes.",
            )
        if label.ndim == 2:
            predicted, actual = logits > 0, label.astype(bool)
            parts = jnp.concatenate([predicted & actual, predicted, actual], axis=1)
            return _known(parts, logits)
        taken = jnp.argmax(logits, axis=1)
        places = jnp.stack([label, classes + taken, 2 * classes + label], axis=1)
        ones = jnp.ones(len(logits), bool)
        return Sparse(places, _known(jnp.stack([label == taken, ones, ones], axis=1), logits), 3 * classes)

    def finish(sums: np.ndarray) -> np.ndarray:
        counts = right, predicted, actual = np.split(sums, 3, axis=-1)
        if average == "micro":
            return score(*(part.sum(axis=-1) for part in counts))
        scores = score(right, predicted, actual)
        if average is None:
            return scores
        if average == "weighted":
            return (scores * actual).sum(axis=-1) / actual.sum(axis=-1)
        if average == "macro":
            return _mean_where(predicted + actual != 0, scores)
        return scores[..., average]

    return PooledMetric(statistic, finish, higher_is_better=True, table=average is None)


_AVERAGES = ("macro", "micro", "weighted")


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """`part / whole`, and 0 where the whole is 0; NaN stays."""
    return np.where(whole == 0, 0.0, part / np.where(whole == 0, 1.0, whole))


def _mean_where(kept: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The mean over the last axis of the values that are kept; NaN of none."""
    return np.where(kept, values, 0.0).sum(axis=-1) / kept.sum(axis=-1)


def _known(values: jax.Array, logits: jax.Array) -> jax.Array:
    """What examples add, float32 `[B, s]`: NaN for those with a logit that is NaN."""
    lost = jnp.isnan(logits).any(axis=1, keepdims=True)
    return jnp.where(lost, jnp.nan, values.astype(jnp.float32))


def _log_odds(logits: jax.Array) -> jax.Array:
    """`log(p / (1 - p))` of the probability of each class: `[B, classes]`, without ever computing 1 - p."""
    none = jnp.full_like(logits[:, :1], -jnp.inf)
    before = jnp.concatenate([none, lax.cumlogsumexp(logits, axis=1)[:, :-1]], axis=1)
    after = jnp.concatenate([lax.cumlogsumexp(logits, axis=1, reverse=True)[:, 1:], none], axis=1)
    return logits - jnp.logaddexp(before, after)


def _single(name: str, logits: Any, label: jax.Array) -> jax.Array:
    if label.ndim != 1:
        raise PlanError(
            name,
            given=f"labels of shape {label.shape[1:]} per example",
            expected="one whole number per example",
            do="Leave this metric out of a task with several labels per example.",
        )
    return label.astype(jnp.int32)


def _numbers(outputs: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Outputs and targets as float32 `[B, numbers]`."""
    outputs = outputs.reshape(outputs.shape[0], -1).astype(jnp.float32)
    return outputs, targets.reshape(outputs.shape).astype(jnp.float32)
