"""`ecology study` and `ecology jar`: whole experiments, and what they found in a few lines."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fairyring.cli._ecology_words import Doing, say
from fairyring.core.errors import EcologyError
from fairyring.ecology.study import STEPS, study_world1, study_world2
from fairyring.report import units

_ARMS = (16, 16, 8)  # evolved, scrambled and blind worlds
_QUICK_ARMS, _QUICK_STEPS = (8, 8, 4), 8000


def study(
    subject: str,
    *,
    out: Path | None,
    worlds: int | None,
    controls: int | None,
    blind: int | None,
    steps: int | None,
    seed: int,
    quick: bool,
) -> None:
    """Make a study, write its report, and say its verdicts; see the command of the same name."""
    folder = out or Path("runs") / f"study-{subject}"
    arms = [
        usual if asked is None else asked
        for asked, usual in zip((worlds, controls, blind), _QUICK_ARMS if quick else _ARMS, strict=True)
    ]
    make = {"v1": study_world1, "v2": study_world2}[subject]
    with Doing() as doing:
        found = make(
            folder,
            worlds=arms[0],
            controls=arms[1],
            blind=arms[2],
            steps=steps or (_QUICK_STEPS if quick else STEPS),
            seed=seed,
            told=doing,
        )
    for line in _verdicts(found):
        say(line)
    _report(folder)
