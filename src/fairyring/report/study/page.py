"""The page of a study: its verdict in words, then every number beside its threshold, its controls and its null."""

from collections.abc import Callable, Mapping
from typing import Any

from fairyring.ecology.results import damaged
from fairyring.report.kit import (
    Document,
    Section,
    escaped,
    flat,
    folded,
    mapping,
    number,
    stat,
    table,
    units,
)
from fairyring.report.study import chemotaxis, coculture, non_gradient, rewards
from fairyring.report.study.data import Study, p_value, three

_SUBJECTS = {
    "v1": "World 1: a table from parent to child",
    "v2": "World 2: rewards from parent to child, learning in life",
    "jars": "Jars: populations that evolved apart, together",
    "rotation": "Rotation: is what is learned the optimum of anything?",
}
_Part = Callable[[Study], Section | None]


def document(study: Study) -> Document:
    """What the report of a study says.

    Raises:
        RunDamaged: `study.json` is not what a study writes.
    """
    headline, parts = _OF.get(study.kind, (None, ()))
    if headline is None:
        raise damaged(study.path / "study.json", f"a study of {study.kind!r}")
    try:
        title, lead, stats = headline(study)
        warning = rewards.alarm(study)
        sections = [part for made in (*parts, _settings, _provenance) if (part := made(study)) is not None]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise damaged(study.path / "study.json", f"{type(error).__name__}: {error}") from error
    return Document(
        kind="study",
        tab=title,
        kicker=_SUBJECTS[study.kind],
        title=title,
        lead=lead,
        stats=stats,
        sections=sections,
        made_of=f"<code>study.json</code> of the study\n<code>{escaped(study.path.resolve().name)}</code>",
        version=str(mapping(study.found.get("versions")).get("fairyring", "")),
        alarm=warning,
    )


def _chemotaxis(study: Study) -> tuple[str, str, list[str]]:
    """Title, lead and stats of a study of world 1."""
    told = study.found["decisions"]
    passed, counts = told["passed"], {arm: len(study.worlds(arm)) for arm in study.arms}
    yes = passed["evolved"]
    title = f"Chemotaxis evolved in {yes if yes else 'none'} of {units.count(counts['evolved'], 'world')}"
    return title, _lead(study), _stats(study, told, passed, counts)


def _lead(study: Study) -> str:
    told = study.found["decisions"]
    passed, counts = told["passed"], {arm: len(study.worlds(arm)) for arm in study.arms}
    whole = told["configuration"]
    return (
        f"Nobody wrote down what is to be optimised. In {units.count(counts['evolved'], 'world')}, each run for "
        f"{units.count(study.found['steps'], 'step')}, those that found food divided. By the same decision chemotaxis is in "
        f"{passed['scrambled'] or 'none'} of {units.count(counts['scrambled'], 'world')} with scrambled heredity and in "
        f"{passed['blind'] or 'none'} of {units.count(counts['blind'], 'blind one')}. That it "
        f"{'evolves in this configuration is shown' if whole['verdict'] else 'evolves in this configuration is not shown'}."
    )


def _stats(
    study: Study, told: Mapping[str, Any], passed: Mapping[str, int], counts: Mapping[str, int]
) -> list[str]:
    p, delta = told["configuration"]["criteria"][:2]
    errors = mapping(told.get("errors"))
    return [
        stat("Evolved worlds", f"{passed['evolved']} of {counts['evolved']}", "pass the decision"),
        stat(
            "Scrambled worlds",
            f"{passed['scrambled']} of {counts['scrambled']}",
            f"pass; stated error {units.share(errors['stated'])}" if errors else "pass",
            "warm",
        ),
        stat("Cliff's delta", three(delta["compared"]), f"p {p_value(p['compared'])}, over worlds"),
        stat("rho", three(number(study.found.get("rho"))), "blind uptake / cost of living"),
    ]


def _rewarded(study: Study) -> tuple[str, str, list[str]]:
    """Title, lead and stats of a study of world 2."""
    classes = study.found["viability"]["classes"]
    viable, rows = classes.count("viable"), mapping(study.found.get("rewards")).get("table")
    title = f"{viable if viable else 'None'} of {units.count(len(classes), 'evolved population')} {'is' if viable == 1 else 'are'} viable"
    short = classes.count("too short")
    if short:
        title += f", {short} not run for long enough to say"
    lead = "They learn in life; what is inherited and mutated is the reward of each event. "
    if rows is None:
        title += ": too few to say which rewards evolved"
        lead += "Rewards are read over viable worlds only, and there are fewer than three."
    else:
        real = [row for row in rows if row["null_holds"] is None]
        shown = study.verdicts["rewards"]["signs"]
        signs = {sign: [row["name"] for row in real if shown[row["name"]] == sign] for sign in (1, -1)}
        known = len(signs[1]) + len(signs[-1])
        few = rewards.undecidable(study)
        title += (
            "; too few to show a sign of any reward"
            if few
            else f"; {known if known else 'none'} of {len(real)} rewards {'has' if known == 1 else 'have'} a sign beyond chance"
        )
        lead += (
            f"Over worlds, positive: {', '.join(signs[1]) or 'none'}; negative: {', '.join(signs[-1]) or 'none'}; the others have "
            f"no sign beyond chance. {rewards.lecture(rows)}"
        )
        lead += f" {rewards.without_heredity(study, 'scrambled')}"
    told = study.found["decisions"]
    counts = {arm: len(study.worlds(arm)) for arm in study.arms}
    stats = _stats(study, told, told["passed"], counts)
    stats[0] = stat("Viable worlds", f"{viable} of {len(classes)}", "of those evolved")
    beside = mapping(told.get("passed_beside_no-inheritance"))
    if beside:
        # Heredity is cut in no-inheritance worlds, and in scrambled ones only that of rewards.
        p, delta = told["against_no-inheritance"]["criteria"][:2]
        stats[1:3] = [
            stat(
                "Chemotaxis",
                f"{beside['evolved']} of {counts['evolved']}",
                f"pass against no-inheritance worlds; {beside['scrambled']} of {counts['scrambled']} scrambled ones",
            ),
            stat(
                "Cliff's delta",
                three(delta["compared"]),
                f"against no-inheritance worlds, p {p_value(p['compared'])}",
            ),
        ]
    else:
        chemo = f"{told['passed']['evolved']} of {counts['evolved']}"
        stats.insert(1, stat("Chemotaxis", chemo, "worlds pass the decision"))
    return (
        title,
        lead,
        stats,
    )


def _settings(study: Study) -> Section:
    """Heredity, seeds, settings and the runs' whole hashes."""
    rows = [("Heredity", study.heredity), ("Seed", study.found.get("seed"))]
    if "steps" in study.found:
        rows.append(("Steps of each world", units.count(study.found["steps"])))
    rows += [(f"Run, {name}", whole) for name, whole in study.runs.items()]
    for arm, of in mapping(study.found.get("arms")).items():
        numbers = [world["world"] for world in of["worlds"]]
        rows.append((f"Worlds, {arm}", f"{len(numbers)}, numbers {min(numbers)} to {max(numbers)}"))
    intro = (
        "<p>A world is addressed by the seed and its number. The hash is of a run's settings, seed and last state; "
        "<code>fairyring ecology replay</code> lives a world through again and compares.</p>"
    )
    body = f"{intro}{table(rows)}<h3>The worlds</h3>{table(flat(study.found['settings']))}"
    jar = mapping(mapping(study.found.get("jars")).get("jar"))
    if jar:
        body += folded("Settings of the jars", table(flat(jar)))
    return Section("settings", "Settings, seeds, runs", body)


def _provenance(study: Study) -> Section:
    found = study.found
    seconds = [
        (f"Running, {name}" if name != "study" else "This sitting, all of it", units.duration(value))
        for name, value in mapping(found.get("seconds")).items()
        if number(value) is not None
    ]
    rows = [*mapping(found.get("machine")).items(), *mapping(found.get("versions")).items(), *seconds]
    rows = [
        (str(name)[:1].upper() + str(name)[1:] if name != "fairyring" else name, value)
        for name, value in rows
    ]
    return Section("provenance", "Machine, versions, time", table(rows))


_CHEMOTAXIS: tuple[_Part, ...] = (
    chemotaxis.decision,
    chemotaxis.lab,
    chemotaxis.rule,
    chemotaxis.populations,
)
_OF: dict[str, tuple[Callable[[Study], tuple[str, str, list[str]]] | None, tuple[_Part, ...]]] = {
    "v1": (_chemotaxis, _CHEMOTAXIS),
    "v2": (
        _rewarded,
        (rewards.rewards, rewards.viability, rewards.worth, rewards.controls, *_CHEMOTAXIS),
    ),
    "jars": (coculture.headline, (coculture.pairs, coculture.alone, coculture.ranking)),
    "rotation": (
        non_gradient.headline,
        (non_gradient.verdicts, non_gradient.selection, coculture.pairs, coculture.alone),
    ),
}
