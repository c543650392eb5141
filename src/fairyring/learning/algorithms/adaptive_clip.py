"""Quantile-based adaptive clipping: a clip norm that follows the updates."""

import math

import jax
import jax.numpy as jnp

from fairyring.aggregation.contract import Auxiliary
from fairyring.core.errors import PlanError
from fairyring.learning.algorithm import Algorithm, Combined, Report
from fairyring.learning.algorithms.averaging import averaging

# C stays in this range. Its ends are far enough from those of float32 that C alone does not make an update in its units overflow.
RANGE = 2.0**-64, 2.0**64


def adaptive_clip(
    initial: float, *, quantile: float = 0.5, rate: float = 0.2, algorithm: Algorithm | None = None
) -> Algorithm:
    """Let the clip norm C follow a quantile of the updates' norms (Andrew, Thakkar, McMahan, Ramaswamy 2021, Algorithm 1).

    Updates travel in units of C. So the plan's stage is `clip(1.0)` whatever C is, and the noise is in units of C, too. Each client also
    sends whether the norm of its update was at most C. This bit is an auxiliary value: it is clipped, summed and made noisy like
    everything else. Its noise is a part of the stage's `auxiliary_share`, while the paper has a parameter of its own to split the noise.
    After a round, `C <- C exp(-rate (share - quantile))`, where `share` is the noisy mean of the bits, cut to [0, 1]: the paper's
    geometric update. C is also cut to [2^-64, 2^64]. It changes only between rounds, and is sent to the clients with the model.

    Args:
        initial: C in the first round, in units of the model's parameters.
        quantile: the share of updates that should pass unclipped, in (0, 1).
        rate: the step of `log C` for a unit of `share`.
        algorithm: the algorithm whose updates are clipped; by default plain averaging.

    Raises:
        PlanError: `initial` or `rate` is not a finite number above 0, or `quantile` is not between 0 and 1.
    """
    for name, value in (("initial", initial), ("rate", rate)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise PlanError(
                f"adaptive_clip {name}", given=repr(value), expected="a finite number above 0", do="Try 0.1."
            )
    if isinstance(quantile, bool) or not isinstance(quantile, int | float) or not 0 < quantile < 1:
        raise PlanError(
            "adaptive_clip quantile", given=repr(quantile), expected="a number between 0 and 1", do="Try 0.5."
        )
    inner = algorithm or averaging()

    def server_state(params):
        return jnp.float32(initial), inner.server_state(params)

    def device(client, received, server_state, client_state):
        clip, inner_state = server_state
        report = inner.device(client, received, inner_state, client_state)
        # In float32, because the quotient could overflow in a shorter float.
        update = jax.tree.map(lambda leaf: leaf.astype(jnp.float32) / clip, report.update)
        squares = [jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(update)]
        within = (jnp.sqrt(sum(squares, jnp.float32(0))) <= 1.0).astype(jnp.float32)
        return Report(update, report.client_state, (*report.auxiliary, within))

    def server(combined, server_state, facts):
        clip, inner_state = server_state
        *inner_auxiliary, share = combined.auxiliary
        mean = jax.tree.map(lambda leaf: leaf * clip, combined.update)
        delta, inner_state = inner.server(Combined(mean, tuple(inner_auxiliary)), inner_state, facts)
        new_clip = clip * jnp.exp(-rate * (jnp.clip(share, 0.0, 1.0) - quantile))
        return delta, (jnp.clip(new_clip, *RANGE), inner_state)

    def personal(client, received, server_state, client_state):
        return inner.personal(client, received, server_state[1], client_state)

    return Algorithm(
        "adaptive_clip",
        device,
        server,
        server_state,
        inner.client_state,
        personal,
        (*inner.auxiliary, Auxiliary("within_clip", 1.0)),
        inner.update,
        in_clips=True,
        settings=(
            ("initial", float(initial)),
            ("quantile", float(quantile)),
            ("rate", float(rate)),
            ("algorithm", inner),
        ),
    )
