"""What a study decides beyond its single tests, from the plain values of `study.json`: signs, differences, measures that turn.

Decided here and nowhere else. A study keeps it in its file, under `verdicts`; of files from before it did, `read_study` decides it anew from
the numbers they hold.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fairyring.core.errors import RunDamaged, RunError, StatisticsError
from fairyring.core.reading import NotJson, read_json
from fairyring.statistics import Interval, bca_interval, holm

LEVEL = 0.05  # of everything that is decided here
BEYOND, BEFORE, TOO_FEW, NOT_SHOWN = (
    "beyond its null",
    "only before Holm",
    "cannot be shown: too few",
    "not shown",
)
_MOVING, _BENT = "not at rest: not read", "bent by saturation: not read"
_Row = Mapping[str, Any]


def read_study(folder: Path) -> dict[str, Any]:
    """What a study's `study.json` holds, with its verdicts.

    Raises:
        RunError: there is no study in the folder.
        RunDamaged: the file is not what a study writes.
    """
    file = folder / "study.json"
    if not file.is_file():
        raise RunError(
            str(folder),
            given="no study.json in it" if folder.is_dir() else "no such folder",
            expected="the folder of a study",
            do="Make one: fairyring ecology study v1.",
        )
    try:
        found = read_json(file.read_bytes())
    except (OSError, NotJson) as error:
        raise damaged(file, str(error)) from error
    if not isinstance(found, dict) or not isinstance(found.get("study"), str):
        raise damaged(file, "no study")
    if "verdicts" not in found:
        try:
            found["verdicts"] = decided(found)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise damaged(file, f"{type(error).__name__}: {error}") from error
    return found


def damaged(file: Path, given: str) -> RunDamaged:
    """The error of a study that cannot be told."""
    return RunDamaged(
        str(file),
        given=given,
        expected="what a study writes",
        do="Make the study again in that folder: its runs are gone on with.",
    )


def decided(found: Mapping[str, Any]) -> dict[str, Any]:
    """The verdicts of a study from its other parts, plain values: those of the parts that it has."""
    verdicts: dict[str, Any] = {}
    if found.get("arms"):
        verdicts["rule"] = _rule(found)
    if found.get("rewards"):
        verdicts["rewards"] = _rewards(found["rewards"])
    compared = {
        name: _differences(found[name])
        for name in ("relearning", "learned_in_life", "knock_outs")
        if found.get(name)
    }
    if compared:
        verdicts["compared"] = compared
    if found.get("jars"):
        verdicts["jars"] = _jars(found["jars"])
    if found.get("rotation"):
        verdicts["rotation"] = [dataclasses.asdict(one) for one in _measures(found)]
    return verdicts


def over_worlds(values: np.ndarray) -> Interval | None:
    """Mean and 95 % BCa interval over the worlds that have a number; None where none has."""
    known = values[np.isfinite(values)]
    try:
        return bca_interval(known)
    except StatisticsError:
        return None


def _rule(found: Mapping[str, Any]) -> dict[str, int | None]:
    """Sign of each contrast over evolved worlds, by its interval: 0 for none, None where it is not known."""

    def sign(name: str) -> int | None:
        rows = ((world.get("assay") or {}).get(name) for world in found["arms"]["evolved"]["worlds"])
        mean = over_worlds(np.array([np.nan if value is None else float(value) for value in rows]))
        return None if mean is None else int(mean.low > 0) - int(mean.high < 0)

    return {"change": sign("contrast"), "level": sign("level_contrast")}


def _rewards(found: Mapping[str, Any]) -> dict[str, Any]:
    rows = found["table"]
    asked = [row["name"] for row in rows if row["null_holds"] is None]
    ours, worlds = _signs(rows), max(row["mean"]["size"] for row in rows)
    least = _least_adjusted(worlds, len(asked))
    controls = {}
    for arm, of in (found.get("controls") or {}).items():
        theirs = _signs(of["table"])
        controls[arm] = {
            "signs": theirs,
            "same": [name for name, sign in ours.items() if sign and theirs.get(name) == sign],
            "own": [name for name, sign in ours.items() if sign and theirs.get(name) != sign],
            "differs": [row["name"] for row in of["apart"] if row["name"] in ours and row["p_holm"] < LEVEL],
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
    """The sign that a row of the table has beyond chance, or 0: as its agreement with the lecture is decided."""
    signs, low, high = row["signs"], row["mean"]["low"], row["mean"]["high"]
    if row["p_holm"] >= LEVEL or low is None or high is None:
        return 0
    if low > 0 and signs["positive"] > signs["negative"]:
        return 1
    return -1 if high < 0 and signs["negative"] > signs["positive"] else 0


def _differences(rows: Sequence[_Row]) -> dict[str, Any]:
    """Which of some paired differences, asked at once, are beyond chance; or that so few worlds could show none."""
    worlds = min(len(row["ours"]) for row in rows)
    least = _least_adjusted(worlds, len(rows))
    return {
        "differs": [row["name"] for row in rows if row["p_holm"] < LEVEL],
        "worlds": worlds,
        "least_p": least,
        "decidable": least < LEVEL,
    }


def _least_adjusted(worlds: int, asked: int) -> float:
    """The least p that a sign test, or a sign-flip test, can have after Holm's correction for so many asked at once."""
    return min(1.0, asked * 2 / 2**worlds)


def _jars(told: Mapping[str, Any]) -> dict[str, Any]:
    """Of each pair whether the first and the second gain beyond drift; and whether the early ranking leaves cycles."""
    early = told.get("early_standing")
    p = None if early is None else early["hodge"]["p"]
    return {
        "gains": [
            [one[side]["holm"] <= LEVEL for side in ("first_gains", "second_gains")]
            for one in told["contests"]
        ],
        "cycles": p is not None and p < LEVEL,
    }


@dataclass(frozen=True)
class Measure:
    """One measure of non-gradient dynamics beside its null.

    Attributes:
        name: of it.
        p: beside the null; None where there is no verdict.
        least: the least p there is of so many replicates.
        unread: why it is not to be read, whatever its p; empty if it is.
        holm: p adjusted for all measures of the study; None without p.
        least_holm: what `holm` would be if every measure had the least p there is.
        turns: whether it is beyond its null, all measures considered.
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


def _measures(found: Mapping[str, Any]) -> list[Measure]:
    """Each measure, judged with all of them considered, in the order in which they are told."""
    told, rows = found["rotation"], []
    if told.get("early_jars") is not None:
        rows.append(Measure("cycles in jars, early", told["early_jars"]["hodge"]["p"]))
    if told.get("jars") is not None:
        # Where losers have died out a ranking is no longer additive: it passes for cycles, and p is of that.
        rows.append(Measure("cycles in jars, at the end", None, unread=_BENT))
    for key, name in (("behaviour", "what they do turns"), ("rewards", "what they inherit turns")):
        moving = _MOVING if min(told[key]["trend_p"]) < LEVEL else ""
        rows.append(Measure(name, told[key]["rotation"]["p"], _least(told["worlds"]), moving))
    learning = told["learning"]
    least = _least(learning["replicates"])
    rows += [
        Measure("selection, no potential", told["curl"]["p"]),
        Measure("learning, antisymmetric", learning["p"], least),
        Measure("learning, between halves", learning["between_p"], least),
    ]
    known = [row for row in rows if row.p is not None]
    adjusted = dict(zip([row.name for row in known], holm([row.p or 0.0 for row in known]), strict=True))
    leasts = dict(zip([row.name for row in known], holm([row.least for row in known]), strict=True))
    return [_judged(row, adjusted.get(row.name), leasts.get(row.name, 0.0)) for row in rows]


def _judged(row: Measure, adjusted: float | None, least: float) -> Measure:
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
    """The least two-sided p of signs flipped in so many worlds."""
    return 2.0 / 2.0**worlds
