"""A client's examples in batches: in which order they come, and the loops over them.

Full batches run in a loop whose length is the client's own, several a turn; what is left of an epoch runs in the smallest of a few
capacities that holds it. See `fairyring.learning.local.Workload`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fairyring.learning.local import Workload

Tree = Any
Columns = Mapping[str, jax.Array]
# `(carry, places, mask) -> carry` for one batch: `places` int32 `[rows]` among the client's examples, and which of them hold
# one, float32 `[rows]`; None where all do.
Body = Callable[[Any, jax.Array, jax.Array | None], Any]

PACKED = 4096  # examples whose random order is drawn by sorting single words


class Examples(NamedTuple):
    """A client's examples: rows `start : start + size` of every column.

    Attributes:
        columns: of all clients.
        start, size: int32 scalars; `1 <= size <= workload.longest`.
        batch_size: examples in a batch.
        workload: the shapes that loops are compiled for.
    """

    columns: Columns
    start: jax.Array
    size: jax.Array
    batch_size: int
    workload: Workload

    def rows(self, places: jax.Array) -> Columns:
        """The columns at some of the client's places. Places past its end repeat its own last example, never a neighbour's."""
        rows = self.start + jnp.minimum(places, self.size - 1)
        return {name: column.at[rows].get(mode="clip") for name, column in self.columns.items()}

    def order(self, key: jax.Array | None) -> jax.Array:
        """An order of the examples: int32 `[longest + largest tail]`, the first `size` of them valid.

        Args:
            key: to shuffle them by; None to leave them as they are.
        """
        return shuffled(key, self.size, self.workload)

    def epoch(self, order: jax.Array, carry: Any, body: Body, unroll: int = 1, *, even: bool = True) -> Any:
        """Go through every example once.

        Args:
            order: of the examples.
            carry, body: see `Body`.
            unroll: full batches a loop iteration.
            even: the number of full batches is a multiple of `unroll`.
        """

        def full(i: jax.Array, carry: Any) -> Any:
            return body(carry, lax.dynamic_slice(order, (i * self.batch_size,), (self.batch_size,)), None)

        batches = self.size // self.batch_size
        if self.workload.longest >= self.batch_size:
            carry = _blocks(batches, full, carry, unroll, even=even)
        left = self.size - batches * self.batch_size
        tails = self.workload.tails
        for smaller, capacity in zip((0, *tails), tails, strict=False):
            # A loop of at most one turn: unlike a conditional it updates the parameters in place.
            def tail(_: jax.Array, carry: Any, capacity: int = capacity) -> Any:
                places = lax.dynamic_slice(order, (batches * self.batch_size,), (capacity,))
                return body(carry, places, (jnp.arange(capacity) < left).astype(jnp.float32))

            turns = ((left > smaller) & (left <= capacity)).astype(jnp.int32)
            carry = lax.fori_loop(0, turns, tail, carry)
        return carry

    def steps(self, order: jax.Array, count: int | jax.Array, carry: Any, body: Body, unroll: int = 1) -> Any:
        """Go through a number of batches whatever the client's size: they wrap around.

        Args:
            order: of the examples.
            count: how many batches: a multiple of `unroll`.
            carry, body: see `Body`.
            unroll: batches a loop iteration.
        """
        small = self.workload.smallest < self.batch_size
        mask = (jnp.arange(self.batch_size) < self.size).astype(jnp.float32) if small else None

        def wrapped(i: jax.Array, carry: Any) -> Any:
            places = order[(i * self.batch_size + jnp.arange(self.batch_size)) % self.size]
            return body(carry, places, mask)

        return _blocks(jnp.int32(count), wrapped, carry, unroll, even=True)

    def once(self, carry: Any, body: Body) -> Any:
        """Go through every example once, as they lie: for sums, which take no order."""

        def masked(i: jax.Array, carry: Any) -> Any:
            places = i * self.batch_size + jnp.arange(self.batch_size)
            return body(carry, places, (places < self.size).astype(jnp.float32))

        return lax.fori_loop(0, -(-self.size // self.batch_size), masked, carry)


def _blocks(count: jax.Array, body: Callable, carry: Any, unroll: int, *, even: bool) -> Any:
    """`count` turns of `body(i, carry)`, several a loop iteration: a small step costs less than a loop's turn."""
    if unroll == 1:
        return lax.fori_loop(0, count, body, carry)

    def block(i: jax.Array, carry: Any) -> Any:
        for j in range(unroll):
            carry = body(i * unroll + j, carry)
        return carry

    blocks = count // unroll
    carry = lax.fori_loop(0, blocks, block, carry)
    return carry if even else lax.fori_loop(blocks * unroll, count, body, carry)


def shuffled(key: jax.Array | None, size: jax.Array, workload: Workload) -> jax.Array:
    """A client's examples in the order of an epoch: int32 `[longest + largest tail]`, the first `size` of them valid.

    Random bits are sorted, the places past `size` behind all others, in the smallest of a few lengths that
    holds the client, so that a small client does not pay for sorting the largest one's length. Without a key they stay as
    they lie.
    """
    longest = workload.longest
    spare = max(workload.tails, default=0)
    places = jnp.arange(longest + spare, dtype=jnp.int32)
    if key is None:
        return places

    def sorted_by_bits(length: int, order: jax.Array) -> jax.Array:
        here = jnp.arange(length, dtype=jnp.int32)
        bits = jax.random.bits(key, (length,))
        if length <= PACKED:
            # Random high bits and the place in the low ones: one word to sort. Two of at least 20 random bits are
            # seldom alike, and then their places decide.
            low = (length - 1).bit_length()
            bits = jnp.where(here < size, bits >> low, jnp.uint32(0xFFFFFFFF >> low))
            packed = lax.sort(bits << low | here.astype(jnp.uint32), is_stable=False)
            drawn = (packed & jnp.uint32((1 << low) - 1)).astype(jnp.int32)
        else:
            # Clearing the lowest bit leaves the largest value to the places past the end.
            bits = jnp.where(here < size, bits >> 1, jnp.uint32(0xFFFFFFFF))
            _, drawn = lax.sort((bits, here), num_keys=1, is_stable=True)
        return lax.dynamic_update_slice(order, drawn, (0,))

    order, smaller = places, 0
    for length in workload.orders:
        turns = ((size > smaller) & (size <= length)).astype(jnp.int32)
        if len(workload.orders) == 1:
            return sorted_by_bits(length, order)
        order = lax.fori_loop(0, turns, lambda _, o, length=length: sorted_by_bits(length, o), order)
        smaller = length
    return order
