"""The sections on non-gradient dynamics: each measure against its null."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fairyring.ecology.results import BEFORE, TOO_FEW
from fairyring.report.kit import Figure, Section, number, stat, units
from fairyring.report.study import figures
from fairyring.report.study.blocks import (
    Block,
    Bullets,
    Figures,
    Heading,
    Table,
    Text,
    Verdict,
    section,
)
from fairyring.report.study.data import Study, interval, p_value, three

_FOLLOWED = ("followed",)
_Row = Mapping[str, Any]


def headline(study: Study) -> tuple[str, str, list[str]]:
    """Title, lead and stats."""
    results, rows = study.found["rotation"], study.verdicts["rotation"]
    turning = [row["name"] for row in rows if row["turns"]]
    alone, few = ([row for row in rows if row["verdict"] == verdict] for verdict in (BEFORE, TOO_FEW))
    some = f"{len(turning) or 'None'} of {sum(row['p'] is not None for row in rows)} measures of rotation"
    title = f"{some} {'are beyond their nulls' if len(turning) > 1 else 'is beyond its null'}"
    lead = (
        "If all climbed one function, nothing would rotate: there would be no cycles of dominance and no circling traits, selection "
        "would have a potential, and the Jacobian of learning would be symmetric. Beyond the null: "
        f"{', '.join(turning) or 'none of them'}."
    )
    if alone:
        lead += f" Only without adjustment for all measures: {', '.join(row['name'] for row in alone)}."
    if few:
        lead += f" {_not_decidable(few)}"
    stats = []
    if results["early_jars"] is not None:
        hodge = results["early_jars"]["hodge"]
        note = f"null {three(hodge['null_share'])}, p {p_value(hodge['p'])}"
        stats.append(stat("Cyclic share of jars, early", three(hodge["share"]), note))
    for name, one, key in (
        ("Selection without potential", results["curl"], "share"),
        ("Learning, antisymmetric", results["learning"], "antisymmetric_share"),
    ):
        note = f"null {three(one['null_share'])}, p {p_value(one['p'])}"
        stats.append(stat(name, three(one[key]), note))
    stats.append(
        stat(
            "Worlds followed", units.count(results["worlds"]), f"for {units.count(results['steps'], 'step')}"
        )
    )
    return title, lead, stats


def _shown(study: Study) -> dict[str, tuple[str, str, str]]:
    """For each measure by its name: its value, its value under the null, and the number of replicates."""
    results = study.found["rotation"]
    curl, learning, followed = results["curl"], results["learning"], f"{results['worlds']} worlds"
    shown = {
        name: _share(results[key]["hodge"], "share", f"{study.found['jars']['replicates']} jars")
        for name, key in (("cycles in jars, early", "early_jars"), ("cycles in jars, at the end", "jars"))
        if results.get(key) is not None
    }
    for key, name in (("behaviour", "what they do turns"), ("rewards", "what they inherit turns")):
        shown[name] = interval(results[key]["rotation"]["mean"]), "0", followed
    repeated = f"{learning['replicates']} worlds"
    return shown | {
        "selection, no potential": _share(curl, "share", f"{curl['replicates']} jars"),
        "learning, antisymmetric": _share(learning, "antisymmetric_share", repeated),
        "learning, between halves": (three(learning["between"]), "–", repeated),
    }


def _share(one: _Row, key: str, n: str) -> tuple[str, str, str]:
    return three(one[key]), three(one["null_share"]), n


def _not_decidable(few: list[_Row]) -> str:
    """That no data from so few replicates could have shown some measures."""
    return (
        f"With so few worlds nothing could have been shown of: {', '.join(row['name'] for row in few)} (the smallest possible p "
        f"is {p_value(few[0]['least'])}, by Holm {p_value(few[0]['least_holm'])})."
    )


def verdicts(study: Study) -> Section:
    """Each measure against its null."""
    results = study.found["rotation"]
    blocks: list[Block] = [
        Text(
            "In order of strength. Each has a null without rotation: the fitted ranking with the noise of the jars; histories of "
            "worlds reversed in time; the fitted landscape with the noise of the jars; Jacobians of worlds transposed at random. The "
            "verdict uses p after Holm's correction over all measures of this page. Noise makes shares larger than 0 as well, so "
            "compare them with the null. Late in jars the weak have nearly died out; this distorts a ranking so that it looks cyclic. "
            "So only the early share is judged, and even that is too large where some win very fast."
        )
    ]
    measures, shown = study.verdicts["rotation"], _shown(study)
    few = [row for row in measures if row["verdict"] == TOO_FEW]
    if few:
        blocks.append(Text(_not_decidable(few)))
    rows = [
        [
            row["name"],
            Verdict(True, row["verdict"]) if row["turns"] else row["verdict"],
            *shown[row["name"]][:2],
            p_value(row["p"]),
            p_value(row["holm"]),
            shown[row["name"]][2],
        ]
        for row in measures
    ]
    shares = [
        (name, results[key]["hodge"]["share"], results[key]["hodge"]["null_share"])
        for name, key in (("jars, early", "early_jars"), ("jars, at the end", "jars"))
        if results.get(key) is not None
    ]
    curl, learning = results["curl"], results["learning"]
    shares += [
        ("selection, no potential", curl["share"], curl["null_share"]),
        ("learning, antisymmetric", learning["antisymmetric_share"], learning["null_share"]),
    ]
    turning = [
        (
            " and ".join(results[key]["traits"]),
            np.array(results[key]["rotation"]["turning"], float),
            results[key]["rotation"]["mean"],
        )
        for key in ("behaviour", "rewards")
    ]
    drawn = [
        Figure(
            figures.shares("shares", "Shares of rotation, and their nulls", "share", shares),
            f"Dot: what was measured; tick: its mean under the null. {study.source()}",
            "Shares of rotation",
        ),
        Figure(
            figures.forest("turning", "Two traits over time", "rotation per observation", turning),
            f"How fast two traits circle their mean: a dot for each world (n = {results['worlds']}); ring and bar: mean and its 95 % "
            f"BCa interval. {_rest(study)} {study.source(_FOLLOWED)}",
            "Two traits over time",
        ),
    ]
    return section(
        "verdicts",
        "Each measure against its null",
        *blocks,
        Table(["measure", "verdict", "value", "its null, mean", "p", "p, Holm", "n"], rows),
        Heading("In the study's own words"),
        Bullets(results["found"]),
        Figures(drawn),
    )


def _rest(study: Study) -> str:
    """Whether the traits were at rest; otherwise their rotation must not be interpreted."""
    read = {row["name"]: not row["unread"] for row in study.verdicts["rotation"]}
    names = {"behaviour": "what they do turns", "rewards": "what they inherit turns"}
    moving = [key for key, name in names.items() if not read[name]]
    if not moving:
        return "By a comparison of the halves of the histories, both pairs were at rest."
    return f"Not at rest, and so not to be read as rotation: {' and '.join(moving)}."


def selection(study: Study) -> Section:
    """The field of invasion fitness, and the Jacobian of learning."""
    results = study.found["rotation"]
    curl, learning = results["curl"], results["learning"]
    error = number(curl["mean_curl_error"])
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
    rows = [
        [name, *(three(value) for value in row)]
        for name, row in zip(learning["parameters"], learning["jacobian"], strict=True)
    ]
    return section(
        "selection",
        "Selection and learning as fields",
        Text(
            "Residents with hand-written tables stand at each point of a grid of two traits, the log odds of emitting and of tumbling "
            "when the signal is sensed. The neighbours on the grid were introduced among them as mutants. An arrow is the gradient of "
            "their invasion fitness. The part without a potential is measured by how neighbours invade each other: if both climb a "
            "landscape, half the difference between the growth of one among the other and that of the other among the one is the "
            "difference in height, however curved the landscape is. One of the two was extinct at the end of "
            f"{units.share(float(np.mean(curl['gone'])))} of the jars, and of {units.share(float(np.max(curl['gone'])))} at the worst "
            "point; near 100 % growth is distorted, and even a landscape has curl. "
            f"Mean curl {three(curl['mean_curl'])}{f' (standard error {three(error)})' if error is not None else ''}."
        ),
        Figures([drawn]),
        Heading("How learning responds to learning"),
        Text(
            f"What two halves of a population learn in {units.count(learning['steps'], 'step')} after the tables of one were moved by "
            f"{learning['moved']:g}: rows for what is learned, columns for what was moved; mean of "
            f"{units.count(learning['replicates'], 'world')}. It is along unit vectors of all tables together, where the Jacobian of a "
            "gradient is symmetric."
        ),
        Table(["learned", *learning["parameters"]], rows),
    )
