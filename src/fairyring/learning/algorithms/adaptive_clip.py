"""A clip norm that follows the updates: quantile-based adaptive clipping."""

import math

import jax
import jax.numpy as jnp

from fairyring.aggregation.contract import Auxiliary
from fairyring.core.errors import PlanError
from fairyring.learning.algorithm import Algorithm, Local, Report, leaves_gradient
from fairyring.learning.algorithms.averaging import averaging

# Where C stays: so far from the ends of float32 that an update in units of it does not overflow for that alone.
RANGE = 2.0**-64, 2.0**64


def adaptive_clip(
    initial: float, *, quantile: float = 0.5, rate: float = 0.2, algorithm: Algorithm | None = None
) -> Algorithm:
    """Let the clip norm C follow a quantile of the updates' norms (Andrew, Thakkar, McMahan, Ramaswamy 2021, Algorithm 1).

    Updates travel in units of C, so the plan's stage is `clip(1.0)` whatever C is, and noise is in units of C with
    it. Each client also sends whether its update was at most C long; this bit is a side value, clipped, summed and made
    noisy as everything else: its noise is a part of the stage's `auxiliary_share`, where the paper splits the noise by a number
    of its own. After a round `C <- C exp(-rate (share - quantile))`, where `share` is the noisy mean of
    the bits: the paper's geometric update. C changes only between rounds and is sent to the clients with the model.

    Args:
        initial: C in the first round, in units of the model's parameters.
        quantile: the share of updates that should pass unclipped.
        rate: how fast C moves.
        algorithm: what is done otherwise; plain averaging without it.

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

    def shared(params):
        return jnp.float32(initial), inner.shared(params)

    def correct(gradient, params, received, both, mine):
        return inner.correct(gradient, params, received, both[1], mine)

    def report(local: Local, both, mine) -> Report:
        clip, own = both
        found = inner.report(local, own, mine)
        # In float32, where the quotient of a shorter kind of float might overflow.
        update = jax.tree.map(lambda leaf: leaf.astype(jnp.float32) / clip, found.update)
        squares = [jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(update)]
        within = (jnp.sqrt(sum(squares, jnp.float32(0))) <= 1.0).astype(jnp.float32)
        return Report(update, (*found.auxiliary, within), found.mine)

    def apply(update, auxiliaries, both, fraction):
        clip, own = both
        *others, share = auxiliaries
        mean = jax.tree.map(lambda leaf: leaf * clip, update)
        delta, own = inner.apply(mean, tuple(others), own, fraction)
        moved = clip * jnp.exp(-rate * (jnp.clip(share, 0.0, 1.0) - quantile))
        return delta, (jnp.clip(moved, *RANGE), own)

    return Algorithm(
        "adaptive_clip",
        shared,
        inner.mine,
        leaves_gradient if inner.correct is leaves_gradient else correct,
        report,
        apply,
        (*inner.auxiliaries, Auxiliary("within_clip", 1.0)),
        inner.gradient,
        in_clips=True,
        settings=(
            ("initial", float(initial)),
            ("quantile", float(quantile)),
            ("rate", float(rate)),
            ("algorithm", inner),
        ),
    )
