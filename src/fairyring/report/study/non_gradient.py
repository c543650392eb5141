"""Whether anything turns that would not if bacteria climbed one hill, as the report tells it: each number beside its null."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fairyring.ecology.results import BEFORE, TOO_FEW
from fairyring.report.kit import Figure, Section, escaped, grid, judged, number, pair, paragraph, stat, units
from fairyring.report.study import figures
from fairyring.report.study.coculture import sentences
from fairyring.report.study.data import Study, interval, p_value, three

_FOLLOWED = ("followed",)
_Row = Mapping[str, Any]


def headline(study: Study) -> tuple[str, str, list[str]]:
    """Title, lead and stats."""
    told = study.found["rotation"]
    rows = study.verdicts["rotation"]
    turning = [row["name"] for row in rows if row["turns"]]
    alone, few = ([row for row in rows if row["verdict"] == words] for words in (BEFORE, TOO_FEW))
    some = f"{len(turning) or 'None'} of {sum(row['p'] is not None for row in rows)} measures of rotation"
    title = f"{some} {'are beyond their nulls' if len(turning) > 1 else 'is beyond its null'}"
    lead = (
        "Where all climb one hill nothing turns: no cycles in who beats whom, no circling traits, a selection that has a potential, "
        f"learning whose Jacobian is its own transpose. Beyond the null: {', '.join(turning) or 'none of them'}."
    )
    if alone:
        lead += f" Only by itself, and not with all measures considered: {', '.join(row['name'] for row in alone)}."
    if few:
        lead += f" {_nothing_could(few)}"
    stats = []
    if told["early_jars"] is not None:
        hodge = told["early_jars"]["hodge"]
        note = f"null {three(hodge['null_share'])}, p {p_value(hodge['p'])}"
        stats.append(stat("Cyclic share of jars, early", three(hodge["share"]), note))
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


def _shown(study: Study) -> dict[str, tuple[str, str, str]]:
    """Of each measure by its name: what was measured, what its null gives, and what was repeated how often."""
    told = study.found["rotation"]
    curl, learning, followed = told["curl"], told["learning"], f"{told['worlds']} worlds"
    shown = {
        name: _share(told[key]["hodge"], "share", f"{study.found['jars']['replicates']} jars")
        for name, key in (("cycles in jars, early", "early_jars"), ("cycles in jars, at the end", "jars"))
        if told.get(key) is not None
    }
    for key, name in (("behaviour", "what they do turns"), ("rewards", "what they inherit turns")):
        shown[name] = interval(told[key]["rotation"]["mean"]), "0", followed
    repeated = f"{learning['replicates']} worlds"
    return shown | {
        "selection, no potential": _share(curl, "share", f"{curl['replicates']} jars"),
        "learning, antisymmetric": _share(learning, "antisymmetric_share", repeated),
        "learning, between halves": (three(learning["between"]), "–", repeated),
    }


def _share(one: _Row, key: str, n: str) -> tuple[str, str, str]:
    return three(one[key]), three(one["null_share"]), n


def _nothing_could(few: list[_Row]) -> str:
    """That no data of so few could have shown a measure."""
    return (
        f"With so few worlds nothing could have been shown of: {', '.join(row['name'] for row in few)} (the least p there is "
        f"is {p_value(few[0]['least'])}, by Holm {p_value(few[0]['least_holm'])})."
    )


def verdicts(study: Study) -> Section:
    """Each measure beside its null."""
    told = study.found["rotation"]
    body = paragraph(
        "From weak to strong; each has a null in which nothing turns: the fitted ranking with the jars' noise; worlds' histories run "
        "backwards; the fitted landscape with the jars' noise; worlds' Jacobians transposed at random. p is Holm's over "
        "all measures of this page for the verdict. Shares above 0 are what noise gives too: read them beside the null. "
        "Late in jars the weak have all but died out, which bends a ranking so that it passes for cycles: only the early share is "
        "judged, and even that one is too large where some win very fast."
    )
    measures, shown = study.verdicts["rotation"], _shown(study)
    few = [row for row in measures if row["verdict"] == TOO_FEW]
    body += paragraph(_nothing_could(few)) if few else ""
    rows = [
        [
            escaped(row["name"]),
            judged(True, row["verdict"]) if row["turns"] else escaped(row["verdict"]),
            *map(escaped, shown[row["name"]][:2]),
            p_value(row["p"]),
            p_value(row["holm"]),
            escaped(shown[row["name"]][2]),
        ]
        for row in measures
    ]
    head = ["measure", "verdict", "value", "its null, mean", "p", "p, Holm", "n"]
    body += grid(head, rows) + "<h3>In the study's own words</h3>" + sentences(told["found"])
    shares = [
        (name, told[key]["hodge"]["share"], told[key]["hodge"]["null_share"])
        for name, key in (("jars, early", "early_jars"), ("jars, at the end", "jars"))
        if told.get(key) is not None
    ]
    curl, learning = told["curl"], told["learning"]
    shares += [
        ("selection, no potential", curl["share"], curl["null_share"]),
        ("learning, antisymmetric", learning["antisymmetric_share"], learning["null_share"]),
    ]
    drawn = [
        Figure(
            figures.shares("shares", "Shares that turn, beside their nulls", "share", shares),
            f"Dot: what was measured; tick: the mean that its null gives. {study.source()}",
            "Shares that turn",
        ),
        Figure(
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
            f"{_rest(study)} {study.source(_FOLLOWED)}",
            "Two traits in time",
        ),
    ]
    return Section("verdicts", "Each measure beside its null", body + pair(drawn))


def _rest(study: Study) -> str:
    """Whether the traits were at rest, without which their turning is not to be read."""
    read = {row["name"]: not row["unread"] for row in study.verdicts["rotation"]}
    names = {"behaviour": "what they do turns", "rewards": "what they inherit turns"}
    moving = [key for key, name in names.items() if not read[name]]
    if not moving:
        return "Both pairs were at rest as far as halves of the histories tell."
    return f"Not at rest, and so not to be read as rotation: {' and '.join(moving)}."


def selection(study: Study) -> Section:
    """The field of invasion fitness, and the Jacobian of learning."""
    told = study.found["rotation"]
    curl, learning = told["curl"], told["learning"]
    error = number(curl["mean_curl_error"])
    body = paragraph(
        "Residents with hand-written tables at each place of a grid of two traits, log odds of emitting and of tumbling when the signal "
        "is sensed; each one's neighbours on the grid were put among them as mutants. An arrow is the gradient of their invasion fitness. "
        "What has no potential is asked of how neighbours invade each other: half of what the one gains among the other, less "
        "what the other gains among it, is the difference of any landscape that both climb, however it is curved. "
        f"One of the two was gone at the end of {units.share(float(np.mean(curl['gone'])))} of the jars, of "
        f"{units.share(float(np.max(curl['gone'])))} where most were: near 100 % growth is bent, and even a landscape has curl. "
        f"Mean curl {three(curl['mean_curl'])}{f' (standard error {three(error)})' if error is not None else ''}."
    )
    drawn = Figure(
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
        f"{learning['moved']:g}: rows what is learned, columns what was moved; mean of {units.count(learning['replicates'], 'world')}. "
        "Along unit vectors of all tables together, in which the Jacobian of a gradient is its own transpose."
    )
    rows = [
        [escaped(name), *(three(value) for value in row)]
        for name, row in zip(learning["parameters"], learning["jacobian"], strict=True)
    ]
    body += grid(["learned", *learning["parameters"]], rows)
    return Section("selection", "Selection and learning as fields", body)
