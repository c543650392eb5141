"""One small perceptron written in three frameworks is the same model; models that cannot be trained raise an error."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from fairyring.core.errors import MissingExtra, ModelError
from fairyring.core.vector import Layout
from fairyring.task import Model, as_model, classification, from_equinox, from_functions, from_nnx, from_torch
from fairyring.task.final_activation import final_activation

FEATURES, HIDDEN, CLASSES = 5, 7, 3


def init(key):
    first, second = jax.random.split(key)
    return {
        "w1": jax.random.normal(first, (FEATURES, HIDDEN)),
        "b1": jnp.full((HIDDEN,), 0.1),
        "w2": jax.random.normal(second, (HIDDEN, CLASSES)),
        "b2": jnp.zeros((CLASSES,)),
    }


def apply(params, x):
    return jax.nn.relu(x @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]


class Perceptron(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs):
        self.first = nnx.Linear(FEATURES, HIDDEN, rngs=rngs)
        self.second = nnx.Linear(HIDDEN, CLASSES, rngs=rngs)

    def __call__(self, x):
        return self.second(nnx.relu(self.first(x)))


class WithDropout(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.linear = nnx.Linear(FEATURES, CLASSES, rngs=rngs)
        self.first = nnx.Dropout(0.5, rngs=rngs)
        self.second = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.linear(self.second(self.first(x)))


class OneExample(eqx.Module):
    linear: eqx.nn.Linear
    dropout: eqx.nn.Dropout

    def __init__(self, key):
        self.linear = eqx.nn.Linear(FEATURES, CLASSES, key=key)
        self.dropout = eqx.nn.Dropout(0.5)

    def __call__(self, x, *, key=None):
        assert x.shape == (FEATURES,)
        return self.linear(self.dropout(x, key=key))


class WholeBatch(OneExample):
    batched = True

    def __call__(self, x, *, key=None):
        assert x.shape == (8, FEATURES)
        return self.dropout(x, key=key) @ self.linear.weight.T + self.linear.bias


def with_functions_dropout(params, x, key):
    x = x if key is None else jnp.where(jax.random.bernoulli(key, 0.5, x.shape), 2 * x, 0)
    return apply(params, x)


EQUINOX = partial(eqx.nn.MLP, FEATURES, CLASSES, HIDDEN, 1)
ALL = {
    "functions": (init, with_functions_dropout),
    "equinox": OneExample,
    "equinox instance": OneExample(jax.random.key(4)),
    "equinox batched": WholeBatch,
    "nnx": WithDropout,
    "nnx instance": WithDropout(nnx.Rngs(4)),
}


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return {
        "x": jnp.asarray(rng.normal(size=(8, FEATURES)), jnp.float32),
        "y": jnp.asarray(rng.integers(0, CLASSES, 8), jnp.int32),
    }


def test_three_frameworks_give_the_same_loss_and_gradients(batch):
    params = init(jax.random.key(1))
    as_functions = classification((init, apply))
    as_equinox, as_nnx = classification(EQUINOX), classification(Perceptron)
    like = as_equinox.model.init(jax.random.key(0))
    weights = lambda m: (m.layers[0].weight, m.layers[0].bias, m.layers[1].weight, m.layers[1].bias)  # noqa: E731
    equinox = eqx.tree_at(weights, like, (params["w1"].T, params["b1"], params["w2"].T, params["b2"]))
    flax = {
        "first": {"kernel": params["w1"], "bias": params["b1"]},
        "second": {"kernel": params["w2"], "bias": params["b2"]},
    }
    assert jax.tree.structure(flax) == jax.tree.structure(as_nnx.model.init(jax.random.key(0)))

    def graded(task, params):
        def loss(params):
            value, weight = task.loss(task.forward(params, batch, jax.random.key(2)), batch)
            return jnp.sum(value * weight) / jnp.sum(weight)

        return jax.jit(jax.value_and_grad(loss))(params)

    loss, gradient = graded(as_functions, params)
    loss_e, gradient_e = graded(as_equinox, equinox)
    loss_n, gradient_n = graded(as_nnx, flax)
    np.testing.assert_allclose([loss_e, loss_n], [loss, loss], rtol=1e-6)
    np.testing.assert_allclose(gradient_e.layers[0].weight.T, gradient["w1"], atol=1e-6)
    np.testing.assert_allclose(gradient_e.layers[1].bias, gradient["b2"], atol=1e-6)
    for name, place in (("w1", ("first", "kernel")), ("b1", ("first", "bias")), ("w2", ("second", "kernel"))):
        np.testing.assert_allclose(gradient_n[place[0]][place[1]], gradient[name], atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_parameters_are_float32_and_lie_in_a_vector(name):
    model = as_model(ALL[name])
    params = jax.jit(model.init)(jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    layout = Layout.of(params)
    back = jax.jit(lambda params: layout.unflatten(layout.flatten(params)))(params)
    assert jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(a, b), params, back))


@pytest.mark.parametrize("name", ALL)
def test_dropout_is_on_with_a_key_and_off_without(name, batch):
    model = as_model(ALL[name])
    params = model.init(jax.random.key(0))
    one, two = jax.random.key(1), jax.random.key(2)
    jitted = jax.jit(model.apply)
    outputs = {k: jitted(params, batch["x"], key) for k, key in (("off", None), ("one", one), ("two", two))}
    assert not np.allclose(outputs["one"], outputs["two"])
    assert not np.allclose(outputs["one"], outputs["off"])
    # Again, without compiling: an earlier call leaves nothing in the model.
    np.testing.assert_allclose(model.apply(params, batch["x"], one), outputs["one"], atol=1e-5)
    np.testing.assert_allclose(model.apply(params, batch["x"], None), outputs["off"], atol=1e-5)


@pytest.mark.parametrize("name", ["equinox", "nnx"])
def test_dropout_differs_between_examples(name):
    model = as_model(ALL[name])
    outputs = model.apply(model.init(jax.random.key(0)), jnp.ones((8, FEATURES)), jax.random.key(1))
    assert len(np.unique(np.asarray(outputs).round(5), axis=0)) > 2


def test_each_random_stream_of_nnx_has_its_own_bits():
    class Two(nnx.Module):
        def __init__(self, rngs):
            self.scale = nnx.Param(jnp.ones(()))
            self.one, self.two = nnx.Dropout(0.5, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x):
            return self.scale * jnp.stack([self.one(x), self.two(x)], axis=1)

    model = from_nnx(Two)
    out = model.apply(model.init(jax.random.key(0)), jnp.ones((1, 64)), jax.random.key(1))
    assert not np.array_equal(out[0, 0], out[0, 1])


@pytest.mark.parametrize("name", ALL)
def test_clients_can_be_vmapped(name, batch):
    model = as_model(ALL[name])
    keys = jax.random.split(jax.random.key(3), 2)
    params = jax.jit(jax.vmap(model.init))(keys)
    x = np.stack([batch["x"], np.asarray(batch["x"]) + 1])
    together = jax.jit(jax.vmap(model.apply))(params, x, keys)
    apply, params = jax.jit(model.apply), jax.tree.map(np.asarray, params)
    for i in range(2):
        alone = apply(jax.tree.map(lambda leaf: leaf[i], params), x[i], keys[i])  # noqa: B023
        np.testing.assert_allclose(together[i], alone, atol=1e-5)


@pytest.mark.parametrize("name", ["functions", "equinox", "nnx"])
def test_a_factory_starts_from_the_key(name):
    model = as_model(ALL[name])
    one, again, two = (jax.tree.leaves(model.init(jax.random.key(s))) for s in (1, 1, 2))
    assert all(bool((a == b).all()) for a, b in zip(one, again, strict=True))
    assert not all(bool((a == b).all()) for a, b in zip(one, two, strict=True))
    trees = [jax.tree.structure(model.init(jax.random.key(s))) for s in (1, 2)]
    assert trees[0] == trees[1]


def test_an_instance_starts_from_its_own_parameters_and_keeps_them():
    module = OneExample(jax.random.key(9))
    params = from_equinox(module).init(jax.random.key(0))
    np.testing.assert_array_equal(params.linear.weight, module.linear.weight)
    jax.jit(lambda p: jax.tree.map(jnp.zeros_like, p), donate_argnums=0)(params)
    assert float(jnp.abs(module.linear.weight).sum()) > 0
    network = Perceptron(rngs=nnx.Rngs(9))
    flax = from_nnx(network)
    params = flax.init(jax.random.key(0))
    np.testing.assert_array_equal(params["first"]["kernel"], network.first.kernel[...])


def test_trained_parameters_go_back_into_the_module(batch):
    module, network = OneExample(jax.random.key(9)), Perceptron(rngs=nnx.Rngs(9))
    for model, put_back in (
        (from_equinox(module), lambda p: jax.vmap(eqx.nn.inference_mode(eqx.combine(p, module)))),
        (from_nnx(network), lambda p: nnx.update(network, p) or network),
    ):
        params = jax.tree.map(lambda leaf: leaf * 0.5 + 0.1, model.init(jax.random.key(0)))
        expected = model.apply(params, batch["x"], None)
        np.testing.assert_allclose(put_back(params)(batch["x"]), expected, atol=1e-6)


def test_a_bfloat16_model_keeps_float32_masters(batch):
    halves = lambda key: jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), init(key))  # noqa: E731
    seen = []
    model = from_functions(halves, lambda params, x: seen.append(params["w1"].dtype) or apply(params, x))
    params = model.init(jax.random.key(0))
    model.apply(params, batch["x"], None)
    assert params["w1"].dtype == jnp.float32
    assert seen[-1] == jnp.bfloat16


def test_integers_are_constants_of_a_module(batch):
    class Shuffled(eqx.Module):
        order: jax.Array
        linear: eqx.nn.Linear

        def __init__(self, key):
            self.order = jnp.arange(FEATURES)[::-1]
            self.linear = eqx.nn.Linear(FEATURES, CLASSES, key=key)

        def __call__(self, x):  # takes no key
            return self.linear(x[self.order])

    class Table(nnx.Module):
        def __init__(self, rngs):
            self.order = nnx.Param(jnp.arange(FEATURES)[::-1])
            self.linear = nnx.Linear(FEATURES, CLASSES, rngs=rngs)

        def __call__(self, x):
            return self.linear(x[:, self.order[...]])

    for module in (Shuffled, Table):
        model = as_model(module)
        params = model.init(jax.random.key(0))
        assert sorted(leaf.size for leaf in jax.tree.leaves(params)) == [CLASSES, FEATURES * CLASSES]
        assert model.apply(params, batch["x"], jax.random.key(0)).shape == (8, CLASSES)


def test_apply_gets_the_key_only_where_it_asks():
    def keyword_only(params, x, *, key):
        return key

    def third_with_default(params, x, train=False):
        return train

    def default_rng(params, x, flag=1, rng=None):
        return rng

    key = jax.random.key(5)
    for function, expected in ((keyword_only, key), (third_with_default, False), (default_rng, key)):
        model = from_functions(init, function)
        assert model.apply(model.init(key), None, key) is expected


class Normalised(eqx.Module):
    norm: eqx.nn.BatchNorm

    def __init__(self, key):
        self.norm = eqx.nn.BatchNorm(FEATURES, "batch", mode="batch")

    def __call__(self, x, state):
        return self.norm(x, state)


class Spectral(eqx.Module):
    norm: eqx.nn.SpectralNorm

    def __init__(self, key):
        self.norm = eqx.nn.SpectralNorm(eqx.nn.Linear(3, 3, key=key), "weight", key=key)

    def __call__(self, x):
        return x


class NormalisedFlax(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(FEATURES, rngs=rngs)

    def __call__(self, x):
        return self.norm(x)


class OwnStatistics(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(2, 2, rngs=rngs)
        self.mean = nnx.BatchStat(jnp.zeros(2))

    def __call__(self, x):
        return self.linear(x - self.mean[...])


@pytest.mark.parametrize(
    "module",
    [
        Normalised,
        Normalised(jax.random.key(0)),
        lambda key: eqx.nn.make_with_state(Normalised)(key),
        NormalisedFlax,
        NormalisedFlax(nnx.Rngs(0)),
        OwnStatistics,
    ],
)
def test_batch_normalisation_is_refused_with_the_reason(module):
    build = from_nnx if isinstance(module, type) and issubclass(module, nnx.Module) else as_model
    with pytest.raises(ModelError, match=r"(?s)batch normalisation.*mean of the clients.*GroupNorm"):
        build(module)


def of(module, name, *bases):
    """A class as it would come from a framework that need not be here."""
    return type(name, bases, {"__module__": module, "__call__": lambda self, x: x})


class NotCallable(eqx.Module):
    weight: jax.Array = eqx.field(default_factory=lambda: jnp.ones(3))


class Silent(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(2, 2, rngs=rngs)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (Spectral, "state that changes"),
        (lambda key: eqx.nn.make_with_state(Spectral)(key), "state that changes"),
        (eqx.nn.Lambda(jnp.tanh), "no floating-point parameters"),
        ((lambda key: {}, apply), "no floating-point parameters"),
        ((lambda key: {"n": jnp.arange(3)}, apply), r"parameter \['n'\]: given int32"),
        ((lambda key: {"z": jnp.ones(3, complex)}, apply), "given complex64"),
        ((lambda key, example: {}, apply), "expected one parameter"),
        ((init, lambda params, x, key, train: x), r"expected \(params, x\)"),
        ((init, apply, apply), "expected functions"),
        (NotCallable(), "no __call__"),
        (Silent(nnx.Rngs(0)), "no __call__"),
        (lambda key: 3, "expected an eqx.Module"),
        (lambda rngs: 3, "expected an nnx.Module"),
        ("two_nn", "given str"),
        (lambda: 3, "expected functions"),
        (None, "given NoneType"),
        (eqx.nn.MLP, r"given MLP without in_size, out_size.*MLP\(in_size.*key=jax.random.key\(0\)\)"),
        (nnx.Linear, r"given Linear without in_features, out_features.*rngs=nnx.Rngs\(0\)\)"),
        (apply, r"given the function apply\(params, x\).*pass \(init, apply\)"),
        (
            [WithDropout(nnx.Rngs(0)), WithDropout(nnx.Rngs(0))],
            "given a list of WithDropout, WithDropout.*Pass one module",
        ),
        (init(jax.random.key(0)), r"look like parameters: pass \(lambda key: params"),
        (nn.Dense(3), r"lambda key: net.init\(key, example\), net.apply\)"),
        (of("haiku._src.transform", "Transformed", tuple)((init, apply)), r"net.apply\(params, key, x\)"),
        (of("transformers.models.bert", "FlaxBertModel")(), r"dropout_rng=key"),
        (of("transformers.models.bert", "TFBertModel")(), r"Load the PyTorch model"),
        (of("tensorflow.keras", "Model")(), r"Keras 3 on JAX"),
        (of("sklearn.svm", "SVC")(), r"fr.from_sklearn\(estimator"),
    ],
)
def test_what_cannot_be_trained_is_refused(model, says):
    with pytest.raises(ModelError, match=says):
        as_model(model)


@pytest.mark.parametrize(
    ("adapter", "package", "extra"),
    [(from_equinox, "equinox", "equinox"), (from_nnx, "flax", "flax"), (from_torch, "torch", "torch")],
)
def test_a_missing_framework_is_named(adapter, package, extra, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(MissingExtra, match=rf"fairyring\[{extra}\]"):
        adapter(lambda key: None)


def test_a_model_is_itself():
    model = Model(init, lambda params, x, key: apply(params, x))
    assert as_model(model) is model


def own_softmax(x):
    exps = jnp.exp(x - x.max(axis=1, keepdims=True))
    return exps / exps.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("last", "found"),
    [
        (jax.nn.softmax, "softmax"),
        (own_softmax, "softmax"),
        (lambda x: jax.jit(jax.nn.softmax)(x.astype(jnp.bfloat16)).astype(jnp.float32)[:, :2], "softmax"),
        (jax.nn.sigmoid, "sigmoid"),
        (jax.nn.log_softmax, ""),
        (lambda x: x / x.sum(axis=1, keepdims=True), ""),
        (lambda x: jax.nn.softmax(x) @ jnp.ones((3, 3)), ""),
        (lambda x: jnp.log(jax.nn.softmax(x)), ""),
        (lambda x: (jax.nn.softmax(x), x), ""),
        (lambda x: x, ""),
    ],
)
def test_probabilities_are_told_from_logits(last, found):
    assert final_activation(jax.make_jaxpr(last)(jnp.ones((2, 3)))) == found
