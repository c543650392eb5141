"""Threefry's random bits without its loop: the same bits, in registers.

On a CPU JAX compiles the twenty rounds of Threefry-2x32 to a loop over arrays, so every few rounds the whole state
goes through memory. Unrolled, they are one fused pass.

Salmon, Moraes, Dror and Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
_BLOCK = 1 << 14  # numbers drawn at a time; they fit into the first-level cache
_FEWEST = 1 << 10  # numbers per key from which a loop over several keys pays off


def draws_threefry_bits(key: Any, *, bit_width: int, shape: Sequence[int]) -> bool:
    """Whether `threefry_bits` computes the same as `random_bits` with these parameters."""
    config: Any = jax.config
    return (
        (key.shape == () or math.prod(shape) >= _FEWEST)
        and 0 not in key.shape
        and str(key.dtype) == "key<fry>"
        and bit_width == 32
        and 0 < math.prod(shape) < 2**32
        and config.jax_threefry_partitionable
    )


def threefry_bits(key: jax.Array, shape: Sequence[int]) -> jax.Array:
    """The bits that `jax.random.bits` draws from each key: uint32 `[*key.shape, *shape]`.

    They are drawn in blocks, by a loop, because XLA does not fuse a loop into its users. Fused into each user of the
    bits, the rounds would be computed once per use, and not in vector registers.
    """
    if key.shape:
        each = lax.map(lambda one: threefry_bits(one, shape), key.reshape(-1))
        return each.reshape(*key.shape, *shape)
    size = math.prod(shape)
    block = -(-size // 2) if size <= 2 * _BLOCK else _BLOCK
    first, second = jax.random.key_data(key)
    schedule = (first, second, first ^ second ^ jnp.uint32(_PARITY))

    def bits(start: jax.Array) -> jax.Array:
        left = jnp.broadcast_to(first, (block,))
        right = lax.iota(jnp.uint32, block) + (start + second)
        for step in range(5):
            for distance in _ROTATIONS[step % 2]:
                left = left + right
                right = left ^ ((right << jnp.uint32(distance)) | (right >> jnp.uint32(32 - distance)))
            left = left + schedule[(step + 1) % 3]
            right = right + (schedule[(step + 2) % 3] + jnp.uint32(step + 1))
        return left ^ right

    starts = jnp.arange(-(-size // block), dtype=jnp.uint32) * jnp.uint32(block)
    return lax.map(bits, starts).reshape(-1)[:size].reshape(tuple(shape))
