"""The canary audit of a run: whether it can be made, and what it found."""

from typing import Any

import numpy as np

from fairyring.core.errors import PlanError
from fairyring.learning.plan import Plan
from fairyring.privacy.canaries import Audit, Canaries, verdict
from fairyring.simulation.spending import Spending

SCORES = "audit.safetensors"


def check_audit(audit: Canaries | None, plan: Plan) -> int:
    """How many canaries take part.

    Raises:
        PlanError: the audit is none, or the plan promises nothing that could be audited.
    """
    if audit is None:
        return 0
    if not isinstance(audit, Canaries) or plan.protection is None:
        raise PlanError(
            "audit",
            given=repr(audit)[:80] + ("" if plan.protection else ", for a plan without a budget"),
            expected="fr.privacy.Canaries(1000), for a plan with privacy=fr.Budget(...)",
            do="Give the plan a budget and a noise stage, or leave the audit out.",
        )
    if plan.protection.budget.unit == "example":
        raise PlanError(
            "audit",
            given="canaries that are clients, for a promise to every example",
            expected="a promise to every device, which is what a canary would break",
            do="Leave the audit out.",
        )
    return audit.count


def scores_of(audit: Audit) -> np.ndarray:
    """The canaries' scores: float32 `[n]`."""
    return np.asarray(audit.scores().scores, np.float32)


def audited(audit: Audit, spending: Spending) -> dict[str, Any]:
    """What an audit found, for the run's record."""
    estimate = audit.estimate(spending.protection.budget.delta)
    claimed = spending.spent().epsilon
    return {
        "canaries": estimate.canaries,
        "claimed": claimed,
        "empirical": estimate.epsilon,
        "lower": estimate.lower,
        "confidence": estimate.confidence,
        "delta": estimate.delta,
        "mean": estimate.mean,
        "std": estimate.std,
        "holds": verdict(claimed, estimate),
        "statement": estimate.statement,
    }
