"""Auditing a run afterwards: its plan run again with canaries, and attacks on what it sends."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairyring.core.errors import PlanError, RunError, RunMismatch
from fairyring.core.record import RunFolder
from fairyring.learning.plan import Plan
from fairyring.population import Population
from fairyring.privacy.canaries import Canaries
from fairyring.simulation.attack import Reconstruction, reconstruct
from fairyring.simulation.audit_in_run import SCORES
from fairyring.simulation.driver import simulate

RESULT = "audit.json"


@dataclass(frozen=True)
class Audited:
    """What audits of a run found.

    Attributes:
        canaries: claimed and empirical epsilon, as in the run's record; None for a plan without a budget.
        reconstruction: what attacks read off updates; None where no attack fits, and then `why_not` says why.
        why_not: see there.
    """

    canaries: dict[str, Any] | None
    reconstruction: Reconstruction | None
    why_not: str = ""

    @property
    def holds(self) -> bool:
        """False if canaries contradict what the plan promises."""
        return self.canaries is None or bool(self.canaries["holds"])


def audit_run(
    run: str | os.PathLike[str],
    plan: Plan,
    population: Population,
    *,
    canaries: int = 1000,
    targets: int = 6,
) -> Audited:
    """Set what can be told from a run's releases against what its plan promises, and try to read examples off them.

    The run itself is not touched: its plan is run again, with canaries beside the clients and fresh noise, for as many
    rounds, in its ideal form. Results go into the run folder, and from there into its report, **with the examples that
    were sought**: do not audit a population whose examples may not be shown.

    Args:
        run: a run folder.
        plan, population: those of the run.
        canaries: how many; 0 to leave them out.
        targets: examples to be sought; 0 to leave that out.

    Raises:
        RunError, RunDamaged: it is no run, or one without a finished round.
        RunMismatch: plan or population are not those of the run.
    """
    folder = RunFolder.open(run)
    header, rounds = folder.read("run.json"), len(folder.metrics())
    if not rounds:
        raise RunError(
            f"run folder {folder.path}", given="no finished round", expected="some", do="Let it run first."
        )
    for name, given in (("plan", plan.fingerprint()), ("population", population.fingerprint())):
        saved = header["fingerprints"][name]
        if saved != given:
            raise RunMismatch(
                f"run folder {folder.path}",
                given=f"a {name} {given[:12]}",
                expected=f"that of the run, {saved[:12]}",
                do="Give what the run was made with; another version of JAX alone can change a fingerprint.",
            )
    found: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    if plan.protection is not None and canaries and plan.example_stages is None:
        again = simulate(
            plan,
            population,
            rounds=rounds,
            seed=header["seed"],
            dropout=header["dropout"],
            audit=Canaries(canaries),
            evaluate_every=rounds,
        )
        found["canaries"] = again.header.get("audit")
        arrays["scores"] = again.canary_scores
    reconstruction, why_not = None, ""
    if targets:
        try:
            reconstruction = reconstruct(plan, population, seed=header["seed"], targets=targets)
        except PlanError as error:
            why_not = str(error)
    if reconstruction is not None:
        found["reconstruction"] = {
            "attack": reconstruction.attack,
            "statement": reconstruction.statement,
            "error": reconstruction.error,
            "not_better_than_blind": reconstruction.of_protected.not_better,
        }
        arrays |= {name: getattr(reconstruction, name) for name in ("truth", "bare", "protected", "blind")}
    folder.write_arrays(SCORES, arrays)
    folder.write(RESULT, found)
    return Audited(found.get("canaries"), reconstruction, why_not)
