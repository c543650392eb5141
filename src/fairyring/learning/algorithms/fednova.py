"""FedNova: normalised averaging, for clients that take different numbers of steps."""

import math

import jax
import jax.numpy as jnp

from fairyring.aggregation.contract import Auxiliary
from fairyring.core.errors import PlanError
from fairyring.learning.algorithm import Algorithm, Report


def fednova(*, momentum: float = 0.0, maximum_steps: float = math.inf) -> Algorithm:
    """FedNova (Wang et al. 2020, equations 6 to 8): each delta is divided by its effective number of steps.

    For local SGD with momentum `rho`, a client's effective number of steps is `||a_i||_1 = (tau - rho (1 - rho^tau)/(1 -
    rho)) / (1 - rho)`. Without momentum it is the number of steps `tau`. The server multiplies the mean of the normalised
    deltas by the mean of those numbers; both means have the weights of the plan's stages.

    Args:
        momentum: the momentum of the clients' SGD, in [0, 1). The plan's `local` has to use the same.
        maximum_steps: bound on a client's effective number of steps. It is needed only where reports are summed as integers.

    Raises:
        PlanError: `momentum` is outside [0, 1).
    """
    if not 0 <= momentum < 1:
        raise PlanError(
            "fednova momentum",
            given=momentum,
            expected="a number in [0, 1)",
            do="Give the momentum of the clients' SGD.",
        )

    def effective(steps: jax.Array) -> jax.Array:
        return (steps - momentum * (1 - momentum**steps) / (1 - momentum)) / (1 - momentum)

    def device(client, received, server_state, client_state):
        trained = client.sgd(received)
        a = jnp.maximum(effective(trained.steps), 1e-9)
        return Report(jax.tree.map(lambda d: d / a, trained.delta), auxiliary=(a,))

    def server(combined, server_state, facts):
        (a,) = combined.auxiliary
        return jax.tree.map(lambda d: d * a, combined.update), server_state

    return Algorithm(
        "fednova",
        device,
        server,
        auxiliary=(Auxiliary("effective_steps", maximum_steps),),
        settings=(("momentum", float(momentum)), ("maximum_steps", float(maximum_steps))),
    )
