"""What jars showed, as the report tells it: who excludes whom, beside drift."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fairyring.report import _ecology_figures as figures
from fairyring.report import units
from fairyring.report._ecology_data import Study, grid, interval, judged, p_value, three
from fairyring.report._html import absent, escaped, figure, mapping, number, pair, paragraph, section, stat

_LEVEL = 0.05
_SOURCE = ("populations",)


def headline(study: Study) -> tuple[str, str, list[str]]:
    """Title, lead and stats."""
    told = study.found["jars"]
    verdicts, many = told["verdicts"], len(told["contests"])
    title = (
        f"Of {units.count(many, 'pair')}, in {verdicts['excludes'] or 'none'} one population excludes the other and "
        f"{verdicts['coexist'] or 'none'} {'coexists' if verdicts['coexist'] == 1 else 'coexist'}"
    )
    lead = (
        f"{units.count(len(told['populations']), 'population')} evolved apart, and all pairs of them were put together in "
        f"{units.count(told['replicates'], 'closed jar')} of each kind. "
        f"{verdicts['undecided'] or 'None'} of the pairs {'is' if verdicts['undecided'] == 1 else 'are'} undecided: what happened "
        "in them is what drift does to two names for one population."
    )
    stats = [
        stat("One excludes", f"{verdicts['excludes']} of {many}", "pairs; gains and invades"),
        stat("Coexist", f"{verdicts['coexist']} of {many}", "each invades from 5 %"),
        stat("Undecided", f"{verdicts['undecided']} of {many}", "beside drift", "warm"),
        stat("Jars", units.count(told["worlds"]), f"of {units.count(told['jar_steps'], 'step')} each"),
    ]
    return title, lead, stats


def pairs(study: Study) -> str:
    """Every pair with its numbers, and the matrix."""
    told, title = mapping(study.found.get("jars")), "Who excludes whom"
    if not told:
        return section("pairs", title, absent("No jars belong to this study."))
    contests = told["contests"]
    body = paragraph(
        f"What was measured: shares of the living after {units.count(told['jar_steps'], 'step')}, of "
        f"{units.count(told['founders'], 'founder')}, in jars where nobody comes in, nothing mutates and no genes pass. Each pair "
        "at even shares, and each population at 5 % among the other. The control is drift: one population under two labels. A "
        f"replicate is a jar (n = {told['replicates']} of each kind, some of which may die out). p: Mann-Whitney beside drift, one-sided, Holm's over both "
        "sides of all pairs. Excludes: gains from even shares and invades, and is not invaded; coexist: each invades the other."
    )
    body += grid(
        [
            "pair", "verdict", "share of the first (drift)", "p, Holm: first / second gains",
            "from 5 %: first / second (drift)", "p, Holm: invades", "died out, first / second", "blind: share of the first",
        ],
        [_row(one) for one in contests],
    )  # fmt: skip
    names = [str(one["name"]) for one in told["populations"]]
    values, sure = np.full((len(names), len(names)), np.nan), np.zeros((len(names), len(names)), bool)
    for one in contests:
        i, j = names.index(one["first"]), names.index(one["second"])
        values[i, j], values[j, i] = one["first_gains"]["mean"], one["second_gains"]["mean"]
        sure[i, j], sure[j, i] = one["first_gains"]["holm"] <= _LEVEL, one["second_gains"]["holm"] <= _LEVEL
    title_of = "Share at the end, of a row in jars with a column"
    drawn = [
        figure(
            figures.matrix("jar-matrix", "Share of the row's population", names, values, sure),
            f"{title_of}: mean over jars that began at even shares; framed: more than drift does (Holm, {_LEVEL:g}). "
            f"{study.source(_SOURCE)}",
            title_of,
        ),
        _yields(study, contests),
    ]
    return section("pairs", title, body + pair(drawn) + _niches(contests))


def _row(one: Mapping[str, Any]) -> list[str]:
    gains = one["first_gains"], one["second_gains"]
    invades = one["first_invades"], one["second_invades"]
    blind = number(one.get("blind"))
    return [
        escaped(f"{one['first']} + {one['second']}"),
        judged(True, one["verdict"]) if one["verdict"] != "undecided" else "undecided",
        f"{three(gains[0]['mean'])} ({three(gains[0]['drift'])})",
        " / ".join(p_value(test["holm"]) for test in gains),
        f"{' / '.join(three(test['mean']) for test in invades)} ({three(invades[0]['drift'])})",
        " / ".join(p_value(test["holm"]) for test in invades),
        f"{units.share(one['first_gone'])} / {units.share(one['second_gone'])}",
        "–" if blind is None else f"{three(blind)} (n = {one['blind_jars']})",
    ]


def _yields(study: Study, contests: list[Mapping[str, Any]]) -> str:
    rows = [
        (f"{one['first']} + {one['second']}", np.zeros(0), one["relative_yield"])
        for one in contests
        if one["relative_yield"] is not None
    ]
    above = sum(number(of["low"]) is not None and of["low"] > 1 for _, _, of in rows)
    below = sum(number(of["high"]) is not None and of["high"] < 1 for _, _, of in rows)
    caption = (
        "Yield together over yield alone, summed over the two; 1: they replace each other; above, each uses what the other leaves. "
        f"Mean and 95 % BCa interval over jars, one by one: above 1 in {above} and below in {below} of {len(rows)} pairs. "
        f"{study.source(_SOURCE)}"
    )
    svg = figures.forest("jar-yields", "Relative yield total", "yield together / alone", rows, line=1.0)
    return figure(svg, caption, "Relative yield total")


def _niches(contests: list[Mapping[str, Any]]) -> str:
    rows = [
        [
            escaped(f"{one['first']} + {one['second']}"),
            "–" if one["relative_yield"] is None else escaped(interval(one["relative_yield"])),
            *(
                ("–", "–", "–")
                if one["overlap"] is None
                else (
                    three(one["overlap"]["overlap"]),
                    three(one["overlap"]["expected"]),
                    p_value(one["overlap"]["p"]),
                )
            ),
            str(one["overlap_jars"]),
        ]
        for one in contests
    ]
    head = [
        "pair",
        "relative yield total [95 % BCa]",
        "niche overlap",
        "expected of one population",
        "p",
        "jars with both",
    ]
    words = paragraph(
        "Niche overlap is of food (and signal) where the labels were; p: labels dealt at random, not adjusted; small: they are apart."
    )
    return f"<h3>Yields and niches</h3>{words}{grid(head, rows)}"


def alone(study: Study) -> str:
    """Each population by itself."""
    told = mapping(study.found.get("jars"))
    if not told:
        return ""
    rows = [
        [
            escaped(one["name"]),
            units.count(one["evolved"]),
            units.count(one["newcomers"]),
            three(one["alone"]),
            units.share(one["died_out"]),
            three(one["drift"]),
            "–" if one["relative_yield"] is None else escaped(interval(one["relative_yield"])),
        ]
        for one in told["populations"]
    ]
    head = [
        "population", "lived at the end of its evolution", "newcomers, last quarter", "yield alone", "died out alone",
        "drift: sd of a label's share", "relative yield under two labels",
    ]  # fmt: skip
    body = paragraph(
        f"Each population evolved for {units.count(told['evolution_steps'], 'step')}; then the controls: jars of it alone, and of it "
        "under two labels, whose relative yield is 1 but for chance."
    )
    return section("alone", "Each population by itself", body + grid(head, rows))


def ranking(study: Study) -> str:
    """The ranking, and what of the matrix none explains."""
    told, rows = study.found["jars"], []
    for when, key in (
        ("at the end", "standing"),
        (f"at step {units.count(told['early_step'])}", "early_standing"),
    ):
        one = told.get(key)
        if one is not None:
            rows.append((when, one))
    if not rows:
        sentence = (
            "There is no ranking: it takes three populations, and jars of every pair in which somebody lives."
        )
        return section("ranking", "A ranking, or cycles", absent(sentence))
    body = paragraph(
        "Log odds of the shares in even jars, as a ranking (HodgeRank) and what no ranking explains. The null is the fitted ranking "
        "with the jars' own noise, which lifts the share above 0."
    )
    body += grid(
        [
            "jars",
            "cyclic share",
            "under a ranking alone",
            "p",
            "triples that go round",
            "of them beyond drift",
            "verdict",
        ],
        [standing(when, one) for when, one in rows],
    )
    body += paragraph(f"The order at the end, the strongest first: {', '.join(rows[0][1]['order'])}.")
    return section("ranking", "A ranking, or cycles", body + sentences(told["found"]))


def standing(when: str, one: Mapping[str, Any]) -> list[str]:
    """A row of the table of rankings."""
    hodge = one["hodge"]
    sure = one.get("sure_cycles")
    turns = hodge["p"] is not None and hodge["p"] < _LEVEL
    return [
        escaped(when),
        three(hodge["share"]),
        three(hodge["null_share"]),
        p_value(hodge["p"]),
        f"{one['cycles']} of {one['triples']}",
        "–" if sure is None else str(sure),
        judged(True, "cyclic beyond its null") if turns else "no cycles shown",
    ]


def sentences(found: list[str]) -> str:
    """What the study says of itself, as a list."""
    return f"<ul>{''.join(f'<li>{escaped(one)}</li>' for one in found)}</ul>"
