"""Losses and metrics against NumPy, SciPy and scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_softmax
from sklearn.metrics import f1_score

from fairyring.core.errors import PlanError
from fairyring.task import Metric, clamp, classification, multi_label, next_token, regression
from fairyring.task.classification import is_argmax

MODEL = (lambda key: {"w": jnp.ones(3)}, lambda params, x: x)
PARAMS = {"w": jnp.ones(3)}
RNG = np.random.default_rng(0)
WEIGHT = np.array([1.0, 0.0, 2.5, 1.0], np.float32)


def both(measure, outputs, batch):
    value, weight = jax.jit(measure)(outputs, batch)
    assert value.dtype == weight.dtype == jnp.float32
    return np.asarray(value), np.asarray(weight)


@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_classification(weight):
    logits, labels = RNG.normal(size=(4, 5)).astype(np.float32) * 30, np.array([0, 4, 2, 2], np.uint8)
    batch = {"y": labels} | ({} if weight is None else {"weight": weight})
    task = classification(MODEL)
    value, w = both(task.loss, logits, batch)
    np.testing.assert_allclose(value, -log_softmax(logits, axis=1)[range(4), labels], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(w, np.ones(4) if weight is None else weight)
    value, w = both(task.metrics["accuracy"].measure, logits, batch)
    np.testing.assert_array_equal(value, logits.argmax(1) == labels)
    np.testing.assert_array_equal(w, np.ones(4) if weight is None else weight)
    assert task.metrics["accuracy"].bound == 1.0


@settings(max_examples=40, deadline=None)
@given(logits=arrays(np.float32, (3, 4), elements=st.sampled_from([-1.0, 0.0, 2.0])), label=st.integers(0, 3))
def test_ties_go_to_the_first_as_with_argmax(logits, label):
    got = is_argmax(jnp.asarray(logits), jnp.full(3, label))
    np.testing.assert_array_equal(got, logits.argmax(1) == label)


def test_nothing_is_right_where_a_logit_is_nan():
    logits = jnp.array([[jnp.nan, 1.0], [2.0, jnp.nan], [2.0, 1.0]])
    np.testing.assert_array_equal(is_argmax(logits, jnp.zeros(3, int)), [False, False, True])


def test_the_gradient_of_the_loss_is_softmax_minus_one_hot():
    logits, labels = RNG.normal(size=(4, 5)).astype(np.float32), np.array([0, 4, 2, 2])
    gradient = jax.grad(lambda z: classification(MODEL).loss(z, {"y": labels})[0].sum())(jnp.asarray(logits))
    np.testing.assert_allclose(gradient, np.exp(log_softmax(logits, axis=1)) - np.eye(5)[labels], atol=1e-6)


@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("shifted", [True, False])
def test_next_token_is_a_mean_over_tokens(weight, shifted):
    tokens = RNG.integers(1, 6, (4, 7))
    targets = RNG.integers(1, 6, (4, 7))
    tokens[0, 4:] = targets[0, 4:] = 0
    tokens[1] = targets[1] = 0
    logits = RNG.normal(size=(4, 7, 6)).astype(np.float32)
    batch = {"x": tokens, "y": targets} | ({} if weight is None else {"weight": weight})
    task = next_token(MODEL, labels=None if shifted else "y", padding=0)
    wanted = tokens[:, 1:] if shifted else targets
    seen = logits[:, :-1] if shifted else logits
    terms = -np.take_along_axis(log_softmax(seen, axis=2), wanted[..., None], 2)[..., 0]
    right = seen.argmax(2) == wanted
    counts = wanted != 0
    for measure, of in ((task.loss, terms), (task.metrics["accuracy"].measure, right)):
        value, w = both(measure, logits, batch)
        expected = [row[c].mean() if c.any() else 0.0 for row, c in zip(of, counts, strict=True)]
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        np.testing.assert_allclose(w, counts.mean(1) * (1 if weight is None else weight), rtol=1e-6)
        if weight is None:
            np.testing.assert_allclose((value * w).sum() / w.sum(), of[counts].mean(), rtol=1e-5)


def test_tokens_of_any_width_reach_the_model_as_int32():
    task = next_token(MODEL)
    for dtype in (np.uint8, np.uint16, np.int32):
        assert task.forward(PARAMS, {"x": jnp.ones((2, 3), dtype)}, None).dtype == jnp.int32


def test_pixels_reach_the_model_in_the_unit_interval_and_nothing_else_changes():
    task = classification(MODEL)
    out = task.forward(PARAMS, {"x": jnp.array([[0, 51, 255]], jnp.uint8)}, None)
    np.testing.assert_allclose(out, [[0, 0.2, 1]], rtol=1e-6)
    assert task.forward(PARAMS, {"x": jnp.ones((1, 3), jnp.int32)}, None).dtype == jnp.int32
    doubled = classification(MODEL, prepare=lambda x: x * 2)
    assert int(doubled.forward(PARAMS, {"x": jnp.array([[200]], jnp.int32)}, None)[0, 0]) == 400


@pytest.mark.parametrize(("out", "y"), [((4,), (4, 1)), ((4, 1), (4,)), ((4, 3), (4, 3)), ((4,), (4,))])
def test_regression(out, y):
    outputs, targets = RNG.normal(size=out).astype(np.float32), RNG.normal(size=y).astype(np.float32)
    error = outputs.reshape(4, -1) - targets.reshape(4, -1)
    task = regression(MODEL)
    batch = {"y": targets, "weight": WEIGHT}
    value, weight = both(task.loss, outputs, batch)
    np.testing.assert_allclose(value, (error**2).mean(1), rtol=1e-5)
    np.testing.assert_array_equal(weight, WEIGHT)
    value, _ = both(task.metrics["mae"].measure, outputs, batch)
    np.testing.assert_allclose(value, np.abs(error).mean(1), rtol=1e-5)
    assert task.metrics["mae"].bound == np.inf
    cut = clamp(task.metrics["mae"], 0.5)
    assert cut.bound == 0.5
    np.testing.assert_allclose(
        both(cut.measure, outputs, batch)[0], np.clip(np.abs(error).mean(1), 0, 0.5), rtol=1e-5
    )


def test_multi_label():
    logits = np.vstack([RNG.normal(size=(3, 5)) * 40, -np.ones((1, 5))]).astype(np.float32)
    there = np.vstack([logits[0] > 0, RNG.random((2, 5)) < 0.5, np.zeros(5)]).astype(np.uint8)
    task = multi_label(MODEL)
    batch = {"y": there, "weight": WEIGHT}
    value, weight = both(task.loss, logits, batch)
    sign = np.where(there, 1.0, -1.0) * logits.astype(np.float64)
    np.testing.assert_allclose(value, np.logaddexp(0, -sign).mean(1), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(weight, WEIGHT)
    said = logits > 0
    reference = {
        "label_accuracy": (said == there).mean(1),
        "exact_match": (said == there).all(1),
        "f1": [
            f1_score(t[None], s[None], average="samples", zero_division=1.0)
            for t, s in zip(there, said, strict=True)
        ],
    }
    assert set(task.metrics) == set(reference)
    for name, expected in reference.items():
        value, weight = both(task.metrics[name].measure, logits, batch)
        np.testing.assert_allclose(value, np.asarray(expected, float), rtol=1e-6)
        np.testing.assert_array_equal(weight, WEIGHT)
    assert reference["exact_match"][0]
    assert reference["f1"][3] == 1.0
    assert np.isfinite(jax.grad(lambda z: task.loss(z, batch)[0].sum())(jnp.asarray(logits) * 100)).all()


def test_metrics_of_ones_own():
    top2 = lambda logits, batch: (jnp.argsort(logits)[:, -2:] == batch["y"][:, None]).any(1)  # noqa: E731
    own = Metric(lambda logits, batch: (logits.max(1), jnp.full(4, 7.0)), 9.0)
    task = classification(MODEL, metrics={"top2": top2, "own": own})
    assert list(task.metrics) == ["accuracy", "top2", "own"]
    logits, labels = RNG.normal(size=(4, 5)).astype(np.float32), np.array([0, 4, 2, 2])
    value, weight = both(task.metrics["top2"].measure, logits, {"y": labels, "weight": WEIGHT})
    assert value.tolist() == [float(y in row.argsort()[-2:]) for y, row in zip(labels, logits, strict=True)]
    np.testing.assert_array_equal(weight, WEIGHT)
    assert task.metrics["top2"].bound == np.inf
    assert task.metrics["own"] is own
    with pytest.raises(TypeError):
        task.metrics["more"] = own


@pytest.mark.parametrize("metrics", [{"loss": len}, {"weight": len}, {"": len}, {"top": 3}])
def test_bad_metrics_are_refused(metrics):
    with pytest.raises(PlanError, match="metric"):
        classification(MODEL, metrics=metrics)


@pytest.mark.parametrize("bound", [0.0, -1.0, np.inf, np.nan])
def test_a_clamp_needs_a_finite_bound(bound):
    with pytest.raises(PlanError, match="bound"):
        clamp(regression(MODEL).metrics["mae"], bound)
