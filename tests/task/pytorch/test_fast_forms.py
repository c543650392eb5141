"""The engine finds the layers of a PyTorch module, so that they train as fast as the zoo's. `benchmarks/models.py` measures it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fairyring.lowering import align_dense, lower_for_cpu
from fairyring.lowering._recurrence import has_products
from fairyring.task import as_model

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402


def applied(module: Any, x: np.ndarray) -> tuple[Any, Any]:
    """A function of the module's parameters, and the parameters."""
    model = as_model(module)
    return lambda params: jnp.sum(jax.tree.leaves(model.apply(params, x, None))[0]), model.init(
        jax.random.key(0)
    )


def counts(program: Any, *names: str) -> dict[str, int]:
    text = str(program)
    return {name: text.count(f"{name}[") for name in names}


def test_convolutions_and_pools() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.GroupNorm(4, 16), nn.ReLU(), nn.Conv2d(16, 16, 3, groups=16), nn.MaxPool2d(2),
        nn.Conv2d(16, 16, 3, padding=2, dilation=2), nn.AvgPool2d(3, 1, 1),
    )  # fmt: skip
    apply, params = applied(module, np.ones((2, 3, 16, 16), np.float32))
    slow = "reduce_window_max", "reduce_window_sum", "select_and_scatter_add"
    plain = counts(jax.make_jaxpr(jax.grad(apply))(params), "conv_general_dilated", *slow)
    fast = counts(jax.make_jaxpr(jax.grad(lower_for_cpu(apply)))(params), "conv_general_dilated", *slow)
    assert all(plain.values())
    assert not any(fast[name] for name in slow)
    assert fast["conv_general_dilated"] <= 1 < plain["conv_general_dilated"], "of the gradients there is none"


@pytest.mark.parametrize("shape", [(4, 20), (4, 3, 20)])
def test_weights_of_dense_layers_are_stored_in_whole_vectors(shape: tuple[int, ...]) -> None:
    module = nn.Sequential(nn.Linear(20, 24), nn.ReLU(), nn.Linear(24, 5))
    apply, params = applied(module, np.ones(shape, np.float32))
    stored = align_dense(apply, params)
    assert stored.padded
    assert {name: leaf.shape for name, leaf in stored.pad(params).items() if leaf.ndim == 2} == {
        "0.weight": (24, 32),
        "2.weight": (5, 32),
    }


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
def test_products_of_recurrent_layers_are_found_in_their_loop(layer: Any) -> None:
    apply, params = applied(layer(3, 4, bidirectional=True, batch_first=True), np.ones((2, 5, 3), np.float32))
    loops = [eqn for eqn in jax.make_jaxpr(apply)(params).jaxpr.eqns if eqn.primitive.name == "scan"]
    assert len(loops) == 2
    assert all(has_products(loop) for loop in loops)
    # That with the input is in the loop, too: the engine takes it out, forward and backward.
    assert all(str(loop.params["jaxpr"]).count("dot_general[") == 2 for loop in loops)
