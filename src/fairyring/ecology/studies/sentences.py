"""What a study found, in sentences for a terminal, from the plain values of its `study.json`."""

from collections.abc import Mapping
from typing import Any


def sentences(found: Mapping[str, Any]) -> list[str]:
    """The verdicts of a study, a sentence each."""
    lines = []
    if "decisions" in found:
        told = found["decisions"]
        lines += [
            f"Chemotaxis by the decision for a world: {_passed(found, 'passed')} worlds.",
            told["configuration"]["why"],
        ]
        if "passed_beside_unrelated" in told:
            lines += [
                f"The same beside worlds in which nothing is passed on: {_passed(found, 'passed_beside_unrelated')} worlds.",
                told["against_unrelated"]["why"],
            ]
    if "viability" in found:
        classes = found["viability"]["classes"]
        kinds = ", ".join(f"{classes.count(kind)} {kind}" for kind in dict.fromkeys(classes))
        lines.append(f"Viability of the evolved worlds: {kinds}.")
        lines += _rewards(found)
    for part in ("jars", "rotation"):
        lines += found.get(part, {}).get("found", [])
    return lines


def _passed(found: Mapping[str, Any], name: str) -> str:
    return ", ".join(
        f"{count} of {len(found['arms'][arm]['worlds'])} {arm}"
        for arm, count in found["decisions"][name].items()
    )


def _rewards(found: Mapping[str, Any]) -> list[str]:
    if "rewards" not in found:
        return ["No table of rewards: fewer than three worlds are viable."]
    rows = found["rewards"]["table"]
    lines = [
        f"reward of {row['name']}: {_number(row['mean']['estimate'])} [{_number(row['mean']['low'])}, "
        f"{_number(row['mean']['high'])}], positive in {row['signs']['positive']} of "
        f"{row['signs']['positive'] + row['signs']['negative']} worlds, p {row['p_holm']:.2g}"
        f"{'' if row['agreement'] is None else ', the lecture: ' + row['agreement']}"
        for row in rows
        if row["null_holds"] is None
    ]
    null = next((row for row in rows if row["null_holds"] is not None), None)
    if null is not None:
        held = "holds: it is at 0" if null["null_holds"] else "FAILS: believe no row"
        lines.append(f"The null, the reward of {null['name']}, {held}.")
    return lines


def _number(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.3g}"
