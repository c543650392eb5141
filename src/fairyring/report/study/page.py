"""The page of a study: its verdict in words, then every number with its threshold, its controls and its null."""

from collections.abc import Callable, Mapping
from typing import Any

from fairyring.ecology.results import FILE, damaged
from fairyring.report.kit import Document, Section, escaped, flat, mapping, number, stat, units
from fairyring.report.study import chemotaxis, coculture, non_gradient, rewards
from fairyring.report.study.blocks import Block, Facts, Folded, Heading, Text, section
from fairyring.report.study.data import Study, p_value, three

_SUBJECTS = {
    "v1": "World 1: an inherited table",
    "v2": "World 2: inherited rewards, and learning during life",
    "jars": "Jars: co-culture of populations that evolved apart",
    "rotation": "Rotation: are the dynamics non-gradient?",
}
_Part = Callable[[Study], Section | None]


def document(study: Study) -> Document:
    """The report of a study as a document.

    Raises:
        RunDamaged: `study.json` is not what a study writes.
    """
    headline, parts = _OF.get(study.kind, (None, ()))
    if headline is None:
        raise damaged(study.path / FILE, f"a study of {study.kind!r}")
    try:
        title, lead, stats = headline(study)
        warning = rewards.alarm(study)
        sections = [one for part in (*parts, _settings, _provenance) if (one := part(study)) is not None]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise damaged(study.path / FILE, f"{type(error).__name__}: {error}") from error
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
    decisions = study.found["decisions"]
    passed, counts = decisions["passed"], {arm: len(study.worlds(arm)) for arm in study.arms}
    yes = passed["evolved"]
    title = f"Chemotaxis evolved in {yes if yes else 'none'} of {units.count(counts['evolved'], 'world')}"
    return title, _lead(study), _stats(study, decisions, passed, counts)


def _lead(study: Study) -> str:
    decisions = study.found["decisions"]
    passed, counts = decisions["passed"], {arm: len(study.worlds(arm)) for arm in study.arms}
    shown = decisions["configuration"]["verdict"]
    return (
        f"There was no objective function. In {units.count(counts['evolved'], 'world')}, each run for "
        f"{units.count(study.found['steps'], 'step')}, bacteria that found food divided. By the same decision chemotaxis is in "
        f"{passed['scrambled'] or 'none'} of {units.count(counts['scrambled'], 'world')} with scrambled heredity and in "
        f"{passed['blind'] or 'none'} of {units.count(counts['blind'], 'blind one')}. That it evolves in this configuration is "
        f"{'shown' if shown else 'not shown'}."
    )


def _stats(
    study: Study, decisions: Mapping[str, Any], passed: Mapping[str, int], counts: Mapping[str, int]
) -> list[str]:
    p, delta = decisions["configuration"]["criteria"][:2]
    errors = mapping(decisions.get("errors"))
    return [
        stat("Evolved worlds", f"{passed['evolved']} of {counts['evolved']}", "pass the decision"),
        stat(
            "Scrambled worlds",
            f"{passed['scrambled']} of {counts['scrambled']}",
            f"pass; stated error {units.share(errors['stated'])}" if errors else "pass",
            "warm",
        ),
        stat("Cliff's delta", three(delta["compared"]), f"p {p_value(p['compared'])}, over worlds"),
        stat("rho", three(number(study.found.get("rho"))), "blind intake / cost of living"),
    ]


def _rewarded(study: Study) -> tuple[str, str, list[str]]:
    """Title, lead and stats of a study of world 2."""
    classes = study.found["viability"]["classes"]
    viable, rows = classes.count("viable"), mapping(study.found.get("rewards")).get("table")
    title = f"{viable if viable else 'None'} of {units.count(len(classes), 'evolved population')} {'is' if viable == 1 else 'are'} viable"
    short = classes.count("too short")
    if short:
        title += f", {short} not run for long enough to say"
    lead = "Bacteria learn during life; the reward for each event is inherited and mutates. "
    if rows is None:
        title += ": too few to say which rewards evolved"
        lead += "Rewards are analysed over viable worlds only, and there are fewer than three."
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
    decisions = study.found["decisions"]
    counts = {arm: len(study.worlds(arm)) for arm in study.arms}
    stats = _stats(study, decisions, decisions["passed"], counts)
    stats[0] = stat("Viable worlds", f"{viable} of {len(classes)}", "of those evolved")
    beside = mapping(decisions.get("passed_beside_no-inheritance"))
    if beside:
        # No-inheritance worlds have no heredity; in scrambled ones only the heredity of rewards is removed.
        p, delta = decisions["against_no-inheritance"]["criteria"][:2]
        stats[1:3] = [
            stat(
                "Chemotaxis",
                f"{beside['evolved']} of {counts['evolved']}",
                f"pass against no-inheritance; {beside['scrambled']} of {counts['scrambled']} scrambled",
            ),
            stat(
                "Cliff's delta",
                three(delta["compared"]),
                f"against no-inheritance, p {p_value(p['compared'])}",
            ),
        ]
    else:
        chemo = f"{decisions['passed']['evolved']} of {counts['evolved']}"
        stats.insert(1, stat("Chemotaxis", chemo, "worlds pass the decision"))
    return title, lead, stats


def _settings(study: Study) -> Section:
    """Heredity, seeds, settings and the full hashes of the runs."""
    rows = [("Heredity", study.heredity), ("Seed", study.found.get("seed"))]
    if "steps" in study.found:
        rows.append(("Steps of each world", units.count(study.found["steps"])))
    rows += [(f"Run, {name}", digest) for name, digest in study.runs.items()]
    for arm, of in mapping(study.found.get("arms")).items():
        numbers = [world["world"] for world in of["worlds"]]
        rows.append((f"Worlds, {arm}", f"{len(numbers)}, numbers {min(numbers)} to {max(numbers)}"))
    blocks: list[Block] = [
        Text(
            "Seed and number identify a world. The hash is of the settings, seed and last state of a run; "
            "`fairyring ecology replay` runs a world again and compares."
        ),
        Facts(rows),
        Heading("The worlds"),
        Facts(flat(study.found["settings"])),
    ]
    jar = mapping(mapping(study.found.get("jars")).get("jar"))
    if jar:
        blocks.append(Folded("Settings of the jars", [Facts(flat(jar))]))
    return section("settings", "Settings, seeds, runs", *blocks)


def _provenance(study: Study) -> Section:
    results = study.found
    seconds = [
        (f"Running, {name}" if name != "study" else "This sitting, all of it", units.duration(value))
        for name, value in mapping(results.get("seconds")).items()
        if number(value) is not None
    ]
    machine = [
        (str(name)[:1].upper() + str(name)[1:], value)
        for name, value in mapping(results.get("machine")).items()
    ]
    rows = [*machine, *mapping(results.get("versions")).items(), *seconds]
    return section("provenance", "Machine, versions, time", Facts(rows))


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
