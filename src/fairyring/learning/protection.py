"""A plan's promise of differential privacy: whether the plan's parts can keep it, and the noise that does."""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

from fairyring.aggregation.contract import BoundStage, MessageSpec, Stage
from fairyring.core.errors import PlanError
from fairyring.core.noise import NoiseRequest
from fairyring.learning.cohort import Cohort, InTurn, Poisson, Uniform
from fairyring.privacy.accounting import calibrate
from fairyring.privacy.budget import Budget
from fairyring.privacy.correlated import choose_bands
from fairyring.privacy.participation import (
    AnyParticipation,
    AtMost,
    FixedSize,
    PoissonSampled,
    describe,
    relation_in,
    sampling_in,
)
from fairyring.privacy.release import Release
from fairyring.secagg import adversaries_in

# The share of delta that is set aside under Poisson sampling, for rounds that show how many clients took part.
ASIDE = 1e-3


@dataclass(frozen=True)
class Protection:
    """How a plan keeps its promise to every device, or to every example.

    Attributes:
        budget: the most that may be spent.
        participation: what the promise assumes about the rounds in which a device takes part.
        release: what one round with the planned noise spends.
        inflation: the largest norm of a client's vector with auxiliary values and rounding (of an example's, where those are
            protected), divided by the clip norm.
        adversarial_rate: the share of a session's clients whose shares of distributed noise do not count.
    """

    budget: Budget
    participation: AnyParticipation
    release: Release
    inflation: float
    adversarial_rate: float

    def shares_of(self, clients: int, session: int) -> int:
        """Honest shares of distributed noise in a sum of `clients`, from a session of `session` clients, in the worst case."""
        return honest_of(clients, session, self.adversarial_rate)

    def describe(self) -> dict[str, Any]:
        """As plain values, for people and for the run folder."""
        epsilon, unit = self.budget.epsilon, self.budget.unit
        sampling = (
            sampling_in(self.participation, 1, unit) if unit == "example" else self.participation.sampling
        )
        return {
            "epsilon": epsilon if math.isfinite(epsilon) else None,
            "delta": self.budget.delta,
            "rounds": self.budget.rounds,
            "unit": unit,
            "relation": relation_in(self.participation, unit),
            "sampling": sampling,
            "participation": describe(self.participation),
            "mechanism": self.release.mechanism,
            "multiplier": self.release.multiplier,
            "bands": self.release.bands,
            "shares": self.release.shares,
            "inflation": self.inflation,
            **({"steps": self.release.steps} if self.release.steps else {}),
        }


def check_parts(stage: Stage, budget: Budget | None) -> None:
    """Raise `PlanError` unless a plan has both a budget and noise, or neither, and distributed noise is summed under masks."""
    noise = stage.noise
    if (budget is None) != (noise is None):
        raise PlanError(
            "Plan privacy",
            given="a budget, and no noise" if noise is None else f"{noise.mechanism} noise, and no budget",
            expected="both or neither",
            do="Add gaussian_noise() after the clip."
            if noise is None
            else "Give privacy=fr.Budget(epsilon, delta, rounds=...), with epsilon=math.inf to only count.",
        )
    if noise is not None and noise.shares != 0 and stage.masking is None:
        raise PlanError(
            "distributed_noise",
            given="updates that are added in the clear",
            expected="a secure sum: one client's share of the noise hides nothing by itself",
            do="End the chain with secure_sum(), or use gaussian_noise().",
        )


def keep(budget: Budget, stage: Stage, spec: MessageSpec, rule: Cohort) -> tuple[Protection, BoundStage]:
    """The promise, and the stage bound with the noise that keeps it.

    Args:
        budget: a budget for every device.
        stage: the plan's stages, with a noise stage.
        spec: the spec of the messages before the first stage.
        rule: the cohort sampler.

    Raises:
        PlanError: the parts cannot keep the promise.
    """
    request, masking = stage.noise, stage.masking
    assert request is not None
    assert stage.with_noise is not None
    with_noise = stage.with_noise
    participation = participation_of(budget, rule)
    if request.shares != 0 and isinstance(participation, PoissonSampled):
        raise PlanError(
            "distributed_noise",
            given="a Poisson cohort, for which the promise rests on nobody knowing who took part",
            expected="a cohort in turn or of a fixed size: the more clients take part, the more noise is in the sum, "
            "which tells how many did",
            do="Use cohort=fr.cohort.in_turn(size, separation=...), or gaussian_noise(), which the server adds.",
        )
    spec = spec.replace(public_count=not isinstance(participation, PoissonSampled))
    rate = masking.adversarial_rate if masking else 0.0
    bands = request.bands if request.bands is not None else _bands(budget, participation)

    def bound(multiplier: float) -> BoundStage:
        return with_noise(multiplier, bands).bind(spec)

    if request.multiplier is not None:
        bound_stage = bound(request.multiplier)
    else:
        rounds = _planned(budget)
        if request.mechanism in ("gaussian", "correlated"):
            bound(1.0)  # refuses what does not fit before the slow calibration
            multiplier = _simple(
                budget.epsilon, budget.delta, rounds, participation, request.mechanism, bands
            )
        else:

            def release(multiplier: float) -> Release:
                noise = bound(multiplier).spec.noise
                assert noise is not None
                return Release.of(noise)

            multiplier = calibrate(
                epsilon=budget.epsilon,
                delta=budget.delta,
                rounds=rounds,
                participation=participation,
                release=release,
            )
        bound_stage = bound(multiplier)
    noise = bound_stage.spec.noise
    assert noise is not None
    _check_shares(request, noise.shares, rule.maximum, rate)
    inflation = noise.l2 / noise.scale / norm_before_noise(stage, spec)
    return Protection(budget, participation, Release.of(noise), inflation, rate), bound_stage


def _planned(budget: Budget) -> int:
    """The number of rounds that noise is calibrated for.

    Raises:
        PlanError: the budget has no number of rounds, or no limit.
    """
    if budget.rounds is None or math.isinf(budget.epsilon):
        raise PlanError(
            "Plan privacy",
            given="no noise multiplier, and a budget without "
            + ("rounds" if budget.rounds is None else "limit"),
            expected="a multiplier, or a budget with rounds and a limit",
            do="Give Budget(epsilon, delta, rounds=100), or the noise stage a multiplier.",
        )
    return budget.rounds


def multiplier_for(budget: Budget, participation: AnyParticipation, steps: int) -> float:
    """The smallest noise multiplier of local steps that keeps a budget: noise over the largest change by one example.

    Args:
        budget: a budget for every example.
        participation: what the promise assumes about batches, or about the rounds in which a client takes part.
        steps: with Poisson batches, the number of local steps in a round; otherwise its number of epochs.

    Raises:
        PlanError: no noise keeps the budget, or it has no number of rounds or no limit.
    """
    rounds = _planned(budget)
    if isinstance(participation, PoissonSampled):  # each step draws its own sample
        return _simple(budget.epsilon, budget.delta, rounds * steps, participation, "gaussian", 0)
    return calibrate(
        epsilon=budget.epsilon,
        delta=budget.delta,
        rounds=rounds,
        participation=participation,
        release=lambda multiplier: Release("gaussian", multiplier, steps=steps),
    )


@cache
def _simple(
    epsilon: float, delta: float, rounds: int, participation: AnyParticipation, mechanism: str, bands: int
) -> float:
    """The noise multiplier of a Gaussian mechanism. Results are cached, because plans are often remade with the same budget."""
    return calibrate(
        epsilon=epsilon,
        delta=delta,
        rounds=rounds,
        participation=participation,
        # Without `release`, `calibrate` searches for the plain Gaussian, starting from a rough guess.
        release=None if mechanism == "gaussian" else lambda multiplier: Release(mechanism, multiplier, bands),
    )


def participation_of(budget: Budget, rule: Cohort) -> AnyParticipation:
    """What a promise may assume about participation under a cohort sampler.

    Raises:
        PlanError: the budget claims a population, and the cohort sampler cannot keep that claim.
    """
    if budget.population is not None:
        if not isinstance(rule, Uniform):
            raise PlanError(
                "Budget population",
                given=f"a cohort that is {type(rule).__name__.lower()}",
                expected="a uniform cohort: only there is every set of that size equally likely",
                do="Leave population out, or set cohort= to a number.",
            )
        if rule.size > budget.population:
            raise PlanError(
                "Budget population",
                given=f"{budget.population} for a cohort of {rule.size}",
                expected="at least the size of the cohort",
                do="Give the number of devices that the cohort is drawn from.",
            )
        return FixedSize(rule.size, budget.population)
    if isinstance(rule, Poisson):
        return PoissonSampled(rule.rate, ASIDE)
    if isinstance(rule, InTurn):
        # How often a client takes part follows from the rounds that are run, not from those that were planned.
        return AtMost(None, rule.separation)
    return AtMost()


def honest_of(clients: int, session: int, adversarial_rate: float) -> int:
    """The number of honest clients in a sum in the worst case, at least 0.

    Adversaries are a share of the session. They need not drop out when others do, so all of them may be in the sum.
    """
    return max(0, clients - adversaries_in(session, adversarial_rate))


def minimum_cohort_with(shares: int, adversarial_rate: float, maximum: int) -> int:
    """The fewest clients of a session of `maximum` clients of which `shares` are honest; at most `maximum + 1`."""
    return min(shares + adversaries_in(maximum, adversarial_rate), maximum + 1)


def _check_shares(request: NoiseRequest, shares: int, maximum: int, adversarial_rate: float) -> None:
    if request.shares == 0 or request.top_up:
        return
    if honest_of(maximum, maximum, adversarial_rate) < shares:
        raise PlanError(
            "distributed_noise shares",
            given=f"a cohort of at most {maximum}, of which {adversarial_rate:.0%} may be adversaries",
            expected=f"a cohort of which {shares} are honest: the noise is calibrated for that many shares",
            do="Use a larger cohort, fewer shares, or shortfall='top_up'.",
        )


def _bands(budget: Budget, participation: AnyParticipation) -> int:
    if not isinstance(participation, AtMost) or budget.rounds is None:
        raise PlanError(
            "correlated_noise bands",
            given="a cohort without separation" if budget.rounds else "a budget without rounds",
            expected="a number of rounds and a cohort in turn, from which the bands are chosen",
            do="Give bands=, or Budget(rounds=...) and cohort=fr.cohort.in_turn(size, separation=...).",
        )
    return choose_bands(budget.rounds, participation.maximum(budget.rounds), participation.separation)


def norm_before_noise(stage: Stage, spec: MessageSpec) -> float:
    """The bound on the vector's Euclidean norm just before the noise stage; `inf` if there is none."""
    for part in stage.parts:
        if part.noise is not None:
            break
        spec = part.bind(spec).spec
    return spec.l2 or math.inf
