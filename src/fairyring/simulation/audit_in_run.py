"""Audits within a run, by canaries and of the mechanism itself: whether they can be made, and what they found."""

from typing import Any

import numpy as np

from fairyring.core.errors import PlanError
from fairyring.learning.plan import Plan
from fairyring.privacy.canaries import Audit, Canaries, verdict
from fairyring.privacy.mechanism import DirectCheck
from fairyring.simulation.spending import Spending
from fairyring.simulation.watching import Watch

SCORES = "audit.safetensors"


def check_audit(audit: Canaries | DirectCheck | None, plan: Plan) -> int:
    """How many canaries take part.

    Raises:
        PlanError: the audit is none, or the plan promises nothing that could be audited.
    """
    if audit is None:
        return 0
    if not isinstance(audit, Canaries | DirectCheck) or plan.protection is None:
        raise PlanError(
            "audit",
            given=repr(audit)[:80] + ("" if plan.protection else ", for a plan without a budget"),
            expected="fr.privacy.Canaries(1000) or fr.privacy.DirectCheck(), for a plan with privacy=fr.Budget(...)",
            do="Give the plan a budget and a noise stage, or leave the audit out.",
        )
    if plan.protection.budget.unit == "example":
        raise PlanError(
            "audit",
            given="canaries that are clients, for a promise to every example",
            expected="a promise to every device, which is what a canary would break",
            do="Leave the audit out.",
        )
    return audit.count if isinstance(audit, Canaries) else 0


def scores_of(audit: Audit) -> np.ndarray:
    """The canaries' scores: float32 `[n]`."""
    return np.asarray(audit.scores().scores, np.float32)


def audited(audit: Audit | None, watch: Watch, spending: Spending, false_alarm: float) -> dict[str, Any]:
    """What audits found, for the run's record: canaries, if there are any, and the direct check as `mechanism`."""
    counted = {r.round: r.release for r in spending.ledger.reservations() if r.digest}
    mechanism = {"mechanism": watch.check(counted, false_alarm).describe()}
    if audit is None:
        return mechanism
    estimate = audit.estimate(spending.protection.budget.delta)
    claimed = spending.spent().epsilon
    return mechanism | {
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
