"""`ecology study` and `ecology jar`: whole experiments, and what they found in a few lines."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import msgspec

from fairyring.cli._ecology_words import (
    Doing,
    at_least_one,
    changes,
    columns,
    folder_for,
    number,
    one_world,
    say,
)
from fairyring.core.errors import EcologyError, MissingExtra, RunMismatch
from fairyring.core.record import replace_file
from fairyring.ecology.history import Evolution, addressed, evolve, fingerprint, load
from fairyring.ecology.studies import (
    STEPS,
    JarStudy,
    plain,
    study_jars,
    study_rotation,
    study_world1,
    study_world2,
)
from fairyring.ecology.world import World, World1, World2, override
from fairyring.report import units
from fairyring.statistics import clopper_pearson

_ARMS = (16, 16, 8)  # evolved, scrambled and blind worlds
# The fewest with which every test there is can come out either way: 10 signs alike of 9 events, 10 worlds above 5.
_QUICK_ARMS, _QUICK_STEPS = (10, 10, 5), 8000
_POPULATIONS, _EVOLVING = 6, (8000, 2000)  # of jars: how many, and their steps, quick ones second
_FOLLOWED, _SETTLING = (12, 8), (6000, 1000)  # worlds of rotation, and their steps before they are followed
_Kind = TypeVar("_Kind", bound=World)
_FIRST_FOLLOWED = 3000  # numbers of those worlds: they are not the twins of those in the jars


def study(
    subject: str,
    *,
    out: Path | None,
    worlds: int | None,
    controls: int | None,
    blind: int | None,
    steps: int | None,
    seed: int,
    settings: Sequence[str],
    world: str | None,
    quick: bool,
) -> None:
    """Make a study, write its report, and say its verdicts; see the command of the same name."""
    named = zip(
        ("--worlds", "--controls", "--blind", "--steps"), (worlds, controls, blind, steps), strict=True
    )
    for name, value in named:
        at_least_one(name, value)
    seed = addressed("seed", seed)
    folder = out or Path("runs") / f"study-{subject}"
    try:
        found = _made(subject, folder, (worlds, controls, blind), steps, seed, settings, world, quick)
    except KeyboardInterrupt:
        say(f"Stopped. The same command goes on with the runs in {folder}.")
        raise SystemExit(130) from None
    say()
    for line in _verdicts(found):
        say(line)
    _report(folder)


def _made(
    subject: str,
    folder: Path,
    asked: tuple[int | None, int | None, int | None],
    steps: int | None,
    seed: int,
    settings: Sequence[str],
    kind: str | None,
    quick: bool,
) -> dict[str, Any]:
    """What a study found, after all of it was run."""
    if kind is not None and subject != "jars":
        raise EcologyError(
            "--world",
            given=f"a study of {subject}",
            expected="a study of jars: rotation is of signals and rewards, so of world 2",
            do="Leave it out.",
        )
    with Doing() as doing:
        if subject in ("v1", "v2"):
            usual = _QUICK_ARMS if quick else _ARMS
            arms = [often if given is None else given for given, often in zip(asked, usual, strict=True)]
            common: dict[str, Any] = {
                "worlds": arms[0],
                "controls": arms[1],
                "blind": arms[2],
                "steps": (_QUICK_STEPS if quick else STEPS) if steps is None else steps,
                "seed": seed,
                "told": doing,
            }
            if subject == "v1":
                return study_world1(folder, settings=_settings(World1(), settings), **common)
            return study_world2(folder, settings=_settings(World2(), settings), **common)
        if asked[1:] != (None, None):
            raise EcologyError(
                "--controls, --blind",
                given=f"a study of {subject}",
                expected="v1 or v2: jars have all their controls, one of each population and pair",
                do="Leave them out.",
            )
        world = _settings(World1() if kind == "v1" else World2(), settings)
        return _put_together(subject, folder, world, asked[0], steps, seed, quick, doing)


def _settings(world: _Kind, words: Sequence[str]) -> _Kind:
    changed = override(world, changes(words))
    assert isinstance(changed, type(world))  # a change of fields keeps the kind
    return changed


def _put_together(
    subject: str,
    folder: Path,
    world: World,
    worlds: int | None,
    steps: int | None,
    seed: int,
    quick: bool,
    doing: Doing,
) -> dict[str, Any]:
    """The studies of jars and of rotation; the latter holds the former, whose pairs are asked for cycles."""
    begun, rotating = perf_counter(), subject == "rotation"
    count = _POPULATIONS if rotating or worlds is None else worlds
    evolving = _EVOLVING[quick] if rotating or steps is None else steps
    folder_for(folder / "study.json")
    people = _evolved(folder / "populations.eco", world, range(count), evolving, seed, doing)
    jars = study_jars(evolved=people, populations=count, seed=seed, quick=quick, progress=doing)
    runs = {"populations": people}
    found: dict[str, Any] = {"jars": jars}
    if rotating:
        followed = _FOLLOWED[quick] if worlds is None else worlds
        many = range(_FIRST_FOLLOWED, _FIRST_FOLLOWED + followed)
        runs["followed"] = _evolved(folder / "followed.eco", world, many, _SETTLING[quick], seed, doing)
        found["rotation"] = study_rotation(
            jars, evolved=runs["followed"], steps=steps, seed=seed, quick=quick, progress=doing
        )
    found = plain(
        {
            "study": subject,
            "settings": people.settings.described(),
            "rho": people.settings.rho,
            "seed": seed,
            "runs": {name: fingerprint(run) for name, run in runs.items()},
            **_where(),
            "seconds": {**{name: run.seconds for name, run in runs.items()}, "study": perf_counter() - begun},
            **found,
        }
    )
    replace_file(folder / "study.json", msgspec.json.format(msgspec.json.encode(found), indent=1))
    return found


def _evolved(path: Path, world: World, numbers: range, steps: int, seed: int, doing: Doing) -> Evolution:
    """The run in that file, gone on with where it stopped, or a new one."""

    def progress(made: int, whole: int) -> None:
        doing(f"{path.stem}, steps", made, whole)

    if not path.exists():
        return evolve(world, numbers, steps, seed, out=path, progress=progress)
    run = load(path, world)
    if run.seed != seed or run.numbers != tuple(numbers) or run.steps > steps:
        raise RunMismatch(
            str(path),
            given=f"seed {run.seed}, {len(run.numbers)} worlds, {run.steps} steps",
            expected=f"seed {seed}, {len(numbers)} worlds, {steps} steps",
            do="Choose another folder, or ask for the study that was begun in this one.",
        )
    return run.until(steps, out=path, progress=progress) if run.steps < steps else run


def _where() -> dict[str, Any]:
    import platform

    import jax
    import numpy as np

    from fairyring._version import __version__
    from fairyring.core.cores import available_cores

    return {
        "versions": {"fairyring": __version__, "jax": jax.__version__, "numpy": np.__version__},
        "machine": {"cores": available_cores(), "processor": platform.machine()},
    }


def _verdicts(found: Mapping[str, Any]) -> list[str]:
    """What a study found, in sentences."""
    lines = []
    if "decisions" in found:
        told = found["decisions"]
        passed = ", ".join(
            f"{count} of {len(found['arms'][arm]['worlds'])} {arm}" for arm, count in told["passed"].items()
        )
        lines += [f"Chemotaxis by the decision for a world: {passed} worlds.", told["configuration"]["why"]]
        if "passed_beside_unrelated" in told:
            passed = ", ".join(
                f"{count} of {len(found['arms'][arm]['worlds'])} {arm}"
                for arm, count in told["passed_beside_unrelated"].items()
            )
            lines += [
                f"The same beside worlds in which nothing is passed on: {passed} worlds.",
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


def _rewards(found: Mapping[str, Any]) -> list[str]:
    if "rewards" not in found:
        return ["No table of rewards: fewer than three worlds are viable."]
    rows = found["rewards"]["table"]
    lines = [
        f"reward of {row['name']}: {number(row['mean']['estimate'])} [{number(row['mean']['low'])}, "
        f"{number(row['mean']['high'])}], positive in {row['signs']['positive']} of "
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


def _report(folder: Path) -> None:
    from fairyring.report import write_study_report

    say()
    say(f"Study: {folder / 'study.json'}")
    try:
        say(f"Report: {write_study_report(folder)}")
    except MissingExtra as error:
        say(f"No report was written: {error.do}")


def jar(
    populations: Sequence[str],
    *,
    steps: int | None,
    replicates: int | None,
    scale: float,
    seed: int,
    quick: bool,
) -> None:
    """Put populations together and say who excludes or outgrows whom; see the command of the same name."""
    if len(populations) < 2 or len(set(populations)) < len(populations):
        raise EcologyError(
            "populations",
            given=", ".join(populations) or "none",
            expected="two or more different ones",
            do="Name them as FILE or FILE:WORLD.",
        )
    addressed("seed", seed)
    at_least_one("--steps", steps)
    at_least_one("--replicates", replicates)
    together, names = _together(populations)
    with Doing() as doing:
        found = study_jars(
            evolved=together,
            populations=len(names),
            jar_steps=steps,
            replicates=replicates,
            scale=scale,
            seed=seed,
            quick=quick,
            progress=doing,
        )
    say()
    for letter, name, one in zip(names, populations, found.populations, strict=True):
        say(
            f"{letter}  {name}: yield alone {number(one.alone)}, died out alone in {units.share(one.died_out)} of its jars"
        )
    say()
    _contests(found, names)
    for sentence in found.found:
        say(sentence)


def _together(populations: Sequence[str]) -> tuple[Evolution, list[str]]:
    """The populations as worlds of one run, and a letter or number for each."""
    runs, worlds = [], []
    for text in populations:
        name, colon, which = text.rpartition(":")
        numbered = bool(colon) and which.isdecimal()
        run, _, world = one_world(Path(name if numbered else text), int(which) if numbered else None)
        runs.append(run)
        worlds.append(world)
    first = runs[0].settings
    for text, run in zip(populations, runs, strict=True):
        ours, theirs = (
            dataclasses.replace(
                of,
                width=128,
                capacity=2048,
                sources=6,
                founders=0,
                minimum=0,
                food_influx=0.0,
                control="none",
            )
            for of in (first, run.settings)
        )
        # Bodies and minds must be alike, for all will live by the first one's numbers; how large and rich their worlds were may differ.
        if type(ours) is not type(theirs) or ours != theirs:
            raise EcologyError(
                text,
                given="a population of another kind of world",
                expected=f"the kind of {populations[0]}: the same senses, policy, events, costs and rates",
                do="Put populations together that can live in one world.",
            )
    numbers = tuple(range(len(worlds)))
    names = [chr(ord("A") + i) if len(worlds) <= 26 else str(i) for i in numbers]
    return Evolution(first, runs[0].seed, numbers, tuple(worlds)), names


def _contests(found: JarStudy, names: Sequence[str]) -> None:
    """A line a pair: counts with their intervals, both invasions and declines, and the verdict."""
    rows = []
    for one in found.contests:
        i, j = int(one.first), int(one.second)
        ends = [odds for odds in found.outcomes[i][j] if odds == odds]
        larger = sum(odds > 0 for odds in ends)
        low, high = clopper_pearson(larger, len(ends)) if ends else (None, None)
        verdict = one.verdict
        for does in (" excludes ", " outgrows "):
            winner, it, loser = verdict.partition(does)
            if it:
                verdict = f"{names[int(winner)]}{does}{names[int(loser)]}"
        total = one.relative_yield
        rows.append(
            [
                f"{names[i]} + {names[j]}",
                f"{larger} of {len(ends)} [{number(low)}, {number(high)}]",
                f"{number(one.first_gains.mean)} ({number(one.first_gains.drift)})",
                f"{one.first_gains.holm:.2g} / {one.second_gains.holm:.2g}",
                f"{number(one.first_invades.mean)} / {number(one.second_invades.mean)}",
                f"{one.first_invades.holm:.2g} / {one.second_invades.holm:.2g}",
                f"{one.first_declines.holm:.2g} / {one.second_declines.holm:.2g}",
                "–"
                if total is None
                else f"{number(total.estimate)} [{number(total.low)}, {number(total.high)}]",
                verdict,
            ]
        )
    columns(
        [
            "pair", "first larger in jars [95 %]", "its share (drift)", "p gains", "from 5 %", "p invades", "p declines",
            "relative yield [95 %]", "verdict",
        ],
        rows,
    )  # fmt: skip
    say(
        "p beside drift (one population under two labels), first / second, Holm over both sides of all pairs. Excludes: gains from "
        "even shares, invades from 5 %, and the other declines from 5 %. Outgrows: gains and invades; of the other when rare nothing "
        "is shown. Coexist: each invades from 5 %. Undecided: none of these is shown."
    )
