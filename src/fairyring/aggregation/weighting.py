"""How much each client counts.

The message that comes in carries the number of examples in `auxiliary[0]` and the client's means in `auxiliary[1:]`. A
weighting stage turns `auxiliary[0]` into the weight, multiplies everything else by it, and divides by the total
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
    Auxiliary,
    BoundStage,
    Message,
    MessageSpec,
    Properties,
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

    def bind(spec: MessageSpec) -> BoundStage:
        return _bind(spec, name, weight, 1.0 if bound is not None else spec.auxiliary[0].bound)

    name = f"weight_by_examples({'' if bound is None else f'bound={bound:g}'})"
    return Stage(name, bind, True, (("bound", bound),), _PROPERTIES, "weight_by_examples")


def weight_uniformly() -> Stage:
    """Count every client once, whatever the number of its examples."""

    def bind(spec: MessageSpec) -> BoundStage:
        return _bind(spec, "weight_uniformly()", jnp.ones_like, 1.0, uniform=True)

    return Stage("weight_uniformly()", bind, True, (), _PROPERTIES, "weight_uniformly")


def _bind(
    spec: MessageSpec,
    name: str,
    weight: Callable[[jax.Array], jax.Array],
    largest: float,
    *,
    uniform: bool = False,
) -> BoundStage:
    require_real(spec, name)
    if not spec.auxiliary:
        raise PlanError(
            name,
            given="a message with nothing beside the vector",
            expected="the number of examples as side[0]",
            do="Bind the chain to a signal whose first side coordinate is the number of examples.",
        )
    for auxiliary in spec.auxiliary:
        if math.isfinite(auxiliary.bound) and auxiliary.bound != 0 and not fits(auxiliary.bound):
            raise PlanError(
                f"{name}, coordinate {auxiliary.name!r}",
                given=f"a bound of {auxiliary.bound:g}",
                expected="0, or a number from 2^-64 to 2^64: beyond, products of float32 overflow or vanish",
                do="Give it in another unit.",
            )
    bounds = np.asarray([auxiliary.bound for auxiliary in spec.auxiliary], np.float32)
    # What is not finite is no number of examples; elsewhere it is as bad as can be, as a loss that overflowed.
    unknown = np.concatenate([np.zeros(1, np.float32), bounds[1:]])

    def encode(message: Message, client_key: jax.Array, round_key: jax.Array) -> Message:
        # A metric above its bound would overflow a fixed-point coordinate later.
        auxiliary = jnp.clip(known(message.auxiliary, unknown), 0.0, bounds)
        w = weight(auxiliary[0])
        return Message(message.vector * w, jnp.concatenate([w[None], auxiliary[1:] * w]))

    def decode(total: Message, round_key: jax.Array) -> Message:
        w = total.auxiliary[0]
        inverse = jnp.where(w > 0, 1.0 / jnp.where(w > 0, w, 1.0), 0.0)
        return Message(total.vector * inverse, jnp.concatenate([w[None], total.auxiliary[1:] * inverse]))

    auxiliaries = (
        Auxiliary("weight", largest),
        *(Auxiliary(s.name, _times(s.bound, largest)) for s in spec.auxiliary[1:]),
    )
    bounded = math.isfinite(largest)
    out = spec.replace(
        auxiliary=auxiliaries,
        l2=spec.l2 * largest if bounded and spec.l2 is not None else None,
        linf=spec.linf * largest if bounded and spec.linf is not None else None,
        uniform=uniform,
    )
    return BoundStage(out, encode, decode)


def _times(bound: float, factor: float) -> float:
    # 0 * inf is not a number; a metric that is always 0 stays 0.
    return 0.0 if bound == 0 else bound * factor
