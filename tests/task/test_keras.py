"""Keras models: the outputs and gradients that Keras computes, randomness from the run's keys, and back into Keras after training."""

import os
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fairyring as fr
from fairyring.core.errors import MissingExtra, ModelError
from fairyring.task import as_model, from_keras

os.environ["KERAS_BACKEND"] = "jax"  # before keras is imported, as every user of it must
keras = pytest.importorskip("keras")

from keras import layers  # noqa: E402


def cnn() -> Any:
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.GroupNormalization(2),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(8, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(3),
        ]
    )


def words() -> Any:
    """A functional model with a mask, recurrent layers that share a cell's name, and a skip."""
    tokens = keras.Input((5,), dtype="int32")
    x = layers.Embedding(9, 6, mask_zero=True)(tokens)
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(x)
    x = layers.Add()([x, layers.Dense(8)(x)])
    return keras.Model(tokens, layers.Dense(3)(layers.GRU(4)(x)))


class Own(keras.Model):
    """A subclass whose `call` has no argument `training`: its dropout goes by the outer call's."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = layers.Dense(8), layers.LayerNormalization()
        self.dropout, self.noise, self.out = layers.Dropout(0.5), layers.GaussianNoise(0.1), layers.Dense(3)

    def call(self, x: Any) -> Any:
        return self.out(self.dropout(self.norm(keras.ops.tanh(self.noise(self.first(x))))))


def own() -> Any:
    model = Own()
    model(np.zeros((1, 5), np.float32))
    return model


MAKERS = {"sequential": cnn, "functional": words, "subclass": own}
DROPS = ("sequential", "subclass")


def inputs(name: str, rows: int = 8) -> np.ndarray:
    rng = np.random.default_rng(0)
    if name == "functional":
        return rng.integers(0, 9, (rows, 5)).astype(np.int32)
    return rng.normal(size=(rows, 6, 6, 1) if name == "sequential" else (rows, 5)).astype(np.float32)


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    keras.utils.set_random_seed(0)
    return {name: make() for name, make in MAKERS.items()}


@pytest.mark.dealt(3, "name")
@pytest.mark.parametrize("name", MAKERS)
def test_outputs_and_gradients_are_those_of_keras(models: dict[str, Any], name: str) -> None:
    model, x = models[name], inputs(name)
    ours = as_model(model)
    params = ours.init(jax.random.key(0))
    assert sum(part.size for part in params.values()) == sum(v.value.size for v in model.trainable_variables)
    np.testing.assert_allclose(ours.apply(params, jnp.asarray(x), None), model(x), rtol=1e-6, atol=1e-6)

    def reference(trainable: Any) -> jax.Array:
        outputs, _ = model.stateless_call(trainable, model.non_trainable_variables, x)
        return jnp.square(outputs).sum()

    expected = jax.jit(jax.grad(reference))([v.value for v in model.trainable_variables])
    found = jax.jit(jax.grad(lambda params: jnp.square(ours.apply(params, jnp.asarray(x), None)).sum()))(
        params
    )
    # The order of the dict is that of its names; each weight is found again by its value.
    for variable, gradient in zip(model.trainable_variables, expected, strict=True):
        own = [
            n for n, p in params.items() if p.shape == variable.shape and np.array_equal(p, variable.value)
        ]
        assert any(np.allclose(found[n], gradient, rtol=1e-4, atol=1e-5) for n in own), variable.path


@pytest.mark.parametrize("name", DROPS)
def test_what_draws_draws_from_the_key(models: dict[str, Any], name: str) -> None:
    ours, x = as_model(models[name]), jnp.asarray(inputs(name))
    params = ours.init(jax.random.key(0))
    apply = jax.jit(ours.apply)
    one, again, two = (np.asarray(apply(params, x, jax.random.key(s))) for s in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, two)
    assert not np.allclose(one, apply(params, x, None))
    # Clients and steps are keys: under vmap each has masks of its own.
    both = jax.jit(jax.vmap(ours.apply, (None, None, 0)))(params, x, jax.random.split(jax.random.key(3)))
    assert not np.allclose(both[0], both[1])


def test_each_layer_draws_for_itself() -> None:
    entered = keras.Input((64,))
    drops = [
        layers.Dropout(0.5, seed=7)(layers.Dense(64, kernel_initializer="identity")(entered))
        for _ in range(2)
    ]
    shared = layers.Dropout(0.5)
    model = from_keras(
        keras.Model(entered, keras.ops.stack([*drops, shared(entered), shared(entered)], axis=1))
    )
    out = np.asarray(model.apply(model.init(jax.random.key(0)), jnp.ones((1, 64)), jax.random.key(1)))[0]
    assert len({tuple(row) for row in out}) == 4
    assert 0.3 < (out == 0).mean() < 0.7


def test_names_are_those_of_a_new_process() -> None:
    """Keras counts on: the second model of a process has other names, which would make another plan of the same code."""
    names = [sorted(as_model(make()).init(None)) for make in (words, words)]
    assert names[0] == names[1]
    assert "bidirectional/forward_lstm/lstm_cell/kernel" in names[0]
    assert {"dense/kernel", "dense_1/kernel", "embedding/embeddings", "gru/gru_cell/bias"} <= set(names[0])


def people(x: np.ndarray, y: np.ndarray) -> fr.Population:
    return fr.Population.from_arrays({"x": x, "y": y}, client=np.arange(len(x)) // 6)


def test_a_model_is_trained_and_goes_back(tmp_path: Any) -> None:
    def net() -> Any:
        frozen = keras.Sequential([keras.Input((5,)), layers.Dense(6), layers.BatchNormalization()])
        frozen.trainable = False  # so its statistics are constants
        return keras.Sequential([keras.Input((5,)), frozen, layers.Dropout(0.2), layers.Dense(3)])

    keras.utils.set_random_seed(1)
    model = net()
    model.layers[0].layers[-1].moving_mean.assign(np.full(6, 0.5))
    before = [np.array(v.value) for v in model.weights]
    x = np.random.default_rng(0).normal(size=(24, 5)).astype(np.float32)
    y = np.argmax(x[:, :3], axis=1).astype(np.int32)
    population = people(x, y)
    plan = fr.Plan(fr.classification(model), local=fr.LocalTraining(optax.sgd(0.5), batch_size=4), cohort=4)
    run = fr.simulate(plan, population, rounds=4, processors=1, test=population, run=tmp_path / "run")
    assert [part.shape for part in run.params.values()] == [(3,), (6, 3)]
    assert run.records[-1].test is not None
    assert run.records[0].test is not None
    assert run.records[-1].test.loss < run.records[0].test.loss
    for own, kept in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(own.value, kept, err_msg="the model is left as it was")

    other = net()
    assert run.into(other) is other
    np.testing.assert_allclose(other(x), run.predict(x), rtol=1e-6, atol=1e-6)
    saved = fr.load_run(tmp_path / "run")
    np.testing.assert_array_equal(saved.predict(x), run.predict(x))
    with pytest.raises(ModelError, match=r"none: the run has no such weight.*load_run\(folder, plan=plan\)"):
        saved.into(net())  # what is frozen is not among what was trained
    whole = fr.load_run(tmp_path / "run", plan=plan).into(net())
    np.testing.assert_allclose(whole(x), other(x), rtol=1e-6, atol=1e-6)
    with pytest.raises(ModelError, match=r"run.into\(model\): given a model with 'sequential/conv2d/bias'"):
        run.into(cnn())
    with pytest.raises(ModelError, match="given int; expected a Keras model"):
        run.into(3)


def test_a_loaded_run_goes_back_without_its_plan(tmp_path: Any) -> None:
    def net() -> Any:
        return keras.Sequential([keras.Input((5,)), layers.Dense(3)])

    x = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    plan = fr.Plan(fr.regression(net()), local=fr.LocalTraining(optax.sgd(0.1), batch_size=4), cohort=2)
    run = fr.simulate(plan, people(x, x[:, :3]), rounds=1, processors=1, run=tmp_path / "run")
    back = fr.load_run(tmp_path / "run").into(net())
    np.testing.assert_allclose(back(x), run.predict(x), rtol=1e-6, atol=1e-6)


# -- what is refused ------------------------------------------------------------------------------------------------


def of(*inner: Any) -> Any:
    return keras.Sequential([keras.Input((5,)), *inner, layers.Dense(3)])


def two_inputs() -> Any:
    left, right = keras.Input((5,)), keras.Input((5,))
    return keras.Model([left, right], layers.Dense(3)(layers.Add()([left, right])))


class Adds(layers.Layer):
    def call(self, x: Any) -> Any:
        self.add_loss(keras.ops.sum(x))
        return x


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda: Own, r"given the class Own; expected an instance of keras.Model, built"),
        (lambda: Own(), r"not built: it has no weights yet.*call it once on a batch"),
        (lambda: keras.Sequential([layers.Dense(3)]), r"not built.*keras.Input\(shape\)"),
        (
            lambda: of(layers.BatchNormalization()),
            r"(?s)batch normalisation \(layer 'batch_norm.*GroupNormalization\(8\)",
        ),
        (lambda: of(layers.Dense(4, kernel_regularizer="l2")), r"a regularizer of .*add_decayed_weights"),
        (lambda: of(layers.Dense(4, activity_regularizer="l2")), r"an activity_regularizer in layer"),
        (lambda: of(layers.Dense(4, kernel_constraint="non_neg")), r"a constraint on .*softplus"),
        (two_inputs, r"given 2 inputs; expected one"),
        (lambda: keras.Sequential([keras.Input((5,)), layers.Dropout(0.5)]), r"no floating-point parameters"),
    ],
)
def test_what_cannot_be_trained_is_refused(made: Any, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        as_model(made())


@pytest.mark.parametrize(
    ("model", "task", "says"),
    [
        (lambda: of(Adds()), fr.regression, r"losses of their own \(add_loss"),
        (
            lambda: of(layers.SpectralNormalization(layers.Dense(4))),
            fr.regression,
            r"state that changes.*which a call changes",
        ),
        (
            lambda: keras.Sequential([keras.Input((5,)), layers.Dense(3, activation="softmax")]),
            fr.classification,
            r"outputs of a softmax; expected logits.*layers\[-1\].activation = keras.activations.linear",
        ),
        (
            lambda: keras.Sequential([keras.Input((5,)), layers.Dense(3), layers.Activation("sigmoid")]),
            fr.multi_label,
            r"outputs of a sigmoid",
        ),
    ],
)
def test_what_its_first_call_shows_is_refused_before_training(model: Any, task: Any, says: str) -> None:
    x, y = np.zeros((4, 5), np.float32), np.zeros(4, np.int32)
    labels = y if task is fr.classification else np.zeros((4, 3), np.int32)
    with pytest.raises(ModelError, match=says):
        task(model()).validate(people(x, labels))


def test_a_softmax_is_taken_away_as_the_error_says() -> None:
    model = keras.Sequential([keras.Input((5,)), layers.Dense(3, activation="softmax")])
    model.layers[-1].activation = keras.activations.linear
    fr.classification(model).validate(people(np.zeros((4, 5), np.float32), np.zeros(4, np.int32)))
    fr.regression(keras.Sequential([keras.Input((5,)), layers.Dense(1, activation="sigmoid")])).validate(
        people(np.zeros((4, 5), np.float32), np.zeros(4, np.float32))
    )


def test_another_backend_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = of()
    monkeypatch.setattr(keras.config, "backend", lambda: "torch")
    with pytest.raises(ModelError, match=r"backend 'torch'.*os.environ\['KERAS_BACKEND'\] = 'jax'"):
        fr.classification(model)


def test_keras_is_imported_only_by_who_has_a_model_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import sys, fairyring as fr; fr.classification(fr.zoo.two_nn(features=4, hidden=3, classes=2));"
        "\ntry: fr.classification(3)\nexcept fr.ModelError: pass\n"
        "print(*{'keras', 'sklearn'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(MissingExtra, match=r"fairyring\[keras\]"):
        from_keras(3)
