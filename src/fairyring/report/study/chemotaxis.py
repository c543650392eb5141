"""Whether chemotaxis evolved, as the report tells it: the decision, the lab, the rule, the populations."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fairyring.ecology.results import over_worlds
from fairyring.report.kit import (
    Figure,
    Section,
    absent,
    escaped,
    folded,
    grid,
    judged,
    mapping,
    number,
    pair,
    paragraph,
    trio,
    units,
)
from fairyring.report.study import figures
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
_WORDS = {
    "index": "the mean food where an individual was over the arena's mean food; the line at 1 is what one that feels nothing has",
    "contrast": "P(tumble | food falling) − P(tumble | food rising)",
    "index_without_sensor": "the index of the same genomes when they feel nothing",
    "drift": "mean speed towards the crest of a ridge of food, over the speed of a run",
    "population": "mean over the run's last steps; lives, and not the lab",
    "level_contrast": "P(tumble | plenty) − P(tumble | less)",
}


def decision(study: Study) -> Section:
    """The stated decision for every world, each number beside its threshold."""
    told = study.found["decisions"]
    rows, made = _rows(study, "evolved"), [d for d in told["worlds"]["evolved"] if d]
    first = made[0] if made else None
    body = paragraph(
        "What was measured: individuals of each world's last moment, frozen, in fixed fields of food without births, deaths "
        "or meals, and the same of worlds whose children got random genomes. The unit of replication is a world; the 99 % "
        "bounds are over individuals and only say how well a world is known."
    )
    if first is not None:
        body += paragraph(
            f"A world like the scrambled ones gets a yes with a chance of {units.share(first['stated_error'])} at most: its "
            f"index would have to rank above all {units.count(first['controls'], 'control')}."
        )
    body += grid(_head(first), rows)
    body += _failed(made)
    body += _configuration(told)
    for arm in study.arms[1:]:
        count = len(study.worlds(arm))
        body += folded(f"The same for the {count} {arm} worlds", grid(_head(first), _rows(study, arm)))
    return Section("decision", "The decision, world by world", body)


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


def _rows(study: Study, arm: str) -> list[list[str]]:
    rows = []
    for world, made in zip(study.worlds(arm), study.found["decisions"]["worlds"][arm], strict=True):
        name = escaped(f"{arm} {world['world']}")
        if made is None:
            rows.append([name, "no", "nobody lives", "", "", "", ""])
            continue
        cells = [judged(c["met"], f"{three(c['compared'])} {_threshold(c)}") for c in made["criteria"]]
        verdict = judged(made["verdict"], "yes" if made["verdict"] else "no")
        rows.append([name, verdict, three(made["criteria"][0]["estimate"]), *cells])
    return rows


def _threshold(criterion: Mapping[str, Any]) -> str:
    above, below = (">", "<") if criterion["strict"] else ("≥", "≤")
    least, most = number(criterion["least"]), number(criterion["most"])
    if least is not None and most is not None:
        return f"({three(least)} … {three(most)})"
    return f"({above} {three(least)})" if least is not None else f"({below} {three(most)})"


def _failed(made: Sequence[Mapping[str, Any]]) -> str:
    counts: dict[str, int] = {}
    for one in made:
        for criterion in one["criteria"]:
            if not criterion["met"]:
                counts[criterion["name"]] = counts.get(criterion["name"], 0) + 1
    if not counts:
        return ""
    told = "; ".join(f"{name}: {units.count(count, 'world')}" for name, count in counts.items())
    return paragraph(f"Where evolved worlds fail, of {len(made)} (one may fail at several): {told}.")


def _configuration(told: Mapping[str, Any]) -> str:
    body = "<h3>The configuration</h3>"
    for name, words in (
        ("configuration", "scrambled"),
        ("against_blind", "blind"),
        ("against_no-inheritance", "no-inheritance"),
    ):
        one = mapping(told.get(name))
        if not one:
            continue
        numbers = ", ".join(f"{c['name']} {three(c['compared'])} {_threshold(c)}" for c in one["criteria"])
        body += paragraph(
            f"{'Yes' if one['verdict'] else 'No' if one.get('decidable', True) else 'Undecided, with too few worlds for any yes'}: the indices of {units.count(one['units'], 'evolved world')} beside those of "
            f"{units.count(one['controls'], f'{words} world')}, one number a world: {numbers}."
        )
    beside = mapping(told.get("passed_beside_no-inheritance"))
    if beside:
        counts = ", ".join(
            f"{count} of {units.count(len(told['worlds'][arm]), f'{arm} world')}"
            for arm, count in beside.items()
        )
        body += paragraph(
            "In scrambled worlds children keep their share of what their parents learned, so heredity is not cut there. By the same "
            f"decision against no-inheritance worlds, in which nothing is passed on, chemotaxis is in {counts}."
        )
    again = told.get("blind_sensing_again")
    if again is not None:
        body += paragraph(
            f"Given back their own observations, the inhabitants of {again} of {units.count(len(told['worlds']['blind']), 'blind world')} "
            "would pass: nothing selected them for it, but a table that took over by drift may climb."
        )
    errors = mapping(told.get("errors"))
    if errors:
        body += paragraph(
            f"How often the decision errs: judged each by the others, {errors['passed']} of "
            f"{units.count(errors['worlds'], 'scrambled world')} got a yes. One at most can be above all the others; what is promised "
            f"is a rate of {units.share(errors['stated'])} at most."
        )
    return body


def lab(study: Study) -> Section:
    """A dot a world, the arms side by side."""
    drawn, rows = [], []
    for name, title, line in _LAB:
        arms = {arm: study.column(arm, name) for arm in study.arms}
        told = {arm: over_worlds(values) for arm, values in arms.items()}
        n = "/".join(str(int(np.isfinite(values).sum())) for values in arms.values())
        caption = f"{_WORDS[name][0].upper()}{_WORDS[name][1:]}. n = {n} worlds. {study.source()}"
        drawn.append(Figure(figures.dots(f"lab-{name}", title, arms, told, line), caption, title))
        rows.append([escaped(title), *(escaped(interval(told[arm])) for arm in study.arms)])
    body = paragraph(
        "A dot is a world: the mean over its individuals in the lab. Ring and bar are the mean over worlds and its 95 % BCa "
        "interval. In scrambled worlds children get random genomes; in blind ones everybody has somebody else's observation."
        + (
            " In no-inheritance ones children get random genomes and nothing of what their parents learned."
            if "no-inheritance" in study.arms
            else ""
        )
    )
    body += trio(drawn) + folded(
        "The means over worlds in numbers",
        grid(["mean [95 % BCa interval over worlds]", *study.arms], rows),
    )
    return Section("lab", "In the lab, beside controls", body)


def rule(study: Study) -> Section:
    """By what rule they find food: the contrasts and the table of tumbling."""
    signs = study.verdicts["rule"]
    change, level = (over_worlds(study.column("evolved", name)) for name in ("contrast", "level_contrast"))
    body = paragraph(
        "Two rules would find food: to tumble more when food falls (change; what E. coli does), or to tumble more where there "
        "is plenty (level). The lecture says: run more when food is declining or low, tumble more when it is high. Neither was "
        "built in; both contrasts were measured."
    )
    body += paragraph(
        f"Change: {_ruled(change, signs['change'], 'more when food falls', 'more when food rises')} Level: "
        f"{_ruled(level, signs['level'], 'more in plenty', 'less in plenty')}"
    )
    drawn = []
    for arm in study.arms[:2]:
        worlds = [mapping(world.get("assay")).get("probabilities") for world in study.worlds(arm)]
        tables = np.array([of for of in worlds if of is not None], float)
        if not len(tables):
            body += absent(f"No {arm} world is inhabited, so there is no table of it.")
            continue
        title = f"P(tumble), {arm} worlds"
        caption = (
            f"P(tumble) by what is felt, on a ridge and a patch of food; mean ± standard deviation over {len(tables)} worlds. "
            f"{study.source([arm])}"
        )
        svg = figures.tumbling(f"table-{arm}", title, tables, _levels(study.found["settings"]), _CHANGES)
        drawn.append(Figure(svg, caption, title))
    return Section("rule", "By which rule", body + pair(drawn))


def _ruled(found: Any, sign: int | None, more: str, less: str) -> str:
    if found is None or sign is None:
        return "not known."
    told = f"mean contrast over worlds {interval(found)}."
    if sign > 0:
        return f"evolved worlds tumble {more}; {told}"
    if sign < 0:
        return f"evolved worlds tumble {less}; {told}"
    return f"no common sign over evolved worlds; {told}"


def _levels(settings: Mapping[str, Any]) -> list[str]:
    low, high = settings["level_low"], settings["level_high"]
    return [f"food < {low:g}", f"{low:g} to {high:g}", f"food > {high:g}"]


def populations(study: Study) -> Section:
    """How many lived, and how the worlds were doing at the end."""
    curves = {arm: mapping(study.found["arms"][arm].get("population")) for arm in study.arms}
    top = 1.05 * max((max(map(max, of["worlds"])) for of in curves.values() if of), default=1)
    drawn = [
        Figure(
            figures.populations(f"curve-{arm}", arm, of["every"], np.array(of["worlds"], float), top),
            f"Population, a thin line a world, the thick one their mean; every {units.count(of['every'], 'step')}. "
            f"{study.source([arm])}",
            f"Population of {arm} worlds",
        )
        for arm, of in curves.items()
        if of
    ]
    rows = []
    for arm in study.arms:
        for world in study.worlds(arm):
            rows.append(
                [
                    escaped(f"{arm} {world['world']}"),
                    three(world["population"]),
                    three(world["immigrants"]),
                    three(world["waiting"]),
                    units.count(world["generations"]),
                    three(world["lifetime"]),
                    three(world["generation_length"]),
                    units.count(world["individuals"]),
                    units.count(world["living"]),
                ]
            )
    head = [
        "world", "population", "immigrants a step", "waiting a step", "generations", "lifetime, steps",
        "generation, steps", "ever lived", "living",
    ]  # fmt: skip
    propped = sum(world["immigrants"] > 0 for world in study.worlds("evolved"))
    crowded = sum(world["waiting"] > 0 for world in study.worlds("evolved"))
    of = len(study.worlds("evolved"))
    told = (
        f"Late in their lives, {propped or 'none'} of the {of} evolved worlds got immigrants (those are propped), and in "
        f"{crowded or 'none'} did parents find no place for a child (those are limited by capacity)."
    )
    body = paragraph(told) + trio(drawn) + folded("The worlds in numbers", grid(head, rows))
    return Section("populations", "Populations", body)
