"""`ecology assay`: the worlds of a run in the lab, and the decision for each against scrambled controls."""

import dataclasses
from pathlib import Path
from typing import Any

from fairyring.cli._ecology_words import Doing, number, show_written, table_file
from fairyring.cli._result import Result
from fairyring.cli._screen import say, show_table
from fairyring.ecology.analysis import refuse_other_controls
from fairyring.ecology.history import Evolution, addressed, load
from fairyring.ecology.lab import INDIVIDUALS, MEASURES
from fairyring.ecology.results import write_csv
from fairyring.ecology.studies import Judgement, judge
from fairyring.report import units


def assay_of(
    path: Path, controls: Path | None, *, individuals: int | None, seed: int, csv: Path | None
) -> Result:
    """The assay of each world of a run; see the command `assay`."""
    seed = addressed("seed", seed)
    table_file(csv)
    evolved = load(path)
    scrambled = None if controls is None else load(controls)
    if scrambled is not None:
        refuse_other_controls(evolved, scrambled, str(controls), str(path))
    with Doing() as doing:
        judgement = judge(evolved, scrambled, seed=seed, individuals=individuals, progress=doing)
    drawn = min(INDIVIDUALS, evolved.settings.capacity) if individuals is None else individuals
    names = list(MEASURES)
    if "signal" not in evolved.settings.chemicals():
        names = [name for name in names if "emitting" not in name and "signal" not in name]
    means = {row["world"]: {name: row[name] for name in names} for row in judgement.assays.table()}
    table = None if csv is None else write_csv(judgement, csv)

    def show() -> None:
        say(
            f"Means over {drawn} individuals of each world; an individual that senses nothing has an index of 1."
        )
        heads = ["world", *(name.replace("_", " ") for name in names)]
        rows = [[str(world), *map(number, values.values())] for world, values in means.items()]
        show_table(heads, rows, words=("world",))
        say()
        if scrambled is None:
            say(
                "Whether chemotaxis evolved is decided against scrambled worlds: give their run with --controls."
            )
        else:
            show_decisions(evolved, judgement)
        show_written(table)

    found = {
        "run": path,
        "individuals": drawn,
        "worlds": [{"world": world, **values} for world, values in means.items()],
        "decisions": decided(evolved, judgement) if scrambled is not None else None,
        "table": table,
    }
    return Result(found, show)


def decided(run: Evolution, judgement: Judgement) -> list[dict[str, Any]] | None:
    """The decision for each world as plain values; None without enough control worlds."""
    if judgement.decisions is None:
        return None
    return [
        {
            "world": world,
            "chemotaxis": decision is not None and decision.verdict,
            "why": decision.why if decision is not None else "Nobody lives.",
            "criteria": [dataclasses.asdict(one) | {"met": one.met} for one in decision.criteria]
            if decision is not None
            else [],
        }
        for world, decision in zip(run.numbers, judgement.decisions, strict=True)
    ]


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
    show_table(
        [
            "world", "index", "index at least", "tumble contrast", "contrast at least", "index without sensor", "chemotaxis",
        ],
        rows,
        words=("world",),
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
