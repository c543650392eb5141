"""What rewards evolved in world 2, and what they are worth, as the report tells it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fairyring.ecology.results import LEVEL, over_worlds
from fairyring.report.kit import (
    Figure,
    Section,
    absent,
    escaped,
    folded,
    grid,
    judged,
    mapping,
    pair,
    paragraph,
    trio,
)
from fairyring.report.study import figures
from fairyring.report.study.data import Study, interval, p_value, three

_CLASSES = {
    "viable": "no immigrant for 20 generations, and 9 of 10 closed restarts lasted 10 generations",
    "propped": "immigrants came in during the last 20 generations, or fewer than 9 of 10 closed restarts lasted",
    "capacity-limited": "parents found no place: its numbers are the array's and not the food's",
    "extinct": "nobody lives",
    "too short": "not run for 20 of its generations, so nothing can be said",
}
_SIGNS = {1: "+", -1: "−"}
_CONTROLS = {
    "scrambled": "children get random rewards, and keep their share of what their parents learned",
    "no-inheritance": "children get random rewards and nothing of what their parents learned",
}


def rewards(study: Study) -> Section:
    """The table of rewards over viable worlds."""
    title, found = "Which rewards evolved", mapping(study.found.get("rewards"))
    if not found:
        sentence = "There is no table of rewards: fewer than three evolved worlds are viable, and it is made over those."
        return Section("rewards", title, absent(sentence))
    raw = np.array(found["worlds"], float)
    unit = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    rows, decided = found["table"], study.verdicts["rewards"]
    n = len(unit)
    body = paragraph(
        f"What was measured: the mean inherited reward of each event over those alive, in each of the {n} viable evolved "
        "worlds; each world's rewards are divided by their length, for one who takes the best action does not feel their scale. "
        "The unit of replication is a world. p is of the exact two-sided sign test over worlds, Holm's over all events but "
        "the dummy, an event without any consequence, as often 1 as −1, that shows what chance alone does."
    )
    warning = alarm(study)
    if warning:
        body += f'<p class="note alarm">{escaped(warning)}</p>'
    body += grid(
        ["event", "mean [95 % BCa]", "positive in", "p", "p, Holm", "the lecture", "found"],
        [_row(row, decided["signs"]) for row in rows],
    )
    few = undecidable(study)
    if few:
        body += paragraph(few)
    body += paragraph(lecture(rows))
    controls = mapping(found.get("controls"))
    for arm in controls:
        body += paragraph(without_heredity(study, arm))
    muted = [row["name"] for row in rows if row["null_holds"] is not None]
    drawn = [
        Figure(
            figures.forest(
                "rewards",
                f"Evolved rewards, {n} viable worlds",
                "reward, of a vector of length 1",
                [(row["name"], unit[:, i], row["mean"]) for i, row in enumerate(rows)],
                muted=muted,
            ),
            f"A dot a world (n = {n}); ring and bar: mean and its 95 % BCa interval over worlds; grey: the dummy, the null. "
            f"{study.source(['evolved'])}",
            "Evolved rewards",
        )
    ]
    for arm, of in controls.items():
        worlds = np.array(of["worlds"], float)
        theirs = worlds / np.linalg.norm(worlds, axis=1, keepdims=True)
        size = len(worlds)
        drawn.append(
            Figure(
                figures.forest(
                    f"rewards-{arm}",
                    f"{arm.capitalize()}, {size} worlds",
                    "reward, of a vector of length 1",
                    [(row["name"], theirs[:, i], row["mean"]) for i, row in enumerate(of["table"])],
                    muted=muted,
                ),
                f"A control: {_CONTROLS[arm]}. A dot a world (n = {size}); ring and bar: mean and its 95 % BCa interval over "
                f"worlds. {study.source([arm])}",
                f"Rewards of {arm} worlds",
            )
        )
    body += pair(drawn)
    for arm, of in controls.items():
        head = ["event", "mean [95 % BCa]", "positive in", "p", "p, Holm", "the lecture", "found"]
        body += folded(
            f"The rewards of {arm} worlds in numbers",
            grid(head, [_row(row, decided["controls"][arm]["signs"]) for row in of["table"]]),
        )
        body += folded(
            f"How far evolved rewards are from those of {arm} worlds",
            paragraph(
                "Each world's rewards divided by their length; two-sided Mann-Whitney over worlds, Holm's over all events but "
                f"the dummy. Cliff's delta is 1 where every evolved world is above every {arm} one."
            )
            + grid(
                ["event", "evolved, median", f"{arm}, median", "Cliff's delta", "p", "p, Holm"],
                [
                    [
                        escaped(row["name"]),
                        three(float(np.median(row["ours"]))),
                        three(float(np.median(row["theirs"]))),
                        three(row["delta"]),
                        p_value(row["p_two_sided"]),
                        "–" if row["name"] in muted else p_value(row["p_holm"]),
                    ]
                    for row in of["apart"]
                ],
            ),
        )
    return Section("rewards", title, body)


def alarm(study: Study) -> str | None:
    """What must be said before all else: a null that does not hold."""
    if mapping(study.verdicts.get("rewards")).get("null_holds", True):
        return None
    return (
        "The dummy's reward is not at 0 (sign-flip test, 1 in 20 by chance): something besides selection may move rewards. Believe "
        "no row of the table of rewards before the study is repeated with another seed."
    )


def _row(row: Mapping[str, Any], signs_of: Mapping[str, int]) -> list[str]:
    signs = row["signs"]
    known = signs["positive"] + signs["negative"]
    name = row["name"] if row["null_holds"] is None else f"{row['name']} (the null)"
    sign = {1: "+", -1: "−"}.get(signs_of.get(row["name"], 0), "undecided")
    if row["null_holds"] is not None:
        found = judged(row["null_holds"], "at 0" if row["null_holds"] else "not at 0")
    elif row["agreement"] is None:
        found = sign
    elif row["agreement"] == "undecided":
        found = "undecided"
    else:
        found = judged(row["agreement"] == "agrees", f"{sign}, {row['agreement']}")
    return [
        escaped(name),
        escaped(interval(row["mean"])),
        f"{signs['positive']} of {known}",
        p_value(signs["p"]),
        "–" if row["null_holds"] is not None else p_value(row["p_holm"]),
        _SIGNS.get(row["expected_sign"], ""),
        found,
    ]


def undecidable(study: Study) -> str | None:
    """That there are too few worlds for any sign to be shown, or None where there are enough."""
    decided = study.verdicts["rewards"]
    if decided["decidable"]:
        return None
    return (
        f"With {decided['worlds']} worlds no sign can be shown at {LEVEL:g}: the least p there is, after Holm's correction, is "
        f"{p_value(decided['least_p'])}."
    )


def without_heredity(study: Study, arm: str) -> str:
    """What the signs are worth beside those of worlds in which no reward is inherited."""
    table, decided = (
        study.found["rewards"]["controls"][arm]["table"],
        study.verdicts["rewards"]["controls"][arm],
    )
    same, own, moved = (decided[name] for name in ("same", "own", "differs"))
    told = (
        f"In {arm} worlds {_CONTROLS[arm]}: signs there come of who survives, and not of heredity. They have the same sign beyond "
        f"chance for: {', '.join(same) or 'none'}; evolved worlds have a sign of their own for: {', '.join(own) or 'none'}. "
        f"Beyond chance evolved rewards differ from theirs in: {', '.join(moved) or 'none'}."
    )
    dummy = next((row for row in table if row["null_holds"] is False), None)
    if dummy is not None:
        told += f" The control's own null fails: there the dummy's reward is {interval(dummy['mean'])}, and not 0."
    return told


def lecture(rows: Sequence[Mapping[str, Any]]) -> str:
    """How the signs compare with the lecture's, in a sentence."""
    asked = [row for row in rows if row["agreement"] is not None]
    if not asked:
        return "The lecture says nothing about these events."
    by = {
        how: [row["name"] for row in asked if row["agreement"] == how]
        for how in ("agrees", "disagrees", "undecided")
    }
    told = "; ".join(f"{how}: {', '.join(names) or 'none'}" for how, names in by.items())
    return f"Of the {len(asked)} signs that the lecture shows, {told}."


def viability(study: Study) -> Section:
    """Which worlds keep themselves."""
    found = study.found["viability"]
    classes, lasted = found["classes"], found["restarts_that_lasted"]
    counts = {name: classes.count(name) for name in _CLASSES}
    told = "; ".join(f"{count} {name} ({_CLASSES[name]})" for name, count in counts.items() if count)
    body = paragraph(f"Of {len(classes)} evolved worlds: {told}.")
    rows = [
        [
            escaped(f"evolved {world['world']}"),
            judged(kind == "viable", kind),
            f"{count} of 10",
            three(world["population"]),
            three(world["immigrants"]),
            three(world["emission"]),
        ]
        for world, kind, count in zip(study.worlds("evolved"), classes, lasted, strict=True)
    ]
    head = ["world", "class", "closed restarts that lasted", "population", "immigrants a step", "P(emit)"]
    return Section("viability", "Which populations keep themselves", body + grid(head, rows))


def controls(study: Study) -> Section:
    """Population and emission beside the controls."""
    found, body, drawn = study.found["against_controls"], "", []
    rows = []
    for name, words in (("population", "Population, late"), ("emission", "P(emit), late")):
        both = found[name]
        arms = {"evolved": np.array(next(iter(both.values()))["ours"], float)}
        arms |= {arm: np.array(of["theirs"], float) for arm, of in both.items()}
        means = {arm: over_worlds(values) for arm, values in arms.items()}
        n = "/".join(str(len(values)) for values in arms.values())
        caption = f"A dot a world (n = {n}); ring and bar: mean over worlds and its 95 % BCa interval. {study.source()}"
        drawn.append(Figure(figures.dots(f"beside-{name}", words, arms, means), caption, words))
        for arm, of in both.items():
            p = p_value(of["p_two_sided"])
            rows.append(
                [escaped(f"{words}, evolved beside {arm}"), three(of["delta"]), p, escaped(of["method"])]
            )
    body = paragraph(
        "Whether evolved worlds differ from their controls in how many live and how much they emit; two-sided Mann-Whitney "
        "over worlds, p not adjusted. Cliff's delta is 1 where every evolved world is above every control, −1 below."
    )
    head = ["comparison", "Cliff's delta", "p", "method"]
    return Section(
        "controls", "Population and emission against controls", body + grid(head, rows) + trio(drawn)
    )


def worth(study: Study) -> Section:
    """Relearning, what was learned in life, and knock-outs."""
    body = ""
    body += _paired(
        study,
        "relearning",
        "Learned again",
        "Individuals that know nothing lived and learned with their evolved rewards, and with the same numbers moved to other "
        "events: what differs is what the rewards' meaning is worth.",
        "relearning",
    )
    body += _paired(
        study,
        "learned",
        "Learned in life",
        "The same individuals in the lab with what they have learned and without.",
        "learned_in_life",
    )
    body += _paired(
        study,
        "knock-outs",
        "Each reward left out",
        "ln(1 + population) without each reward minus with all of them, in closed worlds whose founders know nothing: below 0, the "
        "population is smaller without it.",
        "knock_outs",
    )
    return Section("worth", "What the rewards are worth", body)


def _paired(study: Study, key: str, title: str, words: str, part: str) -> str:
    rows = study.found.get(part)
    head = f"<h3>{escaped(title)}</h3>"
    if not rows:
        return head + absent("The study does not hold this comparison.")
    decided = study.verdicts["compared"][part]
    told = [
        [
            escaped(row["name"]),
            escaped(interval(row["mean"])),
            str(len(row["ours"])),
            p_value(row["p"]),
            p_value(row["p_holm"]),
            "differs" if row["name"] in decided["differs"] else "no difference shown",
        ]
        for row in rows
    ]
    drawn = Figure(
        figures.forest(
            key,
            title,
            "difference",
            [
                (row["name"], np.array(row["ours"], float) - np.array(row["theirs"], float), row["mean"])
                for row in rows
            ],
            muted=[row["name"] for row in rows if row["name"] == "dummy"],
        ),
        f"Differences, a dot a world (n = {len(rows[0]['ours'])}); ring and bar: mean and its 95 % BCa interval over worlds. "
        f"{study.source(['evolved'])}",
        title,
    )
    differs = decided["differs"]
    if differs:
        verdict = f"Beyond chance: {', '.join(differs)}."
    elif decided["decidable"]:
        verdict = "Nothing differs beyond chance."
    else:
        verdict = (
            f"With {decided['worlds']} worlds no difference can be shown at {LEVEL:g}: the least p there is, after Holm's correction, is "
            f"{p_value(decided['least_p'])}."
        )
    numbers = grid(["what", "mean difference [95 % BCa]", "worlds", "p", "p, Holm", "verdict"], told)
    test = (
        "p is of the sign-flip test of the differences, world by world, two-sided, exact for up to 16 worlds."
    )
    return head + paragraph(f"{words} {verdict} {test}") + numbers + pair([drawn])
