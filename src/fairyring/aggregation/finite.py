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

    As a product, whose terms are added in blocks, so that many small ones are not lost beside a large one. That is the
    compiler's doing: a test holds it to a millionth, where promises have room for fifteen. An accelerator would round
    the terms to fewer digits if it were not told.
    """
    return jnp.vdot(vector, vector, precision=jax.lax.Precision.HIGHEST)
