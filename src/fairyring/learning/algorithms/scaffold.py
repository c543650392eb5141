"""SCAFFOLD: control variates against client drift."""

import jax
import jax.numpy as jnp

from fairyring.learning.algorithm import Algorithm, Report, zeros_like


def scaffold() -> Algorithm:
    """SCAFFOLD (Karimireddy et al. 2020, Algorithm 1).

    Local steps follow `g - c_i + c`. A client's new control variate is the mean of its batch gradients along the
    local path, which for local SGD is the paper's option II, `c_i - c + (x - y_i) / (K eta)`, and does not need
    to know the learning rate. The server moves `c` by the clients' mean change times the share of all clients
    that took part. The update is twice the model's length: the delta, and the change of the control variate.

    The paper averages clients uniformly: give the plan a chain without a weighting stage.
    """

    def device(client, received, control, own):
        def corrected(params, batch):
            return jax.tree.map(lambda g, c, c_i: g + c - c_i, batch.gradient(params), control, own)

        trained = client.sgd(received, corrected, mean_gradient=True)
        change = jax.tree.map(jnp.subtract, trained.gradient, own)
        return Report({"control": change, "model": trained.delta}, client_state=trained.gradient)

    def server(combined, control, facts):
        moved = jax.tree.map(
            lambda c, change: c + facts.fraction * change, control, combined.update["control"]
        )
        return combined.update["model"], moved

    return Algorithm("scaffold", device, server, server_state=zeros_like, client_state=zeros_like)
