"""Sending only the largest coordinates."""

import jax
import jax.numpy as jnp

from fairyring.aggregation._counts import check_count, count_of
from fairyring.aggregation.contract import BoundStage, Message, MessageSpec, Properties, Stage, require_real


def top_k(k: int | None = None, *, fraction: float | None = None) -> Stage:
    """Send the client's `k` largest coordinates as (index, value) pairs (Aji, Heafield 2017).

    `|x - sent|^2 <= (1 - k/d) |x|^2`; what is left out is lost (biased). Each client chooses its own coordinates, and the
    choice reveals something about its data, so **messages cannot be added under masks**: `secure_sum` refuses them. Between
    the stages the vector stays `[dimension]` with zeros, which a quantiser keeps; only the message on the wire is
    shorter. For sums under masks use `random_k` or `count_sketch`.

    Args:
        k: number of coordinates to send.
        fraction: or the fraction of coordinates, in `(0, 1]`.

    Raises:
        PlanError: not exactly one of `k` and `fraction` is given, or it is out of range; when bound:
            `k` is larger than the dimension.
    """
    check_count("top_k", k, fraction)
    name = f"top_k({f'k={k}' if k is not None else f'fraction={fraction:g}'})"

    def decode(total: Message, round_key: jax.Array) -> Message:
        return total

    def bind(spec: MessageSpec) -> BoundStage:
        require_real(spec, name)
        count = count_of("top_k", k, fraction, spec.dimension)

        def encode(message: Message, client_key: jax.Array, round_key: jax.Array) -> Message:
            _, index = jax.lax.top_k(jnp.abs(message.vector), count)
            sparse = jnp.zeros_like(message.vector).at[index].set(message.vector[index], unique_indices=True)
            return Message(sparse, message.auxiliary)

        nonzero = count if spec.nonzero is None else min(count, spec.nonzero)
        return BoundStage(spec.replace(nonzero=nonzero, summable=False), encode, decode)

    properties = Properties(unbiased=False, linear=False, lossless=False, summable=False)
    return Stage(name, bind, False, (("k", k), ("fraction", fraction)), properties, "top_k")
