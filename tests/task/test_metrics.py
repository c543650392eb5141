"""Pooled metrics against scikit-learn's, from sums that are taken group by group."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn import metrics as sk

import fairyring as fr
from fairyring.task import PooledMetric, classification, finished, multi_label, statistics_of

RNG = np.random.default_rng(5)
N, CLASSES = 400, 4
LOGITS = RNG.normal(size=(N, CLASSES)).astype(np.float32) * 3
LABELS = np.where(RNG.random(N) < 0.5, LOGITS.argmax(1), RNG.integers(0, CLASSES, N)).astype(np.int32)
WEIGHT = RNG.choice([0.0, 0.5, 1.0, 3.0], N).astype(np.float32)
SEVERAL = (RNG.random((N, CLASSES)) < 1 / (1 + np.exp(-LOGITS))).astype(np.uint8)
TAKEN = LOGITS.argmax(1)


MODEL = (lambda key: {"b": jnp.zeros(4)}, lambda params, x: x + params["b"])


def value(metric, outputs, labels, weight=None):
    return finished(metric, summed(metric, outputs, labels, weight))


def added(statistic):
    sums = np.zeros(statistic.length)
    np.add.at(sums, np.asarray(statistic.places), np.asarray(statistic.values, np.float64))
    return sums


def summed(metric, outputs, labels, weight=None):
    """The sums of three groups, added."""
    batch = {"y": labels} if weight is None else {"y": labels, "weight": weight}
    sums = np.zeros(1)
    for rows in np.split(np.arange(len(labels)), [1, 2]):
        part = {name: column[rows] for name, column in batch.items()}
        (statistic,) = statistics_of({"m": metric}, outputs[rows], part, len(rows))
        sums = sums + added(statistic)
    return sums


@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("average", ["macro", "micro", "weighted", None, 2])
@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
def test_scores_of_classes(name, average, weight):
    ours, theirs = getattr(fr.metrics, name)(average), getattr(sk, f"{name}_score")
    options = {"sample_weight": weight, "zero_division": 0.0}
    for said, labels, outputs in ((TAKEN, LABELS, LOGITS), (LOGITS > 0, SEVERAL, LOGITS)):
        expected = theirs(labels, said, average=None if average == 2 else average, **options)
        expected = expected[2] if average == 2 else expected
        np.testing.assert_allclose(value(ours, outputs, labels, weight), expected, rtol=1e-5)


def test_classes_that_do_not_occur_do_not_count():
    few, logits = np.where(LABELS == 3, 0, LABELS), LOGITS - [0, 0, 0, 99]
    expected = sk.f1_score(few, logits.argmax(1), average="macro")
    assert value(fr.metrics.f1(), logits, few) == pytest.approx(expected, rel=1e-6)
    assert value(fr.metrics.f1(None), logits, few)[3] == 0
    assert np.isnan(finished(fr.metrics.f1(), np.zeros(12)))


@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_confusion_and_calibration(weight):
    matrix = value(fr.metrics.confusion_matrix(), LOGITS, LABELS, weight)
    np.testing.assert_allclose(matrix, sk.confusion_matrix(LABELS, TAKEN, sample_weight=weight))
    w = np.ones(N) if weight is None else weight
    p = np.exp(LOGITS.astype(float) - LOGITS.max(1, keepdims=True))
    confidence, right = (p / p.sum(1, keepdims=True)).max(1), LABELS == TAKEN
    bins = np.minimum((confidence * 10).astype(int), 9)
    parts = [np.bincount(bins, w * v, 10) for v in (np.ones(N), confidence, right)]
    found = value(fr.metrics.calibration_error(10), LOGITS, LABELS, weight)
    assert found == pytest.approx(np.abs(parts[1] - parts[2]).sum() / w.sum(), rel=1e-5)
    with np.errstate(invalid="ignore"):
        expected = np.stack([parts[0] / w.sum(), parts[1] / parts[0], parts[2] / parts[0]], 1)
    np.testing.assert_allclose(value(fr.metrics.reliability(10), LOGITS, LABELS, weight), expected, rtol=1e-5)


@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("scale", [1e-2, 1.0, 8.0])
def test_the_area_under_the_roc_curve(scale, weight):
    """Of scores near each other, too, and of confident ones; off by no more than is said."""
    logits = (LOGITS * scale).astype(np.float32)
    others = [logsumexp(np.delete(logits.astype(float), c, 1), axis=1) for c in range(CLASSES)]
    odds = logits - np.stack(others, 1)
    two = (LABELS > 1).astype(np.int32)
    classes = np.arange(CLASSES) == LABELS[:, None]
    for outputs, labels, scores, actual in (
        (logits[:, :2], two, (logits[:, 1] - logits[:, 0])[:, None], two[:, None]),
        (logits, LABELS, odds, classes),
        (logits, SEVERAL, logits, SEVERAL),
    ):
        pairs = zip(actual.T, scores.T, strict=True)
        exact = np.mean([sk.roc_auc_score(a, score, sample_weight=weight) for a, score in pairs])
        for bins, most in ((256, 0.005), (1024, 0.001)):
            metric = fr.metrics.auc(bins)
            sums = summed(metric, outputs, labels, weight)
            counts = sums.reshape(-1, 2, bins)
            shares = counts / counts.sum(2, keepdims=True)
            bound = (shares[:, 0] * shares[:, 1]).sum(1).mean() / 2
            assert finished(metric, sums) == pytest.approx(exact, abs=min(bound + 1e-6, most))
    assert np.isnan(value(fr.metrics.auc(), logits, np.zeros(N, np.int32)))  # no example of another class


def test_errors_of_numbers():
    targets = (RNG.normal(size=(N, 2)) * [1, 5] + [30, -2]).astype(np.float32)
    outputs = targets + RNG.normal(size=(N, 2)).astype(np.float32)
    for weight in (None, WEIGHT):
        options = {"sample_weight": weight}
        assert value(fr.metrics.r2(), outputs, targets, weight) == pytest.approx(
            sk.r2_score(targets, outputs, **options), rel=1e-3
        )
        expected = sk.mean_squared_error(targets, outputs, **options) ** 0.5
        assert value(fr.metrics.rmse(), outputs, targets, weight) == pytest.approx(expected, rel=1e-5)
    assert np.isnan(value(fr.metrics.r2(), outputs, np.full((N, 2), 7.0)))
    far = value(fr.metrics.r2(center=1e5), outputs + 1e5, targets + 1e5)
    assert far == pytest.approx(sk.r2_score(targets, outputs), rel=0.05)


def test_an_example_without_a_value_leaves_none():
    lost = LOGITS.copy()
    lost[3, 1] = np.nan
    for metric in (fr.metrics.f1(), fr.metrics.auc(), fr.metrics.calibration_error()):
        assert np.isnan(value(metric, lost, LABELS))
        weight = np.ones(N, np.float32)
        weight[3] = 0
        assert np.isfinite(value(metric, lost, LABELS, weight))  # one of weight 0 does not count


def test_a_task_takes_them_among_its_metrics():
    task = multi_label(MODEL, metrics={"f1": fr.metrics.f1(), "each": fr.metrics.f1(None)})
    assert list(task.metrics) == ["label_accuracy", "exact_match"]  # the task's own f1 is replaced
    assert task.evaluated == ["loss", "label_accuracy", "exact_match", "f1"]
    error = classification(MODEL, metrics={"ece": fr.metrics.calibration_error()})
    assert error.higher_is_better == {"loss": False, "accuracy": True, "ece": False}


@pytest.mark.parametrize(
    ("metric", "says"),
    [
        (PooledMetric(lambda z, b: z[:, 0], lambda s: s[..., 0]), r"a statistic of shape \('B',\)"),
        (
            PooledMetric(lambda z, b: z, lambda s: s.sum()),
            "for any number of leading axes|from sums of shape",
        ),
        (PooledMetric(lambda z, b: z, lambda s: s), "a number of shape"),
        (PooledMetric(lambda z, b: z, lambda s: s[..., 9]), "raises IndexError"),
        (PooledMetric(lambda z, b: b["there"], lambda s: s), "reads column 'there'"),
        (fr.metrics.f1(7), "class 7"),
    ],
)
def test_what_is_no_pooled_metric_is_refused(metric, says):
    population = fr.Population.from_arrays({"x": LOGITS, "y": LABELS}, client=np.zeros(N, int))
    task = classification(MODEL, metrics={"mine": metric})
    with pytest.raises(fr.PlanError, match=says):
        task.validate(population)
    for wrong in ("most", True, 1.5):
        with pytest.raises(fr.PlanError, match="average"):
            fr.metrics.f1(wrong)
