"""Numbers that are not finite, and norms that are never underestimated.

A vector may be finite at first and overflow in a stage, so a bound that was true of it no longer holds. Every stage that
promises a bound therefore checks the vector itself, and replaces one that is not finite by zeros.
"""

import jax
import jax.numpy as jnp


def finite(values: jax.Array) -> jax.Array:
    """Whether all of `values` are finite: a bool scalar. `x - x` is 0 for finite numbers and NaN for others."""
    return jnp.sum(values - values) == 0.0


def finite_or_zero(vector: jax.Array) -> jax.Array:
    """`vector`, or zeros if any coordinate is infinite or NaN."""
    return jnp.where(finite(vector), vector, jnp.zeros_like(vector))


def known(values: jax.Array, otherwise: jax.typing.ArrayLike) -> jax.Array:
    """`values`, with `otherwise` in place of those that are not finite.

    A clip may let NaN pass, and its conversion to an integer is undefined.
    """
    return jnp.where(jnp.isfinite(values), values, otherwise)


def square(vector: jax.Array) -> jax.Array:
    """The squared norm of a float32 `vector`, not finite if the vector is not.

    Computed as a dot product, whose terms the compiler adds in blocks, so that many small terms are not lost beside a large
    one. A test requires a relative error below 1e-6; promises leave room for 1.5e-5. Without the highest precision, an
    accelerator would round the terms to fewer digits.
    """
    return jnp.vdot(vector, vector, precision=jax.lax.Precision.HIGHEST)
