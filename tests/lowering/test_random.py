"""Threefry's bits, drawn our way: the same bits."""

import jax
import numpy as np
import pytest

from fairyring.lowering import lower_for_cpu


@pytest.mark.parametrize("shape", [(), (1,), (3,), (7, 5), (40_000,), (20, 12, 12, 64)])
def test_the_same_bits(shape):
    key = jax.random.key(9)
    draw = lower_for_cpu(lambda key: jax.random.bits(key, shape))
    np.testing.assert_array_equal(draw(key), jax.random.bits(key, shape))


def test_under_vmap_and_for_other_generators():
    keys = jax.random.split(jax.random.key(1), 4)
    draw = lambda key: jax.random.normal(key, (3, 2))  # noqa: E731
    np.testing.assert_array_equal(jax.vmap(lower_for_cpu(draw))(keys), jax.vmap(draw)(keys))
    other = jax.random.key(0, impl="rbg")
    np.testing.assert_array_equal(lower_for_cpu(draw)(other), draw(other))
