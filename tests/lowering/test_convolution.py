"""Every form against a NumPy reference written from the definition, and against XLA's own convolution."""

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
EDGES = st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * 2)


def reorder(array, given, wanted):
    return np.transpose(array, [given.index(axis) for axis in wanted])


def reference(x, w, strides, padding, groups, g=None):
    """Float64, NHWC and HWIO: the output, or the two gradients of a cotangent `g`."""
    x, w = x.astype(np.float64), w.astype(np.float64)
    kh, kw, c, o = w.shape
    out = [(x.shape[1 + a] + sum(padding[a]) - w.shape[a]) // strides[a] + 1 for a in (0, 1)]
    padded = np.pad(x, [(0, 0), *padding, (0, 0)])
    y, dx, dw = np.zeros((len(x), *out, o)), np.zeros_like(padded), np.zeros_like(w)
    for group in range(groups):
        ci, oi = slice(group * c, (group + 1) * c), slice(group * (o // groups), (group + 1) * (o // groups))
        for i in range(kh):
            for j in range(kw):
                seen = np.s_[
                    :,
                    i : i + (out[0] - 1) * strides[0] + 1 : strides[0],
                    j : j + (out[1] - 1) * strides[1] + 1 : strides[1],
                    ci,
                ]
                y[..., oi] += padded[seen] @ w[i, j, :, oi]
                if g is not None:
                    dx[seen] += g[..., oi] @ w[i, j, :, oi].T
                    dw[i, j, :, oi] = np.einsum("nhwc,nhwo->co", padded[seen], g[..., oi])
    (top, _), (left, _) = padding
    return (y, None) if g is None else (dx[:, top : top + x.shape[1], left : left + x.shape[2]], dw)


def assert_near(got, expected, tolerance):
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= tolerance * max(np.abs(expected).max(), 1e-6)


def assert_same_with_gradients(convolution, x, w):
    """The lowered form against XLA's. Each is one program: to compile what it does piece by piece takes longer."""

    def run(function):
        def with_gradients(x, w, g):
            y, pull = jax.vjp(function, x, w)
            return y, *pull(g)

        return jax.jit(with_gradients)(x, w, g)

    shape = jax.eval_shape(convolution, x, w).shape
    g = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    for a, b in zip(run(lower_for_cpu(convolution)), run(convolution), strict=True):
        assert_near(np.asarray(a), np.asarray(b), 1e-5)


def check(shape, kernel, strides, padding, c, o, groups, layout, winograd, tolerance):
    """`c` and `o` are channels per group."""
    rng = np.random.default_rng(sum(shape) + c)
    x = rng.normal(size=(*shape, c * groups)).astype(np.float32)
    w = rng.normal(size=(*kernel, c, o * groups)).astype(np.float32)
    y, _ = reference(x, w, strides, padding, groups)
    g = rng.normal(size=y.shape).astype(np.float32)
    dx, dw = reference(x, w, strides, padding, groups, g)

    def convolution(x, w):
        return lax.conv_general_dilated(
            x, w, strides, padding, dimension_numbers=layout, feature_group_count=groups
        )

    def all_three(x, w, g):
        out, pull = jax.vjp(lower_for_cpu(convolution, winograd=winograd), x, w)
        return out, *pull(g)

    operands = reorder(x, "NHWC", layout[0]), reorder(w, "HWIO", layout[1]), reorder(g, "NHWC", layout[2])
    program = jax.jit(all_three)
    got = program(*operands)
    for one, expected, at, to in zip(got, (y, dx, dw), (2, 0, 1), ("NHWC", "NHWC", "HWIO"), strict=True):
        assert_near(reorder(np.asarray(one), layout[at], to), expected, tolerance)


@settings(max_examples=20, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(7, 12), st.integers(7, 12)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=EDGES,
    c=st.sampled_from([1, 3, 8]),
    o=st.sampled_from([1, 4]),
    groups=st.sampled_from([1, 1, 2, 3]),
    layout=st.sampled_from(LAYOUTS),
)
def test_direct_form(shape, kernel, strides, padding, c, o, groups, layout):
    check(shape, kernel, strides, padding, c, o, groups, layout, 0, 1e-5)


@pytest.mark.parametrize("kernel", [(1, 1), (7, 7), (7, 1)])
def test_kernel_sizes(kernel):
    check((3, 14, 13), kernel, (2, 2), ((3, 3), (2, 1)), 8, 4, 1, LAYOUTS[0], 0, 1e-5)


@pytest.mark.parametrize(("m", "tolerance"), [(2, 1e-5), (4, 1e-4)])
@settings(max_examples=6, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(3, 12), st.integers(3, 12)),
    padding=EDGES,
    c=st.sampled_from([16, 40]),
    o=st.sampled_from([16, 24]),
    layout=st.sampled_from(LAYOUTS),
)
def test_winograd(m, tolerance, shape, padding, c, o, layout):
    check(shape, (3, 3), (1, 1), padding, c, o, 1, layout, m, tolerance)


@pytest.mark.parametrize("m", [2, 4])
def test_winograd_in_blocks_of_examples(m, monkeypatch):
    from fairyring.lowering import _blocks

    monkeypatch.setattr(_blocks, "_WHOLE", 0)
    for cache in (1, 300_000):  # one example per block; a divisor of six
        monkeypatch.setattr(_blocks, "_CACHE", cache)
        check((6, 13, 10), (3, 3), (1, 1), ((1, 1), (0, 0)), 16, 24, 1, LAYOUTS[0], m, 1e-4)


@pytest.mark.parametrize(("m", "tolerance"), [(0, 1e-5), (2, 1e-5), (4, 1e-4)])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_equals_xla(m, tolerance, padding):
    x = jax.random.normal(jax.random.key(0), (2, 9, 8, 16))
    w = jax.random.normal(jax.random.key(1), (3, 3, 16, 16))

    def loss(x, w):
        y = lax.conv_general_dilated(x, w, (1, 1), padding, dimension_numbers=LAYOUTS[0])
        return jnp.sum(jnp.sin(y))

    expected = jax.jit(jax.grad(loss, argnums=(0, 1)))(x, w)
    got = jax.jit(jax.grad(lower_for_cpu(loss, winograd=m), argnums=(0, 1)))(x, w)
    # The sine doubles the rounding error of the convolution; outputs are sums of 144 products.
    for a, b in zip(got, expected, strict=True):
        assert_near(a, b, 10 * tolerance)


def test_one_spatial_axis():
    x = jax.random.normal(jax.random.key(0), (2, 31, 6))
    w = jax.random.normal(jax.random.key(1), (5, 6, 7))

    def convolution(x, w):
        return lax.conv_general_dilated(x, w, (2,), [(2, 1)], dimension_numbers=("NWC", "WIO", "NWC"))

    assert_same_with_gradients(convolution, x, w)


def test_unknown_winograd_is_refused():
    with pytest.raises(PlanError, match="0, 2 or 4"):
        lower_for_cpu(jnp.sin, winograd=3)


@pytest.mark.parametrize("multiplier", [1, 2])
@pytest.mark.parametrize(
    ("kernel", "strides", "padding"),
    [
        ((3, 3), (1, 1), ((1, 1), (1, 1))),
        ((3, 2), (2, 3), ((0, 1), (2, 0))),
        ((1, 5), (3, 1), ((0, 0), (0, 0))),
    ],
)
def test_depthwise(multiplier, kernel, strides, padding):
    check((2, 9, 8), kernel, strides, padding, 1, multiplier, 6, LAYOUTS[0], 4, 1e-5)


@settings(max_examples=10, deadline=None)
@given(
    strides=st.tuples(st.integers(1, 4), st.integers(1, 2)),
    padding=st.tuples(*[st.tuples(st.integers(-1, 3), st.integers(0, 3))] * 2),
    apart=st.sampled_from([(1, 1), (2, 1), (2, 3)]),
    dilation=st.sampled_from([(2, 2), (1, 3), (2, 1)]),
    groups=st.sampled_from([1, 2, 4]),
    layout=st.sampled_from(LAYOUTS[:2]),
)
def test_dilated_and_transposed(strides, padding, apart, dilation, groups, layout):
    x = reorder(jax.random.normal(jax.random.key(0), (2, 9, 11, 4)), "NHWC", layout[0])
    w = reorder(jax.random.normal(jax.random.key(1), (3, 2, 4 // groups, 8)), "HWIO", layout[1])

    def convolution(x, w):
        return lax.conv_general_dilated(x, w, strides, padding, apart, dilation, layout, groups)

    assert_same_with_gradients(convolution, x, w)
