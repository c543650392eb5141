"""What becomes of numbers that are not finite, and norms that are never underestimated.

A vector may come in finite and overflow in a stage. A bound on it is then worth nothing, so every stage that promises
one decides on the vector as it is there: one that is not finite counts as zeros.
"""

import jax
import jax.numpy as jnp


def finite(values: jax.Array) -> jax.Array:
    """Whether all of `values` are finite: a bool scalar. One sum tells: less itself, only other numbers are not 0."""
    return jnp.sum(values - values) == 0.0


def finite_or_zero(vector: jax.Array) -> jax.Array:
    """`vector`, or zeros where any of it is infinite or not a number."""
    return jnp.where(finite(vector), vector, jnp.zeros_like(vector))


def known(values: jax.Array, otherwise: jax.typing.ArrayLike) -> jax.Array:
    """`values`, with `otherwise` for those that are not finite: a clip may let them pass, and as whole numbers they may
    be anything."""
    return jnp.where(jnp.isfinite(values), values, otherwise)


def square(vector: jax.Array) -> jax.Array:
    """The squared norm of a float32 `vector`, not finite if the vector is not.

    Within 2^-16 of the square for up to 2^31 coordinates, whatever the order a compiler adds in: 64 terms at a time
    (an error of 63 half units in the last place), then 32 of the sums, and 32 of those, until one is left. A sum of all
    terms in one row could lose the small ones beside a large one, and be further off than the promises allow.
    """
    sums, terms = vector * vector, 64
    while sums.shape[0] != 1:
        rows = max(1, -(-sums.shape[0] // terms))
        padded = jnp.pad(sums, (0, rows * terms - sums.shape[0])).reshape(rows, terms)
        # As a product, which adds rows faster; an accelerator would round its terms to fewer digits.
        sums = jnp.matmul(padded, jnp.ones((terms,), jnp.float32), precision=jax.lax.Precision.HIGHEST)
        terms = 32
    return sums[0]
