"""Programs with channels first are computed with channels last: the same numbers, and few transpositions."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from fairyring.lowering import lower_for_cpu
from tests.lowering.rounding import near

FIRST = ("NCHW", "OIHW", "NCHW")
FAST = {"xla_backend_optimization_level": 0}


def both(fn, *args):
    """Value and gradients of a function and of what it is lowered to, compiled without optimisations."""
    of_all = tuple(range(len(args)))
    got, expected = (
        jax.jit(jax.value_and_grad(one, argnums=of_all), compiler_options=FAST)(*args)
        for one in (lower_for_cpu(fn, winograd=0), fn)
    )
    return got, expected


def moves(fn, *args):
    """How often a program moves the axes of an image."""
    shapes = [
        (eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape)
        for eqn in jax.make_jaxpr(fn)(*args).eqns
        if len(eqn.invars) == 1 and eqn.outvars[0].aval.size > 8
    ]
    return sum(len(a) == 4 and a != b and sorted(a) == sorted(b) for a, b in shapes)


def network(key, sizes):
    """Layers of Equinox with channels first."""
    channels, groups, kernel, stride, dilation, pool = sizes
    keys = jax.random.split(key, 3)
    return eqx.nn.Sequential(
        [
            eqx.nn.Conv2d(
                3, channels, kernel, stride=stride, padding=kernel // 2, use_bias=False, key=keys[0]
            ),
            eqx.nn.GroupNorm(groups, channels),
            eqx.nn.Lambda(jax.nn.relu),
            pool,
            eqx.nn.Conv2d(channels, 16, 3, dilation=dilation, padding=2, key=keys[1]),
            eqx.nn.Lambda(jax.nn.gelu),
            eqx.nn.Lambda(jnp.ravel),
        ]
    )


@settings(max_examples=6, deadline=None)
@given(
    batch=st.integers(1, 4),
    side=st.integers(11, 14),
    channels=st.sampled_from([4, 16]),
    groups=st.sampled_from([1, 2, 4]),
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    pool=st.sampled_from([eqx.nn.MaxPool2d(3, 2), eqx.nn.AvgPool2d(2, 1, padding=1), eqx.nn.MaxPool2d(2, 2)]),
)
def test_networks_of_equinox(batch, side, channels, groups, kernel, stride, dilation, pool):
    model = network(jax.random.key(0), (channels, groups, kernel, stride, dilation, pool))
    params, static = eqx.partition(model, eqx.is_array)
    x = jax.random.normal(jax.random.key(1), (batch, 3, side, side))

    def features(params, x):
        return jax.vmap(eqx.combine(params, static))(x)

    weight = jax.random.normal(jax.random.key(2), (11, jax.eval_shape(features, params, x).shape[1])) / 10

    def loss(params, weight, x):
        return jnp.sum(jnp.sin(features(params, x) @ weight.T))

    near(*both(loss, params, weight, x), 1e-4)


OPERATIONS = {
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "elu": jax.nn.elu,
    "square and scalar": lambda x: 2 * x * x + 1,
    "vector of channels": lambda x: x * jnp.arange(16.0)[:, None, None] + jnp.ones((16, 1, 1)),
    "mean of space": lambda x: x - x.mean((2, 3), keepdims=True),
    "mean of channels": lambda x: x - x.mean(1, keepdims=True),
    "maximum": lambda x: x.max((2, 3)),
    "padding": lambda x: jnp.pad(x, ((0, 0), (0, 0), (1, 2), (0, 1))),
    "slice": lambda x: x[:, 2:9, ::2, 1:],
    "concatenation": lambda x: jnp.concatenate([x, 2 * x], axis=1),
    "two images": lambda x: jnp.concatenate([x, jnp.ones((3, 16, 2, 6))], axis=2),
    "groups": lambda x: x.reshape(3, 4, 4, 7, 6)[:, :, 1],
    "channels joined with rows": lambda x: x.reshape(3, 16 * 7, 6),
    "columns cut": lambda x: x.reshape(3, 16, 7, 2, 3).sum(3),
    "flat": lambda x: x.reshape(3, -1)[:, ::5],
    "last": lambda x: jnp.moveaxis(x, 1, -1),
    "one example more": lambda x: x[:, None] * jnp.ones((1, 2, 1, 1, 1)),
    "select": lambda x: jnp.where(x > 0, x, jnp.arange(6.0)),
    "clamp": lambda x: jnp.clip(x, -0.5, 0.5),
    "sort": lambda x: jnp.sort(x, axis=1),
    "cumulative sum": lambda x: jnp.cumsum(x, axis=2),
    "softmax of channels": lambda x: jax.nn.softmax(x, axis=1),
    "log-sum-exp": lambda x: jax.nn.logsumexp(x, axis=(1, 2)),
    "product": lambda x: jnp.einsum("nchw,dc->ndhw", x, jnp.ones((5, 16))),
    "branches": lambda x: lax.cond(x.sum() > 0, jnp.sin, jnp.cos, x),
    "checkpoint": jax.checkpoint(lambda x: jnp.tanh(x) * x),
    "nothing": lambda x: x,
}


@pytest.mark.dealt(3, "name")
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_behind_a_convolution(name):
    x = jax.random.normal(jax.random.key(0), (3, 8, 9, 8))
    w = jax.random.normal(jax.random.key(1), (16, 8, 3, 3)) / 9

    def loss(w, x):
        y = lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=FIRST)
        return jnp.sum(jnp.cos(OPERATIONS[name](y)))

    near(*both(loss, w, x), 1e-5)


def test_an_elementwise_derivative_of_ones_own_is_kept():
    @jax.custom_vjp
    def straight_through(x):
        return jnp.sign(x)

    straight_through.defvjp(lambda x: (jnp.sign(x), None), lambda _, g: (3 * g,))

    @jax.custom_jvp
    def shuffled(x):
        return x * 2

    # Its derivative moves numbers, so it must see them in their own order.
    shuffled.defjvp(lambda x, t: (x[0] * 2, t[0][:, ::-1] * 2))
    x = jax.random.normal(jax.random.key(0), (3, 8, 9, 8))
    w = jax.random.normal(jax.random.key(1), (16, 8, 3, 3)) / 9
    g = jax.random.normal(jax.random.key(2), (3, 16, 7, 6))
    for own in (straight_through, shuffled):

        def loss(w, x, own=own):
            return jnp.sum(g * own(lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=FIRST)))

        near(*(jax.jit(jax.grad(one))(w, x) for one in (lower_for_cpu(loss, winograd=0), loss)), 1e-5)


def test_a_chain_of_layers_is_transposed_where_it_begins_and_ends():
    w = [jnp.ones((8, 8, 5, 5))] * 3

    def chain(w, x):
        for one in w:
            x = lax.conv_general_dilated(x, one, (1, 1), "SAME", dimension_numbers=FIRST)
            x = jax.nn.relu(x + jnp.ones((8, 1, 1)))
            x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 1, 1), "VALID")
        return x

    x = jnp.ones((4, 8, 12, 13))
    assert moves(lower_for_cpu(chain), w, x) == 3 + 2  # each kernel, and the image twice


def test_under_vmap_and_in_a_scan():
    w = jax.random.normal(jax.random.key(1), (16, 4, 3, 3)) / 6
    x = jax.random.normal(jax.random.key(0), (5, 2, 4, 9, 9))

    def loss(w, x):
        y = lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=FIRST)
        return jnp.sum(jnp.sin(jax.nn.relu(y).reshape(len(y), -1)))

    lowered = lower_for_cpu(loss, winograd=0)

    def each(fn):
        return jax.jit(jax.vmap(jax.grad(fn), in_axes=(None, 0)))(w, x)

    near(each(lowered), each(loss), 1e-5)

    @partial(jax.jit, static_argnums=0)
    def train(gradient, w, x):
        return lax.scan(lambda w, x: (w - 0.01 * gradient(w, x), None), w, x)[0]

    near(*(train(jax.grad(one), w, x) for one in (lowered, loss)), 1e-5)
    assert np.isfinite(jax.jit(lowered)(w, x[0]))
