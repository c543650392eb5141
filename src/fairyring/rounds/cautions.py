"""What to say of a private plan when the population that it is for is known."""

import math

from fairyring.learning.plan import Plan
from fairyring.privacy.cautions import cautions, signal_to_noise
from fairyring.privacy.correlated import noise_error


def warnings_of(plan: Plan, clients: int, rounds: int, examples: int = 0) -> list[str]:
    """What takes the worth from a plan's promise, or from what is trained under it; empty where nothing does.

    Args:
        plan: with a budget or without.
        clients: of the population, those that have examples.
        rounds: that are to be run.
        examples: of the population: what counts where those are protected.
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
    """Of independent noise that errs as much in the model as this plan's, in units of the clip norm."""
    protection = plan.protection
    assert protection is not None
    release = protection.release
    multiplier = release.multiplier * protection.inflation
    if release.shares:  # every client that stays adds one, also beyond those that are counted on
        multiplier *= math.sqrt(max(1.0, cohort / release.shares))
    if release.bands:
        multiplier *= noise_error(rounds, release.bands) / noise_error(rounds, 1)
    return multiplier
