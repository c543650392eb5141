"""Random numbers with an address: Threefry-2x32 with 20 rounds (Salmon et al. 2011), the generator of JAX's own keys.

On a CPU, JAX compiles the rounds as a loop of a dozen small kernels an iteration, and that loop would take most of the time
of a step. Unrolled, a whole set of numbers is one kernel. The numbers are the same.
"""

from typing import Any

import jax.numpy as jnp

Array = Any  # jax.Array, which type checkers take for a variable

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def threefry(key: tuple[Array, Array], first: Array, second: Array) -> tuple[Array, Array]:
    """Two random uint32 words for each pair of words, under a key of two words."""
    schedule = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(0x1BD11BDA))
    a, b = first + schedule[0], second + schedule[1]
    for group in range(5):
        for turn in _ROTATIONS[group % 2]:
            a = a + b
            b = a ^ ((b << turn) | (b >> (32 - turn)))
        a = a + schedule[(group + 1) % 3]
        b = b + schedule[(group + 2) % 3] + jnp.uint32(group + 1)
    return a, b


def folded(key: tuple[Array, Array], number: Array | int) -> tuple[Array, Array]:
    """A key derived from `key` and a number, equal to that of `jax.random.fold_in`."""
    return threefry(key, jnp.uint32(0), jnp.asarray(number).astype(jnp.uint32))


def words(key: tuple[Array, Array], purpose: int, count: int) -> tuple[Array, Array]:
    """Two arrays of `count` random words, uint32; the first `n` of them are the same for every `count`."""
    return threefry(key, jnp.full(count, purpose, jnp.uint32), jnp.arange(count, dtype=jnp.uint32))


def unit(word: Array, bits: int) -> Array:
    """The upper `bits` (at most 24) of each word, as numbers in [0, 1)."""
    return (word >> (32 - bits)).astype(jnp.float32) * 2.0**-bits


def normal(word: Array) -> Array:
    """Standard normal numbers from words, by the inverse of the distribution function."""
    from jax.lax import erf_inv

    middle = (word >> 9).astype(jnp.float32) * 2.0**-23 + 2.0**-24
    return erf_inv(middle * 2 - 1) * 1.4142135
