"""Audits during a run, by canaries and of the mechanism itself: whether they can be made, and their results."""

from typing import Any

import jax
import numpy as np

from fairyring.core.errors import PlanError
from fairyring.core.keys import Purpose, shared
from fairyring.learning.plan import Plan
from fairyring.privacy.canaries import Audit, Canaries, verdict
from fairyring.privacy.mechanism import DirectCheck
from fairyring.privacy.participation import AtMost
from fairyring.rounds.cohorts import RoundCohort
from fairyring.rounds.release import Released
from fairyring.rounds.spending import RunSpending
from fairyring.rounds.watching import Watch


def check_audit(audit: Canaries | DirectCheck | None, plan: Plan) -> int:
    """How many canaries take part.

    Raises:
        PlanError: `audit` is not an audit, or the plan has no guarantee that could be audited.
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
            given="canaries, which are clients, for a guarantee to every example",
            expected="a guarantee to every device, which canaries can put to the test",
            do="Leave the audit out.",
        )
    return audit.count if isinstance(audit, Canaries) else 0


class RunAudit:
    """An audit of a run while it runs: of the mechanism, and by canaries if there are any.

    Args:
        audit: the kind of audit, checked.
        plan: one with a budget.
        canaries: how many take part.
        clients: how many the population has; canaries are numbered from there on.
        root: key of the run.

    Attributes:
        watch: sees every client's vector before any noise, and what is released.
    """

    def __init__(
        self, audit: Canaries | DirectCheck, plan: Plan, canaries: int, clients: int, root: jax.Array
    ) -> None:
        self.watch, self._clients = Watch(plan), clients
        self._false_alarm = (audit if isinstance(audit, DirectCheck) else DirectCheck()).false_alarm
        self._canaries: Audit | None = None
        self._result: dict[str, Any] | None = None
        if isinstance(audit, Canaries):
            assert plan.protection is not None
            directions = shared(root, Purpose.CANARY)
            known = isinstance(plan.protection.participation, AtMost)
            taking_part = Canaries(canaries, audit.confidence)
            self._canaries = Audit(plan.update_layout.size, directions, taking_part, known=known)

    @property
    def has_canaries(self) -> bool:
        """Whether canaries take part."""
        return self._canaries is not None

    def released(self, cohort: RoundCohort, released: Released) -> None:
        """Look at what a round has released, with noise in it."""
        assert released.vector is not None
        assert released.mean is not None
        self.watch.released(cohort, released.vector, released.reported)
        if self._canaries is not None:
            # The mean is a sum over its weight, and a canary's part in it so much the smaller.
            weight = float(released.auxiliary[0])
            self._canaries.record(released.mean, cohort.canaries - self._clients, 1.0 / weight)

    def scores(self) -> np.ndarray | None:
        """The canaries' scores, float32 `[n]`; None without canaries, and before `result` was asked for."""
        if self._canaries is None or self._result is None:
            return None
        return np.asarray(self._canaries.scores().scores, np.float32)

    def result(self, spending: RunSpending) -> dict[str, Any] | None:
        """The result, for `run.json`; None before any release. It is computed once, from all releases: ask at the end."""
        if self._result is None and len(self.watch):
            self._result = _result(self._canaries, self.watch, spending, self._false_alarm)
        return self._result


def _result(audit: Audit | None, watch: Watch, spending: RunSpending, false_alarm: float) -> dict[str, Any]:
    """The results for `run.json`: of canaries, if there are any, and of the direct check as `mechanism`."""
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
