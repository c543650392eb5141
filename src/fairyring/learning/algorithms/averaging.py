"""Plain federated averaging, and with a proximal term (FedProx)."""

import math

import jax

from fairyring.core.checks import number_in
from fairyring.learning.algorithm import Algorithm, Report


def averaging() -> Algorithm:
    """Federated averaging (McMahan et al. 2017, Algorithm 1): the weighted mean of the clients' deltas.

    A plan uses it if no other algorithm is given. The plan's stages give the weights.
    """

    def device(client, received, server_state, client_state):
        return Report(client.sgd(received).delta)

    return Algorithm("averaging", device)


def fedprox(mu: float) -> Algorithm:
    """FedProx (Li et al. 2020, Algorithm 2): `mu/2 ||w - w_received||^2` is added to each local loss.

    Args:
        mu: weight of the proximal term, which pulls towards the received model; 0 is plain averaging.

    Raises:
        PlanError: `mu` is negative or not finite.
    """
    mu = number_in(
        "fedprox mu", mu, 0.0, math.inf, expected="a finite number >= 0", do="Try fedprox(mu=0.01)."
    )

    def device(client, received, server_state, client_state):
        def proximal(params, batch):
            return jax.tree.map(lambda g, w, w0: g + mu * (w - w0), batch.gradient(params), params, received)

        return Report(client.sgd(received, proximal).delta)

    return Algorithm("fedprox", device, settings=(("mu", mu),))
