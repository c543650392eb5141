"""The grid of whole numbers that a noise stage rounds to: how fine it is, and what norm a client cannot exceed on it."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fairyring.aggregation.contract import MessageSpec
from fairyring.aggregation.finite import known, square
from fairyring.core.errors import PlanError
from fairyring.core.noise import NoiseRequest
from fairyring.core.words import sixteen_bits
from fairyring.privacy.discrete import rounded_norms
from fairyring.privacy.sampling import LARGEST_SIGMA, LARGEST_SKELLAM_SIGMA

SLACK = 1 + 2.0**-16  # of norms computed in float32
TAIL = 6.0  # standard deviations of noise there is room for: a sum wraps around once in 10^9 coordinates
MIXED = 1.13  # what a banded inverse square root makes of a standard deviation: at most sqrt(4 / pi)
FINE = 256.0  # steps in a usual coordinate, from where dropping the rest changes it by less than 0.2 %
TRIES = 64


@dataclass(frozen=True)
class Grid:
    """Where a client's numbers lie.

    The vector comes first, then every side value `copies` times, then a 1 where clients are counted in the clear.

    Attributes:
        dimension: of the vector.
        sides: how many side values are noisy (without the weight, where that is the same for all).
        copies: how often each is repeated, so that it fits beside the noise.
        amplitude: steps a side value of 1 takes, in each copy.
        scale: steps in a unit of the vector.
        reach: what the vector's L2 norm cannot exceed before it is rounded, in steps.
        norm: what the rounded vector's L2 norm cannot exceed, in steps.
        fine: digits behind the point are dropped; else rounding is stochastic, again until the norm holds.
        largest: size of the largest whole number.
        counts: clients are counted in the clear.
        l2, l1: norms of all noisy coordinates of one client.
    """

    dimension: int
    auxiliaries: int
    copies: int
    amplitude: int
    scale: float
    reach: float
    norm: float
    fine: bool
    largest: int
    counts: bool
    l2: float
    l1: float

    @property
    def coordinates(self) -> int:
        """How many coordinates are noisy."""
        return self.dimension + self.auxiliaries * self.copies

    @property
    def length(self) -> int:
        """How many coordinates there are."""
        return self.coordinates + int(self.counts)

    def rounded(self, vector: jax.Array, key: jax.Array) -> jax.Array:
        """A vector `[dimension]` on the grid: int32, no longer than `norm` for certain.

        The promise rests on that norm, not on the key: whoever knows how numbers were rounded learns nothing by it.
        Nor does it rest on what was done to the vector before: one that is not finite, or longer than a clip leaves
        it, becomes zeros.
        """
        limit = _at_most(self.largest)
        exact = vector * np.float32(self.scale)
        held = square(exact) <= np.float32(self.reach**2 / SLACK)  # not, where it is no number
        exact = jnp.where(held, jnp.clip(exact, -limit, limit), 0.0)
        short = exact.astype(jnp.int32)  # towards zero: never longer than what was clipped
        if self.fine:
            return short
        low = jnp.floor(exact)
        share = exact - low
        bound = np.float32(self.norm**2 / SLACK)

        def again(state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
            attempt, _, _ = state
            words = sixteen_bits(jax.random.fold_in(key, attempt), self.dimension)
            drawn = low + (share * 65536.0 > words.astype(jnp.float32) + 0.5)
            return attempt + 1, drawn, square(drawn) > bound

        first = again((jnp.int32(0), low, jnp.bool_(True)))
        _, drawn, long = lax.while_loop(lambda state: state[2] & (state[0] < TRIES), again, first)
        return jnp.where(long, short, jnp.clip(drawn, -limit, limit).astype(jnp.int32))

    def rounded_auxiliaries(self, values: jax.Array, key: jax.Array) -> jax.Array:
        """Side values `[1 + n]` in [-1, 1] on the grid, every copy rounded by itself: int32 `[auxiliaries * copies]`.

        What is not finite becomes 0.
        """
        kept = known(values[1:] if self.counts else values, 0.0)
        exact = jnp.clip(jnp.repeat(kept, self.copies), -1.0, 1.0) * np.float32(self.amplitude)
        words = sixteen_bits(jax.random.fold_in(key, TRIES), exact.shape[0])
        low = jnp.floor(exact)
        up = (exact - low) * 65536.0 > words.astype(jnp.float32) + 0.5
        limit = _at_most(self.amplitude)
        return jnp.clip(low + up, -limit, limit).astype(jnp.int32)

    @property
    def auxiliary_step(self) -> float:
        """What one standard deviation of noise on a coordinate comes to in the sum of a side value within [-1, 1]."""
        return 1.0 / (self.copies**0.5 * self.amplitude)  # the mean of the copies, each with noise of its own

    def auxiliary_sums(self, total: jax.Array) -> jax.Array:
        """Sums of the side values, the weight first (0 where clients are counted): float32 `[1 + n]`."""
        noisy = total[self.dimension : self.coordinates].astype(jnp.float32)
        sums = noisy.reshape(self.auxiliaries, self.copies).sum(axis=1) / np.float32(
            self.copies * self.amplitude
        )
        return jnp.concatenate([jnp.zeros((1,), jnp.float32), sums]) if self.counts else sums


def _at_most(value: int) -> np.float32:
    """The largest float32 that is not above `value`."""
    nearest = np.float32(value)
    return nearest if float(nearest) <= value else np.nextafter(nearest, np.float32(0))


def fit(name: str, spec: MessageSpec, request: NoiseRequest, shares: int, auxiliary_share: float) -> Grid:
    """The finest grid on which a noisy sum has room in the modulus.

    Args:
        name: of the stage, for errors.
        signal: what comes in; clipped, every side value bounded.
        request: the noise, its multiplier known.
        shares: of distributed noise; 0 otherwise.
        side_share: of the side values in the guarantee.

    Raises:
        PlanError: there is none.
    """
    assert spec.l2 is not None
    assert request.multiplier is not None
    room = float((1 << (spec.sum_bits - 1)) - 1)
    # More clients than are enough add more noise.
    surplus = math.sqrt(max(1.0, spec.cohort / shares)) if shares else MIXED if request.bands else 1.0
    largest_sigma = LARGEST_SKELLAM_SIGMA / surplus if shares else LARGEST_SIGMA

    def grid(scale: float) -> Grid | None:
        made = _grid(spec, scale, request.multiplier or 0.0, surplus, room, auxiliary_share)
        if made is None:
            return None
        sigma = (request.multiplier or 0.0) * made.l2
        return made if sigma <= largest_sigma else None

    # Finer means larger numbers: the finest that fits lies between one that does and one that does not.
    unit = 1.0 / spec.l2
    low, high = 0.0, 2.0
    if grid(unit * high) is None:
        raise PlanError(
            name,
            given=f"sums of {spec.cohort} clients with noise {request.multiplier:.4g} times as large as one of them, "
            f"modulo 2^{spec.sum_bits}",
            expected="a grid of at least two steps in the clip norm",
            do="Use a larger modulus_bits in secure_sum, a smaller cohort, or rotate() before the noise.",
        )
    while grid(unit * high) is not None and high < 2.0**40:
        low, high = high, 2 * high
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if grid(unit * middle) is not None else (low, middle)
    found = grid(unit * low)
    assert found is not None
    return found


def _grid(
    spec: MessageSpec, scale: float, multiplier: float, surplus: float, room: float, auxiliary_share: float
) -> Grid | None:
    """The grid of a scale; None if a sum on it might leave the modulus."""
    clip = (spec.l2 or 0.0) * SLACK
    dimension, cohort = spec.dimension, spec.cohort
    fine = clip * scale >= FINE * math.sqrt(dimension)
    reach = clip * scale
    norm, l1 = rounded_norms(clip, scale, dimension)
    if fine:
        norm = reach
        l1 = norm * min(math.sqrt(dimension), norm)
    norm, l1 = max(norm, 1.0), max(l1, 1.0)
    limit = min(clip, math.inf if spec.linf is None else spec.linf * SLACK)
    largest = math.ceil(limit * scale)
    counts = spec.uniform and spec.public_count
    auxiliaries = len(spec.auxiliary) - counts
    # All side values together take their share of 1 / variance.
    wanted = norm * math.sqrt(auxiliary_share / (1 - auxiliary_share) / max(1, auxiliaries))
    l2 = math.hypot(norm, wanted * math.sqrt(auxiliaries))
    noise = TAIL * multiplier * l2 * surplus
    if cohort * largest + noise > room or cohort > room:
        return None
    amplitude = math.floor((room - noise) / cohort)
    if amplitude < 1:
        return None
    copies = max(1, math.ceil((wanted / amplitude) ** 2))
    amplitude = max(1, min(amplitude, math.floor(wanted / math.sqrt(copies))))
    if auxiliaries * copies > max(1024, dimension):
        return None
    l2 = math.hypot(norm, amplitude * math.sqrt(auxiliaries * copies))
    if cohort * max(largest, amplitude) + TAIL * multiplier * l2 * surplus > room:
        return None
    l1 += amplitude * auxiliaries * copies
    return Grid(
        dimension,
        auxiliaries,
        copies,
        amplitude,
        scale,
        reach,
        norm,
        fine,
        max(largest, amplitude),
        counts,
        l2,
        l1,
    )
