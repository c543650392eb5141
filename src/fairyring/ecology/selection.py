"""The first few of many flags, without a sort and without a sum over all of them.

Births, free places and conjugations are rare: what they take is done for a few at a time. Flags are packed into words of
32 bits; a word's share is its population count, and the k-th set bit is found by halving.
"""

from typing import Any

import jax
import jax.numpy as jnp

Array = Any  # jax.Array, which type checkers take for a variable


def packed(flags: Array) -> Array:
    """Booleans `[n]` as uint32 words `[n / 32]`, the first flag in the lowest bit. `n` is a multiple of 32."""
    bits = flags.reshape(-1, 32).astype(jnp.uint32)
    return (bits << jnp.arange(32, dtype=jnp.uint32)).sum(1, dtype=jnp.uint32)


def count(words: Array) -> Array:
    """How many bits are set in all words, int32."""
    return jax.lax.population_count(words).astype(jnp.int32).sum()


def first(words: Array, most: int) -> Array:
    """Places of the first `most` set bits, int32 `[most]` in rising order; `32 * words` beyond the last one."""
    each = jax.lax.population_count(words).astype(jnp.int32)
    upto = jnp.cumsum(each)
    wanted = jnp.arange(most, dtype=jnp.int32)
    word = (upto <= wanted[:, None]).astype(jnp.int32).sum(1)
    inside = jnp.minimum(word, words.shape[0] - 1)
    rest = wanted - (upto - each)[inside]
    bits, place = words[inside], inside * 0
    for half in (16, 8, 4, 2, 1):
        low = bits & jnp.uint32((1 << half) - 1)
        below = jax.lax.population_count(low).astype(jnp.int32)
        up = rest >= below
        bits = jnp.where(up, bits >> half, low)
        rest = jnp.where(up, rest - below, rest)
        place = place + half * up
    return jnp.where(wanted < upto[-1], inside * 32 + place, 32 * words.shape[0])
