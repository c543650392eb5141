"""The unrolled Threefry draws the same bits as JAX."""

import jax
import numpy as np
import pytest

from fairyring.lowering import lower_for_cpu


@pytest.mark.parametrize("shape", [(), (1,), (3,), (7, 5), (40_000,), (20, 12, 12, 64)])
def test_the_same_bits(shape):
    key = jax.random.key(9)
    draw = jax.jit(lower_for_cpu(lambda key: jax.random.bits(key, shape)))
    np.testing.assert_array_equal(draw(key), jax.random.bits(key, shape))


def test_under_vmap_and_for_other_generators():
    keys = jax.random.split(jax.random.key(1), 4)

    def draw(key):
        return jax.random.bits(key, (50, 30)), jax.random.bits(key, (3, 2))

    expected = jax.vmap(draw)(keys)
    for lowered in (jax.vmap(lower_for_cpu(draw)), lower_for_cpu(jax.vmap(draw))):
        jax.tree.map(np.testing.assert_array_equal, jax.jit(lowered)(keys), expected)
    other = jax.random.key(0, impl="rbg")
    jax.tree.map(np.testing.assert_array_equal, lower_for_cpu(draw)(other), draw(other))
