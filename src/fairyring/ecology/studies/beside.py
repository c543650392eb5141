"""Control worlds beside a run: scrambled ones, as many steps, in a file of their own."""

import dataclasses
from pathlib import Path

from fairyring.core.errors import RunMismatch
from fairyring.ecology.history import Evolution, evolve, load
from fairyring.ecology.studies.chemotaxis import ARMS

_FIRST = 1000 * ARMS.index("scrambled")  # as in a study: no control world is an evolved one's twin
LEAST, MOST = 4, 16  # control worlds, where it is not said how many


def usual_controls(worlds: int) -> int:
    """How many control worlds so many worlds have where it is not said."""
    return min(MOST, max(LEAST, worlds))


def controls_beside(run: Evolution, path: Path, count: int) -> Evolution:
    """The scrambled control worlds of a run: those in the file, or new ones at their start.

    Raises:
        RunMismatch: those in the file are others, or have more steps than the run.
    """
    settings = dataclasses.replace(run.settings, control="scrambled")
    numbers = range(_FIRST, _FIRST + count)
    if not path.exists():
        return evolve(settings, numbers, 0, run.seed)
    found = load(path, settings)
    if found.steps > run.steps:
        raise RunMismatch(
            str(path),
            given=f"control worlds of {found.steps:,} steps",
            expected=f"{run.steps:,} at most, as the worlds themselves have",
            do="Ask for as many --steps, or remove that file to make them anew.",
        )
    if found.seed != run.seed or found.numbers != tuple(numbers):
        raise RunMismatch(
            str(path),
            given=f"{len(found.numbers)} control worlds of seed {found.seed}",
            expected=f"{count} of seed {run.seed}",
            do=f"Ask for --controls {len(found.numbers)}, or remove that file to make them anew.",
        )
    return found
