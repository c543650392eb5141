"""A plan's promise of differential privacy: whether its parts add up to it, and the noise that keeps it."""

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

ASIDE = 1e-3  # of delta, under Poisson sampling, for rounds that show how many took part


@dataclass(frozen=True)
class Protection:
    """How a plan keeps what it promises to every device, or to every example.

    Attributes:
        budget: the most that may be spent.
        participation: in which rounds a device takes part, as far as the promise rests on it.
        release: what one round spends that is as noisy as planned.
        inflation: how much longer than the clip norm a client's vector may be (an example's, where those are protected), with
            its side values and rounding.
        adversarial_rate: the share of a session's clients whose shares of distributed noise do not count.
    """

    budget: Budget
    participation: AnyParticipation
    release: Release
    inflation: float
    adversarial_rate: float

    def shares_of(self, clients: int, session: int) -> int:
        """Honest shares of distributed noise in a sum of so many clients, of a session of so many, in the worst case."""
        return honest_of(clients, session, self.adversarial_rate)

    def describe(self) -> dict[str, Any]:
        """As plain values, for a person and for the run folder."""
        epsilon, unit = self.budget.epsilon, self.budget.unit
        often = sampling_in(self.participation, 1, unit) if unit == "example" else self.participation.sampling
        return {
            "epsilon": epsilon if math.isfinite(epsilon) else None,
            "delta": self.budget.delta,
            "rounds": self.budget.rounds,
            "unit": unit,
            "relation": relation_in(self.participation, unit),
            "sampling": often,
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


def keep(
    budget: Budget, stage: Stage, spec: MessageSpec, rule: Cohort, minimum_cohort: int
) -> tuple[Protection, BoundStage]:
    """The promise, and the stage bound with the noise that keeps it.

    Raises:
        PlanError: the parts cannot keep it.
    """
    request, masking = stage.noise, stage.masking
    assert request is not None
    assert stage.with_noise is not None
    with_noise = stage.with_noise
    participation = participation_of(budget, rule)
    if request.shares != 0 and isinstance(participation, PoissonSampled):
        raise PlanError(
            "distributed_noise",
            given="a Poisson cohort, whose promise rests on nobody knowing who took part",
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
        made = bound(request.multiplier)
    else:
        rounds = _planned(budget)
        if request.mechanism in ("gaussian", "correlated"):
            bound(1.0)  # what does not fit is told before the noise is calibrated
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
        made = bound(multiplier)
    noise = made.spec.noise
    assert noise is not None
    _check_shares(request, noise.shares, rule.maximum, rate)
    clip = noise.l2 / noise.scale / norm_before_noise(stage, spec)
    return Protection(budget, participation, Release.of(noise), clip, rate), made


def _planned(budget: Budget) -> int:
    """The rounds that noise is calibrated for.

    Raises:
        PlanError: the budget does not say.
    """
    if budget.rounds is None or math.isinf(budget.epsilon):
        raise PlanError(
            "Plan privacy",
            given="no noise multiplier, and a budget without "
            + ("rounds" if budget.rounds is None else "limit"),
            expected="one of them",
            do="Give Budget(epsilon, delta, rounds=100), or the noise stage a multiplier.",
        )
    return budget.rounds


def multiplier_for(budget: Budget, participation: AnyParticipation, steps: int) -> float:
    """The least noise in every local step, over what one example can change, with which so many a round keep a budget.

    Raises:
        PlanError: no noise does, or the budget does not say for how many rounds.
    """
    rounds = _planned(budget)
    if isinstance(participation, PoissonSampled):  # each step has a sample of its own
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
    """The noise multiplier of a Gaussian mechanism. Kept: plans are made over and over, from the same budget."""
    return calibrate(
        epsilon=epsilon,
        delta=delta,
        rounds=rounds,
        participation=participation,
        # The plain Gaussian, left out, is searched for from a rough guess.
        release=None if mechanism == "gaussian" else lambda multiplier: Release(mechanism, multiplier, bands),
    )


def participation_of(budget: Budget, rule: Cohort) -> AnyParticipation:
    """What a promise may assume of a cohort rule.

    Raises:
        PlanError: a claim that the rule cannot keep.
    """
    if budget.population is not None:
        if not isinstance(rule, Uniform):
            raise PlanError(
                "Budget population",
                given=f"a cohort that is {type(rule).__name__.lower()}",
                expected="a uniform cohort, which alone is drawn so that every set of its size is equally likely",
                do="Leave population out, or set cohort= to a number.",
            )
        if rule.size > budget.population:
            raise PlanError(
                "Budget population",
                given=f"{budget.population} for a cohort of {rule.size}",
                expected="at least the cohort",
                do="Give how many devices the cohort is drawn from.",
            )
        return FixedSize(rule.size, budget.population)
    if isinstance(rule, Poisson):
        return PoissonSampled(rule.rate, ASIDE)
    if isinstance(rule, InTurn):
        # How often follows from how many rounds are run, whatever was planned.
        return AtMost(None, rule.separation)
    return AtMost()


def honest_of(clients: int, session: int, adversarial_rate: float) -> int:
    """How many clients of a sum are honest in the worst case; 0 at least.

    Adversaries are a share of the session, and need not vanish where others do: all of them may be in the sum.
    """
    return max(0, clients - adversaries_in(session, adversarial_rate))


def minimum_cohort_with(shares: int, adversarial_rate: float, maximum: int) -> int:
    """The fewest clients of a session of `maximum` among which so many are honest; at most `maximum` + 1."""
    return min(shares + adversaries_in(maximum, adversarial_rate), maximum + 1)


def _check_shares(request: NoiseRequest, shares: int, maximum: int, adversarial_rate: float) -> None:
    if request.shares == 0 or request.top_up:
        return
    if honest_of(maximum, maximum, adversarial_rate) < shares:
        raise PlanError(
            "distributed_noise shares",
            given=f"a cohort of at most {maximum}, of which {adversarial_rate:.0%} may be adversaries",
            expected=f"one of which {shares} are honest: the noise was calibrated for so many shares",
            do="Use a larger cohort, fewer shares, or shortfall='top_up'.",
        )


def _bands(budget: Budget, participation: AnyParticipation) -> int:
    if not isinstance(participation, AtMost) or budget.rounds is None:
        raise PlanError(
            "correlated_noise bands",
            given="a cohort without separation" if budget.rounds else "a budget without rounds",
            expected="rounds, and a cohort in turn, to choose them for",
            do="Give bands=, or Budget(rounds=...) and cohort=fr.cohort.in_turn(size, separation=...).",
        )
    return choose_bands(budget.rounds, participation.maximum(budget.rounds), participation.separation)


def norm_before_noise(stage: Stage, spec: MessageSpec) -> float:
    """The bound on the vector where the noise stage finds it."""
    for part in stage.parts:
        if part.noise is not None:
            break
        spec = part.bind(spec).spec
    return spec.l2 or math.inf
