"""The sections on the rewards of world 2: which evolved, and what they are worth."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fairyring.ecology.results import LEVEL, over_worlds
from fairyring.report.kit import Figure, Section, mapping
from fairyring.report.study import figures
from fairyring.report.study.blocks import (
    Alarm,
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
from fairyring.report.study.data import Study, interval, p_value, three

_CLASSES = {
    "viable": "no immigrant for 20 generations, and 9 of 10 closed restarts persisted for 10 generations",
    "propped": "immigrants came in during the last 20 generations, or fewer than 9 of 10 closed restarts persisted",
    "capacity-limited": "parents found no place, so the size of the population is set by the arrays and not by the food",
    "extinct": "nobody lives",
    "too short": "not run for 20 of its generations, so nothing can be said",
}
_SIGNS = {1: "+", -1: "−"}
_CONTROLS = {
    "scrambled": "children get random rewards, and keep their share of what their parents learned",
    "no-inheritance": "children get random rewards and nothing of what their parents learned",
}
_HEAD = ["event", "mean [95 % BCa]", "positive in", "p", "p, Holm", "the lecture", "found"]


def rewards(study: Study) -> Section:
    """The table of rewards over viable worlds."""
    title, results = "Which rewards evolved", mapping(study.found.get("rewards"))
    if not results:
        return section(
            "rewards",
            title,
            Missing(
                "There is no table of rewards: it is made over viable evolved worlds, and fewer than three are viable."
            ),
        )
    raw = np.array(results["worlds"], float)
    unit = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    rows, decided = results["table"], study.verdicts["rewards"]
    n, controls = len(unit), mapping(results.get("controls"))
    muted = [row["name"] for row in rows if row["null_holds"] is not None]
    blocks: list[Block] = [
        Text(
            f"What was measured: the mean inherited reward for each event over the living, in each of the {n} viable evolved worlds. "
            "The rewards of each world are normalised to length 1, since a greedy learner does not depend on their scale. The unit of "
            "replication is a world. p is of the exact two-sided sign test over worlds, with Holm's correction over all events but the "
            "dummy. The dummy is an event without any consequence, as often 1 as −1, and shows what chance alone does."
        )
    ]
    if warning := alarm(study):
        blocks.append(Alarm(warning))
    blocks.append(Table(_HEAD, [_row(row, decided["signs"]) for row in rows]))
    if few := undecidable(study):
        blocks.append(Text(few))
    blocks.append(Text(lecture(rows)))
    blocks += [Text(without_heredity(study, arm)) for arm in controls]
    drawn = [
        Figure(
            figures.forest(
                "rewards",
                f"Evolved rewards, {n} viable worlds",
                "reward, of a vector of length 1",
                [(row["name"], unit[:, i], row["mean"]) for i, row in enumerate(rows)],
                muted=muted,
            ),
            f"A dot for each world (n = {n}); ring and bar: mean and its 95 % BCa interval over worlds; grey: the dummy, the null. "
            f"{study.source(['evolved'])}",
            "Evolved rewards",
        ),
        *(_of_control(study, arm, of, muted) for arm, of in controls.items()),
    ]
    blocks.append(Figures(drawn))
    for arm, of in controls.items():
        blocks += [
            Folded(
                f"The rewards of {arm} worlds in numbers",
                [Table(_HEAD, [_row(row, decided["controls"][arm]["signs"]) for row in of["table"]])],
            ),
            Folded(
                f"How far evolved rewards are from those of {arm} worlds",
                [
                    Text(
                        "The rewards of each world are normalised to length 1; two-sided Mann-Whitney over worlds, with Holm's "
                        f"correction over all events but the dummy. Cliff's delta is 1 if every evolved world is above every {arm} one."
                    ),
                    Table(
                        ["event", "evolved, median", f"{arm}, median", "Cliff's delta", "p", "p, Holm"],
                        [
                            [
                                row["name"],
                                three(float(np.median(row["ours"]))),
                                three(float(np.median(row["theirs"]))),
                                three(row["delta"]),
                                p_value(row["p_two_sided"]),
                                "–" if row["name"] in muted else p_value(row["p_holm"]),
                            ]
                            for row in of["apart"]
                        ],
                    ),
                ],
            ),
        ]
    return section("rewards", title, *blocks)


def _of_control(study: Study, arm: str, of: Mapping[str, Any], muted: Sequence[str]) -> Figure:
    worlds = np.array(of["worlds"], float)
    unit = worlds / np.linalg.norm(worlds, axis=1, keepdims=True)
    return Figure(
        figures.forest(
            f"rewards-{arm}",
            f"{arm.capitalize()}, {len(worlds)} worlds",
            "reward, of a vector of length 1",
            [(row["name"], unit[:, i], row["mean"]) for i, row in enumerate(of["table"])],
            muted=muted,
        ),
        f"A control: {_CONTROLS[arm]}. A dot for each world (n = {len(worlds)}); ring and bar: mean and its 95 % BCa interval over "
        f"worlds. {study.source([arm])}",
        f"Rewards of {arm} worlds",
    )


def alarm(study: Study) -> str | None:
    """The warning that the null does not hold; None if it does."""
    if mapping(study.verdicts.get("rewards")).get("null_holds", True):
        return None
    return (
        "The reward for the dummy is not at 0 (sign-flip test; by chance in 1 case of 20), so something besides selection may move rewards. "
        "Trust no row of the table of rewards before the study is repeated with another seed."
    )


def _row(row: Mapping[str, Any], signs_of: Mapping[str, int]) -> list[str | Verdict]:
    signs = row["signs"]
    known = signs["positive"] + signs["negative"]
    name = row["name"] if row["null_holds"] is None else f"{row['name']} (the null)"
    sign = _SIGNS.get(signs_of.get(row["name"], 0), "undecided")
    outcome: str | Verdict
    if row["null_holds"] is not None:
        outcome = Verdict(row["null_holds"], "at 0" if row["null_holds"] else "not at 0")
    elif row["agreement"] is None:
        outcome = sign
    elif row["agreement"] == "undecided":
        outcome = "undecided"
    else:
        outcome = Verdict(row["agreement"] == "agrees", f"{sign}, {row['agreement']}")
    return [
        name,
        interval(row["mean"]),
        f"{signs['positive']} of {known}",
        p_value(signs["p"]),
        "–" if row["null_holds"] is not None else p_value(row["p_holm"]),
        _SIGNS.get(row["expected_sign"], ""),
        outcome,
    ]


def undecidable(study: Study) -> str | None:
    """The sentence that there are too few worlds to show any sign; None if there are enough."""
    decided = study.verdicts["rewards"]
    if decided["decidable"]:
        return None
    return (
        f"With {decided['worlds']} worlds no sign can be shown at {LEVEL:g}: the smallest possible p after Holm's correction is "
        f"{p_value(decided['least_p'])}."
    )


def without_heredity(study: Study, arm: str) -> str:
    """The signs, compared with those of worlds in which rewards are not inherited."""
    table, decided = (
        study.found["rewards"]["controls"][arm]["table"],
        study.verdicts["rewards"]["controls"][arm],
    )
    same, own, differing = (decided[name] for name in ("same", "own", "differs"))
    sentences = (
        f"In {arm} worlds {_CONTROLS[arm]}, so signs there come from survival and not from heredity. They have the same sign beyond "
        f"chance for: {', '.join(same) or 'none'}; evolved worlds have a sign of their own for: {', '.join(own) or 'none'}. "
        f"Beyond chance evolved rewards differ from theirs in: {', '.join(differing) or 'none'}."
    )
    dummy = next((row for row in table if row["null_holds"] is False), None)
    if dummy is not None:
        sentences += f" The control's own null fails: there the reward for the dummy is {interval(dummy['mean'])}, and not 0."
    return sentences


def lecture(rows: Sequence[Mapping[str, Any]]) -> str:
    """A comparison with the signs in the lecture, in a sentence."""
    expected = [row for row in rows if row["agreement"] is not None]
    if not expected:
        return "The lecture says nothing about these events."
    by = {
        agreement: [row["name"] for row in expected if row["agreement"] == agreement]
        for agreement in ("agrees", "disagrees", "undecided")
    }
    listed = "; ".join(f"{agreement}: {', '.join(names) or 'none'}" for agreement, names in by.items())
    return f"Of the {len(expected)} signs that the lecture (Agüera y Arcas 2020) shows, {listed}."


def viability(study: Study) -> Section:
    """Which worlds sustain themselves."""
    results = study.found["viability"]
    classes, persisted = results["classes"], results["restarts_that_lasted"]
    counts = {name: classes.count(name) for name in _CLASSES}
    listed = "; ".join(f"{count} {name} ({_CLASSES[name]})" for name, count in counts.items() if count)
    rows = [
        [
            f"evolved {world['world']}",
            Verdict(kind == "viable", kind),
            f"{count} of 10",
            three(world["population"]),
            three(world["immigrants"]),
            three(world["emission"]),
        ]
        for world, kind, count in zip(study.worlds("evolved"), classes, persisted, strict=True)
    ]
    head = ["world", "class", "closed restarts that persisted", "population", "immigrants a step", "P(emit)"]
    return section(
        "viability",
        "Which populations sustain themselves",
        Text(f"Of {len(classes)} evolved worlds: {listed}."),
        Table(head, rows),
    )


def controls(study: Study) -> Section:
    """Population and emission against the controls."""
    drawn, rows = [], []
    for name, title in (("population", "Population, late"), ("emission", "P(emit), late")):
        comparisons = study.found["against_controls"][name]
        arms = {"evolved": np.array(next(iter(comparisons.values()))["ours"], float)}
        arms |= {arm: np.array(of["theirs"], float) for arm, of in comparisons.items()}
        means = {arm: over_worlds(values) for arm, values in arms.items()}
        n = "/".join(str(len(values)) for values in arms.values())
        caption = f"A dot for each world (n = {n}); ring and bar: mean over worlds and its 95 % BCa interval. {study.source()}"
        drawn.append(Figure(figures.dots(f"beside-{name}", title, arms, means), caption, title))
        rows += [
            [f"{title}, evolved against {arm}", three(of["delta"]), p_value(of["p_two_sided"]), of["method"]]
            for arm, of in comparisons.items()
        ]
    return section(
        "controls",
        "Population and emission against controls",
        Text(
            "Whether evolved worlds differ from their controls in the number of the living and in how much they emit; two-sided "
            "Mann-Whitney over worlds, p not adjusted. Cliff's delta is 1 if every evolved world is above every control, and −1 if "
            "below."
        ),
        Table(["comparison", "Cliff's delta", "p", "method"], rows),
        Figures(drawn, small=True),
    )


def worth(study: Study) -> Section:
    """Relearning, what was learned in life, and knock-outs."""
    return section(
        "worth",
        "What the rewards are worth",
        *_paired(
            study,
            "relearning",
            "Relearning",
            "Untrained individuals lived and learned with their evolved rewards, and with the same rewards assigned to other events. The "
            "difference is what the meaning of the rewards is worth.",
            "relearning",
        ),
        *_paired(
            study,
            "learned",
            "Learned in life",
            "The same individuals in the lab, with and without what they have learned.",
            "learned_in_life",
        ),
        *_paired(
            study,
            "knock-outs",
            "Knock-out of each reward",
            "ln(1 + population) without each reward minus that with all of them, in closed worlds with untrained founders; below 0 the "
            "population is smaller without it.",
            "knock_outs",
        ),
    )


def _paired(study: Study, key: str, title: str, explained: str, part: str) -> list[Block]:
    rows = study.found.get(part)
    if not rows:
        return [Heading(title), Missing("The study does not hold this comparison.")]
    decided = study.verdicts["compared"][part]
    differs = decided["differs"]
    table = [
        [
            row["name"],
            interval(row["mean"]),
            str(len(row["ours"])),
            p_value(row["p"]),
            p_value(row["p_holm"]),
            "differs" if row["name"] in differs else "no difference shown",
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
        f"Differences, a dot for each world (n = {len(rows[0]['ours'])}); ring and bar: mean and its 95 % BCa interval over worlds. "
        f"{study.source(['evolved'])}",
        title,
    )
    if differs:
        verdict = f"Beyond chance: {', '.join(differs)}."
    elif decided["decidable"]:
        verdict = "Nothing differs beyond chance."
    else:
        verdict = (
            f"With {decided['worlds']} worlds no difference can be shown at {LEVEL:g}: the smallest possible p after Holm's "
            f"correction is {p_value(decided['least_p'])}."
        )
    test = (
        "p is of the two-sided sign-flip test of the differences, paired by world, exact for up to 16 worlds."
    )
    return [
        Heading(title),
        Text(f"{explained} {verdict} {test}"),
        Table(["what", "mean difference [95 % BCa]", "worlds", "p", "p, Holm", "verdict"], table),
        Figures([drawn]),
    ]
