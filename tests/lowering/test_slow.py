"""What stays slow is said once, with the layer, the line, the shapes and what to write instead."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax import lax

from fairyring.core.errors import PerformanceWarning
from fairyring.lowering import lower_for_cpu

X = jnp.ones((4, 32, 32, 3))


def said(fn, *args, times=1):
    lowered = lower_for_cpu(fn)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(times):
            jax.eval_shape(lowered, *args)
    assert all(issubclass(one.category, PerformanceWarning) for one in caught)
    return [str(one.message) for one in caught]


def test_the_layer_and_the_line_are_named_once():
    layer = eqx.nn.Conv2d(3, 16, 11, key=jax.random.key(0))
    (sentence,) = said(jax.vmap(lambda x: layer(x)), X.transpose(0, 3, 1, 2), times=3)
    assert sentence.startswith("A convolution in eqx.nn.Conv (test_slow.py:")
    assert "float32[4, 3, 32, 32] with kernel float32[16, 3, 11, 11]" in sentence
    assert "its kernel has 121 places, more than 49" in sentence


def test_inside_other_programs():
    layer = nnx.Conv(3, 16, (9, 9), rngs=nnx.Rngs(0))
    (sentence,) = said(lambda x: lax.map(jax.jit(lambda one: layer(one)), x[None]), X)
    assert "A convolution in Conv" in sentence


@pytest.mark.parametrize(
    ("fn", "reason"),
    [
        (lambda x: nnx.Conv(3, 16, (3, 3), dtype=jnp.bfloat16, rngs=nnx.Rngs(0))(x), "computes in bfloat16"),
        (lambda x: nnx.avg_pool(x, (9, 9)), "its window has 81 places, more than 64"),
        (lambda x: nnx.min_pool(x, (3, 3)), "neither a maximum nor a sum"),
        (
            lambda x: nnx.Conv(3, 8, (3, 3, 3), rngs=nnx.Rngs(0))(x.reshape(4, 8, 8, 16, 3)),
            "it has 3 axes of space",
        ),
    ],
)
def test_what_is_slow_and_why(fn, reason):
    (sentence,) = said(fn, X)
    assert reason in sentence


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: nnx.Conv(3, 16, (3, 3), kernel_dilation=2, strides=2, rngs=nnx.Rngs(0))(x),
        lambda x: nnx.Conv(3, 3, (3, 3), feature_group_count=3, rngs=nnx.Rngs(0))(x),
        lambda x: nnx.avg_pool(nnx.max_pool(x, (3, 3), (2, 2), "SAME"), (3, 3)),
        lambda x: nnx.Conv(3, 2, (9, 9), padding="VALID", rngs=nnx.Rngs(0))(x[:1, :9, :9]),  # quick enough
    ],
)
def test_nothing_is_said_of_the_rest(fn):
    assert said(fn, X) == []
