"""A client's examples in batches: their order, and the loops over them.

Full batches run in a loop as long as the client needs, several batches in an iteration. The last partial batch of an epoch runs in the
smallest of a few capacities that holds it. See `fairyring.learning.local.Workload`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fairyring.learning.local import Workload

Tree = Any
Columns = Mapping[str, jax.Array]
# `(carry, places, mask) -> carry` for one batch. `places` are positions among the client's examples, int32 `[rows]`. `mask` is 1 where
# a place holds an example and 0 elsewhere, float32 `[rows]`, or None if all do.
Body = Callable[[Any, jax.Array, jax.Array | None], Any]

PACKED = 4096  # the most examples whose random order is drawn by sorting single words


class Examples(NamedTuple):
    """A client's examples: rows `start : start + size` of every column.

    Attributes:
        columns: the rows of all clients, by column name: `[rows, ...]`.
        start, size: int32 scalars; `1 <= size <= workload.longest`.
        batch_size: number of examples in a full batch.
        workload: the shapes that the loops are compiled for.
    """

    columns: Columns
    start: jax.Array
    size: jax.Array
    batch_size: int
    workload: Workload

    def rows(self, places: jax.Array) -> Columns:
        """The columns at some of the client's places: `[len(places), ...]`.

        Places past its end repeat its own last example, never another client's.
        """
        rows = self.start + jnp.minimum(places, self.size - 1)
        return {name: column.at[rows].get(mode="clip") for name, column in self.columns.items()}

    def order(self, key: jax.Array | None) -> jax.Array:
        """An order of the examples: int32 `[longest + largest tail]`, of which the first `size` are valid.

        Args:
            key: the key to shuffle with; None for the stored order.
        """
        return shuffled(key, self.size, self.workload)

    def epoch(self, order: jax.Array, carry: Any, body: Body, unroll: int = 1, *, even: bool = True) -> Any:
        """Loop over every example once, in the given order.

        Args:
            order: the order of the examples, as `order` returns it.
            carry, body: see `Body`.
            unroll: full batches in a loop iteration.
            even: whether the number of full batches is a multiple of `unroll`.

        Returns:
            The last carry.
        """

        def full(i: jax.Array, carry: Any) -> Any:
            return body(carry, lax.dynamic_slice(order, (i * self.batch_size,), (self.batch_size,)), None)

        batches = self.size // self.batch_size
        if self.workload.longest >= self.batch_size:
            carry = _blocks(batches, full, carry, unroll, even=even)
        remaining = self.size - batches * self.batch_size
        tails = self.workload.tails
        for smaller, capacity in zip((0, *tails), tails, strict=False):
            # A loop of at most one iteration: unlike a conditional, it updates the parameters in place.
            def tail(_: jax.Array, carry: Any, capacity: int = capacity) -> Any:
                places = lax.dynamic_slice(order, (batches * self.batch_size,), (capacity,))
                return body(carry, places, (jnp.arange(capacity) < remaining).astype(jnp.float32))

            iterations = ((remaining > smaller) & (remaining <= capacity)).astype(jnp.int32)
            carry = lax.fori_loop(0, iterations, tail, carry)
        return carry

    def steps(self, order: jax.Array, count: int | jax.Array, carry: Any, body: Body, unroll: int = 1) -> Any:
        """Loop over a fixed number of batches, whatever the client's size. They wrap around.

        Args:
            order: the order of the examples, as `order` returns it.
            count: number of batches, a multiple of `unroll`.
            carry, body: see `Body`.
            unroll: batches in a loop iteration.

        Returns:
            The last carry.
        """
        small = self.workload.smallest < self.batch_size
        mask = (jnp.arange(self.batch_size) < self.size).astype(jnp.float32) if small else None

        def wrapped(i: jax.Array, carry: Any) -> Any:
            places = order[(i * self.batch_size + jnp.arange(self.batch_size)) % self.size]
            return body(carry, places, mask)

        return _blocks(jnp.int32(count), wrapped, carry, unroll, even=True)

    def once(self, carry: Any, body: Body) -> Any:
        """Loop over every example once, in stored order: for sums, in which the order does not matter. Returns the last carry."""

        def masked(i: jax.Array, carry: Any) -> Any:
            places = i * self.batch_size + jnp.arange(self.batch_size)
            return body(carry, places, (places < self.size).astype(jnp.float32))

        return lax.fori_loop(0, -(-self.size // self.batch_size), masked, carry)


def _blocks(count: jax.Array, body: Callable, carry: Any, unroll: int, *, even: bool) -> Any:
    """Run `body(i, carry)` `count` times, several times in a loop iteration: a small step costs less than an iteration does."""
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
    """The order of a client's examples in an epoch: int32 `[longest + largest tail]`, of which the first `size` are valid.

    Random bits are sorted, with the places past `size` behind all others. The length that is sorted is the smallest of a few that
    holds the client, so that a small client does not pay for the length of the largest. Without a key the order is the stored one.
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
            # One word to sort: random bits above, the place in the low bits. At least 20 bits are random, so two words seldom
            # share them; where they do, the places decide.
            low = (length - 1).bit_length()
            bits = jnp.where(here < size, bits >> low, jnp.uint32(0xFFFFFFFF >> low))
            packed = lax.sort(bits << low | here.astype(jnp.uint32), is_stable=False)
            drawn = (packed & jnp.uint32((1 << low) - 1)).astype(jnp.int32)
        else:
            # Shifting clears the highest bit, which reserves the largest value for the places past the end.
            bits = jnp.where(here < size, bits >> 1, jnp.uint32(0xFFFFFFFF))
            _, drawn = lax.sort((bits, here), num_keys=1, is_stable=True)
        return lax.dynamic_update_slice(order, drawn, (0,))

    order, smaller = places, 0
    for length in workload.orders:
        iterations = ((size > smaller) & (size <= length)).astype(jnp.int32)
        if len(workload.orders) == 1:
            return sorted_by_bits(length, order)
        order = lax.fori_loop(0, iterations, lambda _, o, length=length: sorted_by_bits(length, o), order)
        smaller = length
    return order
