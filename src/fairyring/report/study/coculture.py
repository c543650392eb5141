"""The sections on co-culture: which population excludes or outgrows which, against drift."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fairyring.ecology.results import LEVEL
from fairyring.report.kit import Figure, Section, mapping, number, stat, units
from fairyring.report.study import figures
from fairyring.report.study.blocks import (
    Block,
    Bullets,
    Figures,
    Heading,
    Missing,
    Table,
    Text,
    Verdict,
    section,
)
from fairyring.report.study.data import Study, interval, p_value, three

_SOURCE = ("populations",)
_DEFINITIONS = (
    "Excludes: it gains from even shares, invades from 5 %, and the other declines from 5 % (whether the other would persist at a lower "
    "share is not tested). Outgrows: it gains and invades; nothing is shown of the other when rare, so that may be excluded or coexist. "
    "Coexist: each invades from 5 %. Undecided: none of these is shown, which does not show that the two are equal."
)


def headline(study: Study) -> tuple[str, str, list[str]]:
    """Title, lead and stats."""
    results = study.found["jars"]
    verdicts, pairs_in_all = results["verdicts"], len(results["contests"])
    title = _title(verdicts, pairs_in_all)
    lead = (
        f"{units.count(len(results['populations']), 'population')} evolved apart, and all pairs of them were put together in "
        f"{units.count(results['replicates'], 'closed jar')} of each kind. {_undecided(results)}"
    )
    stats = [
        stat(
            "One excludes", f"{verdicts['excludes']} of {pairs_in_all}", "pairs; the other declines when rare"
        ),
        stat("One outgrows", f"{verdicts['outgrows']} of {pairs_in_all}", "gains and invades, no more shown"),
        stat("Coexist", f"{verdicts['coexist']} of {pairs_in_all}", "each invades from 5 %"),
        stat("Undecided", f"{verdicts['undecided']} of {pairs_in_all}", "none of these shown", "warm"),
        stat("Jars", units.count(results["worlds"]), f"of {units.count(results['jar_steps'], 'step')} each"),
    ]
    return title, lead, stats


def _title(verdicts: Mapping[str, int], pairs_in_all: int) -> str:
    """What was shown of how many pairs; what was shown of none is left out."""
    verbs = {
        "excludes": "one population excludes the other",
        "outgrows": "one outgrows the other",
        "coexist": "both coexist",
    }
    shown = [f"in {verdicts[name]} {what}" for name, what in verbs.items() if verdicts[name]]
    of = f"Of {units.count(pairs_in_all, 'pair')}"
    if not shown:
        return f"{of}, none is shown to exclude, to outgrow or to coexist"
    return f"{of}, {' and '.join([', '.join(shown[:-1]), shown[-1]] if shown[:-1] else shown)}"


def _undecided(results: Mapping[str, Any]) -> str:
    """What was shown in the pairs without a verdict, in sentences."""
    verdicts, shown, sentences = results["verdicts"], results["undecided"], []
    if verdicts["undecided"]:
        sentences.append(
            f"{units.count(verdicts['undecided'], 'pair')} {'is' if verdicts['undecided'] == 1 else 'are'} undecided: in "
            f"{shown['gains'] or 'none'} of them one gains from even shares beyond drift, in {shown['rare'] or 'none'} of the others "
            f"something is shown of one when it is rare, and in {shown['nothing'] or 'none'} nothing beyond drift is shown."
        )
    if verdicts["cannot be shown"]:
        affected = units.count(verdicts["cannot be shown"], "pair")
        sentences.append(
            f"In {affected} no verdict can be shown with so few surviving jars, whatever happened in them."
        )
    if verdicts["neither lives"]:
        sentences.append(
            f"In {units.count(verdicts['neither lives'], 'pair')} nobody lived at the end of any jar."
        )
    return " ".join(sentences) or "No pair is undecided."


def pairs(study: Study) -> Section:
    """Every pair with its numbers, and the matrix."""
    results, title = mapping(study.found.get("jars")), "Who excludes or outgrows whom"
    if not results:
        return section("pairs", title, Missing("This study has no jars."))
    contests = results["contests"]
    names = [str(one["name"]) for one in results["populations"]]
    values, sure = np.full((len(names), len(names)), np.nan), np.zeros((len(names), len(names)), bool)
    for one, gains in zip(contests, study.verdicts["jars"]["gains"], strict=True):
        i, j = names.index(one["first"]), names.index(one["second"])
        means = (number(one[side]["mean"]) for side in ("first_gains", "second_gains"))
        values[i, j], values[j, i] = (np.nan if mean is None else mean for mean in means)
        sure[i, j], sure[j, i] = gains
    matrix = "Share at the end, of a row in jars with a column"
    return section(
        "pairs",
        title,
        Text(
            f"What was measured: shares of the living after {units.count(results['jar_steps'], 'step')}, from "
            f"{units.count(results['founders'], 'founder')}, in jars without immigration, mutation and conjugation. Each pair was run "
            "at even shares, and with each population at 5 % among the other. The control is drift: one population under two labels. "
            f"A replicate is a jar (n = {results['replicates']} of each kind, some of which may die out). p: Mann-Whitney against "
            "drift, one-sided, with Holm's correction over both sides of all pairs, for gains, invasions and declines each. Declines "
            "are of shares over the last third of the steps. " + _DEFINITIONS
        ),
        Table(
            [
                "pair", "verdict", "share of the first (drift)", "p, Holm: first / second gains",
                "from 5 %: first / second (drift)", "p, Holm: invades", "p, Holm: declines",
                "died out, first / second", "blind: share of the first",
            ],
            [_row(one) for one in contests],
        ),
        Figures(
            [
                Figure(
                    figures.matrix("jar-matrix", "Share of the row's population", names, values, sure),
                    f"{matrix}: mean over jars that began at even shares; framed if beyond drift (Holm, {LEVEL:g}). "
                    f"{study.source(_SOURCE)}",
                    matrix,
                ),
                _yields(study, contests),
            ]
        ),
        *_niches(contests),
    )  # fmt: skip


def _row(one: Mapping[str, Any]) -> list[str | Verdict]:
    gains = one["first_gains"], one["second_gains"]
    invades = one["first_invades"], one["second_invades"]
    declines = one["first_declines"], one["second_declines"]
    shown = any(word in one["verdict"] for word in ("excludes", "outgrows", "coexist"))
    blind = number(one.get("blind"))
    return [
        f"{one['first']} + {one['second']}",
        Verdict(True, one["verdict"]) if shown else one["verdict"],
        f"{three(gains[0]['mean'])} ({three(gains[0]['drift'])})",
        " / ".join(p_value(test["holm"]) for test in gains),
        f"{' / '.join(three(test['mean']) for test in invades)} ({three(invades[0]['drift'])})",
        " / ".join(p_value(test["holm"]) for test in invades),
        " / ".join(p_value(test["holm"]) for test in declines),
        f"{units.share(one['first_gone'])} / {units.share(one['second_gone'])}",
        "–" if blind is None else f"{three(blind)} (n = {one['blind_jars']})",
    ]


def _yields(study: Study, contests: list[Mapping[str, Any]]) -> Figure:
    rows = [
        (f"{one['first']} + {one['second']}", np.zeros(0), one["relative_yield"])
        for one in contests
        if one["relative_yield"] is not None
    ]
    known = sum(number(of["low"]) is not None for _, _, of in rows)
    above = sum(number(of["low"]) is not None and of["low"] > 1 for _, _, of in rows)
    below = sum(number(of["high"]) is not None and of["high"] < 1 for _, _, of in rows)
    caption = (
        "Yield together over yield alone, summed over the two. At 1 they replace each other; above 1 each uses what the other leaves. "
        f"Mean and 95 % BCa interval over jars, each by itself: above 1 in {above} and below in {below} of {known} pairs"
        f"{'' if known == len(rows) else '; with fewer than three jars there is no interval'}. "
        f"{study.source(_SOURCE)}"
    )
    svg = figures.forest("jar-yields", "Relative yield total", "yield together / alone", rows, line=1.0)
    return Figure(svg, caption, "Relative yield total")


def _niches(contests: list[Mapping[str, Any]]) -> list[Block]:
    rows = [
        [
            f"{one['first']} + {one['second']}",
            "–" if one["relative_yield"] is None else interval(one["relative_yield"]),
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
    return [
        Heading("Yields and niches"),
        Text(
            "Niche overlap is of the food (and signal) at the positions of the labels. p is of a permutation of labels, not adjusted; a "
            "small p means separate niches."
        ),
        Table(head, rows),
    ]


def alone(study: Study) -> Section | None:
    """Each population by itself."""
    results = mapping(study.found.get("jars"))
    if not results:
        return None
    rows = [
        [
            one["name"],
            units.count(one["evolved"]),
            units.count(one["immigrants"]),
            three(one["alone"]),
            units.share(one["died_out"]),
            three(one["drift"]),
            "–" if one["relative_yield"] is None else interval(one["relative_yield"]),
        ]
        for one in results["populations"]
    ]
    head = [
        "population", "lived at the end of its evolution", "immigrants, last quarter", "yield alone", "died out alone",
        "drift: sd of a label's share", "relative yield under two labels",
    ]  # fmt: skip
    return section(
        "alone",
        "Each population by itself",
        Text(
            f"Each population evolved for {units.count(results['evolution_steps'], 'step')}. The controls are jars of it alone, and of "
            "it under two labels, where the relative yield is 1 except for chance."
        ),
        Table(head, rows),
    )


def ranking(study: Study) -> Section:
    """The ranking, and what it does not explain."""
    results, title = study.found["jars"], "A ranking, or cycles"
    late, early = results.get("standing"), results.get("early_standing")
    if late is None:
        sentence = "There is no ranking: it takes three populations, and two surviving jars of every pair."
        return section("ranking", title, Missing(sentence), Bullets(results["found"]))
    blocks: list[Block] = [
        Text(
            "Log odds of the shares in even jars are split into a ranking (HodgeRank) and what no ranking explains. The null is the "
            "fitted ranking with the noise of the jars, which makes the share larger than 0. Log odds stop growing when one "
            "population has nearly died out; this distorts a ranking, and the distortion counts as cyclic. So the share is judged at "
            "the last step up to which, in every pair, both have 5 or more individuals in 95 % of the jars. Beyond its null it means "
            "that no ranking gives these log odds; only triples beyond drift show that dominance is cyclic."
        )
    ]
    rows, last = [], results["early_step"] == results["jar_steps"]
    if not last or early is None:
        rows.append(_standing("at the end", late, None))
    if early is not None:
        when = "at the end" if last else f"at step {units.count(results['early_step'])}"
        rows.append(_standing(when, early, study.verdicts["jars"]["cycles"]))
    else:
        blocks.append(
            Text("There is no such step at which anything had changed here, so the share is not judged.")
        )
    sure = late.get("sure_cycles")
    beyond = (
        ""
        if sure is None
        else f" Triples that are cyclic by gains beyond drift at the end: {sure} of {late['triples']}."
    )
    return section(
        "ranking",
        title,
        *blocks,
        Table(["jars", "cyclic share", "under a ranking alone", "p", "cyclic triples", "verdict"], rows),
        Text(f"The order at the end, the strongest first: {', '.join(late['order'])}.{beyond}"),
        Bullets(results["found"]),
    )


def _standing(when: str, one: Mapping[str, Any], cycles: bool | None) -> list[str | Verdict]:
    """A row of the table of rankings; `cycles` is None where saturation distorts it, so that there is no p or verdict."""
    hodge, cyclic = one["hodge"], f"{one['cycles']} of {one['triples']}"
    if cycles is None:
        return [when, three(hodge["share"]), "–", "–", cyclic, "bent by saturation: not read"]
    return [
        when,
        three(hodge["share"]),
        three(hodge["null_share"]),
        p_value(hodge["p"]),
        cyclic,
        Verdict(True, "beyond its null") if cycles else "not shown",
    ]
