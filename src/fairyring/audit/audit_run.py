"""Auditing a run afterwards: its plan run again, watched and with canaries, and attacks on what it sends."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairyring.audit.attack import Reconstruction, reconstruct
from fairyring.audit.attacker import NoAttack
from fairyring.audit.shadows import membership
from fairyring.core.errors import PlanError, RunDamaged, RunError, RunMismatch
from fairyring.learning.plan import Plan
from fairyring.population import Population
from fairyring.privacy.canaries import Canaries
from fairyring.privacy.mechanism import DirectCheck
from fairyring.privacy.membership import Membership, check_shadows
from fairyring.privacy.reconstruction import minimum_targets
from fairyring.records.folder import RunFolder
from fairyring.records.form import check_form
from fairyring.records.layout import AUDIT, RUN, SCORES
from fairyring.rounds.privacy_statement import two_epsilons
from fairyring.simulation import simulate

# Shadow runs where nothing is said of them: at most so many, in about so many seconds.
SHADOWS, AFFORDED = 64, 300.0


@dataclass(frozen=True)
class Audited:
    """What audits of a run found.

    Attributes:
        canaries: claimed and empirical epsilon, as in the run's record; None for a plan without a budget.
        reconstruction: what attacks read off updates; None where no attack fits, and then `why_not` says why.
        why_not: see there.
        mechanism: what the direct check of the noise and of clients' vectors found, as in the run's record; None for a
            plan without a budget.
        membership: what shadow runs tell of who took part; None where none were made.
    """

    canaries: dict[str, Any] | None
    reconstruction: Reconstruction | None
    why_not: str = ""
    mechanism: dict[str, Any] | None = None
    membership: Membership | None = None

    @property
    def holds(self) -> bool:
        """False if canaries, the direct check or membership inference contradict what the plan promises."""
        told = (found["holds"] for found in (self.canaries, self.mechanism) if found is not None)
        return all(told) and (self.membership is None or self.membership.holds)


def audit_run(
    run: str | os.PathLike[str],
    plan: Plan,
    population: Population,
    *,
    canaries: int = 1000,
    targets: int = 6,
    shadows: int | None = None,
) -> Audited:
    """Set what can be told from a run's releases against what its plan promises, and try to read examples off them.

    The run itself is not touched: its plan is run again, with canaries beside the clients and fresh noise, for as many
    rounds, in its ideal form. Results go into the run folder, and from there into its report, **with the examples that
    were sought**: do not audit a population whose examples may not be shown. They take the place of earlier ones, but
    for what contradicts the promise: that stays until the same is looked at again.

    Args:
        run: a run folder.
        plan, population: those of the run.
        canaries: how many, 30 or more; 0 to leave them out, and only check the mechanism.
        targets: examples to be sought, 5 or more; 0 to leave that out.
        shadows: runs of as many rounds, each with half of the clients, by which members are told: an even number, 8 or
            more; 0 to leave that out. Without it up to 64, as many as will take some five minutes, and none where that is fewer than eight.

    Raises:
        RunError, RunDamaged: it is no run, or one without a finished round.
        RunMismatch: plan or population are not those of the run.
        PlanError: so few canaries, targets or shadow runs tell nothing; or there is nothing to do. It is raised before
            anything is run, and what earlier audits found stays.
    """
    watched = _checked(canaries, targets, shadows)
    folder = RunFolder.open(run)
    header = folder.read(RUN)
    check_form(header, str(folder.path))
    rounds = len(folder.records())
    if not rounds:
        raise RunError(
            f"run folder {folder.path}", given="no finished round", expected="some", do="Let it run first."
        )
    for name, digest in (("population", population.fingerprint), ("plan", lambda: _digest(plan, population))):
        given, saved = digest(), header["fingerprints"][name]
        if saved != given:
            raise RunMismatch(
                f"run folder {folder.path}",
                given=f"a {name} {given[:12]}",
                expected=f"that of the run, {saved[:12]}",
                do="Give what the run was made with; another version of JAX alone can change the digest of a plan's programs.",
            )
    if shadows is None:
        shadows = _affordable(float(header.get("seconds", 0.0)))
    promised = plan.protection is not None and plan.example_stages is None
    if not (promised or targets or shadows):
        raise PlanError(
            "audit",
            given="no targets and no shadow runs, of a plan that promises nothing to clients",
            expected="something to look at: canaries and the check of the noise are for promises",
            do="Ask for targets=6 or shadows=64.",
        )
    contradicted = _contradicted(folder)
    found: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    if promised:
        again = simulate(
            plan,
            population,
            rounds=rounds,
            seed=header["seed"],
            dropout=header["dropout"],
            audit=watched,
            evaluate_every=rounds,
        )
        told = dict(again.header.get("audit") or {})
        found["mechanism"] = told.pop("mechanism", None)
        if told:
            spent = (header.get("privacy") or {}).get("spent")
            found["canaries"] = told | {"beside": two_epsilons(spent, told["claimed"])}
            arrays["scores"] = again.canary_scores
    reconstruction, why_not = None, ""
    if targets:
        try:
            reconstruction = reconstruct(plan, population, seed=header["seed"], targets=targets)
        except NoAttack as error:
            why_not = str(error)
    if reconstruction is not None:
        found["reconstruction"] = reconstruction.record()
        kinds = ("truth", "bare", "protected", "nearest", "blind")
        arrays |= {name: getattr(reconstruction, name) for name in kinds}
    told = None
    if shadows:
        told = membership(plan, population, rounds=rounds, shadows=shadows, seed=header["seed"])
        found["membership"] = told.describe()
        false, true = told.roc()
        arrays |= {"roc_false": false.astype(np.float32), "roc_true": true.astype(np.float32)}
    folder.write_arrays(SCORES, arrays)
    folder.write(
        AUDIT, found | {name: part for name, part in contradicted.items() if found.get(name) is None}
    )
    return Audited(found.get("canaries"), reconstruction, why_not, found.get("mechanism"), told)


def _digest(plan: Plan, population: Population) -> str:
    """What a run of a plan over a population names the plan by."""
    plan.task.validate(population)  # another plan may read other columns
    return plan.digest(plan.task.columns_of(population))


def _checked(canaries: int, targets: int, shadows: int | None) -> Canaries | DirectCheck:
    """How the plan is watched when it is run again; `PlanError` for numbers that an audit can't be made with."""
    least = minimum_targets()
    if isinstance(targets, bool) or not isinstance(targets, int) or 0 != targets < least:
        raise PlanError(
            "audit targets",
            given=repr(targets),
            expected=f"0, or a whole number >= {least}: on fewer no attack can be shown to be better than blind",
            do="Set targets=6, or 0 to seek no examples.",
        )
    if shadows is not None and shadows != 0:
        check_shadows(shadows, 0.999)
    return DirectCheck() if canaries == 0 else Canaries(canaries)


def _contradicted(folder: RunFolder) -> dict[str, Any]:
    """What earlier audits found that contradicts the promise: it stays until the same is looked at again."""
    try:
        earlier = folder.read(AUDIT) if (folder.path / AUDIT).is_file() else {}
    except RunDamaged:
        return {}
    return {
        name: part
        for name, part in earlier.items()
        if isinstance(part, dict) and part.get("holds") is False
    }  # fmt: skip


def _affordable(seconds: float) -> int:
    """How many shadow runs take about as long as one waits for, of a run that took so many seconds."""
    count = min(SHADOWS, int(AFFORDED / max(seconds, 1e-3)) // 2 * 2)
    return count if count >= 8 else 0
