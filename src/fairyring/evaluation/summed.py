"""What a server learns of an evaluation under a secure sum: the sums of all clients, and what follows from them."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from fairyring.aggregation.contract import Message, MessageSpec, Stage
from fairyring.core.checks import number_in
from fairyring.core.errors import PlanError
from fairyring.secagg import MINIMUM_COHORT


@dataclass(frozen=True)
class SummedEvaluation:
    """How well a model does on a population, from sums over its clients alone.

    Attributes:
        loss: mean over all examples.
        metrics: each metric of the task over all examples, by name.
        tables: each pooled metric that is a table, by name.
        clients: how many are in the sums.
        cut: how many of them had a sum beyond the bound, which was cut to it. Only a simulation knows.
    """

    loss: float
    metrics: dict[str, float]
    tables: dict[str, np.ndarray]
    clients: int
    cut: int


def summed(
    statistics: Mapping[str, np.ndarray],
    finish: Mapping[str, Callable[[np.ndarray], np.ndarray]],
    secure_sum: Stage,
    bound: float,
) -> SummedEvaluation:
    """Add the clients' sums as whole numbers modulo a power of two, as under masks, and compute all values from the totals.

    Args:
        statistics: what each client adds, `[clients, k]`, by name.
        finish: how a value is computed from the totals, by name.
        secure_sum: the stage.
        bound: no sum of a client counts for more; it fixes the resolution of what is added.

    Raises:
        PlanError: the stage is not a secure sum, there are fewer clients than its minimum, or the bound leaves no resolution.
    """
    bound = number_in(
        "bound",
        bound,
        math.ulp(0.0),
        math.inf,
        expected="a number above 0",
        do="Give the most examples of a client.",
    )
    masking = secure_sum.masking
    if masking is None or len(secure_sum.singles) != 1:
        raise PlanError(
            "secure_sum", given=repr(secure_sum), expected="a secure sum alone", do="Give fr.secure_sum(32)."
        )
    names = list(statistics)
    sums = np.concatenate([np.asarray(statistics[name], np.float64) for name in names], axis=1)
    clients = len(sums)
    least = masking.minimum_cohort or MINIMUM_COHORT
    if clients < least:
        raise PlanError(
            "population to evaluate on",
            given=f"{clients} clients with examples",
            expected=f"at least {least}: a sum of fewer shows too much of each",
            do="Evaluate on more clients.",
        )
    steps = math.floor(((1 << (masking.modulus_bits - 1)) - 1) / clients / bound)  # per unit
    if steps < 1:
        raise PlanError(
            "bound",
            given=f"{bound:g}, of {clients} clients in {masking.modulus_bits} bits",
            expected="a sum that cannot wrap around",
            do="Use a smaller bound, or secure_sum(32).",
        )
    spec = MessageSpec(sums.shape[1], clients, (), linf=bound * steps, integer=True)
    stage, key = secure_sum.bind(spec), jax.random.key(0)  # nothing is random without auxiliary values
    kept = np.clip(np.nan_to_num(sums, nan=bound, posinf=bound, neginf=-bound), -bound, bound)
    total = np.zeros(sums.shape[1], np.uint32)
    for own in np.rint(kept * steps).astype(np.int32):
        total += np.asarray(stage.encode(Message(jnp.asarray(own), jnp.zeros(0)), key, key).vector)
    decoded = np.asarray(stage.decode(Message(jnp.asarray(total), jnp.zeros(0)), key).vector) / steps
    ends = np.cumsum([0, *(statistics[name].shape[1] for name in names)])
    values = {name: finish[name](decoded[a:b]) for name, a, b in zip(names, ends, ends[1:], strict=False)}
    cut = int((~(np.abs(sums) <= bound)).any(axis=1).sum())
    numbers = {name: float(value) for name, value in values.items() if np.ndim(value) == 0}
    loss = numbers.pop("loss")
    return SummedEvaluation(loss, numbers, {n: v for n, v in values.items() if np.ndim(v)}, clients, cut)
