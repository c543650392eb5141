"""Selecting a few of many flags without sorting or scanning all of them.

Births, free places and conjugations are rare, so a step processes a few at a time. Flags are packed into words of 32 bits. The
population count of a word is its number of flags, and the k-th set bit in it is found by bisection.
"""

from typing import Any

import jax
import jax.numpy as jnp

Array = Any  # jax.Array, which type checkers take for a variable
_COMPARED = (
    1 << 14
)  # up to so many comparisons of words with wanted ranks, comparing all is faster than a search


def packed(flags: Array) -> Array:
    """Booleans `[n]` as uint32 words `[n / 32]`, the first flag in the lowest bit. `n` is a multiple of 32."""
    bits = flags.reshape(-1, 32).astype(jnp.uint32)
    return (bits << jnp.arange(32, dtype=jnp.uint32)).sum(1, dtype=jnp.uint32)


def count(words: Array) -> Array:
    """Number of set bits in all words, int32."""
    return jax.lax.population_count(words).astype(jnp.int32).sum()


def first(words: Array, limit: int) -> Array:
    """Places of the first `limit` set bits, int32 `[limit]` in rising order, filled up with `32 * words`."""
    return _places(words, _running(words), jnp.arange(limit, dtype=jnp.int32))


def drawn(words: Array, limit: int, room: Array, chance: Array) -> Array:
    """Places of `room` of the set bits, or of all if there are fewer. Each set bit has the same probability.

    The chosen bits are consecutive in the ring of all set bits; `chance` determines where they start.

    Args:
        words: the flags.
        limit: an upper bound of `room`.
        room: how many to choose.
        chance: uniform in [0, 1). It has no effect if all are chosen.

    Returns:
        int32 `[limit]` in rising order, filled up with `32 * words`.
    """
    running, rank = _running(words), jnp.arange(limit, dtype=jnp.int32)
    total = running[-1]
    over = jnp.maximum(total - room, 0)
    start = (chance * total).astype(jnp.int32)
    # In rising order: the bits after the ring has wrapped round, then those from the start. Between them `over` are skipped.
    wanted = rank + jnp.where(rank >= start - over, jnp.minimum(start, over), 0)
    wanted = jax.lax.optimization_barrier(wanted)  # or XLA recomputes it for every word
    return jnp.where(rank < room, _places(words, running, wanted), 32 * words.shape[0])


def _running(words: Array) -> Array:
    """Number of set bits up to and including each word."""
    return jnp.cumsum(jax.lax.population_count(words).astype(jnp.int32))


def _places(words: Array, running: Array, wanted: Array) -> Array:
    """Place of the k-th set bit for each wanted k; `32 * words` if there are fewer."""
    counts = jax.lax.population_count(words).astype(jnp.int32)
    if running.shape[0] * wanted.shape[0] <= _COMPARED:
        word = (running <= wanted[:, None]).astype(jnp.int32).sum(1)
    else:
        word = jnp.searchsorted(running, wanted, side="right", method="scan_unrolled").astype(jnp.int32)
    inside = jnp.minimum(word, words.shape[0] - 1)
    rest = wanted - (running - counts)[inside]
    bits, place = words[inside], inside * 0
    for half in (16, 8, 4, 2, 1):
        low = bits & jnp.uint32((1 << half) - 1)
        below = jax.lax.population_count(low).astype(jnp.int32)
        up = rest >= below
        bits = jnp.where(up, bits >> half, low)
        rest = jnp.where(up, rest - below, rest)
        place = place + half * up
    return jnp.where(wanted < running[-1], inside * 32 + place, 32 * words.shape[0])
