"""Dense layers stored in padded rows, compared with the unchanged function."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairyring.lowering import align_dense, keeps_padding

FAST = {"xla_backend_optimization_level": 0}


def random(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def shapes(tree):
    return jax.tree.map(jnp.shape, tree)


def assert_same(got, expected, tolerance=1e-5):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape
        assert np.allclose(a, b, rtol=1e-4, atol=tolerance)


def assert_aligned_gradient(loss, params, *rest, **settings):
    """The stored form has the value and the gradient of `loss`, and the gradient of the padding is zero."""
    storage = align_dense(loss, params, *rest, **settings)
    expected = jax.jit(jax.value_and_grad(loss), compiler_options=FAST)(params, *rest)
    stored = storage.pad(params)
    value, gradient = jax.jit(jax.value_and_grad(storage.fn), compiler_options=FAST)(stored, *rest)
    assert_same((value, storage.unpad(gradient)), expected)
    assert_same(gradient, storage.pad(storage.unpad(gradient)), 0)
    assert_same(storage.unpad(stored), params, 0)
    return storage


@settings(max_examples=6, deadline=None)
@given(
    batch=st.sampled_from([1, 2, 7, 16, 17]),
    inputs=st.integers(1, 40),
    hidden=st.integers(1, 70),
    outputs=st.integers(1, 40),
)
def test_a_perceptron(batch, inputs, hidden, outputs):
    def loss(params, x):
        a, c, bias, b = params
        return jnp.sum(jnp.sin(jax.nn.relu(x @ a + bias) @ b)) + jnp.sum(c)

    params = [random((inputs, hidden)), random((3, 20)), random((hidden,), 1), random((hidden, outputs), 2)]
    storage = assert_aligned_gradient(loss, params, random((batch, inputs), 3))
    wide = [leaf.shape[-1] for leaf in storage.pad(params)]
    assert wide[1:3] == [20, hidden]  # neither is only the right operand of products
    for leaf, width in ((params[0], wide[0]), (params[3], wide[3])):
        rows, columns = leaf.shape
        assert width == (-(-columns // 16) * 16 if rows > 1 and columns >= 16 else columns)


@pytest.mark.parametrize("features", [20, 32])
def test_equinox_layers_mapped_over_examples(features):
    model = eqx.nn.MLP(features, 18, 21, 1, key=jax.random.key(0))
    params, rest = eqx.partition(model, eqx.is_array)

    def loss(params, x):
        return jnp.sum(jnp.cos(jax.vmap(eqx.combine(params, rest))(x)))

    storage = assert_aligned_gradient(loss, params, random((5, features), 1))
    assert storage.pad(params).layers[0].weight.shape == (21, 32)


@pytest.mark.parametrize("batch", [1, 5, 20, 21])
@pytest.mark.parametrize("features", [20, 32])
def test_equinox_layers_stored_transposed(batch, features):
    model = eqx.nn.MLP(features, 12, 21, 1, key=jax.random.key(0))
    params, rest = eqx.partition(model, eqx.is_array)

    def loss(params, x):
        return jnp.sum(jnp.cos(jax.vmap(eqx.combine(params, rest))(x)))

    storage = assert_aligned_gradient(loss, params, random((batch, features), 1), transpose=True)
    first, last = (layer.weight.shape for layer in storage.pad(params).layers)
    assert first == ((features, 32) if batch <= 20 else (21, 32))
    assert last == (12, 32)  # rows of 12 numbers would be shorter than a vector


def test_what_is_used_in_both_ways_is_not_transposed():
    def loss(w, x):
        return jnp.sum(jnp.sin(x @ w) @ w.T + jnp.cos(jax.lax.dot_general(w, x, (((1,), (1,)), ((), ())))).T)

    w, x = random((17, 17)), random((4, 17), 1)
    assert align_dense(loss, w, x, transpose=True).pad(w).shape == (17, 17)

    def both(w, x):
        return jnp.sum(jnp.sin(x @ w)) + jnp.sum(jax.lax.dot_general(w, x, (((1,), (1,)), ((), ()))) ** 2)

    storage = assert_aligned_gradient(both, w, x, transpose=True)
    assert_same(storage.pad(w)[:, :17], w, 0)


def test_a_stored_transpose_with_other_shapes_of_batches():
    def loss(w, x):
        y = jax.lax.dot_general(w, x, (((1,), (1,)), ((), ())))
        return jnp.sum(jnp.sin(y)) + (jnp.mean(w) if x.shape[0] == 3 else 0.0)

    w = random((17, 32))
    storage = align_dense(loss, w, random((4, 32)), transpose=True)
    assert storage.padded
    for rows in (3, 30):
        x = random((rows, 32), 1)
        value, gradient = jax.jit(jax.value_and_grad(storage.fn))(storage.pad(w), x)
        assert_same((value, storage.unpad(gradient)), jax.jit(jax.value_and_grad(loss))(w, x))


def test_products_inside_jit_and_a_weight_used_twice():
    def loss(params, x):
        return jnp.sum(jax.jit(lambda w, x: jnp.tanh(x @ w) + x @ w)(params["w"], x) ** 2)

    storage = assert_aligned_gradient(loss, {"w": random((9, 17))}, random((4, 9), 1))
    assert storage.padded


@pytest.mark.parametrize(
    "use",
    [
        lambda w, x: jnp.sum(x @ w) + jnp.sum(w**2),
        lambda w, x: jnp.sum((w @ w.T)[:4] + x @ w @ w.T),
        lambda w, x: jnp.sum(jax.lax.scan(lambda c, r: (c + jnp.sum(r @ w), None), 0.0, x[:, None])[0]),
        lambda w, x: jnp.sum(jax.checkpoint(lambda w: jnp.sin(x @ w))(w)),
        lambda w, x: jnp.sum(w[jnp.array([1, 3])]) + jnp.sum(x @ w),
        lambda w, x: jnp.sum(jnp.dot(x.astype(jnp.bfloat16), w.astype(jnp.bfloat16)).astype(jnp.float32)),
    ],
)
def test_other_uses_leave_a_matrix_as_it_is(use):
    storage = assert_aligned_gradient(use, random((9, 17)), random((4, 9), 1))
    assert not storage.padded


def test_a_use_that_comes_only_with_other_shapes_sees_the_true_matrix():
    def loss(w, x):
        return jnp.sum(x @ w) + (jnp.mean(w) if x.shape[0] == 3 else 0.0)

    w = random((9, 17))
    storage = align_dense(loss, w, random((4, 9)))
    assert storage.padded
    x = random((3, 9), 1)
    value, gradient = jax.value_and_grad(storage.fn)(storage.pad(w), x)
    assert_same((value, storage.unpad(gradient)), jax.value_and_grad(loss)(w, x))


def test_without_padding_shapes_stay():
    def loss(params, x):
        return jnp.sum(jnp.sin(x @ params[0]) @ params[1])

    params = [random((9, 32)), random((32, 17))]
    storage = align_dense(loss, params, random((4, 9)), pad=False)
    assert not storage.padded
    x = random((4, 9), 3)
    assert_same(jax.grad(storage.fn)(params, x), jax.grad(loss)(params, x))


PARAMS = {"b": jax.ShapeDtypeStruct((5,), jnp.float32), "w": jax.ShapeDtypeStruct((130, 200), jnp.float32)}


def pad(tree):
    if isinstance(tree, list):
        return [pad(one) for one in tree]
    return {**tree, "w": jnp.pad(tree["w"], ((0, 0), (0, 8)))}


def pad_each(tree):
    return [pad(one) for one in tree] if isinstance(tree, list) else pad(tree)


def steps_of(optimizer):
    """Training by known gradients: what comes of each step."""

    def steps(params, *gradients):
        state, moves = optimizer.init(params), []
        for gradient in gradients:
            move, state = optimizer.update(gradient, state, params)
            params = jax.tree.map(lambda w, m: w + m, params, move)
            moves.append(move)
        return moves

    return steps


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.sgd(0.1),
        optax.sgd(optax.cosine_decay_schedule(0.1, 10), momentum=0.9, nesterov=True),
        optax.adam(1e-3),
        optax.adamw(1e-3),
        optax.adagrad(0.1),
        optax.rmsprop(0.1),
        optax.lion(1e-3),
        optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1)),
        optax.chain(optax.clip_by_global_norm(1.0), optax.clip(0.1), optax.sgd(0.1)),
        optax.lamb(0.1),
    ],
)
def test_optimisers_that_may_be_padded(optimizer):
    assert keeps_padding(steps_of(optimizer), (PARAMS,) * 4, pad_each)


def mean_of_all(updates, params=None):
    return jax.tree.map(lambda u: u - jnp.mean(u), updates)


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.adafactor(0.1),
        optax.noisy_sgd(0.1, key=jax.random.key(0)),
        optax.chain(optax.centralize(), optax.sgd(0.1)),
        optax.chain(optax.stateless(mean_of_all), optax.sgd(0.1)),
        optax.stateless(lambda g, p=None: jax.tree.map(lambda u: u * jnp.sum(jnp.exp(u)), g)),
        optax.stateless(lambda g, p=None: jax.tree.map(lambda u: u + 1.0, g)),
        optax.stateless(lambda g, p=None: jax.tree.map(lambda u: u / jnp.abs(u), g)),
        optax.stateless(lambda g, p=None: jax.tree.map(lambda u: jnp.cumsum(u, axis=-1), g)),
        optax.stateless(lambda g, p=None: jax.tree.map(lambda u: u * u.shape[-1], g)),
        optax.stateless(lambda g, p=None: jax.tree.map(lambda u: 1e-12 * u * jnp.sum(jnp.exp(u)), g)),
    ],
)
def test_optimisers_that_may_not(optimizer):
    assert not keeps_padding(steps_of(optimizer), (PARAMS,) * 4, pad_each)
