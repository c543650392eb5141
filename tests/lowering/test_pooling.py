"""Max-pooling has XLA's values, and XLA's choice among ties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from fairyring.lowering import lower_for_cpu


def pool(x, window, strides=None):
    return lax.reduce_window(x, -jnp.inf, lax.max, window, strides or window, "VALID")


@pytest.mark.parametrize(
    ("shape", "window"),
    [((3, 6, 8, 4), (1, 2, 2, 1)), ((2, 7, 5, 3), (1, 3, 2, 1)), ((5, 3, 4, 4), (2, 1, 2, 2))],
)
@pytest.mark.parametrize("levels", [2, 1000])
def test_equals_xla_with_and_without_ties(shape, window, levels):
    x = jnp.floor(jax.random.uniform(jax.random.key(1), shape) * levels)
    expected, pull = jax.vjp(lambda x: pool(x, window), x)
    got, lowered_pull = jax.vjp(lower_for_cpu(lambda x: pool(x, window)), x)
    np.testing.assert_array_equal(got, expected)
    g = jax.random.normal(jax.random.key(2), got.shape)
    np.testing.assert_array_equal(lowered_pull(g)[0], pull(g)[0])


def test_among_ties_the_first_takes_the_gradient():
    gradient = jax.grad(lower_for_cpu(lambda x: pool(x, (2, 2)).sum()))(jnp.zeros((2, 4)))
    np.testing.assert_array_equal(gradient, [[1, 0, 1, 0], [0, 0, 0, 0]])


def test_overlapping_windows_are_left_alone():
    def overlapping(x):
        return pool(x, (3, 3), (2, 2))

    x = jnp.ones((9, 9))
    assert str(jax.make_jaxpr(lower_for_cpu(overlapping))(x)) == str(jax.make_jaxpr(overlapping)(x))
