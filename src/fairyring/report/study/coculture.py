"""What jars showed, as the report tells it: who excludes or outgrows whom, beside drift."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fairyring.ecology.results import LEVEL
from fairyring.report.kit import (
    Figure,
    Section,
    absent,
    escaped,
    grid,
    judged,
    mapping,
    number,
    pair,
    paragraph,
    stat,
    units,
)
from fairyring.report.study import figures
from fairyring.report.study.data import Study, interval, p_value, three

_SOURCE = ("populations",)
_MEANING = (
    "Excludes: gains from even shares, invades from 5 %, and the other declines from 5 % (whether it would stay at less is not asked). "
    "Outgrows: gains and invades; of the other when rare nothing is shown, so it may be excluded or coexist. Coexist: each invades "
    "from 5 %. Undecided: none of these is shown, which does not show that they are alike."
)


def headline(study: Study) -> tuple[str, str, list[str]]:
    """Title, lead and stats."""
    told = study.found["jars"]
    verdicts, many = told["verdicts"], len(told["contests"])
    title = (
        f"Of {units.count(many, 'pair')}, in {verdicts['excludes'] or 'none'} one population excludes the other, in "
        f"{verdicts['outgrows'] or 'none'} one outgrows the other and {verdicts['coexist'] or 'none'} "
        f"{'coexists' if verdicts['coexist'] == 1 else 'coexist'}"
    )
    lead = (
        f"{units.count(len(told['populations']), 'population')} evolved apart, and all pairs of them were put together in "
        f"{units.count(told['replicates'], 'closed jar')} of each kind. {_undecided(told)}"
    )
    stats = [
        stat("One excludes", f"{verdicts['excludes']} of {many}", "pairs; the other declines when rare"),
        stat("One outgrows", f"{verdicts['outgrows']} of {many}", "gains and invades, no more shown"),
        stat("Coexist", f"{verdicts['coexist']} of {many}", "each invades from 5 %"),
        stat("Undecided", f"{verdicts['undecided']} of {many}", "none of these shown", "warm"),
        stat("Jars", units.count(told["worlds"]), f"of {units.count(told['jar_steps'], 'step')} each"),
    ]
    return title, lead, stats


def _undecided(told: Mapping[str, Any]) -> str:
    """What was shown in the pairs without a verdict, in sentences."""
    verdicts, shown, said = told["verdicts"], told["undecided"], []
    if verdicts["undecided"]:
        said.append(
            f"{units.count(verdicts['undecided'], 'pair')} {'is' if verdicts['undecided'] == 1 else 'are'} undecided: in "
            f"{shown['gains'] or 'none'} of them one gains from even shares beyond drift, in {shown['rare'] or 'none'} of the others "
            f"something is shown of one when it is rare, and in {shown['nothing'] or 'none'} nothing beyond drift is shown."
        )
    if verdicts["cannot be shown"]:
        many = units.count(verdicts["cannot be shown"], "pair")
        said.append(
            f"In {many} no verdict can be shown with so few jars that lived, whatever had happened in them."
        )
    if verdicts["neither lives"]:
        said.append(
            f"In {units.count(verdicts['neither lives'], 'pair')} nobody lived at the end of any jar."
        )
    return " ".join(said) or "No pair is undecided."


def pairs(study: Study) -> Section:
    """Every pair with its numbers, and the matrix."""
    told, title = mapping(study.found.get("jars")), "Who excludes or outgrows whom"
    if not told:
        return Section("pairs", title, absent("No jars belong to this study."))
    contests = told["contests"]
    body = paragraph(
        f"What was measured: shares of the living after {units.count(told['jar_steps'], 'step')}, of "
        f"{units.count(told['founders'], 'founder')}, in jars where nobody comes in, nothing mutates and no genes pass. Each pair "
        "at even shares, and each population at 5 % among the other. The control is drift: one population under two labels. A "
        f"replicate is a jar (n = {told['replicates']} of each kind, some of which may die out). p: Mann-Whitney beside drift, one-sided, Holm's over both "
        "sides of all pairs, for gains, invasions and declines each. Declines are of shares over the last third of the steps. "
        + _MEANING
    )
    body += grid(
        [
            "pair", "verdict", "share of the first (drift)", "p, Holm: first / second gains",
            "from 5 %: first / second (drift)", "p, Holm: invades", "p, Holm: declines",
            "died out, first / second", "blind: share of the first",
        ],
        [_row(one) for one in contests],
    )  # fmt: skip
    names = [str(one["name"]) for one in told["populations"]]
    values, sure = np.full((len(names), len(names)), np.nan), np.zeros((len(names), len(names)), bool)
    for one, gains in zip(contests, study.verdicts["jars"]["gains"], strict=True):
        i, j = names.index(one["first"]), names.index(one["second"])
        means = (number(one[side]["mean"]) for side in ("first_gains", "second_gains"))
        values[i, j], values[j, i] = (np.nan if mean is None else mean for mean in means)
        sure[i, j], sure[j, i] = gains
    title_of = "Share at the end, of a row in jars with a column"
    drawn = [
        Figure(
            figures.matrix("jar-matrix", "Share of the row's population", names, values, sure),
            f"{title_of}: mean over jars that began at even shares; framed: more than drift does (Holm, {LEVEL:g}). "
            f"{study.source(_SOURCE)}",
            title_of,
        ),
        _yields(study, contests),
    ]
    return Section("pairs", title, body + pair(drawn) + _niches(contests))


def _row(one: Mapping[str, Any]) -> list[str]:
    gains = one["first_gains"], one["second_gains"]
    invades = one["first_invades"], one["second_invades"]
    declines = one["first_declines"], one["second_declines"]
    found = any(word in one["verdict"] for word in ("excludes", "outgrows", "coexist"))
    blind = number(one.get("blind"))
    return [
        escaped(f"{one['first']} + {one['second']}"),
        judged(True, one["verdict"]) if found else escaped(one["verdict"]),
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
        "Yield together over yield alone, summed over the two; 1: they replace each other; above, each uses what the other leaves. "
        f"Mean and 95 % BCa interval over jars, one by one: above 1 in {above} and below in {below} of {known} pairs"
        f"{'' if known == len(rows) else '; with fewer than three jars there is no interval'}. "
        f"{study.source(_SOURCE)}"
    )
    svg = figures.forest("jar-yields", "Relative yield total", "yield together / alone", rows, line=1.0)
    return Figure(svg, caption, "Relative yield total")


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


def alone(study: Study) -> Section | None:
    """Each population by itself."""
    told = mapping(study.found.get("jars"))
    if not told:
        return None
    rows = [
        [
            escaped(one["name"]),
            units.count(one["evolved"]),
            units.count(one["immigrants"]),
            three(one["alone"]),
            units.share(one["died_out"]),
            three(one["drift"]),
            "–" if one["relative_yield"] is None else escaped(interval(one["relative_yield"])),
        ]
        for one in told["populations"]
    ]
    head = [
        "population", "lived at the end of its evolution", "immigrants, last quarter", "yield alone", "died out alone",
        "drift: sd of a label's share", "relative yield under two labels",
    ]  # fmt: skip
    body = paragraph(
        f"Each population evolved for {units.count(told['evolution_steps'], 'step')}; then the controls: jars of it alone, and of it "
        "under two labels, whose relative yield is 1 but for chance."
    )
    return Section("alone", "Each population by itself", body + grid(head, rows))


def ranking(study: Study) -> Section:
    """The ranking, and what of the matrix none explains."""
    told, title = study.found["jars"], "A ranking, or cycles"
    late, early = told.get("standing"), told.get("early_standing")
    if late is None:
        sentence = "There is no ranking: it takes three populations, and two jars of every pair in which somebody lives."
        return Section("ranking", title, absent(sentence) + sentences(told["found"]))
    body = paragraph(
        "Log odds of the shares in even jars, as a ranking (HodgeRank) and what no ranking explains. The null is the fitted ranking "
        "with the jars' own noise, which lifts the share above 0. Log odds stop growing where one has nearly died out: that bends a "
        "ranking, and what is bent counts as cyclic. So the share is judged at the last step up to which, in every pair, both numbered "
        "5 or more in 95 % of the jars. Beyond its null it says that no ranking gives these log odds; that somebody goes round, only "
        "triples beyond drift say."
    )
    rows, last = [], told["early_step"] == told["jar_steps"]
    if not last or early is None:
        rows.append(_standing("at the end", late, None))
    if early is not None:
        rows.append(
            _standing(
                "at the end" if last else f"at step {units.count(told['early_step'])}",
                early,
                study.verdicts["jars"]["cycles"],
            )
        )
    else:
        body += paragraph(
            "Here there is no such step at which anything had changed, so the share is not judged."
        )
    body += grid(
        ["jars", "cyclic share", "under a ranking alone", "p", "triples that go round", "verdict"], rows
    )
    sure = late.get("sure_cycles")
    beyond = (
        ""
        if sure is None
        else f" Triples that go round by gains beyond drift at the end: {sure} of {late['triples']}."
    )
    body += paragraph(f"The order at the end, the strongest first: {', '.join(late['order'])}.{beyond}")
    return Section("ranking", title, body + sentences(told["found"]))


def _standing(when: str, one: Mapping[str, Any], cycles: bool | None) -> list[str]:
    """A row of the table of rankings; what saturation bends is a number without p or verdict, and `cycles` None."""
    hodge, round_ = one["hodge"], f"{one['cycles']} of {one['triples']}"
    if cycles is None:
        return [escaped(when), three(hodge["share"]), "–", "–", round_, "bent by saturation: not read"]
    return [
        escaped(when),
        three(hodge["share"]),
        three(hodge["null_share"]),
        p_value(hodge["p"]),
        round_,
        judged(True, "beyond its null") if cycles else "not shown",
    ]


def sentences(found: list[str]) -> str:
    """What the study says of itself, as a list."""
    return f"<ul>{''.join(f'<li>{escaped(one)}</li>' for one in found)}</ul>"
