"""How much each client counts.

The message that comes in carries the number of examples in `side[0]` and the client's means in `side[1:]`. A
weighting stage turns `side[0]` into the weight, multiplies everything else by it, and divides by the total
weight on the server, so that what comes out is the weighted mean. The weight itself travels as one more
coordinate: nothing about one client is sent beside the message.

A mean that is not finite counts as its bound, and such a number of examples as 0.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from fairyring.aggregation.contract import (
    Bound,
    Message,
    Properties,
    Side,
    Signal,
    Stage,
    fits,
    require_positive,
    require_real,
)
from fairyring.aggregation.finite import known
from fairyring.core.errors import PlanError

_PROPERTIES = Properties(unbiased=True, linear=True, lossless=True)


def weight_by_examples(bound: float | None = None) -> Stage:
    """Count a client in proportion to its examples, as FedAvg does (McMahan et al. 2017).

    Args:
        bound: the most examples that count. The weight is then `min(n, bound) / bound`, in `[0, 1]`; a bound
            taken from the population's sizes (the largest, or the 90th percentile) keeps one client from
            dominating, and is needed under `secure_sum` and for privacy. Without it the weight is `n`.

    Raises:
        PlanError: `bound` is not a finite number above 0.
    """
    if bound is not None:
        bound = require_positive("weight_by_examples", "bound", bound)

    def weight(examples: jax.Array) -> jax.Array:
        return examples if bound is None else jnp.minimum(examples, bound) / bound

    def bind(signal: Signal) -> Bound:
        return _bind(signal, name, weight, 1.0 if bound is not None else signal.side[0].bound)

    name = f"weight_by_examples({'' if bound is None else f'bound={bound:g}'})"
    return Stage(name, bind, True, (("bound", bound),), _PROPERTIES, "weight_by_examples")


def weight_uniformly() -> Stage:
    """Count every client once, whatever the number of its examples."""

    def bind(signal: Signal) -> Bound:
        return _bind(signal, "weight_uniformly()", jnp.ones_like, 1.0, uniform=True)

    return Stage("weight_uniformly()", bind, True, (), _PROPERTIES, "weight_uniformly")


def _bind(
    signal: Signal,
    name: str,
    weight: Callable[[jax.Array], jax.Array],
    largest: float,
    *,
    uniform: bool = False,
) -> Bound:
    require_real(signal, name)
    if not signal.side:
        raise PlanError(
            name,
            given="a message with nothing beside the vector",
            expected="the number of examples as side[0]",
            do="Bind the chain to a signal whose first side coordinate is the number of examples.",
        )
    for side in signal.side:
        if math.isfinite(side.bound) and side.bound != 0 and not fits(side.bound):
            raise PlanError(
                f"{name}, coordinate {side.name!r}",
                given=f"a bound of {side.bound:g}",
                expected="0, or a number from 2^-64 to 2^64: beyond, products of float32 overflow or vanish",
                do="Give it in another unit.",
            )
    bounds = np.asarray([side.bound for side in signal.side], np.float32)
    # What is not finite is no number of examples; elsewhere it is as bad as can be, as a loss that overflowed.
    unknown = np.concatenate([np.zeros(1, np.float32), bounds[1:]])

    def encode(message: Message, client_key: jax.Array, round_key: jax.Array) -> Message:
        # A metric above its bound would overflow a fixed-point coordinate later.
        side = jnp.clip(known(message.side, unknown), 0.0, bounds)
        w = weight(side[0])
        return Message(message.vector * w, jnp.concatenate([w[None], side[1:] * w]))

    def decode(total: Message, round_key: jax.Array) -> Message:
        w = total.side[0]
        inverse = jnp.where(w > 0, 1.0 / jnp.where(w > 0, w, 1.0), 0.0)
        return Message(total.vector * inverse, jnp.concatenate([w[None], total.side[1:] * inverse]))

    sides = (Side("weight", largest), *(Side(s.name, _times(s.bound, largest)) for s in signal.side[1:]))
    bounded = math.isfinite(largest)
    out = signal.but(
        side=sides,
        l2=signal.l2 * largest if bounded and signal.l2 is not None else None,
        linf=signal.linf * largest if bounded and signal.linf is not None else None,
        uniform=uniform,
    )
    return Bound(out, encode, decode)


def _times(bound: float, factor: float) -> float:
    # 0 * inf is not a number; a metric that is always 0 stays 0.
    return 0.0 if bound == 0 else bound * factor
