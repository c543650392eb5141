"""What a privacy budget costs: the noise of a plan for each way to take part, before anything is trained."""

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
_PRECISION = 1e-3  # relative: a plan is read to three digits


@dataclass(frozen=True)
class Cost:
    """One way to spend a budget.

    Attributes:
        way: one of `WAYS`.
        participation: what the accountant assumes.
        population: devices there are.
        cohort: devices in a round, on average where they are sampled by their own coins.
        bands: of correlated noise; else 0.
        multiplier: the least noise multiplier that fits the budget; NaN where there is none.
        effective: the multiplier of independent noise that errs as much in the final model: of correlated noise the
            smaller, else `multiplier`. Both errors are the root mean square over the rounds of the noise in the sum of
            all updates so far (`correlated.noise_error`), for a model is a sum of updates.
        noise: standard deviation of the noise on a coordinate of the mean update, in units of the clip norm:
            `effective / cohort`.
        signal_to_noise: norm of the mean update over the norm of its noise, `noise sqrt(dimension)`. A rough guide:
            many coordinates and rounds average the noise out, and below 1 training can still work, if slowly.
        refused: why there is no multiplier; else empty.
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
    """What an accountant may assume when `cohort` of `population` devices are in each of `rounds` rounds.

    `"poisson"`: each by its own coin. `"fixed_size"`: a uniform draw. `"in_turn"`, `"in_turn_correlated"`: a device
    comes again when all others have been there, so `ceil(rounds cohort / population)` times, `population // cohort`
    rounds apart. `"anybody"`: whoever wants to, in every round.

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
            expected="no more than there are",
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
    """The least noise for a budget, one way to take part.

    Args:
        way: one of `WAYS`.
        population: devices there are.
        cohort: devices in a round.
        rounds: releases.
        epsilon: of the budget for the whole run.
        delta: of the same.
        dimension: coordinates of an update.
        norm: L2 norm of the mean update over the clip norm. 1 if clients agree and are all just clipped, less if they
            do not.

    Raises:
        PlanError: an argument is out of range. A budget that no noise keeps is no error: see `Cost.refused`.
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
    """The cost of each way to take part, for the cohort and for half, twice and ten times as many devices a round.

    Args:
        population: devices there are.
        cohort: devices in a round.
        rounds: releases.
        epsilon: of the budget for the whole run.
        delta: of the same.
        dimension: coordinates of an update.
        norm: as in `cost`.
        ways: which of `WAYS`.

    Returns:
        For each cohort, the smallest first, the ways in the order given; no cohort above the population.

    Raises:
        PlanError: an argument is out of range.
        MissingExtra: dp-accounting is not installed.
    """
    # Before any other cohort is made of it.
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
    """The smallest population whose signal-to-noise ratio is `target`, or None where no noise keeps the budget.

    With the same rounds and the same share of the population in each: that share and the rounds are all that the
    multiplier depends on, so the ratio grows in proportion to the population. The budget is held fixed, delta too.

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
        # An upper bound too, hardly above the accountant's, in a fraction of its time.
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
