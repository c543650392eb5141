"""The verdicts of a study as sentences for a terminal, from the plain values of its `study.json`."""

from collections.abc import Mapping
from typing import Any


def sentences(results: Mapping[str, Any]) -> list[str]:
    """The verdicts of a study, a sentence each."""
    lines = []
    if "decisions" in results:
        decisions = results["decisions"]
        lines += [
            f"Chemotaxis by the decision for a world: {_passed(results, 'passed')} worlds.",
            decisions["configuration"]["why"],
        ]
        if "passed_beside_no-inheritance" in decisions:
            lines += [
                "The same against worlds in which nothing is inherited: "
                f"{_passed(results, 'passed_beside_no-inheritance')} worlds.",
                decisions["against_no-inheritance"]["why"],
            ]
    if "viability" in results:
        classes = results["viability"]["classes"]
        kinds = ", ".join(f"{classes.count(kind)} {kind}" for kind in dict.fromkeys(classes))
        lines.append(f"Viability of the evolved worlds: {kinds}.")
        lines += _rewards(results)
    for part in ("jars", "rotation"):
        lines += results.get(part, {}).get("found", [])
    return lines


def _passed(results: Mapping[str, Any], name: str) -> str:
    return ", ".join(
        f"{count} of {len(results['arms'][arm]['worlds'])} {arm}"
        for arm, count in results["decisions"][name].items()
    )


def _rewards(results: Mapping[str, Any]) -> list[str]:
    if "rewards" not in results:
        return ["No table of rewards: fewer than three worlds are viable."]
    rows = results["rewards"]["table"]
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
        outcome = "holds: it is at 0" if null["null_holds"] else "FAILS: trust no row"
        lines.append(f"The null, the reward of {null['name']}, {outcome}.")
    return lines


def _number(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.3g}"
