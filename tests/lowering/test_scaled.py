"""Normalisations and other shifts and scales by small arrays: the values and gradients of the unchanged function."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from fairyring.lowering import lower_for_cpu
from fairyring.task.zoo.layers import GroupNorm
from tests.lowering.rounding import near

FAST = {"xla_backend_optimization_level": 0}
LAST = ("NHWC", "HWIO", "NHWC")
EPSILON = 1e-5


def group_norm_of_equinox(groups, channels):
    layer = jax.vmap(eqx.nn.GroupNorm(groups, channels))
    return lambda x: jnp.moveaxis(layer(jnp.moveaxis(x, -1, 1)), 1, -1)


def group_norm_by_hand(groups, channels):
    """Squares as products, a division by the deviation, channels grouped first and last."""

    def layer(x):
        y = x.reshape(len(x), -1, groups, channels // groups).transpose(0, 2, 1, 3)
        y = y - y.mean((2, 3), keepdims=True)
        y = y / jnp.sqrt((y * y).mean((2, 3), keepdims=True) + EPSILON)
        return y.transpose(0, 2, 1, 3).reshape(x.shape)

    return layer


def power_norm(groups, channels):
    """Root mean squares of groups, without a mean."""

    def layer(x):
        y = x.reshape(*x.shape[:3], groups, channels // groups)
        return (y * lax.rsqrt((y**2).mean((1, 2, 4), keepdims=True) + EPSILON)).reshape(x.shape)

    return layer


NORMS = {
    "Equinox": group_norm_of_equinox,
    "Flax NNX": lambda groups, channels: nnx.GroupNorm(channels, num_groups=groups, rngs=nnx.Rngs(0)),
    "zoo": lambda groups, channels: GroupNorm(channels, groups),
    "by hand": group_norm_by_hand,
    "root mean square": power_norm,
}


def grads(fn, *args):
    return jax.jit(jax.value_and_grad(fn, argnums=tuple(range(len(args)))), compiler_options=FAST)(*args)


def convolved(x, w, b):
    return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=LAST) + b


def arguments(batch, side, channels):
    rng = np.random.default_rng(0)
    shapes = (batch, side, side, 3), (3, 3, 3, channels), (channels,)
    return [rng.normal(size=shape).astype(np.float32) / n for shape, n in zip(shapes, (1, 5, 1), strict=True)]


@settings(max_examples=12, deadline=None)
@given(
    name=st.sampled_from(list(NORMS)),
    batch=st.integers(1, 4),
    side=st.sampled_from([16, 23]),
    channels=st.sampled_from([16, 48]),
    groups=st.sampled_from([1, 2, 8, 16]),
)
def test_norms_behind_a_convolution(name, batch, side, channels, groups):
    norm = NORMS[name](groups, channels)
    weights = jnp.arange(channels) / channels

    def loss(x, w, b):
        return jnp.sum(jnp.sin(jax.nn.relu(norm(convolved(x, w, b))) * weights))

    args = arguments(batch, side, channels)
    got, expected = (grads(one, *args) for one in (lower_for_cpu(loss, winograd=0), loss))
    # A bias that one group takes away again has no gradient but rounding.
    near(got[1][:2], expected[1][:2], 1e-4)
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-4)
    np.testing.assert_allclose(got[1][2], expected[1][2], rtol=1e-3, atol=1e-4 * np.abs(expected[1][1]).max())


USES = {
    "nothing but a bias": lambda y, s: y + s,
    "a scale alone": lambda y, s: y * s,
    "shift, scale, shift, scale": lambda y, s: ((y - s) * s + 2 * s) * (s / 3) - s,
    "scale by numbers": lambda y, s: (y * s * 2.0 + 1.0) / 3.0,
    "a small minus a large": lambda y, s: s - (s / 5 + y) * s,
    "a quotient": lambda y, s: (y - s) / (2 + s),
    "a small divided by a large": lambda y, s: s / (9 + y * y),
    "a sum over all of a shifted one": lambda y, s: (y - s).sum() / 9**4 * (y - s),
    "its channels summed": lambda y, s: (y - s).sum(3),
    "its square, summed and not": lambda y, s: jnp.square(y - s) + jnp.square(y - s).mean((1, 2), keepdims=True),
    "a square and a scale": lambda y, s: jnp.square(y - s) * s + s,
    "used twice": lambda y, s: jnp.tanh((y - s) * s) + (y - s) * s,
    "by example": lambda y, s: y * y.mean((1, 2, 3), keepdims=True) + y.mean((1, 2), keepdims=True),
    "by row, which is not small": lambda y, s: y - y.mean(3, keepdims=True),
    "by column": lambda y, s: y * y.mean((0, 1, 3), keepdims=True),
    "rows joined and turned": lambda y, s: ((y - s) * s).reshape(len(y), -1, 16).transpose(2, 0, 1)[:, :, 3:],
    "cut across": lambda y, s: ((y - s) * s).reshape(len(y) * 16, -1)[:, ::3],
    "pooled": lambda y, s: lax.reduce_window((y - s) * s, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"),
    "convolved": lambda y, s: convolved((y - s) * s, jnp.ones((3, 3, 16, 4)) / 20, 0.0),
    "one more axis": lambda y, s: ((y - s) * s)[:, None] * jnp.ones((1, 2, 1, 1, 1)),
    "a branch": lambda y, s: lax.cond(y.sum() > 0, jnp.sin, jnp.cos, (y - s) * s),
    "the result": lambda y, s: (y - s) * s,
}  # fmt: skip


@pytest.mark.dealt(3, "name")
@pytest.mark.parametrize("name", USES)
def test_shifts_and_scales(name):
    args = [*arguments(3, 16, 16), jax.random.normal(jax.random.key(9), (16,))]

    def loss(x, w, b, s):
        return jnp.mean(jnp.cos(USES[name](convolved(x, w, b), s)))

    got, expected = (grads(one, *args) for one in (lower_for_cpu(loss, winograd=0), loss))
    near(got, expected, 2e-5)


@pytest.mark.dealt(2, "name")
@pytest.mark.parametrize("name", NORMS)
def test_a_large_mean_costs_no_more_digits_than_before(name):
    norm, args = NORMS[name](4, 16), arguments(3, 16, 16)

    def loss(x, w, b):
        return jnp.sum(jnp.sin(norm(convolved(x, w, b) + 100) * jnp.arange(16) / 16))

    with jax.enable_x64(True):
        exact = NORMS["root mean square" if name == "root mean square" else "by hand"](4, 16)

        def exactly(x, w, b):
            return jnp.sum(jnp.sin(exact(convolved(x, w, b) + 100) * jnp.arange(16) / 16))

        expected = jax.grad(exactly, (0, 1))(*(np.asarray(one, np.float64) for one in args))
        expected = [np.asarray(one) for one in expected]

    def error(fn):
        got = grads(fn, *args)[1][:2]
        return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(got, expected, strict=True))

    assert error(lower_for_cpu(loss, winograd=0)) <= max(3 * error(loss), 1e-4)


def test_under_vmap_and_in_a_scan():
    norm, (x, w, b) = GroupNorm(16, 4), arguments(3, 16, 16)
    several = jnp.stack([x, 2 * x])

    def loss(w, x):
        return jnp.sum(jnp.sin(norm(convolved(x, w, b))))

    lowered = lower_for_cpu(loss, winograd=0)
    each = jax.vmap(jax.grad(lowered), in_axes=(None, 0))(w, several)
    near(each, jax.vmap(jax.grad(loss), in_axes=(None, 0))(w, several), 1e-4)

    def train(gradient):
        return lax.scan(lambda w, x: (w - 1e-3 * gradient(w, x), None), w, several)[0]

    near(train(jax.grad(lowered)), train(jax.grad(loss)), 1e-4)
