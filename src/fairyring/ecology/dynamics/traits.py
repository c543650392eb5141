"""Rotation of two traits in time, against time reversed."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fairyring.core.errors import EcologyError
from fairyring.statistics import Interval, bca_interval, permutation_p, samples, sign_flip_p, sign_rows


@dataclass(frozen=True)
class TraitRotation:
    """How traits turn about their mean; positive from the first trait towards the second.

    Attributes:
        rate: for each world the mean of `x_i dx_j - x_j dx_i`, twice the area swept a step, in units of trait i times j.
        turning: for each world the rate over `2 sd_i sd_j`: free of units, and the sine of the mean angle a step (in
            radians; damped by what is forgotten in a step) where the traits vary alike and independently. 0 where a trait
            does not vary.
        mean: of `turning` over worlds, with its BCa interval.
        p: two-sided, of that mean: under time reversal each world's sign is as likely the other.
        world_p: for each world, two-sided, with blocks of its own history reversed at random.
        block: the blocks' length in steps.
    """

    rate: tuple[float, ...]
    turning: tuple[float, ...]
    mean: Interval
    p: float
    world_p: tuple[float, ...]
    block: int


def trait_rotation(
    x: npt.ArrayLike, *, blocks: int = 16, confidence: float = 0.95, seed: int = 0, resamples: int = 9999
) -> TraitRotation:
    """Mean stochastic area swept by two traits (Ghanta, Neu & Teitsworth 2017), with a time-reversal null.

    At rest in detailed balance, as whatever climbs a potential with noise is, a history and its reverse are equally
    likely, and reversal turns the sign of the area. So over worlds the null flips signs of worlds (exact up to 12), and
    within a world signs of blocks: each block's steps are run backwards or not. Blocks must be much longer than the
    memory of the traits, or `world_p` is too small; `p`, over worlds, asks nothing of the kind.

    Only of worlds at rest: leave out the approach to it. A way to a rest is not reversible whatever is climbed, and if
    one trait arrives before the other in every world, a hill alone turns them.

    Args:
        x: `[worlds, steps, 2]`, population means of two traits at equal intervals.
        blocks: into how many each history is cut for `world_p`; 6 or more, of two steps or more.
        confidence: of the interval over worlds.
        seed: of flips and interval.
        resamples: of each.

    Raises:
        EcologyError, StatisticsError: another shape, or histories too short for the blocks.
    """
    x = samples.array("traits", x, axes=3)
    if not len(x) or x.shape[2] != 2:
        raise EcologyError(
            "traits",
            given=f"shape {x.shape}",
            expected="[worlds, steps, 2], one world or more",
            do="Choose two traits.",
        )
    block = (x.shape[1] - 1) // blocks if blocks >= 6 else 0
    if block < 2:
        raise EcologyError(
            "blocks",
            given=f"{blocks} of a history of {x.shape[1]} steps",
            expected="6 or more, of 2 steps or more each",
            do="Record more steps.",
        )
    rng, resamples = samples.generator(seed), samples.resamples(resamples)
    centred = x - x.mean(axis=1, keepdims=True)
    # x_i dx_j - x_j dx_i at the middle of a step is the cross product of its two ends.
    now, then = centred[:, :-1], centred[:, 1:]
    area = now[..., 0] * then[..., 1] - now[..., 1] * then[..., 0]
    rate = area.mean(axis=1)
    size = np.abs(x).max(axis=1)
    varies = (np.ptp(x, axis=1) > 1e-12 * size).all(axis=1)
    spread = 2.0 * centred.std(axis=1).prod(axis=1)
    turning = np.where(varies, rate / np.where(varies, spread, 1.0), 0.0)
    swept = area[:, : block * blocks].reshape(len(x), blocks, block).sum(axis=2)
    signs, complete = sign_rows(blocks, rng, resamples)
    world_p = [
        permutation_p(
            np.abs(signs @ world), math.fabs(world.sum()), complete, 1e-12 * float(np.abs(world).sum())
        )
        if moves
        else 1.0
        for world, moves in zip(swept, varies, strict=True)
    ]
    return TraitRotation(
        tuple(rate.tolist()),
        tuple(turning.tolist()),
        bca_interval(turning, confidence, seed, resamples=resamples),
        sign_flip_p(turning, seed, resamples=resamples),
        tuple(world_p),
        block,
    )
