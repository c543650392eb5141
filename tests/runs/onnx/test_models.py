"""Whole models, from the program that a run folder keeps: ONNX Runtime computes what `predict` computes."""

import sys
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fairyring as fr
from fairyring.core.errors import MissingExtra
from fairyring.core.program import Program
from fairyring.learning.forward import StoredModel, stored_model
from fairyring.runs import TrainedModel
from fairyring.runs.model import Inputs
from fairyring.runs.onnx import to_onnx

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

ROWS = 5
RNG = np.random.default_rng(3)
BYTES = ((28, 28), np.uint8)


def normalised(x: jax.Array) -> jax.Array:
    return (x.astype(jnp.float32) - 127) / 64


def channels_first(x: jax.Array) -> jax.Array:
    return jnp.moveaxis(x, -1, 1) / 255


class Perceptron(eqx.Module):
    """For one example, with layers of Equinox's own."""

    first: eqx.nn.Conv2d
    norm: eqx.nn.LayerNorm
    out: eqx.nn.Linear

    def __init__(self, key: jax.Array) -> None:
        keys = jax.random.split(key)
        self.first = eqx.nn.Conv2d(1, 4, 3, stride=2, padding=1, key=keys[0])
        self.norm = eqx.nn.LayerNorm((4, 14, 14))
        self.out = eqx.nn.Linear(4 * 14 * 14, 3, key=keys[1])

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.out(jax.nn.gelu(self.norm(self.first(x[None])), approximate=False).reshape(-1))


def of_flax() -> Any:
    nnx = pytest.importorskip("flax.nnx")

    class Recurrent(nnx.Module):
        def __init__(self, rngs: Any) -> None:
            self.embed = nnx.Embed(11, 6, rngs=rngs)
            self.conv = nnx.Conv(6, 8, (3,), padding="CAUSAL", rngs=rngs)
            self.rnn = nnx.RNN(nnx.GRUCell(8, 7, rngs=rngs))
            self.attention = nnx.MultiHeadAttention(1, 7, 8, decode=False, rngs=rngs)
            self.out = nnx.Linear(7, 4, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            x = self.rnn(nnx.silu(self.conv(self.embed(x))))
            return self.out(x + self.attention(x)).mean(1)

    return Recurrent(nnx.Rngs(0))


def of_torch() -> Any:
    torch = pytest.importorskip("torch")
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.GroupNorm(2, 8),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(8, 8, 3, groups=4),
        nn.ELU(),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.AvgPool2d(2, 1, 1),
        nn.Flatten(),
        nn.Linear(8 * 4 * 4, 10),
    )


MODELS: dict[str, tuple[Any, tuple[tuple[int, ...], Any], dict[str, Any]]] = {
    "logistic regression": (lambda: fr.zoo.logistic_regression(784, 62), BYTES, {}),
    "c2": (fr.zoo.c2, BYTES, {"prepare": normalised}),
    "lstm": (lambda: fr.zoo.lstm(20, embedding=4, units=16), ((12,), np.int32), {}),
    "transformer": (lambda: fr.zoo.transformer(20, 12), ((12,), np.int32), {}),
    "mobilenet": (lambda: fr.zoo.mobilenet((32, 32, 3), 10), ((32, 32, 3), np.uint8), {}),
    "equinox": (lambda: Perceptron, BYTES, {}),
    "flax": (of_flax, ((9,), np.int32), {}),
    "torch": (of_torch, ((16, 16, 3), np.uint8), {"prepare": channels_first}),
}


def trained(name: str) -> tuple[TrainedModel, StoredModel, list[np.ndarray]]:
    """A model as a run folder keeps it, with the parameters that it begins with."""
    make, (shape, dtype), more = MODELS[name]
    model = make()
    if name in ("lstm", "transformer"):
        task, labels = fr.next_token(model), {}
    else:
        task, labels = fr.classification(model, **more), {"y": ((), np.int32)}
    plan = fr.Plan(task, fr.LocalTraining(optax.sgd(0.1)), 1)
    columns = {task.inputs: (shape, np.dtype(dtype)), **labels}
    stored = StoredModel.decode(stored_model(plan, columns).encode())
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(plan.task.model.init(jax.random.key(1)))]
    names = [".".join(path) for path in stored.parameters]
    inputs = Inputs(stored.column, tuple(stored.shape), np.dtype(stored.dtype), stored.rows)
    program = Program(stored.function(), jax.local_devices()[:1])
    return TrainedModel(0, {}, leaves, names, inputs, stored.function, lambda: program, None), stored, leaves


@pytest.mark.dealt(4, "name")
@pytest.mark.parametrize("name", MODELS)
def test_a_model_predicts_as_in_fairyring(name: str) -> None:
    model, stored, leaves = trained(name)
    content = to_onnx(stored.function(), leaves, model.names, model.inputs, ROWS)
    onnx.checker.check_model(content, full_check=True)
    file = onnx.load_from_string(content)
    held = {one.name: onnx.numpy_helper.to_array(one) for one in file.graph.initializer}
    for parameter, leaf in zip(model.names, leaves, strict=True):
        np.testing.assert_array_equal(held[parameter], leaf)
    (given,) = file.graph.input
    assert given.name == model.inputs.column

    shape, dtype = (ROWS, *model.inputs.shape), model.inputs.dtype
    x = RNG.integers(0, 255 if dtype == np.uint8 else 11, shape).astype(dtype)
    expected = model.predict(x)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert [out.name for out in session.get_outputs()] == ["output"]
    (found,) = session.run(["output"], {given.name: x})
    assert found.shape == expected.shape
    error = np.abs(found - expected).max() / np.abs(expected).max()
    print(f"{name}: {error:.1e}, {len(content):,} bytes, {len(file.graph.node)} operators")
    assert error < 1e-5


def test_names_that_are_the_same_are_told_apart() -> None:
    parameters = [np.full((1,), value, np.float32) for value in (1, 2, 3)]
    given = Inputs("x", (1,), np.dtype(np.float32))

    def function(parameters: list[Any], x: Any) -> Any:
        return {"sum": x + sum(parameters), "first": parameters[0] * x}

    content = to_onnx(function, parameters, ["x", "output_1", "w"], given, 2)
    file = onnx.load_from_string(content)
    assert {one.name for one in file.graph.initializer} >= {"output_1_", "w", "x_"}
    x = np.array([[1], [2]], np.float32)
    first, whole = onnxruntime.InferenceSession(content).run(["output_0", "output_1"], {"x": x})
    np.testing.assert_array_equal(first, x)
    np.testing.assert_array_equal(whole, x + 6)


def test_without_onnx_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtra, match=r"fairyring\[onnx\]"):
        to_onnx(lambda parameters, x: x, [], [], Inputs("x", (1,), np.dtype(np.float32)), 1)
