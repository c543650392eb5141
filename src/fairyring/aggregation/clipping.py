"""Bounding what one client can contribute."""

import jax
import jax.numpy as jnp

from fairyring.aggregation.contract import (
    BoundStage,
    Message,
    MessageSpec,
    Properties,
    Stage,
    require_positive,
    require_real,
)
from fairyring.aggregation.finite import square


def clip(norm: float) -> Stage:
    """Scale the vector down to Euclidean norm `norm` if it is longer (McMahan et al. 2018, DP-FedAvg).

    The direction is kept, and a shorter vector is unchanged: the error is `max(0, |x| - norm)`, and is biased. Before a
    weighting stage this bounds a client's update; after one, the weighted update. The norm is computed relative to the
    largest coordinate, so it neither overflows nor vanishes. A vector that is not finite has no direction to keep and
    becomes zeros, also if an earlier stage made it overflow.

    Args:
        norm: largest Euclidean norm, in units of the model's parameters.

    Raises:
        PlanError: `norm` is not a number from 2^-64 to 2^64.
    """
    norm = require_positive("clip", "norm", norm)
    name = f"clip({norm:g})"

    def encode(message: Message, client_key: jax.Array, round_key: jax.Array) -> Message:
        return Message(_shortened(message.vector, norm), message.auxiliary)

    def decode(total: Message, round_key: jax.Array) -> Message:
        return total

    def relative_norm(message: Message, client_key: jax.Array, round_key: jax.Array) -> jax.Array:
        largest, unit = _largest_and_unit(message.vector)
        return jnp.sqrt(square(unit)) * (largest / norm)

    def bind(spec: MessageSpec) -> BoundStage:
        require_real(spec, name)
        l2 = norm if spec.l2 is None else min(norm, spec.l2)
        certain = spec.linf is None or spec.linf >= l2
        out = spec.replace(
            l2=l2,
            linf=l2 if certain else spec.linf,
            linf_failure=0.0 if certain else spec.linf_failure,
        )
        return BoundStage(out, encode, decode, relative_norm)

    properties = Properties(unbiased=False, linear=False, lossless=False)
    return Stage(
        name, bind, False, (("norm", norm),), properties, "clip", bounds_influence=True, clips_to=norm
    )


def _largest_and_unit(vector: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The largest magnitude of a coordinate, and `vector` relative to it."""
    largest = jnp.max(jnp.abs(vector), initial=0.0)
    # In two steps, because the reciprocal of the largest floats is flushed to zero.
    first = jnp.where(largest > 2.0**64, 2.0**-64, 1.0)
    return largest, vector * first / jnp.where(largest > 0, largest * first, 1.0)


def _shortened(vector: jax.Array, norm: float) -> jax.Array:
    """`vector` scaled to a norm of at most `norm`; zeros if it is not finite."""
    largest, unit = _largest_and_unit(vector)
    squared = square(unit)
    longest = norm / jnp.maximum(jnp.sqrt(squared), 1.0)  # in units of the largest coordinate
    # The square is NaN if a coordinate is infinite (inf / inf) or NaN; `largest` may miss a NaN.
    return jnp.where(jnp.isfinite(squared), jnp.where(largest > longest, unit * longest, vector), 0.0)
