"""`ecology assay`: the worlds of a run in the lab, each with the decision beside scrambled ones."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fairyring.cli._ecology_words import Doing, columns, number, say
from fairyring.core.errors import RunMismatch
from fairyring.ecology import analysis
from fairyring.ecology.history import Evolution, addressed, kind_of, load
from fairyring.ecology.lab import INDIVIDUALS, Assay, assay
from fairyring.report import units


def assay_of(path: Path, controls: Path | None, *, individuals: int | None, seed: int) -> None:
    """The lab's numbers for each world of a run; see the command `assay`."""
    seed = addressed("seed", seed)
    evolved = load(path)
    scrambled = None if controls is None else _controls_of(evolved, path, controls)
    with Doing() as doing:
        labs = lab(evolved, seed, individuals, doing, "worlds")
        others = [] if scrambled is None else lab(scrambled, seed, individuals, doing, "scrambled controls")
    drawn = min(INDIVIDUALS, evolved.settings.capacity) if individuals is None else individuals
    say(f"Means over {drawn} individuals of each world; the index of one that feels nothing is 1.")
    names = [f.name for f in dataclasses.fields(Assay) if f.name != "probabilities"]
    if "signal" not in evolved.settings.chemicals():
        names = [name for name in names if "emitting" not in name and "signal" not in name]
    rows = [
        [str(world), *(number(None if lab is None else _mean(getattr(lab, name))) for name in names)]
        for world, lab in zip(evolved.numbers, labs, strict=True)
    ]
    columns(["world", *(name.replace("_", " ") for name in names)], rows)
    say()
    if scrambled is None:
        say(
            "Whether chemotaxis has evolved is decided beside scrambled worlds: give their run with --controls."
        )
    else:
        decided(evolved, labs, others)


def _controls_of(run: Evolution, path: Path, controls: Path) -> Evolution:
    """The control worlds of a run: like its own in everything but heredity.

    Raises:
        RunMismatch: they differ in anything else, or are the worlds that are to be judged.
    """
    found = load(controls)
    ours = run.settings.described() | {"control": "scrambled"}
    theirs, kinds = found.settings.described(), (kind_of(run.settings), kind_of(found.settings))
    named = [("world", *kinds), *((name, ours.get(name), theirs.get(name)) for name in ours | theirs)]
    for name, expected, given in (*named, ("steps", run.steps, found.steps)):
        if given != expected:
            raise RunMismatch(
                str(controls),
                given=f"{name} {given}",
                expected=f"{name} {expected}: worlds of scrambled heredity, else as those of {path}",
                do="Give the controls of that run: fairyring ecology run writes them beside it.",
            )
    if run.settings == found.settings and run.seed == found.seed and {*run.numbers} & {*found.numbers}:
        raise RunMismatch(
            str(controls),
            given=f"the worlds of {path} themselves",
            expected="other ones",
            do="Give scrambled worlds of other numbers or another seed.",
        )
    return found


def lab(run: Evolution, seed: int, individuals: int | None, doing: Doing, what: str) -> list[Assay | None]:
    return assay(
        run,
        individuals=individuals,
        seed=seed,
        progress=lambda made, whole: doing(f"{what} in the lab", made, whole),
    )


def decided(run: Evolution, labs: Sequence[Assay | None], controls: Sequence[Assay | None]) -> None:
    """The stated decision for each world, every number beside its threshold."""
    against = [_asked(lab) for lab in controls if lab is not None]
    if len(against) < 3:
        say(f"No decision: only {len(against)} of the control worlds are inhabited, and it takes three.")
        return
    rows, made = [], None
    for name, lab in zip(run.numbers, labs, strict=True):
        if lab is None:
            rows.append([str(name), *["–"] * 5, "no: nobody lives"])
            continue
        made = analysis.chemotaxis_in_world(_asked(lab), against)
        beside, _, contrast, blind = made.criteria
        rows.append(
            [
                str(name),
                *map(number, (beside.estimate, beside.compared, contrast.estimate, contrast.compared)),
                number(blind.compared),
                "yes" if made.verdict else "no",
            ]
        )
    yes = sum(row[-1] == "yes" for row in rows)
    say(f"Chemotaxis evolved in {yes} of {units.count(len(rows), 'world')}.")
    columns(
        [
            "world", "index", "index at least", "tumble contrast", "contrast at least", "index without sensor", "chemotaxis",
        ],
        rows,
    )  # fmt: skip
    if made is not None:
        beside, least, contrast, blind = made.criteria
        say(
            f"At least: the lower 99 % bound over individuals. Yes takes all of: an index at least above {number(beside.least)}, "
            f"the limit of {units.count(made.controls, 'scrambled world')}, and above {number(least.least)}; a contrast at least "
            f"above {number(contrast.least)}; and an index of {number(blind.least)} to {number(blind.most)} without the sensor. A world "
            f"like the controls gets a yes with a chance of {units.share(made.stated_error)} at most."
        )


def _asked(lab: Assay) -> analysis.WorldAssay:
    return analysis.WorldAssay(
        index=lab.index, contrast=lab.contrast, index_without_sensor=lab.index_without_sensor
    )


def _mean(rows: np.ndarray) -> float:
    known = rows[np.isfinite(rows)]
    return float(known.mean()) if len(known) else float("nan")
