import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fairyring as fr
from fairyring.core.vector import Layout

# Few shapes: each is compiled.
shapes = st.sampled_from([(), (0,), (1,), (3,), (2, 3), (4, 0), (2, 1, 3)])
trees = st.recursive(
    shapes.map(lambda shape: np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)),
    lambda inner: (
        st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3) | st.tuples(inner, inner)
    ),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None)
@given(trees)
def test_there_and_back(tree):
    layout = Layout.of(tree)
    vector = layout.flatten(tree)
    assert vector.shape == (layout.size,)
    back = layout.unflatten(vector)
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(back), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_order_is_the_documented_one():
    """Devices rely on this order: dict keys sorted, tuples by index, each leaf row-major."""
    tree = {"b": np.array([[1, 2], [3, 4]], np.float32), "a": (np.array([5], np.float32), np.float32(6))}
    layout = Layout.of(tree)
    assert layout.flatten(tree).tolist() == [5, 6, 1, 2, 3, 4]
    assert [(s.path, s.offset) for s in layout.slots] == [("['a'][0]", 0), ("['a'][1]", 1), ("['b']", 2)]


def test_leaves_keep_their_dtype():
    tree = {"h": jnp.ones(3, jnp.bfloat16)}
    layout = Layout.of(tree)
    assert layout.flatten(tree).dtype == jnp.float32
    assert layout.unflatten(layout.flatten(tree))["h"].dtype == jnp.bfloat16


def test_whole_numbers_are_not_parameters():
    with pytest.raises(fr.ModelError, match=r"parameter \['n'\]: given int32"):
        Layout.of({"n": jnp.arange(3)})
