"""`audit`: attack the plan of a run, and write its report again."""

from pathlib import Path

from fairyring.cli._plan_file import PlanFile
from fairyring.cli._source import Source
from fairyring.cli._terminal import screen, without_warnings


def audit(run: Path, file: Path | None, *, canaries: int, targets: int, shadows: int | None) -> int:
    """Audit a run folder; see the command `audit`. Returns the exit status."""
    from fairyring.audit import audit_run
    from fairyring.learning import override

    source = Source.read(run) if file is None else Source(str(file), {})
    if file is None:  # the file runs with all rights of the user, so it is named before it runs
        _print(f"Running {source.file}, which this folder names, to define plan and population.")
    with without_warnings():  # the report of the run has them
        given = PlanFile.read(Path(source.file))
        plan = override(given.plan, source.settings) if source.settings else given.plan
        result = audit_run(run, plan, given.population, canaries=canaries, targets=targets, shadows=shadows)
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
    page = _report(run)
    _print(*lines, *([f"Report: {page}"] if page else []))
    return 0 if result.holds else 1


def _print(*lines: str) -> None:
    for line in lines:
        screen().print(line, highlight=False, markup=False, soft_wrap=True)


def _report(run: Path) -> Path | None:
    from fairyring.core.errors import MissingExtra
    from fairyring.report import write_report

    try:
        return write_report(run)
    except MissingExtra:
        return None
