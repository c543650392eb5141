"""`ecology assay`: the worlds of a run in the lab, each with the decision beside scrambled ones."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fairyring.cli._ecology_words import Doing, columns, number, say
from fairyring.ecology.analysis import decide_worlds, refuse_other_controls
from fairyring.ecology.history import Evolution, addressed, load
from fairyring.ecology.lab import INDIVIDUALS, Assay, assay
from fairyring.report import units


def assay_of(path: Path, controls: Path | None, *, individuals: int | None, seed: int) -> None:
    """The lab's numbers for each world of a run; see the command `assay`."""
    seed = addressed("seed", seed)
    evolved = load(path)
    scrambled = None if controls is None else load(controls)
    if scrambled is not None:
        refuse_other_controls(evolved, scrambled, str(controls), str(path))
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


def lab(run: Evolution, seed: int, individuals: int | None, doing: Doing, what: str) -> list[Assay | None]:
    return assay(
        run,
        individuals=individuals,
        seed=seed,
        progress=lambda made, whole: doing(f"{what} in the lab", made, whole),
    )


def decided(run: Evolution, labs: Sequence[Assay | None], controls: Sequence[Assay | None]) -> None:
    """The stated decision for each world, every number beside its threshold."""
    made = decide_worlds(labs, controls)
    if made is None:
        inhabited = sum(lab is not None for lab in controls)
        say(f"No decision: only {inhabited} of the control worlds are inhabited, and it takes three.")
        return
    rows = []
    for name, one in zip(run.numbers, made, strict=True):
        if one is None:
            rows.append([str(name), *["–"] * 5, "no: nobody lives"])
            continue
        beside, _, contrast, blind = one.criteria
        rows.append(
            [
                str(name),
                *map(number, (beside.estimate, beside.compared, contrast.estimate, contrast.compared)),
                number(blind.compared),
                "yes" if one.verdict else "no",
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
    if (last := next((one for one in reversed(made) if one is not None), None)) is not None:
        beside, least, contrast, blind = last.criteria
        say(
            f"At least: the lower 99 % bound over individuals. Yes takes all of: an index at least above {number(beside.least)}, "
            f"the limit of {units.count(last.controls, 'scrambled world')}, and above {number(least.least)}; a contrast at least "
            f"above {number(contrast.least)}; and an index of {number(blind.least)} to {number(blind.most)} without the sensor. A world "
            f"like the controls gets a yes with a chance of {units.share(last.stated_error)} at most."
        )


def _mean(rows: np.ndarray) -> float:
    known = rows[np.isfinite(rows)]
    return float(known.mean()) if len(known) else float("nan")
