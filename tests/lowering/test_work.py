"""How much a function computes is counted from its program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from fairyring.lowering import multiply_adds


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, np.float32)


def convolution(groups=1):
    def run(x, w):
        return lax.conv_general_dilated(
            x, w, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups
        )

    return run


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        (lambda x, w: x @ w, (shape(10, 7), shape(7, 3)), 10 * 7 * 3),
        (lambda x, w: jnp.einsum("bij,bjk->bik", x, w), (shape(2, 3, 4), shape(2, 4, 5)), 2 * 3 * 4 * 5),
        (convolution(), (shape(2, 6, 6, 3), shape(3, 3, 3, 8)), 2 * 4 * 4 * 8 * 3 * 9),
        (convolution(4), (shape(2, 6, 6, 4), shape(3, 3, 1, 8)), 2 * 4 * 4 * 8 * 9),
        (lambda x: x * 2, (shape(5, 5),), 25),
        (lambda x: x.sum(), (shape(5, 5),), 25),
        (lambda x, w: lax.scan(lambda c, _: (c @ w, None), x, None, length=6)[0], (shape(2, 4), shape(4, 4)), 6 * 32),
        (jax.jit(lambda x, w: x @ w), (shape(10, 7), shape(7, 3)), 210),
    ],
)  # fmt: skip
def test_operations_are_counted(function, arguments, expected):
    assert multiply_adds(function, *arguments) == expected


def test_of_branches_the_longest_counts():
    def run(x, w):
        return lax.cond(x[0, 0] > 0, lambda: x @ w, lambda: x)

    alone = multiply_adds(lambda x, w: x @ w, shape(8, 8), shape(8, 8))
    assert alone <= multiply_adds(run, shape(8, 8), shape(8, 8)) < alone + 100
