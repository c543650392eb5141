"""The zoo: published sizes, layers against independent references, and every model learns."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairyring.core.errors import ModelError
from fairyring.core.vector import Layout
from fairyring.task import classification, next_token, zoo
from fairyring.task.zoo.layers import LSTM, Attention, Depthwise, GroupNorm, LayerNorm, dropout, max_pool
from fairyring.task.zoo.layers.dropout import drop_threshold
from fairyring.task.zoo.layers.recurrent import recur
from fairyring.task.zoo.transformer import Transformer

KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        (zoo.logistic_regression(), 784 * 62 + 62),
        (zoo.two_nn(), 784 * 200 + 200 + 200 * 200 + 200 + 200 * 62 + 62),
        (zoo.c1(), 1_626_442),
        (zoo.c2(), 1_206_590),
        (zoo.c3(), 4_050_748),
        (zoo.c4(), 817_872),
    ],
)
def test_sizes_are_the_published_ones(model, parameters):
    assert Layout.of(jax.eval_shape(model.init, KEY)).size == parameters


SMALL = {
    "logistic_regression": (zoo.logistic_regression(64, 4), "image"),
    "two_nn": (zoo.two_nn(64, 16, 4), "image"),
    "cnn": (zoo.cnn((8, 8, 1), 4, filters=(4, 8), hidden=16), "image"),
    "mobilenet": (zoo.mobilenet((8, 8, 1), 4, widths=(8, 16), groups=4), "image"),
    "lstm": (zoo.lstm(9, embedding=6, units=16, layers=1, projection=12), "text"),
    "transformer": (zoo.transformer(9, 12, width=16, layers=1, heads=2, rate=0.1), "text"),
    "transformer pooled": (
        zoo.transformer(256, 64, width=16, layers=1, heads=2, causal=False, classes=4),
        "flat",
    ),
}
RANDOM = {"cnn", "transformer"}


def tiny(kind):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 24)
    if kind == "text":  # counting modulo 9, from any number
        return {"x": (rng.integers(0, 9, (24, 1)) + np.arange(12)) % 9}
    x = rng.integers(0, 60, (24, 8, 8))
    for i, label in enumerate(labels):
        x[i, 4 * (label // 2) :, 4 * (label % 2) :] += 150
    x = x.astype(np.uint8)
    return {"x": x.reshape(24, 64).astype(np.int32) if kind == "flat" else x, "y": labels}


@pytest.mark.dealt(2, "name")
@pytest.mark.parametrize("name", SMALL)
def test_it_learns_and_is_pure(name, people):
    model, kind = SMALL[name]
    task = next_token(model) if kind == "text" else classification(model)
    data = tiny(kind)
    task.validate(people(data))
    batch = {n: jnp.asarray(c) for n, c in data.items()}

    def loss(params, key):
        value, weight = task.loss(task.forward(params, batch, key), batch)
        return jnp.sum(value * weight) / jnp.sum(weight)

    @jax.jit
    def train(params):
        def step(carry, key):
            params, state = carry
            value, gradient = jax.value_and_grad(loss)(params, key)
            updates, state = optimiser.update(gradient, state)
            return (optax.apply_updates(params, updates), state), value

        return jax.lax.scan(step, (params, optimiser.init(params)), jax.random.split(KEY, 60))[1]

    optimiser = optax.adam(0.01)
    start = jax.jit(model.init)(KEY)
    losses = train(start)
    before, after = float(losses[0]), float(losses[-1])
    assert after < 0.8 * before
    forward = jax.jit(task.forward)
    outputs = [forward(start, batch, key) for key in (None, KEY, KEY, jax.random.key(1))]
    np.testing.assert_array_equal(outputs[1], outputs[2])
    assert np.allclose(outputs[1], outputs[3]) == (name not in RANDOM)
    assert np.allclose(outputs[0], outputs[1]) == (name not in RANDOM)


@pytest.mark.dealt(2, "name")
@pytest.mark.parametrize("name", ["two_nn", "cnn", "mobilenet", "lstm", "transformer"])
def test_clients_can_be_vmapped(name):
    model, kind = SMALL[name]
    x = jnp.asarray(tiny(kind)["x"][:4])
    x = x if jnp.issubdtype(x.dtype, jnp.signedinteger) else x / 255
    keys = jax.random.split(KEY, 2)

    def gradient(params, key):
        return jax.grad(lambda p: (model.apply(p, x, key) ** 2).mean())(params)

    params = jax.jit(jax.vmap(model.init))(keys)
    together, alone = jax.jit(
        lambda params: (
            jax.vmap(gradient)(params, keys),
            gradient(jax.tree.map(lambda leaf: leaf[1], params), keys[1]),
        )
    )(params)
    for many, single in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(np.asarray(many)[1], single, atol=1e-5)


def test_parameters_of_the_zoo_are_the_module_itself():
    model, x = zoo.two_nn(64, 16, 4), jnp.ones((3, 8, 8))
    params = model.init(KEY)
    np.testing.assert_array_equal(params(x), model.apply(params, x, None))


def test_a_causal_transformer_does_not_look_ahead():
    model = zoo.transformer(9, 12, width=16, layers=1, heads=2)
    params = jax.jit(model.init)(KEY)
    x = jnp.arange(12)[None] % 9
    apply = jax.jit(lambda x: model.apply(params, x, None))
    before, after = apply(x), apply(x.at[0, 7].set(0))
    np.testing.assert_allclose(before[0, :7], after[0, :7], atol=1e-6)
    assert not np.allclose(before[0, 7:], after[0, 7:], atol=1e-4)


def as_one(layer):
    """A layer as one program: to compile its operations one by one takes longer."""
    return jax.jit(lambda *arguments: layer(*arguments))


def lstm_reference(x, layer):
    """An LSTM with a forget gate in NumPy, one example and one step at a time."""
    w, u, b = (np.asarray(a, np.float64) for a in (layer.inputs, layer.recurrent, layer.bias))
    sigmoid = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
    units = u.shape[0]
    out = np.zeros((*x.shape[:2], units))
    for n in range(x.shape[1]):
        h = c = np.zeros(units)
        for t in range(x.shape[0]):
            i, f, g, o = np.split(x[t, n] @ w + h @ u + b, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            out[t, n] = h
    return out


def test_the_lstm_is_an_lstm():
    layer = LSTM(3, 5, key=KEY)
    x = np.random.default_rng(0).normal(size=(7, 2, 3)).astype(np.float32)
    np.testing.assert_allclose(as_one(layer)(x), lstm_reference(x, layer), atol=1e-6)
    np.testing.assert_array_equal(layer.bias, [0] * 5 + [1] * 5 + [0] * 10)
    np.testing.assert_allclose(layer.recurrent @ layer.recurrent.T, np.eye(5), atol=1e-5)


def test_the_gradient_of_the_lstm_is_that_of_autodiff():
    def plain(driven, recurrent):
        def step(carry, now):
            i, f, g, o = jnp.split(now + carry[0] @ recurrent, 4, axis=-1)
            c = jax.nn.sigmoid(f) * carry[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zero = jnp.zeros((driven.shape[1], recurrent.shape[0]))
        return jax.lax.scan(step, (zero, zero), driven)[1]

    keys = jax.random.split(KEY, 3)
    driven, recurrent = jax.random.normal(keys[0], (9, 4, 24)), jax.random.normal(keys[1], (6, 24))
    weights = jax.random.normal(keys[2], (9, 4, 6))
    ours, theirs = (
        jax.jit(jax.grad(lambda d, r, f=f: (f(d, r) * weights).sum(), argnums=(0, 1)))(driven, recurrent)
        for f in (recur, plain)
    )
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [2, 3, 5])
def test_depthwise_is_a_grouped_convolution(stride, size):
    layer = Depthwise(4, size, key=KEY, stride=stride)
    x = jax.random.normal(KEY, (2, 7, 6, 4))
    before, after = (size - 1) // 2, size // 2
    expected = jax.lax.conv_general_dilated(
        x,
        layer.weight[:, :, None, :],
        (stride, stride),
        ((before, after), (before, after)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=4,
    )
    np.testing.assert_allclose(as_one(layer)(x), expected, atol=1e-5)


def test_the_other_layers_against_equinox():
    x = jax.random.normal(KEY, (2, 6, 4, 8))
    group, theirs = GroupNorm(8, 2), eqx.nn.GroupNorm(2, 8)
    first = np.transpose(x, (0, 3, 1, 2))
    np.testing.assert_allclose(
        np.transpose(as_one(group)(x), (0, 3, 1, 2)), as_one(jax.vmap(theirs))(first), atol=1e-5
    )
    layer, row = eqx.nn.LayerNorm(8), np.asarray(x)[:, 0]
    np.testing.assert_allclose(as_one(LayerNorm(8))(row), as_one(jax.vmap(jax.vmap(layer)))(row), atol=1e-5)
    pooled = np.transpose(as_one(jax.vmap(eqx.nn.MaxPool2d(2, 2)))(first), (0, 2, 3, 1))
    np.testing.assert_array_equal(as_one(max_pool)(x), pooled)
    np.testing.assert_array_equal(as_one(max_pool)(np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))), pooled)


@pytest.mark.parametrize("causal", [True, False])
def test_attention_against_equinox(causal):
    ours = Attention(8, 2, causal=causal, key=KEY)
    theirs = eqx.nn.MultiheadAttention(2, 8, use_output_bias=True, key=KEY)
    q, k, v = jnp.split(ours.project.weight, 3, axis=1)
    where = lambda m: (  # noqa: E731
        m.query_proj.weight,
        m.key_proj.weight,
        m.value_proj.weight,
        m.output_proj.weight,
        m.output_proj.bias,
    )
    theirs = eqx.tree_at(where, theirs, (q.T, k.T, v.T, ours.merge.weight.T, ours.merge.bias))
    x = jax.random.normal(KEY, (3, 5, 8))
    mask = np.tril(np.ones((5, 5), bool)) if causal else None
    expected = jax.jit(jax.vmap(lambda one: theirs(one, one, one, mask)))(x)
    np.testing.assert_allclose(as_one(ours)(x), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("rate", "bits", "threshold"), [(0.0, 1, 0), (0.5, 1, 1), (0.25, 2, 1), (0.1, 8, 26)]
)
def test_dropout_draws_as_few_bits_as_state_the_rate(rate, bits, threshold):
    assert drop_threshold(rate) == (bits, threshold)


@settings(max_examples=15, deadline=None)
@given(rate=st.floats(0, 0.999), seed=st.integers(0, 2**31))
def test_dropout_keeps_the_mean_and_drops_at_its_rate(rate, seed):
    bits, threshold = drop_threshold(rate)
    exact = threshold / 2**bits
    assert abs(exact - rate) <= 1 / 256
    units = 40_003
    out = np.asarray(dropout(jnp.ones((units,)), rate, jax.random.key(seed)))
    kept = out > 0
    assert abs(1 - kept.mean() - exact) < 6 * np.sqrt(exact * (1 - exact) / units) + 1e-9
    np.testing.assert_allclose(out[kept], 1 / (1 - exact), rtol=1e-6)


@pytest.mark.parametrize("rate", [0.5, 0.25, 0.1])
def test_neighbouring_units_are_dropped_independently(rate):
    drop = jax.jit(dropout, static_argnums=1)
    kept = np.asarray(drop(np.ones((64, 1024), np.float32), rate, KEY)) > 0
    kept = (kept - kept.mean()).ravel()
    units = kept.size
    for lag in itertools.chain(range(1, 33), (256, 1024, units // 16, units // 4, units // 2)):
        correlation = np.mean(kept * np.roll(kept, lag)) / kept.var()
        assert abs(correlation) < 6 / np.sqrt(units), lag


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: zoo.cnn((5, 5, 1), 3), "at least 6 x 6"),
        (lambda: zoo.mobilenet(widths=(30, 60), groups=8), "divisor of 30"),
        (lambda: zoo.transformer(width=10, heads=3), "divisor of the width 10"),
        (lambda: dropout(jnp.ones(3), 1.0, KEY), "below 1"),
        (
            lambda: Transformer(9, 4, 8, 1, 2, key=KEY)(jnp.ones((1, 5), int)),
            "at most 4",
        ),
    ],
)
def test_impossible_sizes_are_refused(make, says):
    with pytest.raises(ModelError, match=says):
        make()


@pytest.mark.parametrize("rate", [0.5, 0.25, 0.1])
def test_an_examples_dropped_units_do_not_depend_on_the_rows_after_it(rate):
    """A padded batch must train like the batch itself, because capacities differ between populations."""
    from fairyring.task.zoo.layers.dropout import dropout

    x, drop = np.ones((7, 5, 3), np.float32), jax.jit(dropout, static_argnums=1)
    few, many = (drop(x[:rows], rate, jax.random.key(3)) for rows in (4, 7))
    np.testing.assert_array_equal(few, many[:4])
