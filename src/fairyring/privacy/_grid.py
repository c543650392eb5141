"""The integer grid that a noise stage rounds to: its resolution, and the norms that no client can exceed on it."""

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
TAIL = 6.0  # room for noise, in standard deviations: a sum wraps around once in 10^9 coordinates
MIXED = 1.13  # factor of a banded inverse square root on a standard deviation: at most sqrt(4 / pi)
FINE = 256.0  # steps in a typical coordinate above which truncation changes it by less than 0.2 %
TRIES = 64


@dataclass(frozen=True)
class Grid:
    """How one client's message is laid out on the grid.

    The vector comes first, then every auxiliary value `copies` times, then a 1 if clients are counted without noise.

    Attributes:
        dimension: length of the vector.
        auxiliaries: number of noisy auxiliary values (without the weight if that is the same for all).
        copies: how often each of them is repeated, so that it fits the modulus together with the noise.
        amplitude: steps that an auxiliary value of 1 takes in each copy.
        scale: steps per unit of the vector.
        reach: bound on the vector's L2 norm before rounding, in steps.
        norm: bound on the rounded vector's L2 norm, in steps.
        fine: fractional parts are dropped; otherwise rounding is stochastic, repeated until the norm is within bound.
        largest: largest magnitude of an integer.
        counts: clients are counted without noise.
        l2, l1: bounds on the norms of all noisy coordinates of one client.
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
        """Number of noisy coordinates."""
        return self.dimension + self.auxiliaries * self.copies

    @property
    def length(self) -> int:
        """Number of all coordinates."""
        return self.coordinates + int(self.counts)

    def rounded(self, vector: jax.Array, key: jax.Array) -> jax.Array:
        """A vector `[dimension]` rounded to the grid: int32, with an L2 norm of certainly at most `norm`.

        The promise rests on that norm, not on the key: it holds also for those who know how numbers were rounded. Nor does
        it rest on earlier stages: a vector that is not finite, or longer than a clip would leave it, becomes zeros.
        """
        limit = _at_most(self.largest)
        exact = vector * np.float32(self.scale)
        held = square(exact) <= np.float32(self.reach**2 / SLACK)  # false for NaN
        exact = jnp.where(held, jnp.clip(exact, -limit, limit), 0.0)
        short = exact.astype(jnp.int32)  # towards zero: never longer than the clipped vector
        if self.fine:
            return short
        low = jnp.floor(exact)
        fraction = exact - low
        bound = np.float32(self.norm**2 / SLACK)

        def again(state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
            attempt, _, _ = state
            words = sixteen_bits(jax.random.fold_in(key, attempt), self.dimension)
            drawn = low + (fraction * 65536.0 > words.astype(jnp.float32) + 0.5)
            return attempt + 1, drawn, square(drawn) > bound

        first = again((jnp.int32(0), low, jnp.bool_(True)))
        _, drawn, long = lax.while_loop(lambda state: state[2] & (state[0] < TRIES), again, first)
        return jnp.where(long, short, jnp.clip(drawn, -limit, limit).astype(jnp.int32))

    def rounded_auxiliaries(self, values: jax.Array, key: jax.Array) -> jax.Array:
        """Auxiliary values `[1 + n]` in [-1, 1] rounded to the grid: int32 `[auxiliaries * copies]`.

        Every copy is rounded independently. A value that is not finite becomes 0.
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
        """Standard deviation in the sum of an auxiliary value in [-1, 1] per standard deviation of noise on a coordinate."""
        return 1.0 / (
            self.copies**0.5 * self.amplitude
        )  # the mean of the copies, which have independent noise

    def auxiliary_sums(self, total: jax.Array) -> jax.Array:
        """Sums of the auxiliary values, the weight first (0 if clients are counted): float32 `[1 + n]`."""
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
    """The finest grid on which a noisy sum fits the modulus.

    Args:
        name: name of the stage, for errors.
        spec: the incoming messages: clipped, every auxiliary value bounded.
        request: the noise, with its multiplier.
        shares: number of shares of distributed noise; 0 otherwise.
        auxiliary_share: share of the guarantee that auxiliary values take.

    Raises:
        PlanError: no grid is fine enough and fits.
    """
    assert spec.l2 is not None
    assert request.multiplier is not None
    room = float((1 << (spec.sum_bits - 1)) - 1)
    # More clients than needed add more noise.
    surplus = math.sqrt(max(1.0, spec.cohort / shares)) if shares else MIXED if request.bands else 1.0
    largest_sigma = LARGEST_SKELLAM_SIGMA / surplus if shares else LARGEST_SIGMA

    def grid(scale: float) -> Grid | None:
        candidate = _grid(spec, scale, request.multiplier or 0.0, surplus, room, auxiliary_share)
        if candidate is None:
            return None
        sigma = (request.multiplier or 0.0) * candidate.l2
        return candidate if sigma <= largest_sigma else None

    # A finer grid has larger integers: bisect between a grid that fits and one that does not.
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
    finest = grid(unit * low)
    assert finest is not None
    return finest


def _grid(
    spec: MessageSpec, scale: float, multiplier: float, surplus: float, room: float, auxiliary_share: float
) -> Grid | None:
    """The grid with this scale; None if a sum on it might exceed the modulus."""
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
    # All auxiliary values together take their share of 1 / variance.
    target = norm * math.sqrt(auxiliary_share / (1 - auxiliary_share) / max(1, auxiliaries))
    l2 = math.hypot(norm, target * math.sqrt(auxiliaries))
    noise = TAIL * multiplier * l2 * surplus
    if cohort * largest + noise > room or cohort > room:
        return None
    amplitude = math.floor((room - noise) / cohort)
    if amplitude < 1:
        return None
    copies = max(1, math.ceil((target / amplitude) ** 2))
    amplitude = max(1, min(amplitude, math.floor(target / math.sqrt(copies))))
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
