"""Sending random coordinates, the same for every client of a round."""

import jax
import jax.numpy as jnp

from fairyring.aggregation._counts import check_count, count_of
from fairyring.aggregation.contract import BoundStage, Message, MessageSpec, Properties, Stage, require_real
from fairyring.core.words import below


def random_k(k: int | None = None, *, fraction: float | None = None) -> Stage:
    """Send `k` random coordinates, chosen anew each round with the round's shared key (Konecny et al. 2016).

    The vector is cut into `k` strata of equal length `s` (to within one), and one coordinate of each is chosen uniformly. The
    server multiplies it by the length of its stratum, so the result is unbiased, with `E|decoded - x|^2` the sum over
    coordinates of `(s - 1) x^2`. That is at most `(ceil(d/k) - 1) |x|^2`, the same as for `k` coordinates drawn without
    strata. All clients send the same coordinates, so messages are short, add up under masks, and contain no indices. Put
    `rotate()` before it.

    Strata need no permutation of all coordinates, only `k` draws and a gather. The choice depends only on the round, so a
    compiler may hoist it out of a loop over clients; computing it again costs `k` cipher blocks.

    Args:
        k: number of coordinates to send.
        fraction: or the fraction of coordinates, in `(0, 1]`.

    Raises:
        PlanError: not exactly one of `k` and `fraction` is given, or it is out of range; when bound:
            `k` is larger than the dimension.
    """
    check_count("random_k", k, fraction)
    name = f"random_k({f'k={k}' if k is not None else f'fraction={fraction:g}'})"

    def bind(spec: MessageSpec) -> BoundStage:
        require_real(spec, name)
        count = count_of("random_k", k, fraction, spec.dimension)
        short, longer = divmod(
            spec.dimension, count
        )  # the first `longer` strata are longer by one coordinate

        def chosen(round_key: jax.Array) -> tuple[jax.Array, jax.Array]:
            """The chosen coordinate of each stratum and the stratum's length: int32 `[count]` each."""
            stratum = jnp.arange(count, dtype=jnp.int32)
            size = short + (stratum < longer).astype(jnp.int32)
            return stratum * short + jnp.minimum(stratum, longer) + below(round_key, size), size

        def encode(message: Message, client_key: jax.Array, round_key: jax.Array) -> Message:
            index, _ = chosen(round_key)
            vector = message.vector.at[index].get(mode="promise_in_bounds", indices_are_sorted=True)
            return Message(vector, message.auxiliary)

        def decode(total: Message, round_key: jax.Array) -> Message:
            index, size = chosen(round_key)
            vector = jnp.zeros((spec.dimension,), jnp.float32)
            scaled = total.vector * size.astype(jnp.float32)
            vector = vector.at[index].set(scaled, unique_indices=True, indices_are_sorted=True)
            return Message(vector, total.auxiliary)

        return BoundStage(spec.replace(dimension=count, nonzero=None, summable=True), encode, decode)

    properties = Properties(unbiased=True, linear=True, lossless=False)
    return Stage(name, bind, False, (("k", k), ("fraction", fraction)), properties, "random_k")
