"""Operators that draw random numbers: their laws, from the key of a training step."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from fairyring.task import as_model  # noqa: E402
from fairyring.task.pytorch.operators import drawing  # noqa: E402
from fairyring.task.pytorch.operators.drawing import drop  # noqa: E402


def drawn(function: Callable[[Any], Any], x: np.ndarray, *, seed: int | None = 0) -> np.ndarray:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x: Any) -> Any:
            return function(x) * self.scale

    model = as_model(Net())
    key = None if seed is None else jax.random.key(seed)
    return np.asarray(model.apply({"scale": jnp.ones(())}, x, key))


ONES = np.ones((64, 32, 9), np.float32)
NORMAL = np.random.default_rng(0).normal(size=(200, 200)).astype(np.float32)


@pytest.mark.parametrize("rate", [0.1, 0.5, 1.0])
def test_dropout_scales_what_it_keeps(rate: float) -> None:
    out = drawn(lambda x: F.dropout(x, rate), ONES)
    kept = out[out > 0]
    assert len(kept) / out.size == pytest.approx(1 - rate, abs=0.02)
    assert len(np.unique(kept)) == (rate < 1)
    assert out.mean() == pytest.approx(float(rate < 1), abs=0.02)
    np.testing.assert_array_equal(drawn(lambda x: F.dropout(x, rate), ONES, seed=None), ONES)


def test_an_operator_that_is_taken_apart_drops_as_much() -> None:
    """What changes in place sends the whole graph through PyTorch's decompositions."""

    def taken_apart(x: Any) -> Any:
        y = F.dropout(x, 0.25)
        y[:, 0] = 1.0
        return F.dropout1d(y, 0.5)

    out = drawn(taken_apart, ONES)
    assert out[:, 0].mean() == pytest.approx(1, abs=0.3)
    assert (out[:, 1:] > 0).mean() == pytest.approx(0.375, abs=0.05)
    assert out.mean() == pytest.approx(1, abs=0.1)


def test_whole_channels_are_dropped() -> None:
    for function in (F.dropout1d, F.feature_alpha_dropout):
        out = drawn(lambda x, f=function: f(x, 0.5, True), ONES)
        assert (out == out[:, :, :1]).all()
        assert 0.4 < (out[:, :, 0] == out.max()).mean() < 0.6


def test_alpha_dropout_keeps_mean_and_variance() -> None:
    out = drawn(lambda x: F.alpha_dropout(x, 0.3, True), NORMAL)
    assert (out.mean(), out.std()) == pytest.approx((0, 1), abs=0.02)


def test_a_leaky_slope_is_drawn() -> None:
    out = drawn(lambda x: F.rrelu(x, 0.1, 0.5, training=True), NORMAL)
    slopes = (out / NORMAL)[NORMAL < 0]
    np.testing.assert_array_equal(out[NORMAL >= 0], NORMAL[NORMAL >= 0])
    assert (slopes.min(), slopes.mean(), slopes.max()) == pytest.approx((0.1, 0.3, 0.5), abs=0.01)


@pytest.mark.parametrize(
    ("function", "mean", "deviation"),
    [
        (lambda x: torch.rand(x.shape), 0.5, 12**-0.5),
        (torch.rand_like, 0.5, 12**-0.5),
        (lambda x: torch.randn(x.shape[0], 200), 0.0, 1.0),
        (torch.randn_like, 0.0, 1.0),
        (lambda x: torch.bernoulli(torch.sigmoid(x) * 0 + 0.2), 0.2, 0.4),
        (lambda x: torch.bernoulli(x, 0.2), 0.2, 0.4),
        (lambda x: torch.zeros_like(x).bernoulli_(0.2), 0.2, 0.4),
        (lambda x: torch.empty_like(x).normal_(1.0, 2.0), 1.0, 2.0),
        (lambda x: torch.empty_like(x).exponential_(0.5), 2.0, 2.0),
        (lambda x: torch.empty_like(x).uniform_(1.0, 3.0), 2.0, 3**-0.5),
    ],
)
def test_random_numbers_have_their_law(function: Callable[[Any], Any], mean: float, deviation: float) -> None:
    out = drawn(function, NORMAL)
    assert (out.mean(), out.std()) == pytest.approx((mean, deviation), abs=0.02 * max(1, deviation))
    assert not (out == drawn(function, NORMAL, seed=1)).all()
    assert not (out[0] == out[1]).all()


def test_every_operator_that_draws_is_tried_here() -> None:
    tried = {
        "dropout", "native_dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "rrelu", "rand", "rand_like",
        "randn", "randn_like", "bernoulli", "normal_functional", "exponential", "uniform",
    }  # fmt: skip
    assert {name.split(".")[1] for name in drawing.OPERATORS} == tried


def test_dropout_of_a_single_number() -> None:
    assert float(drop(jnp.ones(()), 0.5, jax.random.key(0))) in (0.0, 2.0)
