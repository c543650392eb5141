"""Plain federated averaging (McMahan et al. 2017, Algorithm 1), and with a proximal term (FedProx)."""

import math

import jax

from fairyring.core.errors import PlanError
from fairyring.learning.algorithm import Algorithm, Report


def averaging() -> Algorithm:
    """The weighted mean of the clients' deltas: the algorithm of a plan that names none."""

    def device(client, received, server_state, client_state):
        return Report(client.sgd(received).delta)

    return Algorithm("averaging", device)


def fedprox(mu: float) -> Algorithm:
    """FedProx (Li et al. 2020, Algorithm 2): each local loss gains `mu/2 ||w - w_received||^2`.

    Args:
        mu: strength of the pull towards the received model; 0 is plain averaging.

    Raises:
        PlanError: `mu` is negative or not finite.
    """
    if not (math.isfinite(mu) and mu >= 0):
        raise PlanError("fedprox mu", given=mu, expected="a finite number >= 0", do="Try fedprox(mu=0.01).")
    mu = float(mu)

    def device(client, received, server_state, client_state):
        def pulled(params, batch):
            return jax.tree.map(lambda g, w, w0: g + mu * (w - w0), batch.gradient(params), params, received)

        return Report(client.sgd(received, pulled).delta)

    return Algorithm("fedprox", device, settings=(("mu", mu),))
