"""Auditing a run afterwards: its plan is run again, watched and with canaries, and what it sends is attacked."""

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
from fairyring.runs import init_in
from fairyring.simulation import simulate

# How many shadow runs are made where no number is given: at most SHADOWS, in about AFFORDED seconds.
SHADOWS, AFFORDED = 64, 300.0


@dataclass(frozen=True)
class Audited:
    """The results of an audit of a run.

    Attributes:
        canaries: claimed and empirical epsilon, as in the run's record; None for a plan without a budget.
        reconstruction: what attacks read off updates; None where no attack fits the plan.
        why_not: why no attack fits; empty where one does.
        mechanism: the result of the direct check of the noise and of clients' vectors, as in the run's record; None for a
            plan without a budget.
        membership: how well shadow runs tell who took part; None where none were made.
    """

    canaries: dict[str, Any] | None
    reconstruction: Reconstruction | None
    why_not: str = ""
    mechanism: dict[str, Any] | None = None
    membership: Membership | None = None

    @property
    def holds(self) -> bool:
        """Whether neither canaries, the direct check nor membership inference contradict the plan's privacy guarantee."""
        holds = (result["holds"] for result in (self.canaries, self.mechanism) if result is not None)
        return all(holds) and (self.membership is None or self.membership.holds)


def audit_run(
    run: str | os.PathLike[str],
    plan: Plan,
    population: Population,
    *,
    canaries: int = 1000,
    targets: int = 6,
    shadows: int | None = None,
) -> Audited:
    """Compare what a run's releases give away with its plan's privacy guarantee, and try to reconstruct examples from them.

    The run itself is not touched: its plan is run again for as many rounds, with canaries among the clients, fresh noise and
    the secure sum in its ideal form. The results go into the run folder, and from there into its report, **with the examples that
    were sought**: do not audit a population whose examples may not be shown. They replace earlier results, except those that
    contradict the guarantee: these stay until the same audit is made again.

    Args:
        run: a run folder.
        plan, population: those of the run.
        canaries: how many canaries, 30 or more; 0 to leave them out and only check the mechanism.
        targets: how many examples to seek, 5 or more; 0 to seek none.
        shadows: how many shadow runs to make for membership inference, each of as many rounds with half of the clients: an even
            number, 8 or more; 0 for none. None for as many as take about five minutes, up to 64, and none if those are fewer than 8.

    Raises:
        RunError, RunDamaged: it is not a run, or has no finished round.
        RunMismatch: plan or population are not those of the run.
        PlanError: so few canaries, targets or shadow runs can show nothing; or there is nothing to do. It is raised before
            anything is run, and earlier results stay.
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
    init = init_in(folder.path, plan)
    guaranteed = plan.protection is not None and plan.example_stages is None
    if not (guaranteed or targets or shadows):
        raise PlanError(
            "audit",
            given="no targets and no shadow runs, for a plan without a privacy guarantee to clients",
            expected="something to look at: canaries and the check of the noise need such a guarantee",
            do="Ask for targets=6 or shadows=64.",
        )
    contradicted = _contradicted(folder)
    results: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    if guaranteed:
        again = simulate(
            plan,
            population,
            rounds=rounds,
            seed=header["seed"],
            dropout=header["dropout"],
            audit=watched,
            init=init,
            evaluate_every=rounds,
        )
        audit = dict(again.header.get("audit") or {})
        results["mechanism"] = audit.pop("mechanism", None)
        if audit:
            spent = (header.get("privacy") or {}).get("spent")
            results["canaries"] = audit | {"beside": two_epsilons(spent, audit["claimed"])}
            arrays["scores"] = again.canary_scores
    reconstruction, why_not = None, ""
    if targets:
        try:
            reconstruction = reconstruct(plan, population, seed=header["seed"], targets=targets, init=init)
        except NoAttack as error:
            why_not = str(error)
    if reconstruction is not None:
        results["reconstruction"] = reconstruction.record()
        kinds = ("truth", "bare", "protected", "nearest", "blind")
        arrays |= {name: getattr(reconstruction, name) for name in kinds}
    members = None
    if shadows:
        members = membership(plan, population, rounds=rounds, shadows=shadows, seed=header["seed"], init=init)
        results["membership"] = members.describe()
        false, true = members.roc()
        arrays |= {"roc_false": false.astype(np.float32), "roc_true": true.astype(np.float32)}
    folder.write_arrays(SCORES, arrays)
    folder.write(
        AUDIT, results | {name: part for name, part in contradicted.items() if results.get(name) is None}
    )
    return Audited(results.get("canaries"), reconstruction, why_not, results.get("mechanism"), members)


def _digest(plan: Plan, population: Population) -> str:
    """The digest by which a run of a plan over a population names the plan."""
    plan.task.validate(population)  # another plan may read other columns
    return plan.digest(plan.task.columns_of(population))


def _checked(canaries: int, targets: int, shadows: int | None) -> Canaries | DirectCheck:
    """The audit for running the plan again. Raises `PlanError` for numbers that an audit cannot be made with."""
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
    """Earlier results that contradict the guarantee: they stay until the same audit is made again."""
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
    """How many shadow runs take about AFFORDED seconds, for a run that took `seconds`."""
    count = min(SHADOWS, int(AFFORDED / max(seconds, 1e-3)) // 2 * 2)
    return count if count >= 8 else 0
