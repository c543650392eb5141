"""`audit`: a run's plan attacked, and its report written anew."""

from pathlib import Path

from fairyring.cli._plan_file import PlanFile
from fairyring.cli._source import Source
from fairyring.cli._terminal import screen, without_warnings


def audit(run: Path, file: Path | None, *, canaries: int, targets: int, shadows: int | None) -> int:
    """Audit a run folder; see the command of the same name. Returns the exit status."""
    from fairyring.audit import audit_run
    from fairyring.learning import override

    source = Source.read(run) if file is None else Source(str(file), {})
    if file is None:  # it is run with all that its reader may do: say which it is, before
        _say(f"Plan and population are made by running {source.file}, which this folder names.")
    with without_warnings():  # the run's report has them
        given = PlanFile.read(Path(source.file))
        plan = override(given.plan, source.settings) if source.settings else given.plan
        found = audit_run(run, plan, given.population, canaries=canaries, targets=targets, shadows=shadows)
    lines = []
    if found.mechanism is not None:
        verdict = "is what is claimed" if found.mechanism["holds"] else "IS NOT WHAT IS CLAIMED"
        lines.append(f"The mechanism {verdict}. {found.mechanism['statement']}")
    if found.canaries is not None:
        verdict = "The promise stands" if found.holds else "THE PROMISE DOES NOT STAND"
        lines.append(
            f"{verdict}: epsilon {found.canaries['claimed']:.3g} is claimed. {found.canaries['statement']}"
        )
        if found.canaries.get("beside"):
            lines.append(found.canaries["beside"])
    elif canaries:
        lines.append("No canaries: this plan promises nothing that they could contradict.")
    if found.membership is not None:
        lines.append(f"By shadow runs: {found.membership.statement}")
        if not found.membership.holds:
            lines.append("THE PROMISE DOES NOT STAND: members are told more surely than it allows.")
    elif shadows is None:
        lines.append("No shadow runs: they would take long. --shadows 64 makes as many.")
    if found.reconstruction is not None:
        lines.append(f"By {found.reconstruction.attack}. {found.reconstruction.statement}")
        lines += ["What this attack cannot show:", *(f"- {limit}." for limit in found.reconstruction.limits)]
    elif found.why_not:
        lines.append(f"No examples were sought. {found.why_not}")
    page = _report(run)
    _say(*lines, *([f"Report: {page}"] if page else []))
    return 0 if found.holds else 1


def _say(*lines: str) -> None:
    for line in lines:
        screen().print(line, highlight=False, markup=False, soft_wrap=True)


def _report(run: Path) -> Path | None:
    from fairyring.core.errors import MissingExtra
    from fairyring.report import write_report

    try:
        return write_report(run)
    except MissingExtra:
        return None
