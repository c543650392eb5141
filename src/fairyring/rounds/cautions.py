"""Warnings about a private plan, once the population is known."""

import math

from fairyring.learning.plan import Plan
from fairyring.privacy.cautions import cautions, signal_to_noise
from fairyring.privacy.correlated import noise_error


def warnings_of(plan: Plan, clients: int, rounds: int, examples: int = 0) -> list[str]:
    """Reasons why a plan's privacy guarantee, or the model trained under it, is worth little; empty where there are none.

    Args:
        plan: with or without a budget.
        clients: how many clients of the population have examples.
        rounds: how many rounds are to be run.
        examples: how many examples the population has; they count where each example is protected.
    """
    protection = plan.protection
    if protection is None or not clients:
        return []
    if protection.budget.unit == "example":
        return cautions(delta=protection.budget.delta, clients=examples, unit="example")
    rate = plan.secret_rate
    cohort = min(plan.rule.maximum, clients) if rate is None else max(1.0, rate * clients)
    ratio = signal_to_noise(_multiplier(plan, math.ceil(cohort), rounds), cohort, plan.update_layout.size)
    return cautions(delta=protection.budget.delta, clients=clients, ratio=ratio)


def _multiplier(plan: Plan, cohort: int, rounds: int) -> float:
    """Multiplier of independent noise that has as much error in the model as this plan's noise, in units of the clip norm."""
    protection = plan.protection
    assert protection is not None
    release = protection.release
    multiplier = release.multiplier * protection.inflation
    if (
        release.shares
    ):  # every client that stays adds a share, also those beyond the number that is counted on
        multiplier *= math.sqrt(max(1.0, cohort / release.shares))
    if release.bands:
        multiplier *= noise_error(rounds, release.bands) / noise_error(rounds, 1)
    return multiplier
