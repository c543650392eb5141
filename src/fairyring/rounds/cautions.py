"""Warnings about a plan: of its privacy, once the population is known; and of its training, once some rounds are over."""

import math
from collections.abc import Sequence

import numpy as np

from fairyring.learning.plan import Plan
from fairyring.privacy.cautions import cautions, signal_to_noise
from fairyring.privacy.correlated import noise_error
from fairyring.records import units
from fairyring.records.round_record import Means, RoundRecord
from fairyring.rounds.stopping import EarlyStopping

_ROUNDS = 3  # of a run's first, from which the effect of its clip is judged
_CUT, _TIMES = (
    0.9,
    2.0,
)  # share of updates that are cut, and how much longer the median is, from which on it is said


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


def clipping_caution(plan: Plan, records: Sequence[RoundRecord]) -> str | None:
    """That a clip cuts nearly all updates to less than half, in each of the first rounds; None where it does not, or is not measured.

    A clip norm that follows the updates needs no such word.
    """
    first, clip = records[:_ROUNDS], plan.clip
    if not first or clip is None or not clip.clips_to or plan.algorithm.in_clips:
        return None
    cut = [record.clipped or 0.0 for record in first]
    times = float(np.median([(record.update_norm or 0.0) / clip.clips_to for record in first]))
    if min(cut) < _CUT or times < _TIMES:
        return None
    about = units.number(float(f"{times:.2g}"))
    where = "round 1" if len(first) == 1 else f"rounds 1 to {len(first)}"
    return (
        f"In {where} {clip.name} cut {units.share(float(np.mean(cut)))} of the updates; their median norm was "
        f"{units.number(times * clip.clips_to)}, {about} times the clip norm. So the server moves much less than the clients ask for: "
        "raise the clip norm, lower the local learning rate, or raise the server's."
    )


def stopping_caution(stop: EarlyStopping | None, tests: Sequence[Means]) -> str | None:
    """That early stopping waited for a metric that was no finite number; None where it was one.

    Args:
        stop: by which the run has ended.
        tests: every evaluation.
    """
    if stop is None:
        return None
    waited = [stop.value(one) for one in tests][-stop.patience :]
    if len(waited) < stop.patience or any(math.isfinite(value) for value in waited):
        return None
    return (
        f"Early stopping ended the run because {stop.metric} was not a finite number in the last {units.count(len(waited), 'evaluation')}. "
        "Look at the model's outputs, or stop by another metric."
    )


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
