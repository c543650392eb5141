"""The decision for each world of a run against its scrambled controls."""

from collections.abc import Sequence

from fairyring.core.errors import RunMismatch
from fairyring.ecology.analysis.decisions import Decision, asked_of, chemotaxis_in_world
from fairyring.ecology.history import Evolution
from fairyring.ecology.lab import Assay
from fairyring.ecology.world import kind_of

FEWEST_CONTROLS = 3


def decide_worlds(
    labs: Sequence[Assay | None], controls: Sequence[Assay | None]
) -> list[Decision | None] | None:
    """The decision for each world of a run.

    Args:
        labs: assays of its worlds; None for an extinct world.
        controls: assays of its scrambled controls, likewise.

    Returns:
        One decision for each world, None for an extinct one; None if fewer than `FEWEST_CONTROLS` control worlds survive.
    """
    against = [asked_of(lab) for lab in controls if lab is not None]
    if len(against) < FEWEST_CONTROLS:
        return None
    return [None if lab is None else chemotaxis_in_world(asked_of(lab), against) for lab in labs]


def refuse_other_controls(run: Evolution, controls: Evolution, name: str, of: str) -> None:
    """Refuse control worlds that differ from the worlds of a run in anything but heredity.

    Args:
        run: to be judged.
        controls: its control worlds.
        name, of: names of the controls and of the run, for the error.

    Raises:
        RunMismatch: they differ in anything else, or are the worlds to be judged.
    """
    ours = run.settings.described() | {"control": "scrambled"}
    theirs, kinds = controls.settings.described(), (kind_of(run.settings), kind_of(controls.settings))
    named = [("world", *kinds), *((field, ours.get(field), theirs.get(field)) for field in ours | theirs)]
    for field, expected, given in (*named, ("steps", run.steps, controls.steps)):
        if given != expected:
            raise RunMismatch(
                name,
                given=f"{field} {given}",
                expected=f"{field} {expected}: worlds of scrambled heredity, otherwise like those of {of}",
                do="Give the controls of that run; fairyring ecology run writes them beside it.",
            )
    if (
        run.settings == controls.settings
        and run.seed == controls.seed
        and {*run.numbers} & {*controls.numbers}
    ):
        raise RunMismatch(
            name,
            given=f"the worlds of {of} themselves",
            expected="other ones",
            do="Give scrambled worlds of other numbers or another seed.",
        )
