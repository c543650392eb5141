"""SCAFFOLD: control variates against client drift."""

import jax

from fairyring.learning.algorithm import Algorithm, Local, Report, zeros_like


def scaffold() -> Algorithm:
    """SCAFFOLD (Karimireddy et al. 2020, Algorithm 1).

    Local steps follow `g - c_i + c`. A client's new control variate is the mean of its batch gradients along the
    local path, which for local SGD is the paper's option II, `c_i - c + (x - y_i) / (K eta)`, and does not need
    to know the learning rate. The server moves `c` by the clients' mean change times the share of all clients
    that took part. The update is twice the model's length: the delta, and the change of the control variate.

    The paper averages clients uniformly: give the plan a chain without a weighting stage.
    """

    def correct(gradient, params, received, shared, mine):
        return jax.tree.map(lambda g, c, ci: g + c - ci, gradient, shared, mine)

    def report(local: Local, shared, mine) -> Report:
        change = jax.tree.map(lambda new, old: new - old, local.gradient, mine)
        return Report({"control": change, "model": local.delta}, (), local.gradient)

    def apply(update, auxiliaries, shared, fraction):
        moved = jax.tree.map(lambda c, change: c + fraction * change, shared, update["control"])
        return update["model"], moved

    return Algorithm("scaffold", zeros_like, zeros_like, correct, report, apply, gradient=True)
