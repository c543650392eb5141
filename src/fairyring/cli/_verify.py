"""`verify`: what of a run under masks can be checked afterwards, and what can't."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fairyring.cli._terminal import screen
from fairyring.report import units

if TYPE_CHECKING:
    from fairyring.audit import Verified


def verify(run: Path, head: str | None = None) -> int:
    """Check a run folder and say what was found, and what nothing vouches for; see the command of the same name.

    Returns:
        The exit status: 1 if the run has no end that devices signed, or that `head` knows.
    """
    from fairyring.audit import verify_run

    found = verify_run(run, head=head)
    for line in [
        *_checked(found),
        "",
        *_unchecked(found),
        "",
        *_head(found),
        *(["", found.says] if found.says else []),
    ]:
        screen().print(line, highlight=False, markup=False, soft_wrap=True)
    return 0 if found.whole else 1


def _checked(found: "Verified") -> Iterator[str]:
    if not found.rounds:
        yield "No round has a transcript: there was no sum, and so there is none to check."
    else:
        yield f"{units.count(found.rounds, 'round')} checked: every transcript holds."
        yield (
            "Before each round its devices were bound to all that came before: plan, population, every line of "
            "metrics.jsonl, every transcript and every model are as they were."
        )
        yield f"The smallest sum is of {units.count(found.fewest, 'device')}."
        yield f"Sums kept: {_rounds(found.sums)}; each is the one its transcript names."
        yield f"Models kept: {_rounds(found.models)}; each is the one that came of its round."
    if found.aborted:
        them = "it" if len(found.aborted) == 1 else "they"
        yield f"Without a sum: {_rounds(found.aborted).removeprefix('of ')}; {them} changed nothing."
    if found.ended:
        yield "The run has ended, and every file that was written then is as it was."
    if found.signed:
        what = "This end" if found.ended else "The last round"
        yield f"{what} is signed by all devices in the last sum, {units.count(found.signed, 'device')}."
    if found.ledger:
        yield "The privacy ledger holds, and has the head that the run's end names."
    if found.noted is not None:
        upto = (
            "that of the run's end" if found.noted == "the end" else f"in it: all up to round {found.noted}"
        )
        yield f"The head that was noted is {upto}{'' if found.noted == 'the end' else ' is as it was then'}."


def _unchecked(found: "Verified") -> Iterator[str]:
    yield "What this does not show:"
    if not found.ended:
        yield (
            "  The run has not ended: it runs, or was killed. Of run.json no more is known than that it is as when "
            "the run was last resumed, and of checkpoints no more than their models."
        )
    if found.unfinished is not None:
        yield f"  Round {found.unfinished} was being written; what there is of it was not checked."
    if found.resumed:
        yield "  The run was resumed after its last round; no device has signed that."
    if not found.signed:
        what = "the end" if found.ended else "the last round"
        yield (
            f"  No device signed {what}: none of the last sum was left. Whoever holds the folder could have written what "
            "came after that sum, its own record and model among it."
        )
    if found.unchecked:
        yield f"  Not covered, as no part of what devices signed: {', '.join(found.unchecked)}."
    if found.noted != "the end":
        yield "  An older copy of the whole folder passes too, unless a head is known that was noted later."
    yield "  Whoever ran this simulation played its devices, and could have made all of it up."


def _head(found: "Verified") -> Iterator[str]:
    yield "Head, to be noted outside this folder and given back with --head:"
    yield f"  {found.head}"


def _rounds(numbers: tuple[int, ...]) -> str:
    if not numbers:
        return "of no round"
    return f"of {'round' if len(numbers) == 1 else 'rounds'} {', '.join(map(str, numbers))}"
