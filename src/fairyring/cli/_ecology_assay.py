"""`ecology assay`: the worlds of a run in the lab, and the decision for each against scrambled controls."""

from pathlib import Path

from fairyring.cli._ecology_words import Doing, columns, number, say, table_file
from fairyring.ecology.analysis import refuse_other_controls
from fairyring.ecology.history import Evolution, addressed, load
from fairyring.ecology.lab import INDIVIDUALS, MEASURES
from fairyring.ecology.results import write_csv
from fairyring.ecology.studies import Judgement, judge
from fairyring.report import units


def assay_of(
    path: Path, controls: Path | None, *, individuals: int | None, seed: int, csv: Path | None
) -> None:
    """Print the assay of each world of a run; see the command `assay`."""
    seed = addressed("seed", seed)
    table_file(csv)
    evolved = load(path)
    scrambled = None if controls is None else load(controls)
    if scrambled is not None:
        refuse_other_controls(evolved, scrambled, str(controls), str(path))
    with Doing() as doing:
        judgement = judge(evolved, scrambled, seed=seed, individuals=individuals, progress=doing)
    drawn = min(INDIVIDUALS, evolved.settings.capacity) if individuals is None else individuals
    say(f"Means over {drawn} individuals of each world; an individual that senses nothing has an index of 1.")
    names = list(MEASURES)
    if "signal" not in evolved.settings.chemicals():
        names = [name for name in names if "emitting" not in name and "signal" not in name]
    rows = [[str(row["world"]), *(number(row[name]) for name in names)] for row in judgement.assays.table()]
    columns(["world", *(name.replace("_", " ") for name in names)], rows)
    say()
    if scrambled is None:
        say("Whether chemotaxis evolved is decided against scrambled worlds: give their run with --controls.")
    else:
        show_decisions(evolved, judgement)
    if csv is not None:
        say(f"Table: {write_csv(judgement, csv)}")


def show_decisions(run: Evolution, judgement: Judgement) -> None:
    """Print the decision for each world, every number with its threshold."""
    decisions = judgement.decisions
    if decisions is None:
        surviving = sum(lab is not None for lab in judgement.controls)
        say(f"No decision: only {surviving} of the control worlds survive, and three are needed.")
        return
    rows = []
    for name, decision in zip(run.numbers, decisions, strict=True):
        if decision is None:
            rows.append([str(name), *["–"] * 5, "no: nobody lives"])
            continue
        beside, _, contrast, blind = decision.criteria
        rows.append(
            [
                str(name),
                *map(number, (beside.estimate, beside.compared, contrast.estimate, contrast.compared)),
                number(blind.compared),
                "yes" if decision.verdict else "no",
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
    last = next((decision for decision in reversed(decisions) if decision is not None), None)
    if last is not None:
        beside, least, contrast, blind = last.criteria
        say(
            "At least: the lower 99 % bound over individuals. A yes takes all of: an index at least above "
            f"{number(beside.least)}, the limit of {units.count(last.controls, 'scrambled world')}, and above "
            f"{number(least.least)}; a contrast at least above {number(contrast.least)}; and an index from "
            f"{number(blind.least)} to {number(blind.most)} without the sensor. A world like the controls gets a yes with a "
            f"probability of {units.share(last.stated_error)} at most."
        )
