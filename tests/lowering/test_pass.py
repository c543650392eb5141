"""Rewriting programs: what is replaced, what is unchanged, what it composes with."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import export, lax

from fairyring.lowering import lower_for_cpu
from tests.lowering.rounding import near

NHWC = ("NHWC", "HWIO", "NHWC")
X = jax.random.normal(jax.random.key(0), (4, 8, 8, 16))
W = jax.random.normal(jax.random.key(1), (3, 3, 16, 16)) / 12


def convolve(x, w, **settings):
    return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=NHWC, **settings)


def loss(w, x):
    return jnp.mean(jnp.tanh(convolve(x, w)) ** 2)


def text(fn, *args):
    """The jaxpr of `fn`. (The direct form's forward pass is XLA's convolution, inside our custom rule.)"""
    return str(jax.make_jaxpr(fn)(*args))


@pytest.mark.parametrize(
    "wrap",
    [
        jax.jit,
        jax.checkpoint,
        lambda f: lambda w, x: lax.cond(w[0, 0, 0, 0] > 0, f, lambda w, x: 2 * f(w, x), w, x),
        lambda f: lambda w, x: lax.scan(lambda total, one: (total + f(w, one[None]), one.sum()), 0.0, x)[0],
        lambda f: lambda w, x: jax.vmap(lambda one: f(w, one[None]))(x).sum(),
        lambda f: lambda w, x: jax.vmap(lambda i: f(w * i, x))(jnp.arange(1.0, 3.0)).sum(),
    ],
    ids=["jit", "checkpoint", "cond", "scan", "vmap over examples", "vmap over weights"],
)
def test_inside_other_programs(wrap):
    expected = jax.jit(jax.value_and_grad(wrap(loss)))(W, X)
    near(jax.jit(jax.value_and_grad(lower_for_cpu(wrap(loss))))(W, X), expected)
    assert "conv_general_dilated" not in text(lower_for_cpu(wrap(loss)), W, X)


def test_loops_without_a_gradient():
    def looped(x):
        return lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, jnp.tanh(convolve(s[1], W))), (0, x))[
            1
        ]

    near(jax.jit(lower_for_cpu(looped))(X), jax.jit(looped)(X))


def test_outer_transformations():
    lowered = lower_for_cpu(loss)
    per_example = jax.jit(jax.vmap(jax.grad(lowered), in_axes=(None, 0)))(W, X[:, None])
    near(per_example, jax.jit(jax.vmap(jax.grad(loss), in_axes=(None, 0)))(W, X[:, None]))

    def train(gradient):
        return jax.jit(lambda w: lax.scan(lambda w, x: (w - gradient(w, x[None]), None), w, X)[0])

    near(train(jax.grad(lowered))(W), train(jax.grad(loss))(W))


def test_exports():
    program = export.export(jax.jit(jax.grad(lower_for_cpu(loss))))(W, X)
    again = export.deserialize(program.serialize())
    near(again.call(W, X), jax.jit(jax.grad(loss))(W, X))


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: convolve(x.astype(jnp.bfloat16), W.astype(jnp.bfloat16)),
        lambda x: jax.nn.relu(jnp.sort(x)) @ W[0, 0],
    ],
    ids=["bfloat16", "no convolution"],
)
@pytest.mark.filterwarnings("ignore::fairyring.PerformanceWarning")
def test_the_rest_is_left_alone(fn):
    assert text(lower_for_cpu(fn), X) == text(fn, X)


def test_custom_rules_survive():
    @jax.custom_vjp
    def doubled_gradient(x):
        return convolve(x, W)

    doubled_gradient.defvjp(lambda x: (convolve(x, W), None), lambda _, g: (jnp.full_like(X, 2.0),))
    gradient = jax.jit(jax.grad(lower_for_cpu(lambda x: convolve(doubled_gradient(x), W).sum())))(X)
    np.testing.assert_array_equal(gradient, jnp.full_like(X, 2.0))
    assert text(lower_for_cpu(doubled_gradient), X).count("conv_general_dilated") == 1


def test_closed_over_values_scalars_and_structure():
    def fn(tree, scale=1.0):
        return {"y": convolve(tree["x"], W) * scale, "n": (tree["n"] + 1, None)}

    given = {"x": X, "n": 3}
    near(lower_for_cpu(fn)(given, scale=2.0), fn(given, scale=2.0))
    outer = jax.jit(lambda w: lower_for_cpu(lambda x: convolve(x, w))(X))  # w is a tracer, closed over
    near(outer(W), convolve(X, W))


class Network(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Conv(1, 16, (3, 3), rngs=rngs)
        self.depthwise = nnx.Conv(16, 16, (3, 3), feature_group_count=16, strides=2, rngs=rngs)
        self.second = nnx.Conv(16, 16, (3, 3), rngs=rngs)
        self.out = nnx.Linear(16, 3, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.first(x)), (2, 2), (2, 2))
        return self.out(nnx.relu(self.second(self.depthwise(x))).mean((1, 2)))


def test_a_flax_module():
    graph, params = nnx.split(Network(nnx.Rngs(0)))

    def loss(params, x):
        return jnp.sum(nnx.merge(graph, params)(x) ** 2)

    x = jax.random.normal(jax.random.key(3), (5, 12, 12, 1))
    near(jax.jit(jax.grad(lower_for_cpu(loss)))(params, x), jax.jit(jax.grad(loss))(params, x))
    program = text(lower_for_cpu(loss), params, x)
    assert "conv_general_dilated" not in program
    assert "reduce_window" not in program


def test_an_equinox_module():
    keys = jax.random.split(jax.random.key(0), 3)
    model = eqx.nn.Sequential(
        [
            eqx.nn.Conv2d(1, 16, 3, key=keys[0]),
            eqx.nn.Lambda(jax.nn.relu),
            eqx.nn.Conv2d(16, 16, 3, padding=1, key=keys[1]),
            eqx.nn.MaxPool2d(2, 2),
            eqx.nn.Lambda(jnp.ravel),
            eqx.nn.Linear(400, 3, key=keys[2]),
        ]
    )
    params, static = eqx.partition(model, eqx.is_array)

    def loss(params, x):
        return jnp.sum(jax.vmap(eqx.combine(params, static))(x) ** 2)

    x = jax.random.normal(jax.random.key(3), (5, 1, 12, 12))
    near(jax.jit(jax.grad(lower_for_cpu(loss)))(params, x), jax.jit(jax.grad(loss))(params, x))
    program = text(lower_for_cpu(loss), params, x)
    assert "conv_general_dilated" not in program
    assert "reduce_window" not in program
