"""Every operation of the table against JAX, run by ONNX Runtime.

The cases of a kind are one program, so they are compiled together. A case's arrays are parameters of the model.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from fairyring.core.errors import ModelError  # noqa: E402
from fairyring.runs.onnx import to_onnx  # noqa: E402
from fairyring.runs.onnx.operators import OPERATORS  # noqa: E402
from fairyring.runs.static import lowered  # noqa: E402

Case = tuple[Callable[..., Any], tuple[np.ndarray, ...]]
RNG = np.random.default_rng(20)


class Input(NamedTuple):
    column: str
    shape: tuple[int, ...]
    dtype: np.dtype


X = Input("x", (2,), np.dtype(np.float32))


def floats(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return RNG.normal(size=shape).astype(dtype)


def positive(*shape: int) -> np.ndarray:
    return np.abs(floats(*shape)) + np.float32(0.1)


def whole(*shape: int, low: int = -9, high: int = 9, dtype: Any = np.int32) -> np.ndarray:
    return RNG.integers(low, high, size=shape).astype(dtype)


def truth(*shape: int) -> np.ndarray:
    return RNG.random(shape) < 0.5


def case(of: Callable[..., Any], *arrays: np.ndarray) -> Case:
    return of, arrays


def elementwise() -> Iterator[Case]:
    for of in (
        *(lax.abs, lax.ceil, lax.cos, lax.exp, lax.floor, lax.logistic, lax.neg, lax.sign, lax.sin, lax.tan),
        *(lax.tanh, lax.expm1, lax.cbrt, lax.is_finite, lax.erf, lax.atan, lax.asinh, lax.sinh, lax.cosh),
        *(lax.square, partial(lax.round, rounding_method=lax.RoundingMethod.TO_NEAREST_EVEN)),
    ):
        yield case(of, floats(3, 4))
    for of in (lax.log, lax.sqrt, lax.rsqrt, lax.log1p, lambda x: lax.acosh(1 + x)):
        yield case(of, positive(3, 4))
    for of in (lax.asin, lax.acos, lax.atanh):
        yield case(of, np.tanh(floats(3, 4)))
    yield case(lax.round, np.array([-2.5, -1.5, -0.4, 0.5, 1.5], np.float32))
    small = np.array([-1e-3, -1e-6, 0, 1e-7, 1e-4, 0.4, 0.6, 20], np.float32)
    yield case(lambda x: (lax.log1p(x), lax.expm1(x)), small)
    yield case(lax.is_finite, np.array([np.inf, -np.inf, np.nan, 3e38], np.float32))
    for of in (lax.add, lax.sub, lax.mul, lax.div, lax.rem, lax.max, lax.min, lax.atan2):
        yield case(of, floats(3, 4), floats(3, 4))
    yield case(lax.atan2, np.array([0, 1, -1, 0, 0], np.float32), np.array([0, 0, 0, 1, -1], np.float32))
    yield case(lax.pow, positive(3, 4), floats(3, 4))
    yield case(lambda x: lax.clamp(-0.5, x, 0.7), floats(3, 4))
    yield case(lambda x, low: lax.clamp(low, x, low + 1), floats(3, 4), floats(3, 4))
    for of in (lax.eq, lax.ne, lax.lt, lax.le, lax.gt, lax.ge):
        yield case(of, whole(3, 4, high=-5), whole(3, 4, high=-5))
        yield case(of, truth(7), truth(7))
    yield case(lax.select, truth(3, 4), floats(3, 4), floats(3, 4))
    yield case(lambda p, x: jnp.where(p, x, 0), truth(4), whole(3, 4, dtype=np.int8))
    yield case(jnp.where, truth(7), truth(7), truth(7))
    for of in (lax.bitwise_and, lax.bitwise_or, lax.bitwise_xor):
        yield case(of, truth(7), truth(7))
        yield case(of, whole(7), whole(7))
    yield case(lax.bitwise_not, truth(5))
    yield case(lax.bitwise_not, whole(5, low=0, dtype=np.uint8))


def types() -> Iterator[Case]:
    for dtype in (np.int8, np.uint8, np.int16, np.uint16, np.uint32):  # which wrap
        top = int(np.iinfo(dtype).max)
        numbers = np.array([0, 1, 2, top // 2 + 1, top - 1, top], dtype)
        yield case(
            lambda x, y: (x + y, x - y, x * y, jnp.maximum(x, y), x < y), numbers, numbers[::-1].copy()
        )
        yield case(lambda x: x // 3, numbers)
    for dtype in (jnp.float16, jnp.bfloat16):
        x, y = floats(3, 4, dtype=dtype), floats(3, 4, dtype=dtype)
        yield case(
            lambda x, y: (x + y, jnp.exp(x) * 2, jnp.maximum(x, 0), x > y, jnp.where(x > 0, x, y)), x, y
        )
        yield case(
            lambda x, y: (x @ y.T, x.max(1), jnp.concatenate([x, y]).reshape(-1)[1:9:2], jnp.pad(x, 1)), x, y
        )
        yield case(lambda x: (x[jnp.array([2, 0])], lax.top_k(x, 2)), x)
    values = {
        "float32": floats(6) * 20,
        "int32": whole(6),
        "uint8": whole(6, low=0, high=255, dtype=np.uint8),
        "bool": truth(6),
        "int16": whole(6, dtype=np.int16),
        "bfloat16": floats(6, dtype=jnp.bfloat16),
    }
    for given in values.values():
        for dtype in ("float32", "float16", "bfloat16", "int32", "int8", "bool"):
            yield case(lambda x, dtype=dtype: x.astype(dtype), given)
    yield case(lambda x: x.astype(jnp.float32) / 255, values["uint8"].reshape(2, 3))


def constants(x: jax.Array) -> Any:
    return (
        jnp.full((3, 4), -7, jnp.int32) + jnp.arange(4),
        jnp.array([True, False, True]),
        jnp.array([[1.5, jnp.nan], [jnp.inf, -0.0]]),
        jnp.array([1.5, jnp.inf], jnp.bfloat16) + x.astype(jnp.bfloat16),
        jnp.array([1.5, -jnp.inf, 1e-7], jnp.float16),
        jnp.asarray(np.arange(300) / 3, jnp.bfloat16) + x.astype(jnp.bfloat16),
        jnp.array([250, 3], jnp.uint8),
        jnp.full((2,), 250, jnp.uint8),
        lax.iota(jnp.float32, 5) + x,
        lax.broadcasted_iota(jnp.int32, (2, 3, 4), 1),
        jnp.zeros((2, 3)),
        x * jnp.asarray(np.linspace(0, 1, 400)[:, None], jnp.float32),
    )


def shapes() -> Iterator[Case]:
    yield case(constants, np.float32(2))
    x = floats(2, 3, 4)
    yield case(lambda x: lax.broadcast_in_dim(x, (3, 5, 4), (0, 2)), floats(3, 4))
    yield case(lambda x: lax.broadcast_in_dim(x, (3, 5, 4), (0, 2)) + 1, floats(3, 1))
    yield case(
        lambda x: lax.broadcast_in_dim(x, (2, 3, 4), (0, 1, 2)).transpose(2, 0, 1) * 2, floats(1, 3, 1)
    )
    yield case(lambda x: jnp.broadcast_to(x, (2, 3)).reshape(6), np.float32(4))
    yield case(lambda x: jnp.broadcast_to(x, (2, 3)).reshape(1, 6).T, floats(1, 1))
    yield case(
        lambda x: (x.reshape(6, 4), x.reshape(1, 2, 12), x.transpose(2, 0, 1), x[:, :1].reshape(-1)), x
    )
    yield case(lambda x: (x.reshape(1, 1), x.reshape(())), floats(1))
    yield case(lambda x: (jnp.concatenate([x, x * 2], 1), jnp.stack([x, x]), jnp.concatenate([x], 0)), x)
    yield case(lambda x: (x[1:, ::2, -3:-1], x[:, 1], x[..., None]), x)
    yield case(lambda x: (x[::-1], x[:, ::-1, ::-1], jnp.flip(x, 2)), x)
    for padding in ([(1, 2, 0), (0, 0, 0), (0, 1, 0)], [(-1, 2, 0), (0, -1, 1), (2, -2, 2)], [(0, 0, 3)] * 3):
        yield case(lambda x, padding=padding: lax.pad(x, jnp.float32(1.5), padding), x)
    yield case(lambda x, value: lax.pad(x, value, [(1, 1, 1)]), truth(3), np.array(True))
    yield case(lambda x: jnp.tril(x) + jnp.roll(x, 1, 0), floats(4, 4))
    yield case(lambda x, y: jnp.meshgrid(x, y), floats(2), floats(3))
    yield case(lax.optimization_barrier, floats(2))
    yield case(_of_nothing, floats(2, 3))
    for start in (-3, 1, 9):
        place = np.int32(start)
        yield case(lambda x, i: lax.dynamic_slice(x, (i, 0, i), (1, 3, 2)), x, place)
        yield case(lambda x, y, i: lax.dynamic_update_slice(x, y, (0, i, i)), x, floats(2, 2, 1), place)
        yield case(lambda x, y, i: lax.dynamic_update_slice(x, y, (i, 0, 0)), x, floats(1, 3, 4), place)
    yield case(lambda x, y: lax.dynamic_update_slice(x, y, (1, 0, 0)) + x.at[1, 2].set(0), x, floats(1, 3, 4))
    yield case(lambda x, i: lax.dynamic_index_in_dim(x, i, 1), x, np.int32(2))


def _of_nothing(x: jax.Array) -> Any:
    none = x[:0]
    return jnp.concatenate([none, x, jnp.pad(x, 0, mode="edge")]), none.sum(0), none.T @ none, none * 2


def products() -> Iterator[Case]:
    for subscripts, left, right in (
        ("ij,jk->ik", (3, 4), (4, 5)),
        ("aij,jk->aik", (2, 3, 4), (4, 5)),
        ("i,i->", (4,), (4,)),
        ("i,ij->j", (4,), (4, 5)),
        ("ij,j->i", (3, 4), (4,)),
        ("i,j->ij", (3,), (4,)),
        ("bihd,bjhd->bhij", (2, 3, 4, 5), (2, 6, 4, 5)),
        ("bhij,bjhd->bihd", (2, 4, 3, 6), (2, 6, 4, 5)),
        ("aibj,jbk->aik", (2, 3, 4, 5), (5, 4, 2)),
        ("ij,klj->ikl", (2, 3), (4, 5, 3)),
        ("bi,bi->b", (3, 4), (3, 4)),
    ):
        yield case(partial(jnp.einsum, subscripts), floats(*left), floats(*right))
    yield case(jnp.matmul, whole(3, 4), whole(4, 5))
    longer = partial(lax.dot, preferred_element_type=jnp.int32)
    yield case(longer, whole(3, 40, high=120, dtype=np.int8), whole(40, 5, dtype=np.int8))
    convolution = lax.conv_general_dilated
    for x, kernel, strides, padding, more in (
        ((2, 7, 6, 3), (3, 3, 3, 4), (1, 1), "SAME", {}),
        ((2, 7, 6, 3), (3, 2, 3, 4), (2, 1), ((1, 2), (0, 1)), {"rhs_dilation": (1, 2)}),
        ((2, 7, 6, 4), (3, 3, 1, 8), (2, 2), "SAME", {"feature_group_count": 4}),
        ((2, 7, 6, 4), (3, 3, 2, 6), (1, 2), "VALID", {"feature_group_count": 2}),
        ((2, 4, 3, 3), (3, 3, 3, 2), (1, 1), ((2, 1), (2, 2)), {"lhs_dilation": (2, 3)}),
        ((2, 7, 6, 3), (2, 2, 3, 2), (1, 1), ((-1, 2), (1, -2)), {}),
    ):
        layout = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
        of = partial(convolution, window_strides=strides, padding=padding, **layout, **more)
        yield case(of, floats(*x), floats(*kernel))
    for layout, x, kernel in (
        (("NCHW", "OIHW", "NCHW"), (2, 3, 5, 6), (4, 3, 2, 3)),
        (("HWNC", "IHWO", "CWNH"), (5, 6, 2, 3), (3, 2, 3, 4)),
        (("NWC", "WIO", "NWC"), (2, 9, 3), (3, 3, 4)),
        (("NCDHW", "OIDHW", "NDHWC"), (1, 2, 4, 5, 3), (3, 2, 2, 2, 2)),
    ):
        of = partial(
            convolution, window_strides=(1,) * (len(x) - 2), padding="SAME", dimension_numbers=layout
        )
        yield case(of, floats(*x), floats(*kernel))
    yield case(lambda x, k: lax.conv_transpose(x, k, (2, 2), "SAME"), floats(1, 4, 4, 3), floats(3, 3, 3, 2))
    yield case(_turned, floats(1, 4, 4, 2), floats(3, 2, 2, 3))


def _turned(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The gradient of a convolution turns its kernel round."""
    image = jax.ShapeDtypeStruct((1, 6, 5, 3), x.dtype)
    forward = partial(
        lax.conv_general_dilated,
        window_strides=(1, 1),
        padding="VALID",
        dimension_numbers=("NHWC", "HWOI", "NHWC"),
    )
    return jax.linear_transpose(lambda one: forward(one, kernel), image)(x)[0]


def reductions() -> Iterator[Case]:
    x = floats(3, 4, 5)
    for of in (jnp.sum, jnp.max, jnp.min, jnp.prod, jnp.mean, jnp.var):
        yield case(lambda x, of=of: (of(x), of(x, 1), of(x, (0, 2))), x)
    for of in (jnp.sum, jnp.max, jnp.min, jnp.prod):
        yield case(partial(of, axis=0), whole(3, 4))
        yield case(partial(of, axis=0), whole(3, 4, low=0, dtype=np.uint8))
    yield case(lambda x: (jnp.all(x), jnp.any(x, 0)), truth(2, 3))
    yield case(lambda x: lax.reduce(x, np.float32(0.25), lax.max, (1,)), x)
    yield case(
        lambda x, y: lax.reduce(
            (x, y), (np.float32(0), np.float32(1)), lambda a, b: (a[0] + b[0], a[1] * b[1]), (0,)
        ),
        x,
        x + 1,
    )
    yield case(lambda x: (jnp.argmax(x, 1), jnp.argmin(x, -1), jnp.argmax(x)), x)
    yield case(lambda x: (jnp.argmax(x, 1), jnp.argmin(x, 0)), whole(4, 6, low=0, high=3, dtype=np.uint8))
    yield case(lambda x: (jax.nn.softmax(x), jax.nn.logsumexp(x, 0)), x)
    image, window, strides = floats(2, 7, 8, 3), (1, 3, 2, 1), (1, 2, 2, 1)
    for initial, of in ((-np.inf, lax.max), (np.inf, lax.min), (0, lax.add)):
        for padding in ("SAME", "VALID", ((0, 0), (2, 0), (0, 1), (0, 0)), ((0, 0), (3, 4), (0, 1), (0, 0))):
            for x in (image, image[0, ..., None].transpose(3, 1, 2, 0)):
                yield case(
                    lambda x, i=initial, o=of, p=padding: lax.reduce_window(
                        x, np.float32(i), o, window, strides, p
                    ),
                    x,
                )
        spread = {"window_dilation": (1, 2, 1, 1), "base_dilation": (1, 1, 2, 1)}
        yield case(
            lambda x, i=initial, o=of, more=spread: lax.reduce_window(
                x, np.float32(i), o, window, strides, "VALID", **more
            ),
            image,
        )
    for of, initial in ((lax.max, 0), (lax.add, 3), (lax.mul, 1)):
        yield case(
            lambda x, i=initial, o=of: lax.reduce_window(x, np.int32(i), o, (2, 3), (1, 2), "SAME"),
            whole(5, 6),
        )
    yield case(lambda x: lax.reduce_window(x, False, lax.bitwise_or, (2,), (1,), "SAME"), truth(6))
    yield case(lambda x: lax.reduce_window(x, np.float32(0), lax.add, (3,), (1,), "SAME"), floats(6))
    for of in (jnp.cumsum, partial(lax.cumsum, reverse=True), lax.cummax, jnp.cumprod):
        yield case(partial(of, axis=1), floats(3, 6))
    yield case(partial(jnp.cumsum, axis=0), whole(4, 3))


def indexing() -> Iterator[Case]:
    x, i, j = floats(4, 5, 6), whole(2, 3, low=-4, high=4), whole(3, low=-5, high=5)
    yield case(lambda x, i: (x[i], x[:, i], x[:, :, i], x[i[0, 0]], x[i[0, 0], :, i[1, 1]]), x, i)
    yield case(lambda x, i, j: (x[i, j], x[i, :, j], x[:, i, j], x[i, 2, j]), x, i, j)
    for mode in ("clip", "fill", "wrap"):
        yield case(lambda x, i, mode=mode: jnp.take(x, i * 3, 1, mode=mode), x, i)
    yield case(lambda x, i: jnp.take_along_axis(x, i, 1), x, whole(4, 2, 6, low=0, high=5))
    yield case(lambda x: (jnp.take_along_axis(x, jnp.argsort(x, 0), 0), jnp.take(x, jnp.array([3, 1]), 0)), x)
    starts = whole(3, 2, low=-2, high=6)
    for numbers, sizes in (
        (((1, 2, 3), (), (0, 2)), (2, 5, 3)),
        (((0, 2), (0,), (2, 0)), (1, 5, 4)),
        (((0, 1), (1,), (1, 0)), (2, 1, 4)),
    ):
        offsets, collapsed, named = numbers
        dimensions = lax.GatherDimensionNumbers(offsets, collapsed, named)
        yield case(lambda x, i, d=dimensions, s=sizes: lax.gather(x, i, d, s, mode="clip"), x, starts)
    yield case(jax.vmap(lambda x, i: lax.dynamic_slice(x, (i, 1), (2, 4))), x, whole(4, low=-1, high=6))
    yield case(jax.vmap(lambda x, i: x[i], (2, 1), 1), x, whole(2, 6, low=0, high=4))
    few = np.array([[1, 3], [0, 2]], np.int32)
    for name in ("set", "add", "multiply", "max", "min"):
        yield case(lambda x, i, y, name=name: getattr(x.at[i[0]], name)(y), x, few, floats(2, 5, 6))
        yield case(lambda x, i, y, name=name: getattr(x.at[:, i[0], i[1]], name)(y), x, few, floats(4, 2))
    yield case(lambda x, i: x.at[i].add(1), floats(4, 2), np.array([1, 1, 9, 1, -9], np.int32))
    yield case(lambda x, i: x.at[i].add(3), whole(6, dtype=np.uint8), np.array([1, 1, 9], np.int32))
    yield case(lambda x, y: x.at[1, :, 2:4].set(y), x, floats(5, 2))
    yield case(
        jax.vmap(lambda x, i, y: lax.dynamic_update_slice(x, y, (i, 1))),
        x,
        whole(4, low=-2, high=5),
        floats(4, 2, 3),
    )
    yield case(lambda x, i: x.at[i].set(True), truth(5), np.array([3, 0], np.int32))


def ordering() -> Iterator[Case]:
    x, ties = floats(3, 7), whole(3, 7, low=0, high=3)
    yield case(lambda x: (jnp.sort(x), jnp.argsort(x), jnp.sort(x, 0, descending=True)), x)
    yield case(lambda x: (jnp.sort(x), jnp.argsort(x, 0), jnp.argsort(x, descending=True)), ties)
    yield case(lambda x, y: lax.sort((y, x), num_keys=2), x, ties)
    yield case(lambda x, y: lax.sort((y, x, y), num_keys=1), x, ties)
    yield case(lambda x: (lax.top_k(x, 3), jnp.median(x, 1)), x)
    yield case(lambda x: lax.top_k(x, 2), ties.astype(np.uint8))


def control() -> Iterator[Case]:
    x = floats(5, 3)
    yield case(lambda x: lax.scan(lambda c, row: (jnp.tanh(c + row), c * 2), jnp.zeros(3), x), x)
    yield case(lambda x: lax.scan(lambda c, row: (c + row.sum(), (row[::-1], c)), 0.0, x, reverse=True), x)
    yield case(lambda x: lax.fori_loop(0, 3, lambda i, v: v.at[i].multiply(i) + x, x), x)
    yield case(
        lambda x: lax.while_loop(lambda v: v[0] < 9, lambda v: (v[0] + v[2], v[2], v[1]), (x, 1.0, 2.0)),
        np.float32(0.5),
    )
    yield case(
        lambda x: lax.while_loop(lambda v: v[0, 0] > 1e9, lambda v: v + 1, jnp.zeros((2, 2)) + x),
        np.float32(1),
    )
    yield case(
        lambda x: lax.scan(lambda c, row: lax.scan(lambda d, one: (d * one + c, d), c, row), 1.0, x), x
    )
    for sign in (-1, 1):
        given = np.float32(sign) * np.abs(x)
        yield case(
            lambda x: lax.cond(x.sum() > 0, lambda x: (x, x.sum()), lambda x: (x * 2, x[0, 0]), x), given
        )
    for number in (-1, 0, 1, 2, 7):
        branches = [lambda x: x + 1, lambda x: x, lambda x: x[:, ::-1] * 2]
        yield case(lambda x, i, b=branches: lax.switch(i, b, x), x, np.int32(number))
    yield case(lambda x: lax.switch(1, [lambda x: x + 1, lambda x: x * 3], x), x)
    yield case(lax.composite(lambda x: jax.jit(lambda y: lax.sin(y) + y)(x) + x, "own.wave"), x)
    yield case(lambda x: lax.cond(x[0] > 0, lambda: jnp.ones(3), lambda: jnp.arange(3.0)), floats(4))


def written_rows() -> Iterator[Case]:
    """Loops that write rows as a scan does, but not one in each turn, or with more to it than that."""

    def write(v: jax.Array, i: Any, value: Any) -> jax.Array:
        new = jnp.full((1, 3), value, v.dtype)
        return lax.dynamic_update_slice(v, new, (i, 0), allow_negative_indices=False)

    def loop(x: jax.Array, first: int, last: int, step: int, turn: Any, goes_on: Any = None) -> Any:
        return lax.while_loop(
            lambda v: (v[0] < last) if goes_on is None else goes_on(*v),
            lambda v: (v[0] + step, turn(*v)),
            (first, x),
        )

    x = floats(5, 3)
    for first, last, step in ((0, 5, 1), (0, 3, 1), (1, 5, 1), (1, 6, 1), (0, 5, 2), (0, 7, 1)):
        numbers = {"first": first, "last": last, "step": step}
        yield case(partial(loop, turn=lambda i, v: write(v, i, i), **numbers), x)
    whole = partial(loop, first=0, last=5, step=1)
    yield case(partial(whole, turn=lambda i, v: write(v, i, v.sum())), x)
    yield case(partial(whole, turn=lambda i, v: write(v, 4 - i, i)), x)
    yield case(partial(whole, turn=lambda i, v: write(v + 1, i, i)), x)
    few = {"goes_on": lambda i, v: (i < 5) & (v[1, 0] < 2)}
    yield case(partial(whole, turn=lambda i, v: write(v, i, i + 9), **few), x)
    yield case(lambda x: loop((x, x[0, 0]), 0, 5, 1, lambda i, v: (write(v[0], i, v[1]), v[0][1, 1])), x)


def special() -> Iterator[Case]:
    for of in (lax.erfc, lax.lgamma, lax.digamma):
        yield case(of, positive(3, 4))
    yield case(lambda x: (lax.erf_inv(x), lax.erf(x), lax.top_k(x, 2)), np.tanh(floats(3, 4)))


KINDS = (elementwise, special, types, shapes, products, reductions, indexing, ordering, control, written_rows)
SEEN: set[str] = set()


def run(content: bytes, **inputs: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def seen_by_numpy(x: jax.Array) -> jax.Array:
    """ONNX Runtime returns no bfloat16 to Python."""
    return x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x


def names_in(block: Any) -> Iterator[str]:
    for one in block.operations:
        yield one.operation.name
        for region in one.operation.regions:
            for inner in region.blocks:
                yield from names_in(inner)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_operations(kind: Callable[[], Iterator[Case]]) -> None:
    cases = list(kind())
    arrays = [array for _, own in cases for array in own]
    parameters = [np.asarray(array) for array in arrays]

    def every(parameters: list[Any], x: Any) -> Any:
        left = iter(parameters)
        return [of(*(next(left) for _ in own)) for of, own in cases]

    def seen(parameters: list[Any], x: Any) -> Any:
        return jax.tree.map(seen_by_numpy, every(parameters, x))

    content = to_onnx(seen, parameters, [f"p{i}" for i in range(len(parameters))], X, 1)
    onnx.checker.check_model(content, full_check=True)
    x = np.zeros((1, 2), np.float32)
    expected = jax.jit(every)(parameters, x)
    found = iter(run(content, x=x))
    for number, one in enumerate(expected):
        for leaf in jax.tree.leaves(one):
            got = next(found)
            assert got.shape == leaf.shape, f"case {number}"
            assert got.dtype == seen_by_numpy(leaf).dtype, f"case {number}"
            close = 1e-5 if leaf.dtype.itemsize == 4 else 1e-2
            np.testing.assert_allclose(
                got.astype(np.float64), np.asarray(leaf, np.float64), close, close, err_msg=f"case {number}"
            )
    module = lowered(seen, parameters, x)
    SEEN.update(name for one in module.body.operations for name in names_in(one.regions[0].blocks[0]))


def test_every_operation_of_the_table_has_a_case() -> None:
    if len(SEEN) < 20:
        pytest.skip("needs the cases of all kinds")
    assert set(OPERATORS) - SEEN == set()


def test_a_loop_stacks_the_outputs_of_a_scan() -> None:
    """Else each turn would copy all of them."""
    rows = [floats(5, 3)]
    content = to_onnx(
        lambda p, x: lax.scan(lambda c, row: (c + row, c), jnp.zeros(3), p[0]), rows, ["rows"], X, 1
    )
    (loop,) = (node for node in onnx.load_from_string(content).graph.node if node.op_type == "Loop")
    body = loop.attribute[0].g
    assert (len(body.input), len(body.output)) == (2 + 2, 1 + 3)
    assert "ScatterND" not in {node.op_type for node in body.node}


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (lambda p, x: lax.population_count(x.astype(jnp.int32)), "stablehlo.popcnt"),
        (lambda p, x: jnp.fft.fft(x).real, "complex"),
        (lambda p, x: jnp.linalg.cholesky(x.T @ x), "stablehlo.cholesky|custom_call.*potrf"),
        (lambda p, x: lax.cumlogsumexp(x, 1), "stablehlo.reduce_window .*of its own"),
        (lambda p, x: jax.pure_callback(lambda x: x, x, x), "custom_call"),
        (
            lambda p, x: lax.conv(x[None, None, None, None], x[None, None, None, None], (1,) * 4, "SAME"),
            "4 spatial",
        ),
    ],
)
def test_what_is_not_translated_is_refused_by_name(function: Any, named: str) -> None:
    with pytest.raises(ModelError, match=named):
        to_onnx(function, [], [], X, 2)


def test_what_does_not_go_into_a_file_is_refused() -> None:
    large = np.broadcast_to(np.float32(1), (1 << 30,))
    with pytest.raises(ModelError, match="2 GiB"):
        to_onnx(lambda p, x: x * p[0][0], [large], ["w"], X, 1)
    with pytest.raises(ModelError, match=r"'w'.*float8_e4m3fn"):
        to_onnx(lambda p, x: x * 2, [np.zeros(2, jnp.float8_e4m3fn)], ["w"], X, 1)
    (rows,) = export.symbolic_shape("rows")
    shape = jax.ShapeDtypeStruct((rows, 2), np.float32)
    paired = export.export(jax.jit(lambda p, x: x.reshape(rows // 2, 4)), platforms=["cpu"])([], shape)
    with pytest.raises(ModelError, match=r"3 rows.*another number"):
        to_onnx(paired.call, [], [], X, 3)
