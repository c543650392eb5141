"""`audit`: attack the plan of a run, and write its report again."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairyring.cli._plan_file import PlanFile
from fairyring.cli._result import Result
from fairyring.cli._screen import say
from fairyring.cli._source import Source
from fairyring.cli._terminal import without_warnings

if TYPE_CHECKING:
    from fairyring.audit import Audited


def audit(run: Path, file: Path | None, *, canaries: int, targets: int, shadows: int | None) -> Result:
    """Audit a run folder; see the command `audit`. The exit status is 1 if a result contradicts the promise."""
    from fairyring.audit import audit_run
    from fairyring.learning import override

    source = Source.read(run) if file is None else Source(str(file), {})
    if file is None:  # the file runs with all rights of the user, so it is named before it runs
        say(f"Running {source.file}, which this folder names, to define plan and population.")
    with without_warnings():  # the report of the run has them
        given = PlanFile.read(Path(source.file))
        plan = override(given.plan, source.settings) if source.settings else given.plan
        result = audit_run(run, plan, given.population, canaries=canaries, targets=targets, shadows=shadows)
    page = _report(run)
    lines = _lines(result, canaries, shadows)
    return Result(
        {"run": run, **_found(result), "report": page},
        lambda: say(*lines, *([f"Report: {page}"] if page else [])),
        0 if result.holds else 1,
    )


def _found(result: "Audited") -> dict[str, Any]:
    member, seen = result.membership, result.reconstruction
    return {
        "holds": result.holds,
        "mechanism": result.mechanism,
        "canaries": result.canaries,
        "membership": None
        if member is None
        else {
            "holds": member.holds,
            "runs": len(member.members),
            "auc": member.auc,
            "auc_interval": [member.auc_low, member.auc_high],
            "rates": [
                {"false_positive_rate": rate.fpr, "true_positive_rate": rate.tpr} for rate in member.rates
            ],
            "epsilon_lower": member.lower,
            "claimed": member.claimed,
            "delta": member.delta,
            "confidence": member.confidence,
            "statement": member.statement,
        },
        "reconstruction": None
        if seen is None
        else {
            "attack": seen.attack,
            "error": seen.error,
            "nothing": seen.nothing,
            "statement": seen.statement,
            "limits": seen.limits,
        },
        "why_no_reconstruction": result.why_not or None,
    }


def _lines(result: "Audited", canaries: int, shadows: int | None) -> list[str]:
    lines = []
    if result.mechanism is not None:
        verdict = "is what is claimed" if result.mechanism["holds"] else "IS NOT WHAT IS CLAIMED"
        lines.append(f"The mechanism {verdict}. {result.mechanism['statement']}")
    if result.canaries is not None:
        verdict = "The promise stands" if result.holds else "THE PROMISE DOES NOT STAND"
        lines.append(
            f"{verdict}: epsilon {result.canaries['claimed']:.3g} is claimed. {result.canaries['statement']}"
        )
        if result.canaries.get("beside"):
            lines.append(result.canaries["beside"])
    elif canaries:
        lines.append("No canaries: this plan makes no promise that they could contradict.")
    if result.membership is not None:
        lines.append(f"Membership inference: {result.membership.statement}")
        if not result.membership.holds:
            lines.append(
                "THE PROMISE DOES NOT STAND: members can be inferred with more certainty than it allows."
            )
    elif shadows is None:
        lines.append("No shadow runs, because they would take long. --shadows 64 makes 64.")
    if result.reconstruction is not None:
        lines.append(f"Reconstruction by {result.reconstruction.attack}. {result.reconstruction.statement}")
        lines += ["What this attack cannot show:", *(f"- {limit}." for limit in result.reconstruction.limits)]
    elif result.why_not:
        lines.append(f"No examples were reconstructed. {result.why_not}")
    return lines


def _report(run: Path) -> Path | None:
    from fairyring.core.errors import MissingExtra
    from fairyring.report import write_report

    try:
        return write_report(run)
    except MissingExtra:
        return None
