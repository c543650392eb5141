"""Dropout (Srivastava et al. 2014) that draws only as many random bits as it needs."""

import math

import jax
import jax.numpy as jnp

from fairyring.core.errors import ModelError


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Zero each unit of `x` `[B, ...]` with probability `rate`, and scale up the others. Without a key, return `x`.

    Drawing a 32-bit word for each unit costs as much as a small layer. Here a unit takes the fewest bits that
    represent the rate exactly: one for 0.5, two for 0.25, at most eight. Other rates are rounded to a multiple
    of 1/256. The scale is that of the rounded rate, so the mean of a unit is preserved.

    Raises:
        ModelError: `rate` is not in [0, 1).
    """
    bits, threshold = drop_threshold(rate)
    if key is None or threshold == 0:
        return x
    rows, units = x.shape[0], math.prod(x.shape[1:])
    per_word = 32 // bits
    # Row by row, so that the units of an example do not depend on how many rows follow, or on padding.
    words = jax.random.bits(key, (rows, -(-units // per_word)), jnp.uint32)
    # Concatenated, because XLA does not fuse a concatenation into its users: fused into each use of the mask, the
    # shifts would be computed again for every unit, with divisions.
    parts = [(words >> shift) & jnp.uint32(2**bits - 1) >= threshold for shift in range(0, 32, bits)]
    keep = jnp.concatenate(parts, axis=1)[:, :units].reshape(x.shape)
    return jnp.where(keep, x * (1.0 / (1.0 - threshold / 2**bits)), 0.0)


def drop_threshold(rate: float) -> tuple[int, int]:
    """`(bits, threshold)`: a unit is dropped if a random number of this many bits is below the threshold."""
    if not 0.0 <= rate < 1.0:
        raise ModelError(
            "dropout",
            given=rate,
            expected="a rate of at least 0 and below 1",
            do="Usual rates are 0.25 and 0.5.",
        )
    for bits in (1, 2, 4):
        if (rate * 2**bits).is_integer():
            return bits, int(rate * 2**bits)
    return 8, min(round(rate * 256), 255)
