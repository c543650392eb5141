"""What a PyTorch module may not be or have is refused, with the place in it and what to write instead."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from fairyring.core.errors import ModelError
from fairyring.task import as_model, classification

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402


def module(function: Callable[..., Any]) -> Any:
    """A module that applies a function of itself and its input, before a layer."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: Any) -> Any:
            return function(self, x) * self.scale

    return Net()


def counts(net: Any, x: Any) -> Any:
    net.calls.add_(1)
    return x * net.calls


def branches(net: Any, x: Any) -> Any:
    if x.sum() > 0:
        return x
    return -x


def changes_its_input(net: Any, x: Any) -> Any:
    return x.mul_(2)


def chooses(net: Any, x: Any) -> Any:
    return torch.cond(x.sum() > 0, lambda x: x * 2, lambda x: -x, (x,))


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (counts, r"state that changes .*buffer 'calls', which the forward pass changes.*GroupNorm"),
        (branches, r"module Net: given GuardOnData\w+ at test_refusals.py:\d+: if x.sum\(\) > 0.*torch.where"),
        (changes_its_input, r"changes its input in place.*x = x.clone\(\)"),
        (chooses, r"operator cond: .*control flow.*torch.where"),
        (
            lambda net, x: x * x.mean().item(),
            r"operator aten.item.default: given test_refusals.py:\d+: .*makes a Python number.*Leave out .item",
        ),
        (lambda net, x: x[x > 0].sum() + x, r"aten.index.Tensor: .*where a mask is true.*torch.where\(mask, x, 0\)"),
        (lambda net, x: torch.fft.fft(x).real, r"aten._fft_r2c.default: given test_refusals.py:\d+: .*not translated"),
        (
            lambda net, x: F.embedding(x.long() % 3, torch.ones(4, 3), scale_grad_by_freq=True),
            r"aten.embedding.default: .*its argument scale_grad_by_freq=True is not translated",
        ),
        (
            lambda net, x: F.max_pool2d(x, 2, return_indices=True)[1].float(),
            r"aten.max_pool2d_with_indices.default: .*the places of the maxima",
        ),
        (lambda net, x: F.batch_norm(x, None, None, training=True), r"batch normalisation \(aten.batch_norm"),
        (lambda net, x: x + torch.randn_like(x), r"random numbers in evaluation.*if self.training"),
        (lambda net, x: torch.as_tensor(x.numpy()), r"module Net: given RuntimeError.*numpy.*torch.export.export"),
        (lambda net, x: F.instance_norm(x, torch.zeros(4), torch.ones(4)), r"batch normalisation|statistics of batches"),
    ],
)  # fmt: skip
def test_what_a_forward_pass_may_not_do_is_named(function: Callable[..., Any], says: str) -> None:
    model = as_model(module(function))
    params = model.init(jax.random.key(0))
    with pytest.raises(ModelError, match=f"(?s){says}"):
        model.apply(params, np.ones((3, 4, 6, 6), np.float32), None)


def test_the_layer_of_an_operator_that_is_not_translated_is_named() -> None:
    model = as_model(nn.Sequential(nn.Flatten(), nn.EmbeddingBag(10, 3)))
    with pytest.raises(ModelError, match=r"_embedding_bag.*layer '1' \(EmbeddingBag\)"):
        model.apply(model.init(jax.random.key(0)), np.ones((3, 4), np.int32), None)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (
            lambda: nn.Sequential(nn.Conv2d(4, 12, 3), nn.BatchNorm2d(12)),
            r"(?s)batch normalisation \(BatchNorm2d, layer '1'\).*mean of the clients.*set_submodule\('1', nn.GroupNorm\(4, 12\)\)",
        ),
        (lambda: nn.BatchNorm1d(5), r"Write nn.GroupNorm\(1, 5\)"),
        (lambda: nn.InstanceNorm2d(4, track_running_stats=True), "state that changes"),
        (lambda: nn.Linear, r"the class Linear; expected an instance of torch.nn.Module.*Net\(\)"),
        (lambda: lambda: nn.Linear(3, 3), "a PyTorch module is passed as it is"),
        (lambda: nn.ReLU(), "no floating-point parameters"),
        (lambda: nn.LazyLinear(3), r"LazyLinear: given 'weight', which has no values yet.*lazy module once"),
        (lambda: nn.Linear(3, 3, device="meta"), r"'weight', which has no values yet.*to_empty"),
        (lambda: nn.Linear(3, 3).requires_grad_(False), "no floating-point parameters"),
    ],
)
def test_modules_that_cannot_be_trained_are_refused_at_once(model: Callable[[], Any], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        as_model(model())


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
def test_a_module_that_cannot_be_copied_is_refused_with_what_to_use() -> None:
    with pytest.raises(ModelError, match=r"cannot be copied.*parametrizations"):
        as_model(nn.utils.weight_norm(nn.Linear(3, 3)))


def test_channels_that_are_last_are_explained_before_training(people: Callable[..., Any]) -> None:
    data = people({"x": np.zeros((6, 8, 8, 1), np.uint8), "y": np.zeros(6, np.int32)})
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 3))
    with pytest.raises(
        ModelError, match=r"given RuntimeError: .*shape \(B, 8, 8, 1\)\).*moveaxis\(x, -1, 1\)"
    ):
        classification(net).validate(data)
    prepared = classification(net, prepare=lambda x: jax.numpy.moveaxis(x, -1, 1) / 255)
    assert prepared.validate(data).complete


def test_what_torch_prints_about_a_failure_is_not_shown(capfd: pytest.CaptureFixture[str]) -> None:
    model = as_model(module(branches))
    with pytest.raises(ModelError):
        model.apply(model.init(jax.random.key(0)), np.ones((3, 4), np.float32), None)
    assert capfd.readouterr() == ("", "")
