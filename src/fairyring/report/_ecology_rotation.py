"""Whether anything turns that would not if bacteria climbed one hill, as the report tells it: each number beside its null."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fairyring.report import _ecology_figures as figures
from fairyring.report import units
from fairyring.report._ecology_data import Study, grid, interval, judged, p_value, three
from fairyring.report._ecology_jars import sentences
from fairyring.report._html import escaped, figure, number, pair, paragraph, section, stat

_LEVEL = 0.05
_FOLLOWED, _JARS = ("followed",), ("populations",)


def headline(study: Study) -> tuple[str, str, list[str]]:
    """Title, lead and stats."""
    told = study.found["rotation"]
    rows = _measures(study)
    turning = [name for name, *_, turns in rows if turns]
    title = f"{len(turning) or 'None'} of {len(rows)} measures of rotation {'is' if len(turning) == 1 else 'are'} beyond {'its null' if len(turning) == 1 else 'their nulls'}"
    lead = (
        "Where all climb one hill nothing turns: no cycles in who beats whom, no circling traits, a selection that has a potential, "
        f"learning whose Jacobian is its own transpose. Beyond the null: {', '.join(turning) or 'none of them'}."
    )
    stats = []
    if told["jars"] is not None:
        hodge = told["jars"]["hodge"]
        note = f"null {three(hodge['null_share'])}, p {p_value(hodge['p'])}"
        stats.append(stat("Cyclic share of jars", three(hodge["share"]), note))
    curl, learning = told["curl"], told["learning"]
    stats += [
        stat(
            "Selection without potential",
            three(curl["share"]),
            f"null {three(curl['null_share'])}, p {p_value(curl['p'])}",
        ),
        stat(
            "Learning, antisymmetric",
            three(learning["antisymmetric_share"]),
            f"null {three(learning['null_share'])}, p {p_value(learning['p'])}",
        ),
        stat("Worlds followed", units.count(told["worlds"]), f"for {units.count(told['steps'], 'step')}"),
    ]
    return title, lead, stats


def _measures(study: Study) -> list[tuple[str, str, str, float | None, str, bool]]:
    """Name, value, what the null gives, p, what was repeated, and whether it is beyond its null."""
    told, rows = study.found["rotation"], []
    for name, key in (("cycles in jars, at the end", "jars"), ("cycles in jars, early", "early_jars")):
        one = told.get(key)
        if one is not None:
            hodge = one["hodge"]
            unit = f"{study.found['jars']['replicates']} jars a pair"
            rows.append((name, three(hodge["share"]), three(hodge["null_share"]), hodge["p"], unit))
    for key, name in (("behaviour", "what they do turns"), ("rewards", "what they inherit turns")):
        rotation = told[key]["rotation"]
        rows.append((name, interval(rotation["mean"]), "0", rotation["p"], f"{told['worlds']} worlds"))
    curl, learning = told["curl"], told["learning"]
    jars = f"{curl['replicates']} jars a mutant"
    rows.append(("selection, no potential", three(curl["share"]), three(curl["null_share"]), curl["p"], jars))
    jacobian = curl["jacobian"]
    rows.append(
        (
            "selection, antisymmetric",
            three(jacobian["antisymmetric_share"]),
            three(jacobian["null_share"]),
            jacobian["p"],
            jars,
        )
    )
    rows.append(
        (
            "learning, antisymmetric",
            three(learning["antisymmetric_share"]),
            three(learning["null_share"]),
            learning["p"],
            f"{learning['replicates']} replicates",
        )
    )
    rows.append(
        (
            "learning, between halves",
            three(learning["between"]),
            "turned round at random",
            learning["between_p"],
            f"{learning['replicates']} replicates",
        )
    )
    return [(*row, row[3] is not None and row[3] < _LEVEL) for row in rows]


def verdicts(study: Study) -> str:
    """Each measure beside its null."""
    told = study.found["rotation"]
    body = paragraph(
        "From weak to strong; each has a null in which nothing turns: the fitted ranking with the jars' noise; worlds' histories run "
        "backwards; the fitted landscape with the jars' noise; replicates' Jacobians transposed at random. p-values are not adjusted "
        "for there being several measures. Shares above 0 are what noise gives too: read them beside the null."
    )
    rows = [
        [
            escaped(name),
            escaped(value),
            escaped(null),
            p_value(p),
            escaped(unit),
            judged(True, "beyond its null") if turns else "not shown",
        ]
        for name, value, null, p, unit, turns in _measures(study)
    ]
    body += grid(["measure", "value", "its null", "p", "n", "verdict"], rows) + sentences(told["found"])
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
