"""A convolution computed in blocks of examples that fit into the cache, with the gradient that its form defines."""

from functools import partial
from typing import Protocol

import jax
import jax.numpy as jnp
from jax import lax


class Form(Protocol):
    """One way to compute a convolution of stride `strides` without padding, `x` `[n, h, w, c]`, `w` `[k, k, c, o]`.

    A form is hashable. `prepare` is linear, and computed once for all blocks; `finish` is its transpose.
    """

    def prepare(self, w: jax.Array) -> jax.Array: ...

    def forward(self, x: jax.Array, filters: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The output `[n, h', w', o]`, and the part of `x` that `backward` needs."""
        ...

    def backward(
        self, kept: jax.Array, filters: jax.Array, g: jax.Array, shape: tuple[int, ...]
    ) -> tuple[jax.Array, jax.Array]:
        """The gradients of an input of `shape` and of the prepared filters, from the output's cotangent `g`."""
        ...

    def finish(self, filters: jax.Array) -> jax.Array: ...

    def example_bytes(self, x: jax.Array, w: jax.Array) -> int:
        """Bytes of memory for one example."""
        ...


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def in_blocks(x: jax.Array, w: jax.Array, form: Form) -> jax.Array:
    """The convolution of `x` with `w` in a form, one block of examples after another."""
    return _forward(x, w, form)[0]


_CACHE = 1 << 20  # bytes of a block; it fits into the second-level cache
_WHOLE = 12 << 20  # bytes; below, blocks cost more than they save


def _block(x: jax.Array, w: jax.Array, form: Form) -> int:
    n, each = x.shape[0], form.example_bytes(x, w)
    largest = n if n * each <= _WHOLE else max(1, min(n, _CACHE // each))
    return next(size for size in range(largest, 0, -1) if n % size == 0)


def _forward(
    x: jax.Array, w: jax.Array, form: Form
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
    filters, size = form.prepare(w), _block(x, w, form)
    if size == x.shape[0]:
        y, kept = form.forward(x, filters)
        return y, (x, kept[None], filters)
    y, kept = lax.map(lambda block: form.forward(block, filters), x.reshape(-1, size, *x.shape[1:]))
    return y.reshape(-1, *y.shape[2:]), (x, kept, filters)


def _backward(
    form: Form, residuals: tuple[jax.Array, jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kept, filters = residuals
    blocks = kept.shape[0]
    shape = (x.shape[0] // blocks, *x.shape[1:])
    if blocks == 1:
        dx, df = form.backward(kept[0], filters, g, shape)
        return dx, form.finish(df)

    def step(total: jax.Array, block: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        dx, df = form.backward(block[0], filters, block[1], shape)
        return total + df, dx

    df, dx = lax.scan(step, jnp.zeros_like(filters), (kept, g.reshape(blocks, shape[0], *g.shape[1:])))
    return dx.reshape(x.shape), form.finish(df)


in_blocks.defvjp(_forward, _backward)
