"""The sections on chemotaxis: the decision, the lab, the rule, the populations."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fairyring.ecology.results import over_worlds
from fairyring.report.kit import Figure, Section, mapping, number, units
from fairyring.report.study import figures
from fairyring.report.study.blocks import (
    Block,
    Figures,
    Folded,
    Heading,
    Missing,
    Table,
    Text,
    Verdict,
    section,
)
from fairyring.report.study.data import Study, interval, three

_CHANGES = ("falling", "steady", "rising")
_LAB = (
    ("index", "Chemotactic index", 1.0),
    ("contrast", "Tumble contrast", 0.0),
    ("index_without_sensor", "Index without the sensor", 1.0),
    ("drift", "Drift up the slope / speed", 0.0),
    ("population", "Population, late", None),
    ("level_contrast", "Level contrast", 0.0),
)
_MEANINGS = {
    "index": "the mean food at the positions of an individual over the mean food of the arena; the line at 1 is for an individual that senses nothing",
    "contrast": "P(tumble | food falling) − P(tumble | food rising)",
    "index_without_sensor": "the index of the same genomes without senses",
    "drift": "mean speed towards the crest of a ridge of food, over the speed of a run",
    "population": "mean over the last steps of the run, in the world itself and not in the lab",
    "level_contrast": "P(tumble | plenty) − P(tumble | less)",
}


def decision(study: Study) -> Section:
    """The decision for every world, each number with its threshold."""
    results = study.found["decisions"]
    decisions = [one for one in results["worlds"]["evolved"] if one]
    first = decisions[0] if decisions else None
    blocks: list[Block] = [
        Text(
            "What was measured: individuals from the last moment of each world, frozen, in static fields of food without births, "
            "deaths or eating, and the same for worlds whose children got random genomes. The unit of replication is a world. The "
            "99 % bounds are over individuals and only say how precisely a world is known."
        )
    ]
    if first is not None:
        blocks.append(
            Text(
                f"A world like the scrambled ones gets a yes with a probability of {units.share(first['stated_error'])} at most, "
                f"since its index would have to rank above all {units.count(first['controls'], 'control')}."
            )
        )
    blocks.append(Table(_head(first), _rows(study, "evolved")))
    blocks += _failed(decisions)
    blocks += _configuration(results)
    blocks += [
        Folded(
            f"The same for the {len(study.worlds(arm))} {arm} worlds",
            [Table(_head(first), _rows(study, arm))],
        )
        for arm in study.arms[1:]
    ]
    return section("decision", "The decision, world by world", *blocks)


def _head(first: Mapping[str, Any] | None) -> list[str]:
    n = f", n = {first['units']}" if first else ""
    return [
        "world",
        "chemotaxis",
        f"index (mean{n})",
        "its bound (controls' limit)",
        "its bound (least)",
        "contrast's bound (least)",
        "index without sensor",
    ]


def _rows(study: Study, arm: str) -> list[list[str | Verdict]]:
    rows: list[list[str | Verdict]] = []
    for world, one in zip(study.worlds(arm), study.found["decisions"]["worlds"][arm], strict=True):
        name = f"{arm} {world['world']}"
        if one is None:
            rows.append([name, "no", "nobody lives", "", "", "", ""])
            continue
        cells = [Verdict(c["met"], f"{three(c['compared'])} {_threshold(c)}") for c in one["criteria"]]
        verdict = Verdict(one["verdict"], "yes" if one["verdict"] else "no")
        rows.append([name, verdict, three(one["criteria"][0]["estimate"]), *cells])
    return rows


def _threshold(criterion: Mapping[str, Any]) -> str:
    above, below = (">", "<") if criterion["strict"] else ("≥", "≤")
    least, most = number(criterion["least"]), number(criterion["most"])
    if least is not None and most is not None:
        return f"({three(least)} … {three(most)})"
    return f"({above} {three(least)})" if least is not None else f"({below} {three(most)})"


def _failed(decisions: Sequence[Mapping[str, Any]]) -> list[Block]:
    counts: dict[str, int] = {}
    for one in decisions:
        for criterion in one["criteria"]:
            if not criterion["met"]:
                counts[criterion["name"]] = counts.get(criterion["name"], 0) + 1
    if not counts:
        return []
    listed = "; ".join(f"{name}: {units.count(count, 'world')}" for name, count in counts.items())
    return [
        Text(
            f"Criteria that evolved worlds fail, of {len(decisions)} worlds (one may fail several): {listed}."
        )
    ]


def _configuration(results: Mapping[str, Any]) -> list[Block]:
    blocks: list[Block] = [Heading("The configuration")]
    for name, control in (
        ("configuration", "scrambled"),
        ("against_blind", "blind"),
        ("against_no-inheritance", "no-inheritance"),
    ):
        one = mapping(results.get(name))
        if not one:
            continue
        numbers = ", ".join(f"{c['name']} {three(c['compared'])} {_threshold(c)}" for c in one["criteria"])
        answer = (
            "Yes"
            if one["verdict"]
            else "No"
            if one.get("decidable", True)
            else "Undecided, with too few worlds for any yes"
        )
        blocks.append(
            Text(
                f"{answer}: the indices of {units.count(one['units'], 'evolved world')} against those of "
                f"{units.count(one['controls'], f'{control} world')}, one number for each world: {numbers}."
            )
        )
    beside = mapping(results.get("passed_beside_no-inheritance"))
    if beside:
        counts = ", ".join(
            f"{count} of {units.count(len(results['worlds'][arm]), f'{arm} world')}"
            for arm, count in beside.items()
        )
        blocks.append(
            Text(
                "In scrambled worlds children keep their share of what their parents learned, so they still have heredity. By the "
                "same decision against no-inheritance worlds, in which nothing is passed on, chemotaxis is in "
                f"{counts}."
            )
        )
    again = results.get("blind_sensing_again")
    if again is not None:
        blocks.append(
            Text(
                f"Given back their own observations, {again} of {units.count(len(results['worlds']['blind']), 'blind world')} would "
                "pass: nothing was selected for there, but a table that took over by drift may climb."
            )
        )
    errors = mapping(results.get("errors"))
    if errors:
        blocks.append(
            Text(
                f"Error rate of the decision: judged each against the others, {errors['passed']} of "
                f"{units.count(errors['worlds'], 'scrambled world')} got a yes. At most one can be above all others; the stated "
                f"rate is {units.share(errors['stated'])} at most."
            )
        )
    return blocks


def lab(study: Study) -> Section:
    """A dot for each world, the arms side by side."""
    drawn, rows = [], []
    for name, title, line in _LAB:
        arms = {arm: study.column(arm, name) for arm in study.arms}
        means = {arm: over_worlds(values) for arm, values in arms.items()}
        n = "/".join(str(int(np.isfinite(values).sum())) for values in arms.values())
        meaning = _MEANINGS[name]
        caption = f"{meaning[0].upper()}{meaning[1:]}. n = {n} worlds. {study.source()}"
        drawn.append(Figure(figures.dots(f"lab-{name}", title, arms, means, line), caption, title))
        rows.append([title, *(interval(means[arm]) for arm in study.arms)])
    explained = (
        "A dot is a world: the mean over its individuals in the lab. Ring and bar are the mean over worlds and its 95 % BCa "
        "interval. In scrambled worlds children get random genomes; in blind ones each individual gets the observation of another."
    )
    if "no-inheritance" in study.arms:
        explained += (
            " In no-inheritance worlds children get random genomes and nothing of what their parents learned."
        )
    return section(
        "lab",
        "In the lab, against controls",
        Text(explained),
        Figures(drawn, small=True),
        Folded(
            "The means over worlds in numbers",
            [Table(["mean [95 % BCa interval over worlds]", *study.arms], rows)],
        ),
    )


def rule(study: Study) -> Section:
    """The rule by which they find food: the contrasts and the table of tumbling."""
    signs = study.verdicts["rule"]
    change, level = (over_worlds(study.column("evolved", name)) for name in ("contrast", "level_contrast"))
    blocks: list[Block] = [
        Text(
            "Two rules would find food: to tumble more when food falls (change, as in E. coli), or to tumble more where food is "
            "plenty (level). The lecture (Agüera y Arcas 2020) says: run more when food is declining or low, tumble more when it is high. Neither rule is "
            "built in; both contrasts were measured."
        ),
        Text(
            f"Change: {_ruled(change, signs['change'], 'more when food falls', 'more when food rises')} Level: "
            f"{_ruled(level, signs['level'], 'more in plenty', 'less in plenty')}"
        ),
    ]
    drawn = []
    for arm in study.arms[:2]:
        worlds = [mapping(world.get("assay")).get("probabilities") for world in study.worlds(arm)]
        tables = np.array([of for of in worlds if of is not None], float)
        if not len(tables):
            blocks.append(Missing(f"No {arm} world survived, so there is no table of it."))
            continue
        title = f"P(tumble), {arm} worlds"
        caption = (
            f"P(tumble) by what is sensed, on a ridge and a patch of food; mean ± standard deviation over {len(tables)} worlds. "
            f"{study.source([arm])}"
        )
        svg = figures.tumbling(f"table-{arm}", title, tables, _levels(study.found["settings"]), _CHANGES)
        drawn.append(Figure(svg, caption, title))
    return section("rule", "By which rule", *blocks, Figures(drawn))


def _ruled(mean: Any, sign: int | None, more: str, less: str) -> str:
    if mean is None or sign is None:
        return "not known."
    contrast = f"mean contrast over worlds {interval(mean)}."
    if sign > 0:
        return f"evolved worlds tumble {more}; {contrast}"
    if sign < 0:
        return f"evolved worlds tumble {less}; {contrast}"
    return f"no common sign over evolved worlds; {contrast}"


def _levels(settings: Mapping[str, Any]) -> list[str]:
    low, high = settings["level_low"], settings["level_high"]
    return [f"food < {low:g}", f"{low:g} to {high:g}", f"food > {high:g}"]


def populations(study: Study) -> Section:
    """How many lived, and the state of the worlds at the end."""
    curves = {arm: mapping(study.found["arms"][arm].get("population")) for arm in study.arms}
    top = 1.05 * max((max(map(max, of["worlds"])) for of in curves.values() if of), default=1)
    drawn = [
        Figure(
            figures.populations(f"curve-{arm}", arm, of["every"], np.array(of["worlds"], float), top),
            f"Population: a thin line for each world, a thick one for their mean; every {units.count(of['every'], 'step')}. "
            f"{study.source([arm])}",
            f"Population of {arm} worlds",
        )
        for arm, of in curves.items()
        if of
    ]
    rows = [
        [
            f"{arm} {world['world']}",
            three(world["population"]),
            three(world["immigrants"]),
            three(world["waiting"]),
            units.count(world["generations"]),
            three(world["lifetime"]),
            three(world["generation_length"]),
            units.count(world["individuals"]),
            units.count(world["living"]),
        ]
        for arm in study.arms
        for world in study.worlds(arm)
    ]
    head = [
        "world", "population", "immigrants a step", "waiting a step", "generations", "lifetime, steps",
        "generation, steps", "ever lived", "living",
    ]  # fmt: skip
    evolved = study.worlds("evolved")
    propped = sum(world["immigrants"] > 0 for world in evolved)
    crowded = sum(world["waiting"] > 0 for world in evolved)
    return section(
        "populations",
        "Populations",
        Text(
            f"Late in the run, {propped or 'none'} of the {len(evolved)} evolved worlds had immigrants (these are propped), and in "
            f"{crowded or 'none'} parents found no place for a child (these are capacity-limited)."
        ),
        Figures(drawn, small=True),
        Folded("The worlds in numbers", [Table(head, rows)]),
    )
