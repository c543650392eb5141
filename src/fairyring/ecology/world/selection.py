"""A few of many flags, without a sort and without a sum over all of them.

Births, free places and conjugations are rare: what they take is done for a few at a time. Flags are packed into words of
32 bits; a word's share is its population count, and the k-th set bit is found by halving.
"""

from typing import Any

import jax
import jax.numpy as jnp

Array = Any  # jax.Array, which type checkers take for a variable
_COMPARED = 1 << 14  # comparisons of each word with each bit wanted, up to which no search is as fast


def packed(flags: Array) -> Array:
    """Booleans `[n]` as uint32 words `[n / 32]`, the first flag in the lowest bit. `n` is a multiple of 32."""
    bits = flags.reshape(-1, 32).astype(jnp.uint32)
    return (bits << jnp.arange(32, dtype=jnp.uint32)).sum(1, dtype=jnp.uint32)


def count(words: Array) -> Array:
    """How many bits are set in all words, int32."""
    return jax.lax.population_count(words).astype(jnp.int32).sum()


def first(words: Array, most: int) -> Array:
    """Places of the first `most` set bits, int32 `[most]` in rising order; `32 * words` beyond the last one."""
    return _places(words, _running(words), jnp.arange(most, dtype=jnp.int32))


def drawn(words: Array, most: int, room: Array, chance: Array) -> Array:
    """Places of `room` of the set bits, or of all where there are no more: each has the same chance.

    They are neighbours in the ring of all set bits, from the one on that `chance` says.

    Args:
        words: the flags.
        most: an upper bound of `room`.
        room: how many are wanted.
        chance: uniform in [0, 1). Where all are wanted it changes nothing.

    Returns:
        int32 `[most]` in rising order; `32 * words` beyond the last one.
    """
    upto, rank = _running(words), jnp.arange(most, dtype=jnp.int32)
    total = upto[-1]
    over = jnp.maximum(total - room, 0)
    start = (chance * total).astype(jnp.int32)
    # In rising order: those up to where the ring closed, then those from the start on. Between them `over` are left out.
    wanted = rank + jnp.where(rank >= start - over, jnp.minimum(start, over), 0)
    wanted = jax.lax.optimization_barrier(wanted)  # or it is worked out again for every word
    return jnp.where(rank < room, _places(words, upto, wanted), 32 * words.shape[0])


def _running(words: Array) -> Array:
    """How many bits are set in each word and those before it."""
    return jnp.cumsum(jax.lax.population_count(words).astype(jnp.int32))


def _places(words: Array, upto: Array, wanted: Array) -> Array:
    """Place of the k-th set bit for each k wanted; `32 * words` where there are fewer."""
    each = jax.lax.population_count(words).astype(jnp.int32)
    if upto.shape[0] * wanted.shape[0] <= _COMPARED:
        word = (upto <= wanted[:, None]).astype(jnp.int32).sum(1)
    else:
        word = jnp.searchsorted(upto, wanted, side="right", method="scan_unrolled").astype(jnp.int32)
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
