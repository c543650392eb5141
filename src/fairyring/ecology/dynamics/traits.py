"""Rotation of two traits over time, tested by time reversal."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fairyring.core.errors import EcologyError
from fairyring.statistics import Interval, bca_interval, permutation_p, samples, sign_flip_p, sign_rows


@dataclass(frozen=True)
class TraitRotation:
    """Rotation of two traits about their mean; positive from the first trait towards the second.

    Attributes:
        rate: for each world, the mean of `x_i dx_j - x_j dx_i`: twice the area swept per step, in units of trait i times j.
        turning: for each world, the rate over `2 sd_i sd_j`, which has no unit. If the traits vary equally and independently,
            it is the sine of the mean angle per step in radians, damped by their decorrelation. 0 if a trait does not vary.
        mean: of `turning` over worlds, with its BCa interval.
        p: two-sided, of that mean: under time reversal both signs of each world are equally likely.
        world_p: for each world, two-sided, with blocks of its history reversed at random.
        block: length of the blocks in steps.
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

    A system that climbs a potential with noise is in detailed balance at rest. Then a history and its reverse are equally
    likely, and reversal changes the sign of the area. So the null flips the signs of worlds (exact for up to 16), and within a
    world the signs of blocks, each of which is reversed or not. Blocks must be much longer than the correlation time of the
    traits, or `world_p` is too small; `p`, over worlds, has no such condition.

    Use it only for worlds at rest, without the approach to it. A relaxation is not reversible, whatever is climbed: if one
    trait relaxes before the other in every world, a potential alone makes them rotate.

    Args:
        x: `[worlds, steps, 2]`, population means of two traits at equal intervals.
        blocks: number of blocks of each history, for `world_p`; 6 or more, of two steps or more.
        confidence: of the interval over worlds.
        seed: of sign flips and interval.
        resamples: for each.

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
    # At the middle of a step, x_i dx_j - x_j dx_i is the cross product of its two ends.
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
