"""Max-pooling has XLA's values, and XLA's choice among ties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from fairyring.lowering import lower_for_cpu


def pool(x, window, strides=None):
    return lax.reduce_window(x, -jnp.inf, lax.max, window, strides or window, "VALID")


def numbers(shape, levels):
    """Whole numbers below `levels`."""
    return np.floor(np.random.default_rng(1).uniform(size=shape) * levels).astype(np.float32)


def with_gradient(fn, x):
    """The value of a function and the gradient for a given cotangent, as one program: in pieces it takes longer to compile."""
    shape = jax.eval_shape(fn, x).shape
    g = np.random.default_rng(2).normal(size=shape).astype(np.float32)

    def run(x, g):
        y, pull = jax.vjp(fn, x)
        return y, pull(g)[0]

    return jax.jit(run)(x, g)


@pytest.mark.parametrize(
    ("shape", "window"),
    [((3, 6, 8, 4), (1, 2, 2, 1)), ((2, 7, 5, 3), (1, 3, 2, 1)), ((5, 3, 4, 4), (2, 1, 2, 2))],
)
@pytest.mark.parametrize("levels", [2, 1000])
def test_equals_xla_with_and_without_ties(shape, window, levels):
    def pooled(x):
        return pool(x, window)

    x = numbers(shape, levels)
    got, expected = (with_gradient(one, x) for one in (lower_for_cpu(pooled), pooled))
    for own, theirs in zip(got, expected, strict=True):
        np.testing.assert_array_equal(own, theirs)


def test_among_ties_the_first_takes_the_gradient():
    gradient = jax.grad(lower_for_cpu(lambda x: pool(x, (2, 2)).sum()))(jnp.zeros((2, 4)))
    np.testing.assert_array_equal(gradient, [[1, 0, 1, 0], [0, 0, 0, 0]])


@settings(max_examples=12, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(5, 9), st.integers(5, 9), st.integers(1, 3)),
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 5), st.integers(1, 3)),
    padding=st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2),
    levels=st.sampled_from([2, 1000]),
    kind=st.sampled_from(["max", "sum"]),
)
def test_any_window(shape, size, stride, padding, levels, kind):
    x = numbers(shape, levels)
    start, step = (-jnp.inf, lax.max) if kind == "max" else (0.0, lax.add)
    # An edge wider than the window would make windows without any element, where XLA's gradient is undefined.
    edges = [(min(low, k - 1), min(high, k - 1)) for (low, high), k in zip(padding, size, strict=True)]

    def pooled(x):
        edge = [(0, 0), *edges, (0, 0)]
        return lax.reduce_window(x, start, step, (1, *size, 1), (1, *stride, 1), edge)

    lowered = lower_for_cpu(pooled)
    got, expected = (with_gradient(one, x) for one in (lowered, pooled))
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-6)
    # At most 16 windows share an element.
    np.testing.assert_allclose(got[1], expected[1], atol=1e-5)
    if size != (1, 1):
        assert "reduce_window" not in str(jax.make_jaxpr(lowered)(x))


def test_overlapping_maxima_pass_their_gradient_to_the_first_of_ties():
    def total(x):
        return pool(x, (3,), (2,)).sum()

    np.testing.assert_array_equal(jax.grad(lower_for_cpu(total))(jnp.zeros(7)), [1, 0, 1, 0, 1, 0, 0])
