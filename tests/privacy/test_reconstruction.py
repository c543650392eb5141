"""One bare update is the data; these attacks get no more of the noisy clipped mean of a cohort than a blind guess."""

import json
import math
from collections.abc import Callable
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from fairyring.core.errors import PlanError
from fairyring.core.vector import Layout, Slot
from fairyring.privacy.reconstruction import (
    blind,
    find_dense,
    infer_label,
    invert_dense,
    match_gradient,
    match_gradients,
    not_better_than_blind,
    score,
)
from fairyring.task import zoo

pytestmark = pytest.mark.optimised

CLASSES = 10


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Images `[1797, 8, 8]` in [0, 1], and their classes."""
    sets = pytest.importorskip("sklearn.datasets")
    result = sets.load_digits()
    return (result.images / 16).astype(np.float32), result.target


@cache
def attacked(name: str) -> tuple[Callable[..., jax.Array], Layout]:
    """`(gradient_of, layout)` of a small model whose parameters everybody knows."""
    small = {"cnn": lambda: zoo.cnn((8, 8, 1), CLASSES, filters=(8, 16), hidden=32)}
    model = small[name]() if name in small else zoo.two_nn(64, 30, CLASSES)
    params = model.init(jax.random.key(0))
    layout = Layout.of(params)

    def gradient_of(x: jax.Array, soft: jax.Array) -> jax.Array:
        def loss(params: object) -> jax.Array:
            return -jnp.vdot(soft, jax.nn.log_softmax(model.apply(params, x[None], None)[0]))

        return layout.flatten(jax.grad(loss)(params))

    return jax.jit(gradient_of), layout


def gradient(name: str, index: int) -> np.ndarray:
    images, labels = digits()
    return np.asarray(attacked(name)[0](jnp.asarray(images[index]), jax.nn.one_hot(labels[index], CLASSES)))


def leaf(vector: np.ndarray, slot: Slot) -> np.ndarray:
    return vector[slot.offset : slot.offset + slot.size].reshape(slot.shape)


def noisy_mean(name: str, indices: np.ndarray, multiplier: float) -> np.ndarray:
    """What a plan releases: the mean of clipped gradients, with noise of `multiplier` clips on their sum."""
    gradients = np.stack([gradient(name, i) for i in indices])
    clip = float(np.median(np.linalg.norm(gradients, axis=1)))
    gradients *= np.minimum(1.0, clip / np.linalg.norm(gradients, axis=1))[:, None]
    noise = np.random.default_rng(indices[0]).standard_normal(gradients.shape[1])
    return (gradients.sum(axis=0) + multiplier * clip * noise) / len(indices)


# Dense layers


def test_a_2nn_gives_its_example_away() -> None:
    images, _ = digits()
    layout = attacked("two_nn")[1]
    pair = find_dense(layout, 64)
    assert pair is not None
    assert [slot.path for slot in pair] == [".first.weight", ".first.bias"]
    for index in range(20):
        update = -0.1 * gradient("two_nn", index)
        result = invert_dense(leaf(update, pair[0]), leaf(update, pair[1]))
        np.testing.assert_allclose(result, images[index].ravel(), atol=1e-4)


def test_several_steps_on_one_example_are_as_exact() -> None:
    model = zoo.two_nn(64, 30, CLASSES)
    images, labels = digits()
    start = params = model.init(jax.random.key(1))

    def loss(params: object) -> jax.Array:
        return -jax.nn.log_softmax(model.apply(params, jnp.asarray(images[:1]), None)[0])[labels[0]]

    step = jax.jit(lambda params: jax.tree.map(lambda p, g: p - 0.05 * g, params, jax.grad(loss)(params)))
    for _ in range(5):
        params = step(params)
    change = jax.tree.map(jnp.subtract, params, start)
    result = invert_dense(np.asarray(change.first.weight), np.asarray(change.first.bias))
    np.testing.assert_allclose(result, images[0].ravel(), atol=1e-4)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 1000), st.sampled_from([1e-30, 1e-3, 1e6]))
def test_every_dense_layer_is_inverted_either_way_round(
    features: int, units: int, seed: int, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    x, by_bias = rng.standard_normal(features), scale * rng.standard_normal(units)
    weight = np.outer(x, by_bias)
    np.testing.assert_allclose(invert_dense(weight, by_bias, inputs_first=True), x, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(invert_dense(weight.T, by_bias, inputs_first=False), x, rtol=1e-9, atol=1e-12)
    if features != units:
        np.testing.assert_allclose(invert_dense(weight.T, by_bias), x, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(invert_dense(weight, by_bias), x, rtol=1e-9, atol=1e-12)


def test_a_layer_that_nothing_reached_tells_nothing() -> None:
    for weight, bias in [(np.zeros((3, 2)), np.zeros(2)), (np.full((3, 2), np.nan), np.ones(2))]:
        with pytest.raises(PlanError, match="finite changes"):
            invert_dense(weight, bias)
    for weight, bias in [((3, 2), (4,)), ((3, 2, 2), (2,)), ((3, 2), (2, 1))]:
        with pytest.raises(PlanError, match=r"\[in, out\]"):
            invert_dense(np.ones(weight), np.ones(bias))
    with pytest.raises(PlanError, match=r"\[in, out\]"):
        invert_dense(np.ones((3, 2)), np.ones(2), inputs_first=False)


def test_the_layer_that_reads_the_input_is_found() -> None:
    def leaves(**shapes: object) -> Layout:
        return Layout.of(jax.tree.map(lambda s: jnp.zeros(s), shapes, is_leaf=lambda s: isinstance(s, tuple)))

    flax = leaves(a={"bias": (5,), "kernel": (7, 5)}, b={"bias": (7,), "kernel": (5, 7)})
    assert [s.path for s in find_dense(flax, 7) or ()] == ["['a']['kernel']", "['a']['bias']"]
    turned = leaves(b=(5,), w=(5, 7))
    assert [s.path for s in find_dense(turned, 7) or ()] == ["['w']", "['b']"]
    # A bias of the right length in another module is another layer's.
    assert find_dense(leaves(a={"kernel": (7, 5)}, b={"bias": (5,)}), 7) is None
    assert find_dense(flax, 6) is None
    # The hidden layer of this one has 64 inputs, but they are not the image.
    assert any(slot.shape == (64, 32) for slot in attacked("cnn")[1].slots)
    assert find_dense(attacked("cnn")[1], 64) is None


# Gradient matching


@pytest.mark.parametrize("index", range(6))
@pytest.mark.parametrize("name", ["cnn", "two_nn"])
def test_the_label_shows_in_the_last_bias(name: str, index: int) -> None:
    layout = attacked(name)[1]
    (last,) = [slot for slot in layout.slots if slot.path == ".out.bias"]
    assert infer_label(leaf(gradient(name, index), last)) == digits()[1][index]
    assert infer_label(-leaf(gradient(name, index), last)) is None


def test_a_label_that_does_not_show_is_none() -> None:
    assert infer_label(np.zeros(3)) is None
    assert infer_label(np.array([-1.0, -1.0, 2.0])) is None


@pytest.mark.parametrize("known", [True, False])
def test_a_small_cnn_gives_its_example_away(known: bool) -> None:
    images, labels = digits()
    guess = blind(images[500:])
    for index in range(3):
        result = match_gradient(
            attacked("cnn")[0],
            gradient("cnn", index),
            (8, 8),
            CLASSES,
            key=jax.random.key(index),
            label=int(labels[index]) if known else None,
        )
        assert result.shape == (8, 8)
        assert 0.0 <= result.min() <= result.max() <= 1.0
        attack, baseline = score(result, images[index]), score(guess, images[index])
        assert attack["mse"] < 0.6 * baseline["mse"]
        assert attack["cosine"] > 0.7


def test_the_noisy_mean_of_a_hundred_is_not_better_than_blind() -> None:
    images, _ = digits()
    guess = blind(images[1200:])
    rng = np.random.default_rng(0)
    pair = find_dense(attacked("two_nn")[1], 64)
    assert pair is not None
    by: dict[str, list[float]] = {"dense": [], "matching": [], "blind": []}
    for target in range(8):
        cohort = rng.choice(1200, 100, replace=False)
        release = noisy_mean("two_nn", cohort, 1.0)
        dense = np.clip(invert_dense(leaf(release, pair[0]), leaf(release, pair[1])), 0, 1).reshape(8, 8)
        release = noisy_mean("cnn", cohort, 1.0)
        matched = match_gradient(attacked("cnn")[0], release, (8, 8), CLASSES, key=jax.random.key(target))
        for name, image in [("dense", dense), ("matching", matched), ("blind", guess)]:
            by[name].append(score(image, images[cohort])["mse"])
    for name in ("dense", "matching"):
        result = not_better_than_blind(by[name], by["blind"])
        assert result.not_better, result
        assert result.statement.startswith("Not better than blind")


def test_bare_updates_are_better_than_blind() -> None:
    images, _ = digits()
    guess = blind(images[1200:])
    pair = find_dense(attacked("two_nn")[1], 64)
    assert pair is not None
    errors, baseline = [], []
    for index in range(8):
        update = gradient("two_nn", index)
        result = invert_dense(leaf(update, pair[0]), leaf(update, pair[1])).reshape(8, 8)
        errors.append(score(result, images[index])["mse"])
        baseline.append(score(guess, images[index])["mse"])
    result = not_better_than_blind(errors, baseline)
    assert not result.not_better
    assert (result.nearer, result.targets, result.p) == (8, 8, 2**-8)
    assert result.statement.startswith("Better than blind: nearer than the blind guess for 8 of 8")


def test_the_same_key_gives_the_same_image() -> None:
    def run(seed: int) -> np.ndarray:
        return match_gradient(
            attacked("cnn")[0], gradient("cnn", 0), (8, 8), CLASSES, key=jax.random.key(seed)
        )

    np.testing.assert_array_equal(run(1), run(1))
    assert not np.array_equal(run(1), run(2))


def test_starts_are_ranked_by_what_is_minimised() -> None:
    observed, settings = gradient("cnn", 0), {"label": int(digits()[1][0])}
    images, losses = match_gradients(
        attacked("cnn")[0], observed, (8, 8), CLASSES, key=jax.random.key(1), **settings
    )
    best = match_gradient(attacked("cnn")[0], observed, (8, 8), CLASSES, key=jax.random.key(1), **settings)
    assert images.shape == (2, 8, 8)
    assert losses[0] < losses[1]
    np.testing.assert_array_equal(best, images[0])


def test_another_target_compiles_nothing() -> None:
    traced = []

    def gradient_of(x: jax.Array, soft: jax.Array) -> jax.Array:
        traced.append(1)
        return jnp.outer(soft, x).reshape(-1)

    def run(label: int | None, rate: float) -> int:
        traced.clear()
        observed = np.outer(np.eye(3)[1], np.linspace(0, 1, 6))
        match_gradient(gradient_of, observed, (6,), 3, key=jax.random.key(0), label=label, rate=rate)
        return len(traced)

    assert run(None, 0.05) > 1
    assert run(2, 0.02) <= 1  # at most to learn its length


def test_gradients_of_rows_of_numbers_are_matched_too() -> None:
    images, labels = digits()
    gradient_of, _ = attacked("two_nn")
    result = match_gradient(
        gradient_of, gradient("two_nn", 3), (64,), CLASSES, key=jax.random.key(0), label=int(labels[3])
    )
    assert (
        score(result, images[3].ravel())["mse"] < 0.5 * score(blind(images).ravel(), images[3].ravel())["mse"]
    )


def test_what_cannot_be_matched_is_refused() -> None:
    gradient_of, layout = attacked("cnn")
    key = jax.random.key(0)
    for broken in (np.zeros(layout.size), np.full(layout.size, np.nan), np.full(layout.size, np.inf)):
        with pytest.raises(PlanError, match="a finite one, and not zero"):
            match_gradient(gradient_of, broken, (8, 8), CLASSES, key=key)
    with pytest.raises(PlanError, match=f"{layout.size}, as gradient_of makes"):
        match_gradient(gradient_of, np.ones(5), (8, 8), CLASSES, key=key)
    with pytest.raises(PlanError, match="label"):
        match_gradient(gradient_of, np.ones(layout.size), (8, 8), CLASSES, key=key, label=10)


# Scores


def test_scores_are_what_they_are_called() -> None:
    rng = np.random.default_rng(0)
    truth, image = rng.random((5, 8, 8)), rng.random((8, 8))
    one = score(image, truth[0])
    assert one["mse"] == pytest.approx(np.square(image - truth[0]).mean())
    assert one["psnr"] == pytest.approx(-10 * math.log10(one["mse"]))
    assert one["cosine"] == pytest.approx(np.corrcoef(image.ravel(), truth[0].ravel())[0, 1])
    assert score(255 * image, 255 * truth[0], peak=255)["psnr"] == pytest.approx(one["psnr"])
    best = score(truth[3] + 1e-3, truth)
    assert best["mse"] == pytest.approx(1e-6)
    assert best["cosine"] == pytest.approx(1.0)
    exact = score(truth[2], truth)
    assert exact["psnr"] == 100.0
    assert json.loads(json.dumps(exact)) == exact
    assert score(np.ones((8, 8)), truth[0])["cosine"] == 0.0


def test_what_cannot_be_scored_is_refused() -> None:
    for image, truth in [
        (np.zeros(3), np.zeros(4)),
        (np.zeros(3), np.zeros((0, 3))),
        (np.array([np.nan]), np.ones(1)),
    ]:
        with pytest.raises(PlanError, match="shape of one truth"):
            score(image, truth)
    with pytest.raises(PlanError, match="n >= 1"):
        blind(np.zeros((0, 8, 8)))


@given(st.integers(5, 40), st.data())
def test_the_sign_test_is_exact(count: int, data: st.DataObject) -> None:
    nearer = data.draw(st.integers(0, count))
    even = data.draw(st.integers(0, count - nearer))
    blind_errors = np.ones(count)
    errors = np.array([0.5] * nearer + [1.0] * even + [2.0] * (count - nearer - even))
    result = not_better_than_blind(errors.tolist(), blind_errors.tolist())
    expected = 1.0 if even == count else binomtest(nearer, count - even, alternative="greater").pvalue
    assert result.p == pytest.approx(expected)
    assert result.nearer == nearer
    assert result.not_better == (expected >= 0.05)


def test_a_comparison_that_could_not_fail_is_refused() -> None:
    for attack, baseline in [([0.1] * 4, [1.0] * 4), ([0.1] * 6, [1.0] * 5), ([math.nan] * 6, [1.0] * 6)]:
        with pytest.raises(PlanError, match="5 or more"):
            not_better_than_blind(attack, baseline)
    assert not_better_than_blind([math.inf] * 6, [1.0] * 6).p == 1.0
