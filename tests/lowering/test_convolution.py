"""Every form against XLA's own convolution, forward and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from fairyring.core.errors import PlanError
from fairyring.lowering import lower_for_cpu

LAYOUTS = [
    ("NHWC", "HWIO", "NHWC"),
    ("NCHW", "OIHW", "NCHW"),
    ("NHWC", "OHWI", "NCHW"),
    ("CHWN", "IHWO", "CHWN"),
]


def relative_error(got, expected):
    scale = max(float(np.abs(expected).max()), 1e-30)
    return float(np.abs(np.asarray(got) - np.asarray(expected)).max()) / scale


def forward_and_gradients(fn, x, w):
    def both(x, w):
        out, pull = jax.vjp(fn, x, w)
        return out, *pull(jnp.cos(jnp.arange(out.size, dtype=jnp.float32)).reshape(out.shape))

    return jax.jit(both, compiler_options={"xla_backend_optimization_level": 0})(x, w)


def compare(convolution, x, w, winograd, tolerance):
    expected = forward_and_gradients(convolution, x, w)
    lowered = lower_for_cpu(convolution, winograd=winograd)
    for got, want in zip(forward_and_gradients(lowered, x, w), expected, strict=True):
        assert got.shape == want.shape
        assert relative_error(got, want) <= tolerance


def operands(draw_shape, kernel, c, o, groups, layout):
    n, h, v = draw_shape
    lengths_x = {"N": n, "H": h, "W": v, "C": c * groups}
    lengths_w = {"H": kernel[0], "W": kernel[1], "I": c, "O": o * groups}
    x = jax.random.normal(jax.random.key(1), [lengths_x[a] for a in layout[0]])
    return x, jax.random.normal(jax.random.key(2), [lengths_w[a] for a in layout[1]])


@settings(max_examples=12, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(7, 12), st.integers(7, 12)),
    kernel=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.one_of(
        st.sampled_from(["SAME", "VALID"]), st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * 2)
    ),
    channels=st.tuples(st.sampled_from([1, 3, 8]), st.sampled_from([1, 4])),
    groups=st.sampled_from([1, 1, 2, 3]),
    layout=st.sampled_from(LAYOUTS),
)
def test_direct_form_equals_xla(shape, kernel, strides, padding, channels, groups, layout):
    x, w = operands(shape, kernel, *channels, groups, layout)

    def convolution(x, w):
        return lax.conv_general_dilated(
            x, w, strides, padding, dimension_numbers=layout, feature_group_count=groups
        )

    compare(convolution, x, w, winograd=0, tolerance=1e-5)


@pytest.mark.parametrize(("m", "tolerance"), [(2, 1e-5), (4, 1e-4)])
@settings(max_examples=5, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(3, 12), st.integers(3, 12)),
    padding=st.one_of(
        st.sampled_from(["SAME", "VALID"]), st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * 2)
    ),
    channels=st.tuples(st.sampled_from([16, 40]), st.sampled_from([16, 24])),
    layout=st.sampled_from(LAYOUTS),
)
def test_winograd_equals_xla(m, tolerance, shape, padding, channels, layout):
    x, w = operands(shape, (3, 3), *channels, 1, layout)

    def convolution(x, w):
        return lax.conv_general_dilated(x, w, (1, 1), padding, dimension_numbers=layout)

    compare(convolution, x, w, winograd=m, tolerance=tolerance)


def test_unknown_winograd_is_refused():
    with pytest.raises(PlanError, match="0, 2 or 4"):
        lower_for_cpu(jnp.sin, winograd=3)
