"""Whether anything turns that would not if bacteria climbed one hill, as the report tells it: each number beside its null."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairyring.ecology.statistics import holm
from fairyring.report import _ecology_figures as figures
from fairyring.report import units
from fairyring.report._ecology_data import Study, grid, interval, judged, p_value, three
from fairyring.report._ecology_jars import sentences
from fairyring.report._html import escaped, figure, number, pair, paragraph, section, stat

_LEVEL = 0.05
_BEFORE = "only before Holm"
_FOLLOWED = ("followed",)


@dataclass(frozen=True)
class _Measure:
    """One measure of rotation.

    Attributes:
        name: of it.
        value, null: what was measured and what its null gives, in words.
        p: beside the null; None without.
        holm: p adjusted for all measures of the page.
        n: what was repeated, and how often.
        moving: it is of traits that were not at rest, and not to be read.
    """

    name: str
    value: str
    null: str
    p: float | None
    n: str
    moving: bool = False
    holm: float | None = None

    @property
    def turns(self) -> bool:
        """Whether it is beyond its null, all measures considered."""
        return self.holm is not None and self.holm < _LEVEL and not self.moving

    @property
    def verdict(self) -> str:
        """In a few words."""
        if self.turns:
            return "beyond its null"
        if self.moving:
            return "not at rest: not read"
        alone = self.p is not None and self.p < _LEVEL
        return _BEFORE if alone else "not shown"


def headline(study: Study) -> tuple[str, str, list[str]]:
    """Title, lead and stats."""
    told = study.found["rotation"]
    rows = _measures(study)
    turning, alone = (
        [row.name for row in rows if row.turns],
        [row.name for row in rows if row.verdict == _BEFORE],
    )
    some = f"{len(turning) or 'None'} of {len(rows)} measures of rotation"
    title = f"{some} {'are beyond their nulls' if len(turning) > 1 else 'is beyond its null'}"
    lead = (
        "Where all climb one hill nothing turns: no cycles in who beats whom, no circling traits, a selection that has a potential, "
        f"learning whose Jacobian is its own transpose. Beyond the null: {', '.join(turning) or 'none of them'}."
    )
    if alone:
        lead += f" Only by itself, and not with all measures considered: {', '.join(alone)}."
    stats = []
    if told["jars"] is not None:
        hodge = told["jars"]["hodge"]
        note = f"null {three(hodge['null_share'])}, p {p_value(hodge['p'])}"
        stats.append(stat("Cyclic share of jars", three(hodge["share"]), note))
    for name, one, key in (
        ("Selection without potential", told["curl"], "share"),
        ("Learning, antisymmetric", told["learning"], "antisymmetric_share"),
    ):
        note = f"null {three(one['null_share'])}, p {p_value(one['p'])}"
        stats.append(stat(name, three(one[key]), note))
    stats.append(
        stat("Worlds followed", units.count(told["worlds"]), f"for {units.count(told['steps'], 'step')}")
    )
    return title, lead, stats


def _measures(study: Study) -> list[_Measure]:
    told, rows = study.found["rotation"], []
    for name, key in (("cycles in jars, at the end", "jars"), ("cycles in jars, early", "early_jars")):
        one = told.get(key)
        if one is not None:
            n = f"{study.found['jars']['replicates']} jars"
            rows.append(_share(name, one["hodge"], "share", n))
    for key, name in (("behaviour", "what they do turns"), ("rewards", "what they inherit turns")):
        one = told[key]
        moving = min(one["trend_p"]) < _LEVEL
        value, n = interval(one["rotation"]["mean"]), f"{told['worlds']} worlds"
        rows.append(_Measure(name, value, "0", one["rotation"]["p"], n, moving))
    curl, learning = told["curl"], told["learning"]
    jars, repeated = f"{curl['replicates']} jars", f"{learning['replicates']} replicates"
    rows += [
        _share("selection, no potential", curl, "share", jars),
        _share("selection, antisymmetric", curl["jacobian"], "antisymmetric_share", jars),
        _share("learning, antisymmetric", learning, "antisymmetric_share", repeated),
        _Measure(
            "learning, between halves", three(learning["between"]), "–", learning["between_p"], repeated
        ),
    ]
    known = [row for row in rows if row.p is not None]
    adjusted = dict(
        zip((row.name for row in known), holm([row.p for row in known if row.p is not None]), strict=True)
    )
    return [dataclasses.replace(row, holm=adjusted.get(row.name)) for row in rows]


def _share(name: str, one: Mapping[str, Any], key: str, n: str) -> _Measure:
    return _Measure(name, three(one[key]), three(one["null_share"]), one["p"], n)


def verdicts(study: Study) -> str:
    """Each measure beside its null."""
    told = study.found["rotation"]
    body = paragraph(
        "From weak to strong; each has a null in which nothing turns: the fitted ranking with the jars' noise; worlds' histories run "
        "backwards; the fitted landscape with the jars' noise; replicates' Jacobians transposed at random. p is Holm's over "
        "all measures of this page for the verdict. Shares above 0 are what noise gives too: read them beside the null."
    )
    rows = [
        [
            escaped(row.name),
            judged(True, row.verdict) if row.turns else escaped(row.verdict),
            escaped(row.value),
            escaped(row.null),
            p_value(row.p),
            p_value(row.holm),
            escaped(row.n),
        ]
        for row in _measures(study)
    ]
    head = ["measure", "verdict", "value", "its null, mean", "p", "p, Holm", "n"]
    body += grid(head, rows) + "<h3>In the study's own words</h3>" + sentences(told["found"])
    shares = [
        (name, told[key]["hodge"]["share"], told[key]["hodge"]["null_share"])
        for name, key in (("jars, at the end", "jars"), ("jars, early", "early_jars"))
        if told.get(key) is not None
    ]
    curl, learning = told["curl"], told["learning"]
    shares += [
        ("selection, no potential", curl["share"], curl["null_share"]),
        ("selection, antisymmetric", curl["jacobian"]["antisymmetric_share"], curl["jacobian"]["null_share"]),
        ("learning, antisymmetric", learning["antisymmetric_share"], learning["null_share"]),
    ]
    drawn = [
        figure(
            figures.shares("shares", "Shares that turn, beside their nulls", "share", shares),
            f"Dot: what was measured; tick: the mean that its null gives. {study.source()}",
            "Shares that turn",
        ),
        figure(
            figures.forest(
                "turning",
                "Two traits in time",
                "turning a look",
                [
                    (
                        " and ".join(told[key]["traits"]),
                        np.array(told[key]["rotation"]["turning"], float),
                        told[key]["rotation"]["mean"],
                    )
                    for key in ("behaviour", "rewards")
                ],
            ),
            f"How fast two traits circle their mean: a dot a world (n = {told['worlds']}); ring and bar: mean and its 95 % BCa interval. "
            f"{_rest(told)} {study.source(_FOLLOWED)}",
            "Two traits in time",
        ),
    ]
    return section("verdicts", "Each measure beside its null", body + pair(drawn))


def _rest(told: Mapping[str, Any]) -> str:
    """Whether the traits were at rest, without which their turning is not to be read."""
    moving = [key for key in ("behaviour", "rewards") if min(told[key]["trend_p"]) < _LEVEL]
    if not moving:
        return "Both pairs were at rest as far as halves of the histories tell."
    return f"Not at rest, and so not to be read as rotation: {' and '.join(moving)}."


def selection(study: Study) -> str:
    """The field of invasion fitness, and the Jacobian of learning."""
    told = study.found["rotation"]
    curl, learning = told["curl"], told["learning"]
    error = number(curl["mean_curl_error"])
    body = paragraph(
        "Residents with hand-written tables at each place of a grid of two traits, log odds of emitting and of tumbling when the signal "
        "is sensed; mutants a little to each side were put among them. An arrow is the gradient of their invasion fitness. "
        f"Mean curl {three(curl['mean_curl'])}{f' (standard error {three(error)})' if error is not None else ''}."
    )
    drawn = figure(
        figures.field(
            "invasion",
            "Where selection points",
            np.array(curl["emission"], float),
            np.array(curl["response"], float),
            np.array(curl["gradients"], float),
            ("emission, log odds", "response to the signal, log odds"),
        ),
        f"Gradient of invasion fitness, mean of {curl['replicates']} replicates; the longest arrow fills its cell. Heredity here: tables, "
        f"hand-written. {study.source(_FOLLOWED)}",
        "Where selection points",
    )
    body += pair([drawn])
    body += "<h3>How learning answers learning</h3>" + paragraph(
        f"What two halves of a population learn in {units.count(learning['steps'], 'step')} after tables of one were moved by "
        f"{learning['moved']:g}: rows what is learned, columns what was moved; mean of {units.count(learning['replicates'], 'replicate')}."
    )
    rows = [
        [escaped(name), *(three(value) for value in row)]
        for name, row in zip(learning["parameters"], learning["jacobian"], strict=True)
    ]
    body += grid(["learned", *learning["parameters"]], rows)
    return section("selection", "Selection and learning as fields", body)
