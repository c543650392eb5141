"""Whole PyTorch modules: the same outputs and gradients as in PyTorch, and back into it after training."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fairyring as fr
from fairyring.core.errors import ModelError
from fairyring.task import as_model

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402


def mlp() -> Any:
    return nn.Sequential(nn.Linear(5, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 3))


def cnn() -> Any:
    """C2 of the federated benchmarks, for smaller images."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(4 * 4 * 16, 32),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(32, 10),
    )


class Residual(nn.Module):
    """A basic block of ResNet, with GroupNorm."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.norm1 = nn.GroupNorm(2, after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norm2 = nn.GroupNorm(2, after)
        self.relu = nn.ReLU(inplace=True)
        self.short = nn.Identity()
        if stride > 1 or before != after:
            self.short = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.GroupNorm(2, after)
            )

    def forward(self, x: Any) -> Any:
        out = self.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        out += self.short(x)
        return self.relu(out)


def resnet() -> Any:
    """ResNet-18's plan, narrow."""
    blocks = [Residual(8, 8, 1), Residual(8, 8, 1)]
    for before, after in ((8, 8), (8, 12), (12, 16)):
        blocks += [Residual(before, after, 2), Residual(after, after, 1)]
    stem = [
        nn.Conv2d(3, 8, 7, 2, 3, bias=False),
        nn.GroupNorm(2, 8),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
    ]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))


class Inverted(nn.Module):
    """A block of MobileNetV2 with squeeze and excitation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = 3 * channels
        self.widen = nn.Sequential(
            nn.Conv2d(channels, wide, 1), nn.GroupNorm(3, wide), nn.Hardswish(inplace=True)
        )
        self.deep = nn.Sequential(nn.Conv2d(wide, wide, 3, padding=1, groups=wide), nn.ReLU6(inplace=True))
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(wide, 4, 1), nn.ReLU(), nn.Conv2d(4, wide, 1), nn.Hardsigmoid()
        )
        self.narrow = nn.Conv2d(wide, channels, 1)

    def forward(self, x: Any) -> Any:
        y = self.deep(self.widen(x))
        return x + self.narrow(y * self.squeeze(y))


def mobilenet() -> Any:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), Inverted(8), nn.AvgPool2d(2), Inverted(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 5),
    )  # fmt: skip


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 6)
        self.lstm = nn.LSTM(6, 8, num_layers=2, batch_first=True)
        self.out = nn.Linear(8, 20)

    def forward(self, tokens: Any) -> Any:
        states, _ = self.lstm(self.embedding(tokens))
        return self.out(states)


class Encoder(nn.Module):
    """A causal encoder; the embedding is tied to the output, and positions are a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(8, 20, bias=False)
        self.out.weight = self.embedding.weight
        self.register_buffer("positions", torch.sin(torch.arange(7.0))[:, None])
        self.register_buffer("hidden", torch.ones(8), persistent=False)

    def forward(self, tokens: Any) -> Any:
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        x = self.embedding(tokens) + self.positions * self.hidden
        return self.out(self.layers(x, mask=mask, is_causal=True))


class Attending(nn.Module):
    """Multi-head attention with its weights, pooled by a learned query."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 1, 8))
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.2, batch_first=True)
        self.out = nn.Linear(8, 3)

    def forward(self, x: Any) -> Any:
        pooled, weights = self.attention(self.query.expand(x.shape[0], -1, -1), x, x)
        return self.out(pooled.squeeze(1)) + weights.mean()


class Branched(nn.Module):
    """A module whose evaluation is another function than its training."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(5, 3)

    def forward(self, x: Any) -> Any:
        if self.training:
            x = x + torch.randn_like(x)
        return self.out(x) * (1 if self.training else 2)


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def words(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 20, shape).astype(np.int32)


MODELS = {
    "mlp": (mlp, floats(4, 5)),
    "cnn": (cnn, floats(4, 1, 12, 12)),
    "resnet": (resnet, floats(2, 3, 32, 32)),
    "mobilenet": (mobilenet, floats(2, 3, 8, 8)),
    "recurrent": (Recurrent, words(4, 7)),
    "encoder": (Encoder, words(4, 7)),
    "attending": (Attending, floats(4, 6, 8)),
    "branched": (Branched, floats(4, 5)),
}


def made(name: str) -> tuple[Any, np.ndarray]:
    make, x = MODELS[name]
    torch.manual_seed(1)
    return make(), x


def in_torch(x: np.ndarray) -> Any:
    return torch.tensor(x).long() if x.dtype == np.int32 else torch.tensor(x)


@pytest.mark.dealt(2, "name")
@pytest.mark.parametrize("name", MODELS)
def test_a_module_computes_what_it_computes_in_pytorch(name: str) -> None:
    module, x = made(name)
    model = as_model(module)
    params = model.init(jax.random.key(0))
    assert sorted(params) == sorted(name for name, _ in module.named_parameters())

    def loss(params: Any) -> tuple[jax.Array, jax.Array]:
        out = model.apply(params, x, None)
        return jnp.sum(jnp.sin(out)), out

    gradient, out = jax.jit(jax.grad(loss, has_aux=True))(params)
    module.eval()
    wanted = module(in_torch(x))
    torch.sin(wanted).sum().backward()
    np.testing.assert_allclose(out, wanted.detach(), atol=1e-5)
    for key, parameter in module.named_parameters():
        scale = max(1.0, float(parameter.grad.abs().max()))
        np.testing.assert_allclose(gradient[key], parameter.grad, atol=1e-4 * scale, err_msg=key)


@pytest.mark.dealt(2, "name")
@pytest.mark.parametrize("name", ["cnn", "encoder", "attending", "branched"])
def test_chance_comes_from_the_key_in_training_and_is_off_in_evaluation(name: str) -> None:
    module, x = made(name)
    model = as_model(module)
    params = model.init(jax.random.key(0))
    apply = jax.jit(model.apply)
    one, again, two = (np.asarray(apply(params, x, jax.random.key(seed))) for seed in (1, 1, 2))
    assert (one == again).all()
    assert not np.allclose(one, two)
    np.testing.assert_array_equal(apply(params, x, None), apply(params, x, None))
    assert module.training, "the module itself is left as it was"


def test_dropout_keeps_the_mean_and_differs_between_layers_and_examples() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))
            self.one, self.two = nn.Dropout(0.5), nn.Dropout(0.25)

        def forward(self, x: Any) -> Any:
            # A functional dropout that forgets to say that this is not training is off in evaluation, too.
            return torch.stack(
                [self.one(x), self.two(x), F.dropout(x, 0.5), F.dropout1d(x[..., None], 0.5)[..., 0]], 1
            )

    module = Two()
    with torch.no_grad():
        module.scale.fill_(1.0)
    out = np.asarray(as_model(module).apply({"scale": jnp.ones(())}, jnp.ones((64, 256)), jax.random.key(0)))
    np.testing.assert_allclose(out.mean(axis=(0, 2)), 1.0, atol=0.05)
    assert {round(float(v), 3) for v in np.unique(out)} == {0.0, 1.333, 2.0}
    assert not (out[:, 0] == out[:, 2]).all()
    assert not (out[0] == out[1]).all()


def people(module: Any, x: np.ndarray, y: np.ndarray, **options: Any) -> tuple[fr.Plan, fr.Population]:
    population = fr.Population.from_arrays({"x": x, "y": y}, client=np.repeat(np.arange(4), len(x) // 4))
    local = fr.LocalTraining(optax.sgd(0.1, momentum=0.9), epochs=2, batch_size=5)
    return fr.Plan(fr.classification(module, **options), local=local, cohort=3), population


def test_training_equals_that_of_the_same_model_in_functions() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(48, 1, 8, 8)).astype(np.float32), rng.integers(0, 3, 48)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 3))
    start = {name: jnp.asarray(p.detach().numpy()) for name, p in module.named_parameters()}

    def apply(params: Any, x: jax.Array) -> jax.Array:
        kernel = params["0.weight"].transpose(2, 3, 1, 0)
        x = jax.lax.conv_general_dilated(
            x.transpose(0, 2, 3, 1), kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jnp.tanh(x + params["0.bias"]).reshape(-1, 3, 2, 3, 2, 4).mean((2, 4))
        return x.transpose(0, 3, 1, 2).reshape(-1, 36) @ params["4.weight"].T + params["4.bias"]

    runs = []
    for model in (module, (lambda key: start, apply)):
        plan, population = people(model, x, y)
        runs.append(fr.simulate(plan, population, rounds=3, seed=5, processors=1, test=population))
    for name in start:
        np.testing.assert_allclose(runs[0].params[name], runs[1].params[name], atol=1e-5)
        assert not np.allclose(runs[0].params[name], start[name], atol=1e-3), "it is trained"

    back = runs[0].into(
        nn.Sequential(*(type(m)(*a) for m, a in zip(module, ((1, 4, 3), (), (2,), (), (36, 3)), strict=True)))
    )
    task = runs[0].plan.task
    logits = task.forward(runs[0].params, {"x": jnp.asarray(x)}, None)
    np.testing.assert_allclose(back(torch.tensor(x)).detach(), logits, atol=1e-5)
    right = (back(torch.tensor(x)).argmax(1).numpy() == y).mean()
    assert right == pytest.approx(runs[0].records[-1].test.metrics["accuracy"], abs=1e-6)
    np.testing.assert_array_equal(
        module[0].weight.detach(), start["0.weight"], err_msg="the module is left as it was"
    )

    with pytest.raises(
        ModelError, match=r"(?s)run.into\(module\): given Linear: .*4.weight.*the parameters of the one"
    ):
        runs[0].into(nn.Linear(3, 3))
    with pytest.raises(ModelError, match=r"eqx\.combine"):
        runs[1].state_dict()


def test_shared_frozen_and_constant_tensors_go_back_as_they_are() -> None:
    module, x = made("encoder")
    module.layers.layers[0].linear1.weight.requires_grad_(False)
    model = as_model(module)
    params = model.init(jax.random.key(0))
    assert "out.weight" not in params
    assert "layers.layers.0.linear1.weight" not in params
    assert not {"positions", "hidden"} & params.keys()
    params = {name: value + 0.1 for name, value in params.items()}
    state = model.native(params)
    assert state.keys() == module.state_dict().keys()
    assert state["out.weight"] is state["embedding.weight"]
    torch.manual_seed(2)
    other = Encoder().eval()
    other.load_state_dict(state)
    assert other.out.weight is other.embedding.weight
    ours = jax.jit(model.apply)(params, x, None)
    np.testing.assert_allclose(other(in_torch(x)).detach(), ours, atol=1e-5)


class Partly(nn.Module):
    """With a layer that is not trained, a buffer, and a parameter under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen, self.inner = nn.Linear(5, 4).requires_grad_(False), nn.Linear(4, 4, bias=False)
        self.again, self.out = nn.Linear(4, 4, bias=False), nn.Linear(4, 3)
        self.again.weight = self.inner.weight
        self.register_buffer("scale", torch.rand(4).to(torch.bfloat16))
        self.register_buffer("count", torch.tensor(7))

    def forward(self, x: Any) -> Any:
        return self.out(torch.tanh(self.again(self.inner(self.frozen(x) * self.scale.float()))))


def test_a_run_from_its_folder_gives_the_whole_module_back(tmp_path: Any) -> None:
    """Also what was not trained: a new module has other numbers there."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, 5)).astype(np.float32), rng.integers(0, 3, 16)
    torch.manual_seed(0)
    plan, population = people(Partly(), x, y)
    run = fr.simulate(plan, population, rounds=1, run=tmp_path / "run")
    saved = fr.load_run(tmp_path / "run")
    state = saved.state_dict()
    expected = run.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[n], expected[n]) and state[n].dtype == expected[n].dtype for n in expected)
    torch.manual_seed(1)
    other = saved.into(Partly()).eval()
    np.testing.assert_allclose(other(torch.tensor(x)).detach(), saved.predict(x), atol=1e-5)
    with pytest.raises(fr.RunMismatch, match="apply"):  # a plan with other frozen layers is another plan
        fr.load_run(tmp_path / "run", plan=people(Partly(), x, y)[0])


def test_a_module_in_bfloat16_has_float32_masters() -> None:
    module = mlp().bfloat16()
    model = as_model(module)
    params = model.init(jax.random.key(0))
    assert {leaf.dtype for leaf in params.values()} == {jnp.dtype("float32")}
    x = jnp.asarray(floats(4, 5), jnp.bfloat16)
    out = model.apply(params, x, None)
    assert out.dtype == jnp.bfloat16
    wanted = module(torch.tensor(floats(4, 5)).bfloat16()).detach().float()
    np.testing.assert_allclose(np.asarray(out, np.float32), wanted, atol=0.05)
    assert model.native(params)["0.weight"].dtype == torch.bfloat16


def test_a_module_in_float64_is_trained_in_float32() -> None:
    module = mlp().double()
    model = as_model(module)
    params = model.init(jax.random.key(0))
    out = model.apply(params, floats(4, 5), None)
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out, module(torch.tensor(floats(4, 5)).double()).detach(), atol=1e-5)
    module.load_state_dict(model.native(params))
    assert module[0].weight.dtype == torch.float64


def test_any_number_of_examples_and_several_shapes() -> None:
    module, x = made("cnn")
    model = as_model(module)
    params = model.init(jax.random.key(0))
    apply = jax.jit(model.apply)
    whole = np.asarray(apply(params, np.repeat(x, 2, 0), None))
    for rows in (1, 3, 8):
        np.testing.assert_allclose(apply(params, np.repeat(x, 2, 0)[:rows], None), whole[:rows], atol=1e-5)
    language = as_model(Recurrent())
    params, apply = language.init(jax.random.key(0)), jax.jit(language.apply)
    assert [apply(params, words(2, n), None).shape for n in (3, 9)] == [(2, 3, 20), (2, 9, 20)]


def test_a_module_for_one_size_of_batch_works_for_that_size() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(5, 3)

        def forward(self, x: Any) -> Any:
            return self.out(x.reshape(4, 5))

    model = as_model(Fixed())
    assert model.apply(model.init(jax.random.key(0)), floats(4, 5), None).shape == (4, 3)
    with pytest.raises(ModelError, match=r"(?s)module Fixed: given .*invalid for input.*shape \(B, 5\)"):
        model.apply(model.init(jax.random.key(0)), floats(3, 5), None)


def test_later_changes_of_the_module_do_not_reach_the_model() -> None:
    module = mlp()
    model = as_model(module)
    before = model.init(jax.random.key(0))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    np.testing.assert_array_equal(model.init(jax.random.key(1))["0.weight"], before["0.weight"])


def test_clients_can_be_vmapped() -> None:
    module, x = made("cnn")
    model = as_model(module)
    params = model.init(jax.random.key(0))
    both = jax.tree.map(lambda leaf: np.stack([leaf, 2 * np.asarray(leaf)]), params)
    keys = jax.random.split(jax.random.key(3), 2)
    together = jax.jit(jax.vmap(model.apply))(both, np.stack([x, x + 1]), keys)
    apply = jax.jit(model.apply)
    for i in range(2):
        alone = apply(jax.tree.map(lambda leaf: leaf[i], both), x + i, keys[i])  # noqa: B023
        np.testing.assert_allclose(together[i], alone, atol=1e-4)


def test_importing_fairyring_and_its_tasks_imports_no_torch() -> None:
    code = (
        "import sys, fairyring as fr; fr.classification(fr.zoo.two_nn(features=4, classes=2)); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_layer_that_stays_slow_is_named() -> None:
    from fairyring.lowering import lower_for_cpu

    module = nn.Sequential(nn.Conv2d(3, 16, 9, padding=4), nn.ReLU())
    model = as_model(module)
    with pytest.warns(fr.PerformanceWarning, match=r"A convolution in Conv2d\.0 trains slowly"):
        lower_for_cpu(model.apply)(model.init(jax.random.key(0)), floats(5, 3, 24, 24), None)


def test_the_logits_of_a_mapping_are_the_outputs() -> None:
    """Hugging Face's models return a mapping that also has other things."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(5, 3)

        def forward(self, x: Any) -> Any:
            return {"hidden": x * 2, "logits": self.out(x)}

    model = as_model(Net())
    assert model.apply(model.init(jax.random.key(0)), floats(4, 5), None).shape == (4, 3)


def test_threads_may_apply_modules_at_the_same_time() -> None:
    """The runs of a sweep are threads, and torch.export is made for one."""
    models = [as_model(cnn()) for _ in range(2)] * 3
    x = floats(2, 1, 12, 12)

    def outputs(model: Any) -> tuple[int, ...]:
        return jax.eval_shape(lambda p: model.apply(p, x, None), model.init(jax.random.key(0))).shape

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(outputs, models)) == [(2, 10)] * 6


def test_a_token_without_a_row_shows():
    """PyTorch raises an error; the nearest row would be taken without a word."""

    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows, self.out = nn.Embedding(50, 4), nn.Linear(4, 2)

        def forward(self, x: Any) -> Any:
            return self.out(self.rows(x).mean(1))

    def run(tokens: np.ndarray) -> fr.Run:
        people = fr.Population.from_arrays({"x": tokens, "y": np.arange(12) % 2}, client=np.arange(12) % 3)
        plan = fr.Plan(fr.classification(Words()), fr.LocalTraining(optax.sgd(0.1)), cohort=3)
        return fr.simulate(plan, people, rounds=1)

    tokens = np.arange(60).reshape(12, 5) % 50
    assert np.isfinite(run(tokens).records[0].loss)
    for wrong in (50, -1):
        with pytest.raises(fr.TrainingDiverged):
            run(np.full((12, 5), wrong))
