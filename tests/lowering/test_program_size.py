"""What a training step of a normalised network is made of, whoever wrote it, as compiled for users.

Time shows on few machines, multiplications on all: XLA may compute a convolution again for each use of what follows it, and did so
six times. A count may rise by a tenth. If it has to rise by more, or has fallen, record what is printed.
"""

import math
import re
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax import lax

from fairyring.lowering import lower_for_cpu
from fairyring.lowering._hardware import OPTIONS
from fairyring.task.zoo.layers import GroupNorm

pytestmark = pytest.mark.optimised

# Multiplications of single numbers, without those in products of matrices.
RECORDED = {"Equinox": 6_091_264, "Flax NNX": 5_869_504, "zoo": 6_090_880}
LAST = ("NHWC", "HWIO", "NHWC")
GROUPS = 8


def equinox(x, w, d, b):
    norms = [jax.vmap(eqx.nn.GroupNorm(GROUPS, 32)) for _ in range(2)]
    first = ("NCHW", "OIHW", "NCHW")
    y = jnp.moveaxis(x, -1, 1)
    y = lax.conv_general_dilated(y, w.transpose(3, 2, 0, 1), (1, 1), "SAME", dimension_numbers=first)
    y = jax.nn.relu(norms[0](y + b[:, None, None]))
    y = lax.conv_general_dilated(
        y, d.transpose(3, 2, 0, 1), (1, 1), "SAME", dimension_numbers=first, feature_group_count=32
    )
    return jax.nn.relu(norms[1](y)).mean((2, 3))


def channels_last(make, x, w, d, b):
    norms = [make() for _ in range(2)]
    y = lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=LAST)
    y = jax.nn.relu(norms[0](y + b))
    y = lax.conv_general_dilated(y, d, (1, 1), "SAME", dimension_numbers=LAST, feature_group_count=32)
    return jax.nn.relu(norms[1](y)).mean((1, 2))


WAYS = {
    "Equinox": equinox,
    "Flax NNX": lambda *a: channels_last(lambda: nnx.GroupNorm(32, num_groups=GROUPS, rngs=nnx.Rngs(0)), *a),
    "zoo": lambda *a: channels_last(lambda: GroupNorm(32, GROUPS), *a),
}


def multiplications(way):
    """How many numbers a training step multiplies, outside of products of matrices."""
    shapes = (4, 24, 24, 3), (3, 3, 3, 32), (3, 3, 1, 32), (32,)
    args = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]

    def loss(*args):
        return jnp.sum(jnp.sin(WAYS[way](*args)))

    step = jax.grad(lower_for_cpu(loss), argnums=(1, 2, 3))
    options: Any = dict(OPTIONS)
    text = jax.jit(step).lower(*args).compile(compiler_options=options).as_text() or ""
    return sum(
        math.prod(map(int, sizes.split(",")))
        for sizes in re.findall(r"= f32\[([\d,]+)\]\S* multiply\(", text)
    )


@pytest.mark.dealt(3, "way")
@pytest.mark.parametrize("way", WAYS)
def test_a_step_multiplies_no_more_than_before(way):
    now = multiplications(way)
    print(way, now)
    assert now <= 1.1 * RECORDED[way], f"{now} now, {RECORDED[way]} recorded"
