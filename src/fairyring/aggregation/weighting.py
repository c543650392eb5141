"""The weight of each client.

The incoming message has the number of examples in `auxiliary[0]` and the client's means in `auxiliary[1:]`. A weighting
stage turns `auxiliary[0]` into the weight, multiplies everything else by it, and divides by the total weight on the
server. So the result is the weighted mean. The weight travels as one more coordinate: nothing about a single client is
sent outside the message.

A number of examples that is not finite counts as 0. Where whole numbers are summed later, or noise is added, a mean beyond its bound
counts as the bound, and so does one that is not finite. Otherwise means travel as they are.
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
    """Weight each client by its number of examples, as FedAvg does (McMahan et al. 2017).

    Examples count by the column `weight`, if the population has one. `LocalTraining(importance=)` names another column to count by.

    Args:
        bound: number of examples above which no more count. The weight is then `min(n, bound) / bound`, in `[0, 1]`.
            A bound taken from the population's sizes (the largest, or the 90th percentile) keeps one client from
            dominating, and is required by `secure_sum` and for privacy. Without it the weight is `n`.

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
    """Give every client weight 1, whatever its number of examples."""

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
            given="a message without auxiliary values",
            expected="the number of examples as auxiliary[0]",
            do="Bind the chain to a spec whose first auxiliary value is the number of examples.",
        )
    for auxiliary in spec.auxiliary:
        if math.isfinite(auxiliary.bound) and auxiliary.bound != 0 and not fits(auxiliary.bound):
            raise PlanError(
                f"{name}, coordinate {auxiliary.name!r}",
                given=f"a bound of {auxiliary.bound:g}",
                expected="0, or a number from 2^-64 to 2^64: outside, float32 products overflow or vanish",
                do="Express it in another unit.",
            )
    bounds = np.asarray([auxiliary.bound for auxiliary in spec.auxiliary], np.float32)

    def encode(message: Message, client_key: jax.Array, round_key: jax.Array) -> Message:
        examples, means = message.auxiliary[:1], message.auxiliary[1:]
        examples = jnp.clip(known(examples, 0.0), 0.0, bounds[:1])
        if spec.holds_bounds:  # a metric above its bound would later overflow a fixed-point number
            means = jnp.clip(known(means, bounds[1:]), 0.0, bounds[1:])
        w = weight(examples[0])
        weighted = jnp.where(w > 0, means * w, 0.0)  # also a mean that is not finite
        return Message(message.vector * w, jnp.concatenate([w[None], weighted]))

    def decode(total: Message, round_key: jax.Array) -> Message:
        w = total.auxiliary[0]
        inverse = jnp.where(w > 0, 1.0 / jnp.where(w > 0, w, 1.0), 0.0)
        return Message(total.vector * inverse, jnp.concatenate([w[None], total.auxiliary[1:] * inverse]))

    auxiliaries = (
        Auxiliary("weight", largest),
        *(
            Auxiliary(s.name, _times(s.bound, largest) if spec.holds_bounds else math.inf)
            for s in spec.auxiliary[1:]
        ),
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
