"""SCAFFOLD: control variates against client drift."""

import jax
import jax.numpy as jnp

from fairyring.learning.algorithm import Algorithm, Report, zeros_like


def scaffold() -> Algorithm:
    """SCAFFOLD (Karimireddy et al. 2020, Algorithm 1).

    Local steps follow `g - c_i + c`. A client's new control variate is the mean of its batch gradients along the
    local path. For local SGD this equals the paper's option II, `c_i - c + (x - y_i) / (K eta)`, without
    the learning rate. The server changes `c` by the mean change of the clients' control variates, times the share of all clients
    that reported. An update is twice as long as the model: the delta, and the change of the control variate. All control variates
    start at zero.

    The paper averages clients uniformly, so give the plan a chain without a weighting stage.
    """

    def device(client, received, control, own_control):
        def corrected(params, batch):
            return jax.tree.map(lambda g, c, c_i: g + c - c_i, batch.gradient(params), control, own_control)

        trained = client.sgd(received, corrected, mean_gradient=True)
        change = jax.tree.map(jnp.subtract, trained.gradient, own_control)
        return Report({"control": change, "model": trained.delta}, client_state=trained.gradient)

    def server(combined, control, facts):
        new_control = jax.tree.map(
            lambda c, change: c + facts.fraction * change, control, combined.update["control"]
        )
        return combined.update["model"], new_control

    return Algorithm("scaffold", device, server, server_state=zeros_like, client_state=zeros_like)
