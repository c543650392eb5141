"""`verify`: what of a run's secure sums can be checked afterwards."""

from pathlib import Path

from fairyring.cli._terminal import screen
from fairyring.report import units


def verify(run: Path) -> None:
    """Check a run folder and say what was found; see the command of the same name."""
    from fairyring.simulation import verify_run

    found = verify_run(run)
    lines = [f"{units.count(found.rounds, 'round')} checked: every transcript holds."]
    if found.rounds:
        lines += [
            f"The smallest sum is of {units.count(found.fewest, 'device')}.",
            f"Sums kept: {_rounds(found.sums)}; each is the one its transcript names.",
            f"Models kept: {_rounds(found.models)}; each is the one all masks of its round are bound to.",
        ]
    if found.aborted:
        lines.append(f"Ended without a sum: {_rounds(found.aborted)}; they changed nothing.")
    if found.says:
        lines += ["", found.says]
    for line in lines:
        screen().print(line, highlight=False, markup=False, soft_wrap=True)


def _rounds(numbers: tuple[int, ...]) -> str:
    if not numbers:
        return "of no round"
    return f"of {'round' if len(numbers) == 1 else 'rounds'} {', '.join(map(str, numbers))}"
