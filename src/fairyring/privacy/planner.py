"""The cost of a privacy budget: the noise needed for each way to take part, before anything is trained."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fairyring.core.errors import PlanError
from fairyring.privacy.accounting import calibrate, rough
from fairyring.privacy.cautions import clients_for, signal_to_noise
from fairyring.privacy.correlated import choose_bands, noise_error
from fairyring.privacy.participation import AnyParticipation, AtMost, FixedSize, PoissonSampled
from fairyring.privacy.release import Release

WAYS = ("poisson", "fixed_size", "in_turn", "in_turn_correlated", "anybody")
_PRECISION = 1e-3  # relative: costs are shown to three digits


@dataclass(frozen=True)
class Cost:
    """One way to spend a budget.

    Attributes:
        way: one of `WAYS`.
        participation: what the accountant assumes.
        population: number of devices.
        cohort: devices in a round; with Poisson sampling, on average.
        bands: number of coefficients of correlated noise; otherwise 0.
        multiplier: smallest noise multiplier that fits the budget; NaN if there is none.
        effective: multiplier of independent noise with the same error in the final model: smaller than `multiplier` for
            correlated noise, otherwise equal. The error is the root mean square over rounds of the noise in the sum of
            updates so far (`correlated.noise_error`), since a model is a sum of updates.
        noise: standard deviation of the noise on a coordinate of the mean update, in units of the clip norm:
            `effective / cohort`.
        signal_to_noise: norm of the mean update over the norm of its noise, `noise sqrt(dimension)`. A rough guide: many
            rounds average the noise out, and below 1 training can still work, but slowly.
        refused: why there is no multiplier; otherwise empty.
    """

    way: str
    participation: AnyParticipation
    population: int
    cohort: int
    bands: int
    multiplier: float
    effective: float
    noise: float
    signal_to_noise: float
    refused: str = ""


def participation_of(way: str, population: int, cohort: int, rounds: int) -> AnyParticipation:
    """The participation to assume if `cohort` of `population` devices are in each of `rounds` rounds.

    `"poisson"`: Poisson sampling. `"fixed_size"`: a uniform draw. `"in_turn"`, `"in_turn_correlated"`: a device takes part
    again after all others have, so `ceil(rounds cohort / population)` times, `population // cohort` rounds apart.
    `"anybody"`: any device may take part in every round.

    Raises:
        PlanError: the way is unknown, a number is below 1, or a cohort is larger than its population.
    """
    for name, value in (("population", population), ("cohort", cohort), ("rounds", rounds)):
        if not float(value).is_integer() or value < 1:
            raise PlanError(name, given=value, expected="a whole number from 1", do="Give one.")
    if cohort > population:
        raise PlanError(
            "cohort",
            given=f"{cohort} of {population} devices",
            expected="at most the population",
            do="Lower it.",
        )
    if way == "poisson":
        return PoissonSampled(cohort / population)
    if way == "fixed_size":
        return FixedSize(cohort, population)
    if way in ("in_turn", "in_turn_correlated"):
        return AtMost(-(-rounds * cohort // population), population // cohort)
    if way == "anybody":
        return AtMost(rounds, 1)
    raise PlanError(
        "way to take part", given=repr(way), expected=f"one of {', '.join(WAYS)}", do="Choose one."
    )


def cost(
    way: str,
    *,
    population: int,
    cohort: int,
    rounds: int,
    epsilon: float,
    delta: float,
    dimension: int,
    norm: float = 1.0,
) -> Cost:
    """The smallest noise for a budget, for one way to take part.

    Args:
        way: one of `WAYS`.
        population: number of devices.
        cohort: number of devices in a round.
        rounds: number of releases.
        epsilon: epsilon of the budget for the whole run.
        delta: delta of the budget.
        dimension: number of coordinates of an update.
        norm: L2 norm of the mean update relative to the clip norm: 1 if all clients agree and are just clipped, otherwise
            less.

    Raises:
        PlanError: an argument is out of range. A budget that no noise keeps is not an error: see `Cost.refused`.
        MissingExtra: dp-accounting is not installed.
    """
    if not float(dimension).is_integer() or dimension < 1:
        raise PlanError(
            "dimension", given=dimension, expected="a whole number from 1", do="Count the parameters."
        )
    if not (math.isfinite(norm) and norm > 0):
        raise PlanError("norm", given=norm, expected="a number above 0", do="Leave it out: it is 1.")
    participation = participation_of(way, population, cohort, rounds)
    bands, relief = 0, 1.0
    if way == "in_turn_correlated" and isinstance(participation, AtMost):
        bands = choose_bands(rounds, participation.maximum(rounds), participation.separation)
        relief = noise_error(rounds, bands) / noise_error(rounds, 1)
    refused = ""
    try:
        multiplier = _multiplier(epsilon, delta, rounds, participation, bands)
    except PlanError as error:
        if error.what != "privacy budget":
            raise
        multiplier, refused = math.nan, f"{error.given} is too little: {error.expected}"
    effective = multiplier * relief
    noise = effective / cohort
    ratio = signal_to_noise(effective, cohort, dimension, norm)
    return Cost(way, participation, population, cohort, bands, multiplier, effective, noise, ratio, refused)


def plan_table(
    *,
    population: int,
    cohort: int,
    rounds: int,
    epsilon: float,
    delta: float,
    dimension: int,
    norm: float = 1.0,
    ways: Sequence[str] = WAYS,
) -> tuple[Cost, ...]:
    """The cost of each way to take part, for the cohort and for half, twice and ten times as many devices per round.

    Args:
        population: number of devices.
        cohort: number of devices in a round.
        rounds: number of releases.
        epsilon: epsilon of the budget for the whole run.
        delta: delta of the budget.
        dimension: number of coordinates of an update.
        norm: as in `cost`.
        ways: which of `WAYS`.

    Returns:
        For each cohort up to the population, the smallest first, the ways in the given order.

    Raises:
        PlanError: an argument is out of range.
        MissingExtra: dp-accounting is not installed.
    """
    # Check it before other cohorts are derived from it.
    participation_of(WAYS[0], population, cohort, rounds)
    cohorts = sorted(
        {size for size in (cohort // 2, cohort, 2 * cohort, 10 * cohort) if 1 <= size <= population}
    )
    return tuple(
        cost(
            way,
            population=population,
            cohort=size,
            rounds=rounds,
            epsilon=epsilon,
            delta=delta,
            dimension=dimension,
            norm=norm,
        )
        for size in cohorts
        for way in ways
    )


def clients_needed(spent: Cost, target: float = 1.0) -> int | None:
    """The smallest population whose signal-to-noise ratio is `target`, or None if no noise keeps the budget.

    The number of rounds, the fraction of the population in each, and the budget, including delta, stay the same. The
    multiplier depends only on these, so the ratio is proportional to the population.

    Raises:
        PlanError: `target` is not above 0.
    """
    if not (math.isfinite(target) and target > 0):
        raise PlanError("target", given=target, expected="a number above 0", do="Leave it out: it is 1.")
    if math.isnan(spent.signal_to_noise):
        return None
    return clients_for(target, spent.population, spent.signal_to_noise)


def _multiplier(
    epsilon: float, delta: float, rounds: int, participation: AnyParticipation, bands: int
) -> float:
    if isinstance(participation, PoissonSampled | FixedSize):
        # Also an upper bound, hardly above the accountant's, in a fraction of the time.
        return rough(
            epsilon=epsilon, delta=delta, rounds=rounds, participation=participation, precision=_PRECISION
        )
    mechanism = "correlated" if bands else "gaussian"
    return calibrate(
        epsilon=epsilon,
        delta=delta,
        rounds=rounds,
        participation=participation,
        release=lambda multiplier: Release(mechanism, multiplier, bands),
        precision=_PRECISION,
    )
