"""Verdicts of a study beyond its single tests, from the plain values of `study.json`: signs, differences, rotation.

Verdicts are decided here and nowhere else. A study stores them in its file under `verdicts`; for files from before that,
`read_study` decides them from the numbers in the file.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairyring.core.errors import StatisticsError
from fairyring.statistics import Interval, bca_interval, holm

LEVEL = 0.05  # of every verdict here
BEYOND, BEFORE, TOO_FEW, NOT_SHOWN = (
    "beyond its null",
    "only before Holm",
    "cannot be shown: too few",
    "not shown",
)
_MOVING, _BENT = "not at rest: not read", "bent by saturation: not read"
_Row = Mapping[str, Any]


def decided(results: Mapping[str, Any]) -> dict[str, Any]:
    """The verdicts of a study, from its other parts as plain values; only for the parts that it has."""
    verdicts: dict[str, Any] = {}
    if results.get("arms"):
        verdicts["rule"] = _rule(results)
    if results.get("rewards"):
        verdicts["rewards"] = _rewards(results["rewards"])
    compared = {
        name: _differences(results[name])
        for name in ("relearning", "learned_in_life", "knock_outs")
        if results.get(name)
    }
    if compared:
        verdicts["compared"] = compared
    if results.get("jars"):
        verdicts["jars"] = _coculture(results["jars"])
    if results.get("rotation"):
        verdicts["rotation"] = [dataclasses.asdict(row) for row in _measures(results)]
    return verdicts


def over_worlds(values: np.ndarray) -> Interval | None:
    """Mean and 95 % BCa interval over the worlds that have a finite number; None if none has."""
    known = values[np.isfinite(values)]
    try:
        return bca_interval(known)
    except StatisticsError:
        return None


def _rule(results: Mapping[str, Any]) -> dict[str, int | None]:
    """The sign of each contrast over evolved worlds, by its interval; 0 for no sign, None if it is unknown."""

    def sign(name: str) -> int | None:
        rows = ((world.get("assay") or {}).get(name) for world in results["arms"]["evolved"]["worlds"])
        mean = over_worlds(np.array([np.nan if value is None else float(value) for value in rows]))
        return None if mean is None else int(mean.low > 0) - int(mean.high < 0)

    return {"change": sign("contrast"), "level": sign("level_contrast")}


def _rewards(rewards: Mapping[str, Any]) -> dict[str, Any]:
    rows = rewards["table"]
    tested = [row["name"] for row in rows if row["null_holds"] is None]
    ours, worlds = _signs(rows), max(row["mean"]["size"] for row in rows)
    least = _least_adjusted(worlds, len(tested))
    controls = {}
    for arm, control in (rewards.get("controls") or {}).items():
        theirs = _signs(control["table"])
        controls[arm] = {
            "signs": theirs,
            "same": [name for name, sign in ours.items() if sign and theirs.get(name) == sign],
            "own": [name for name, sign in ours.items() if sign and theirs.get(name) != sign],
            "differs": [
                row["name"] for row in control["apart"] if row["name"] in ours and row["p_holm"] < LEVEL
            ],
        }
    return {
        "signs": ours,
        "null_holds": all(row["null_holds"] is not False for row in rows),
        "worlds": worlds,
        "least_p": least,
        "decidable": least < LEVEL,
        "controls": controls,
    }


def _signs(rows: Sequence[_Row]) -> dict[str, int]:
    return {row["name"]: _sign(row) for row in rows if row["null_holds"] is None}


def _sign(row: _Row) -> int:
    """The sign of a row of the reward table that is beyond chance, or 0; the same rule as for agreement with the lecture."""
    signs, low, high = row["signs"], row["mean"]["low"], row["mean"]["high"]
    if row["p_holm"] >= LEVEL or low is None or high is None:
        return 0
    if low > 0 and signs["positive"] > signs["negative"]:
        return 1
    return -1 if high < 0 and signs["negative"] > signs["positive"] else 0


def _differences(rows: Sequence[_Row]) -> dict[str, Any]:
    """Which of a family of paired differences are beyond chance, or that so few worlds could show none."""
    worlds = min(len(row["ours"]) for row in rows)
    least = _least_adjusted(worlds, len(rows))
    return {
        "differs": [row["name"] for row in rows if row["p_holm"] < LEVEL],
        "worlds": worlds,
        "least_p": least,
        "decidable": least < LEVEL,
    }


def _least_adjusted(worlds: int, tests: int) -> float:
    """The smallest p that a sign test or sign-flip test can reach after Holm's correction for `tests` tests."""
    return min(1.0, tests * 2 / 2**worlds)


def _coculture(coculture: Mapping[str, Any]) -> dict[str, Any]:
    """For each pair, whether the first and the second gain beyond drift; and whether the early outcomes have cycles."""
    early = coculture.get("early_standing")
    p = None if early is None else early["hodge"]["p"]
    return {
        "gains": [
            [contest[side]["holm"] <= LEVEL for side in ("first_gains", "second_gains")]
            for contest in coculture["contests"]
        ],
        "cycles": p is not None and p < LEVEL,
    }


@dataclass(frozen=True)
class Measure:
    """One measure of non-gradient dynamics against its null.

    Attributes:
        name: of the measure.
        p: against the null; None where there is no verdict.
        least: the smallest p possible with so many replicates.
        unread: why it must not be interpreted, whatever its p; empty if it may be.
        holm: p adjusted for all measures of the study; None without p.
        least_holm: what `holm` would be if every measure had its smallest possible p.
        turns: whether it is beyond its null after adjustment for all measures.
        verdict: in a few words.
    """

    name: str
    p: float | None
    least: float = 0.0
    unread: str = ""
    holm: float | None = None
    least_holm: float = 0.0
    turns: bool = False
    verdict: str = ""


def _measures(results: Mapping[str, Any]) -> list[Measure]:
    """Each measure with its verdict after adjustment for all of them, in the order in which they are reported."""
    rotation, rows = results["rotation"], []
    if rotation.get("early_jars") is not None:
        rows.append(Measure("cycles in jars, early", rotation["early_jars"]["hodge"]["p"]))
    if rotation.get("jars") is not None:
        # Where losers have died out, a ranking is no longer additive and looks like cycles; its p would test that.
        rows.append(Measure("cycles in jars, at the end", None, unread=_BENT))
    for key, name in (("behaviour", "what they do turns"), ("rewards", "what they inherit turns")):
        moving = _MOVING if min(rotation[key]["trend_p"]) < LEVEL else ""
        rows.append(Measure(name, rotation[key]["rotation"]["p"], _least(rotation["worlds"]), moving))
    learning = rotation["learning"]
    least = _least(learning["replicates"])
    rows += [
        Measure("selection, no potential", rotation["curl"]["p"]),
        Measure("learning, antisymmetric", learning["p"], least),
        Measure("learning, between halves", learning["between_p"], least),
    ]
    known = [row for row in rows if row.p is not None]
    adjusted = dict(zip([row.name for row in known], holm([row.p or 0.0 for row in known]), strict=True))
    smallest = dict(zip([row.name for row in known], holm([row.least for row in known]), strict=True))
    return [_with_verdict(row, adjusted.get(row.name), smallest.get(row.name, 0.0)) for row in rows]


def _with_verdict(row: Measure, adjusted: float | None, least: float) -> Measure:
    turns = adjusted is not None and adjusted < LEVEL and not row.unread
    if turns:
        verdict = BEYOND
    elif row.unread:
        verdict = row.unread
    elif least >= LEVEL:
        verdict = TOO_FEW
    else:
        verdict = BEFORE if row.p is not None and row.p < LEVEL else NOT_SHOWN
    return dataclasses.replace(row, holm=adjusted, least_holm=least, turns=turns, verdict=verdict)


def _least(worlds: int) -> float:
    """The smallest two-sided p of a sign-flip test over so many worlds."""
    return 2.0 / 2.0**worlds
