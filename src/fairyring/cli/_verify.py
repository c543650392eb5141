"""`verify`: what can be verified about a run with the masked protocol, and what cannot."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fairyring.cli._result import Result
from fairyring.cli._screen import say
from fairyring.report import units

if TYPE_CHECKING:
    from fairyring.audit import Verified


def verify(run: Path, head: str | None = None) -> Result:
    """Verify a run folder, and say what is verified and what is not; see the command `verify`.

    The exit status is 1 if the end of the run is neither signed by devices nor confirmed by `head`.
    """
    from fairyring.audit import verify_run

    verified = verify_run(run, head=head)
    lines = [
        *_checked(verified),
        "",
        *_unchecked(verified),
        "",
        *_head(verified),
        *(["", verified.says] if verified.says else []),
    ]
    found = {"run": run, "whole": verified.whole, **dataclasses.asdict(verified)}
    return Result(found, lambda: say(*lines), 0 if verified.whole else 1)


def _checked(verified: "Verified") -> Iterator[str]:
    if not verified.rounds:
        yield "No round has a transcript: there was no sum, so there is nothing to verify."
    else:
        yield f"{units.count(verified.rounds, 'round')} verified: every transcript is valid."
        yield (
            "In each round the devices were bound to everything before it: plan, population, every line of "
            "metrics.jsonl, every transcript and every model are unchanged."
        )
        yield f"The smallest sum has {units.count(verified.smallest_cohort, 'device')}."
        yield f"Sums kept: {_rounds(verified.sums)}; each matches its transcript."
        yield f"Models kept: {_rounds(verified.models)}; each is the result of its round."
    if verified.aborted:
        pronoun = "it" if len(verified.aborted) == 1 else "they"
        yield f"Without a sum: {_rounds(verified.aborted).removeprefix('of ')}; {pronoun} changed nothing."
    if verified.ended:
        yield "The run has ended, and every file that was written at its end is unchanged."
    if verified.signed:
        what = "This end" if verified.ended else "The last round"
        yield f"{what} is signed by all devices in the last sum: {units.count(verified.signed, 'device')}."
    if verified.ledger:
        yield "The privacy ledger is intact, and its head is the one recorded at the end of the run."
    if verified.noted is not None:
        if verified.noted == "the end":
            yield "The noted head is that of the end of the run."
        else:
            yield f"The noted head is in it: everything up to round {verified.noted} is unchanged since then."


def _unchecked(verified: "Verified") -> Iterator[str]:
    yield "What this does not verify:"
    if not verified.ended:
        yield (
            "  The run has not ended: it is running, or was killed. It is only known that run.json has not changed since "
            "the run was last started or resumed, and that the models in checkpoints are unchanged."
        )
    if verified.unfinished is not None:
        yield f"  Round {verified.unfinished} was being written; what there is of it was not verified."
    if verified.resumed:
        yield "  The run was resumed after its last round; no device has signed that."
    if not verified.signed:
        what = "the end" if verified.ended else "the last round"
        yield (
            f"  No device signed {what}: none of the devices in the last sum was left. Whoever has the folder could have "
            "written what follows that sum, including its own record and model."
        )
    if verified.unchecked:
        yield f"  Files that are not part of what devices signed: {', '.join(verified.unchecked)}."
    if verified.noted != "the end":
        yield "  An older copy of the whole folder passes, too, unless a later head was noted."
    yield "  Whoever ran this simulation also ran its devices, and could have invented all of it."


def _head(verified: "Verified") -> Iterator[str]:
    yield "The head; note it outside this folder, and give it later with --head:"
    yield f"  {verified.head}"


def _rounds(numbers: tuple[int, ...]) -> str:
    if not numbers:
        return "of no round"
    return f"of {'round' if len(numbers) == 1 else 'rounds'} {', '.join(map(str, numbers))}"
