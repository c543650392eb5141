"""FedNova: clients that take different numbers of steps pull with the same strength a step."""

import math

import jax
import jax.numpy as jnp

from fairyring.aggregation.contract import Auxiliary
from fairyring.core.errors import PlanError
from fairyring.learning.algorithm import Algorithm, Local, Report, keeps_nothing, leaves_gradient


def fednova(*, momentum: float = 0.0, maximum_steps: float = math.inf) -> Algorithm:
    """FedNova (Wang et al. 2020, equations 6 to 8): each delta is divided by its effective number of steps.

    With local SGD of momentum `rho` a client's effective number is `||a_i||_1 = (tau - rho (1 - rho^tau)/(1 -
    rho)) / (1 - rho)`; without, it is the number of steps `tau`. The server multiplies the mean of the normalised
    deltas by the weighted mean of those numbers.

    Args:
        momentum: of the clients' SGD.
        most_steps: bound on a client's effective steps; needed only where reports are summed as integers.

    Raises:
        PlanError: a momentum outside [0, 1).
    """
    if not 0 <= momentum < 1:
        raise PlanError(
            "fednova momentum",
            given=momentum,
            expected="a number in [0, 1)",
            do="Give the clients' SGD momentum.",
        )

    def effective(steps: jax.Array) -> jax.Array:
        return (steps - momentum * (1 - momentum**steps) / (1 - momentum)) / (1 - momentum)

    def report(local: Local, shared, mine) -> Report:
        a = jnp.maximum(effective(local.steps), 1e-9)
        return Report(jax.tree.map(lambda d: d / a, local.delta), (a,), mine)

    def apply(update, auxiliaries, shared, fraction):
        (a,) = auxiliaries
        return jax.tree.map(lambda d: d * a, update), shared

    return Algorithm(
        "fednova",
        keeps_nothing,
        keeps_nothing,
        leaves_gradient,
        report,
        apply,
        (Auxiliary("effective_steps", maximum_steps),),
        settings=(("momentum", float(momentum)), ("most_steps", float(maximum_steps))),
    )
