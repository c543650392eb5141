"""`ecology run` and `ecology assay`: worlds evolve, go to the lab, and are judged beside scrambled ones."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, perf_counter

import numpy as np

from fairyring.cli._ecology_words import (
    Doing,
    Speed,
    changes,
    columns,
    folder_for,
    number,
    per_second,
    say,
)
from fairyring.core.errors import EcologyError, RunError, RunMismatch
from fairyring.ecology import decisions
from fairyring.ecology.assay import INDIVIDUALS, Assay, assay
from fairyring.ecology.evolution import SAVED, Evolution, evolve
from fairyring.ecology.run_file import kind_of, load, save
from fairyring.ecology.running import Inhabited, advance
from fairyring.ecology.settings import World, World1, World2, override
from fairyring.ecology.study import ARMS, LATE
from fairyring.report import units

_KINDS: dict[str, type[World]] = {"v1": World1, "v2": World2}
_WORLDS, _FEWEST, _MOST = 8, 4, 16  # worlds of a run; fewest and most control worlds beside it
_FIRST_CONTROL = 1000 * ARMS.index("scrambled")  # as in a study: no control world is an evolved one's twin


def watch(kind: str, seed: int, words: Sequence[str], port: int, *, kept: bool) -> None:
    """Show a world as a page until interrupted; see the command `run`."""
    from fairyring.ecology.live.server import serve
    from fairyring.ecology.living import LivingWorld

    if kept:
        raise EcologyError(
            "--live",
            given="a file to keep the run in",
            expected="none: a world that is meddled with cannot be replayed",
            do="Leave out --live, or --out and --resume.",
        )
    settings = override(_KINDS[kind](), changes(words))
    say(f"World 0 of seed {seed}: it is compiled first, and runs until Ctrl-C.")
    serve(LivingWorld(settings, seed), port=port, on_start=lambda url: say(f"Watch it at {url}"))


def run(
    kind: str,
    *,
    worlds: int | None,
    steps: int,
    seed: int | None,
    settings: Sequence[str],
    out: Path | None,
    resume: bool,
    controls: int | None,
) -> None:
    """Evolve, judge and say so; see the command of the same name."""
    path = out or Path("runs") / f"{kind}-seed{seed or 0}.eco"
    beside = path.with_name(f"{path.stem}.scrambled{path.suffix}")
    if controls is not None and controls and controls < _FEWEST:
        raise EcologyError(
            "--controls", given=controls, expected=f"{_FEWEST} or more, or 0", do="Ask for more, or for none."
        )
    if resume and path.exists():
        evolved = _found(path, kind, worlds, seed, settings)
    else:
        for taken in (path, beside):
            _refuse(taken)
        world = override(_KINDS[kind](), changes(settings))
        evolved = evolve(world, _WORLDS if worlds is None else worlds, 0, seed or 0)
    folder_for(path)
    count = min(_MOST, max(_FEWEST, len(evolved.numbers))) if controls is None else controls
    again = _command(kind, path, steps, settings)
    with Doing() as doing:
        evolved = _until(evolved, steps, path, doing, "worlds, steps", again)
        scrambled, labs = None, []
        if count:
            scrambled = _scrambled(beside, evolved, count)
            scrambled = _until(scrambled, evolved.steps, beside, doing, "scrambled controls, steps", again)
            labs = [
                _lab(each, evolved.seed, None, doing, what)
                for each, what in ((evolved, "worlds"), (scrambled, "scrambled controls"))
            ]
    _summary(evolved)
    if scrambled is not None:
        say()
        _decided(evolved, *labs)
        say(
            f"The controls cost {units.duration(scrambled.seconds)} beside {units.duration(evolved.seconds)} of the "
            f"worlds themselves. They are in {beside}."
        )
    say()
    rate = per_second(evolved.agent_steps, evolved.seconds)
    say(f"Run: {path}, {units.duration(evolved.seconds)} of running{f', {rate}' if rate else ''}")


def assay_of(path: Path, controls: Path | None, *, individuals: int | None, seed: int) -> None:
    """The lab's numbers for each world of a run; see the command `assay`."""
    evolved = load(path)
    scrambled = None if controls is None else load(controls)
    if scrambled is not None and scrambled.settings.control != "scrambled":
        raise EcologyError(
            str(controls),
            given=f"a run of control {scrambled.settings.control!r}",
            expected="worlds of scrambled heredity",
            do="Make them: fairyring ecology run writes them beside its run.",
        )
    with Doing() as doing:
        labs = _lab(evolved, seed, individuals, doing, "worlds")
        others = [] if scrambled is None else _lab(scrambled, seed, individuals, doing, "scrambled controls")
    drawn = individuals or min(INDIVIDUALS, evolved.settings.capacity)
    say(f"Means over {drawn} individuals of each world; the index of one that feels nothing is 1.")
    names = [f.name for f in dataclasses.fields(Assay) if f.name != "probabilities"]
    if "signal" not in evolved.settings.chemicals():
        names = [name for name in names if "emitting" not in name and "signal" not in name]
    rows = [
        [
            name.replace("_", " "),
            *(number(None if lab is None else _mean(getattr(lab, name))) for lab in labs),
        ]
        for name in names
    ]
    columns(["world", *map(str, evolved.numbers)], rows)
    say()
    if scrambled is None:
        say(
            "Whether chemotaxis has evolved is decided beside scrambled worlds: give their run with --controls."
        )
    else:
        _decided(evolved, labs, others)


def _found(path: Path, kind: str, worlds: int | None, seed: int | None, words: Sequence[str]) -> Evolution:
    """The run to go on with, refused where something else was asked for than what it is."""
    found = load(path)
    if words:  # settings other than the run's are refused by whoever reads it
        load(path, override(found.settings, changes(words)))
    asked = (
        ("world", kind, kind_of(found.settings)),
        ("worlds", worlds, len(found.numbers)),
        ("seed", seed, found.seed),
    )
    for name, given, is_so in asked:
        if given is not None and given != is_so:
            raise RunMismatch(
                str(path),
                given=f"{name} {given}",
                expected=f"{is_so}, as the run has it",
                do="Choose another file with --out, or ask for what is in this one.",
            )
    return found


def _refuse(path: Path) -> None:
    if path.exists():
        raise RunError(
            str(path),
            given="a file that is there already",
            expected="a new one",
            do="Choose another with --out, or go on with that run: --resume.",
        )


def _command(kind: str, path: Path, steps: int, words: Sequence[str]) -> str:
    told = "".join(f" --set {word}" for word in words)
    return f"fairyring ecology run {kind} --steps {steps}{told} --out {path} --resume"


def _scrambled(path: Path, evolved: Evolution, count: int) -> Evolution:
    """The control worlds of a run: those beside it, or new ones."""
    settings = dataclasses.replace(evolved.settings, control="scrambled")
    numbers = range(_FIRST_CONTROL, _FIRST_CONTROL + count)
    if not path.exists():
        return evolve(settings, numbers, 0, evolved.seed)
    found = load(path, settings)
    if found.seed != evolved.seed or found.numbers != tuple(numbers):
        raise RunMismatch(
            str(path),
            given=f"{len(found.numbers)} control worlds of seed {found.seed}",
            expected=f"{count} of seed {evolved.seed}",
            do=f"Ask for --controls {len(found.numbers)}, or remove that file to make them anew.",
        )
    return found


def _until(run: Evolution, steps: int, path: Path, doing: Doing, what: str, again: str) -> Evolution:
    """Run on, saving now and then; an interruption loses a second and not the run."""
    latest, saved = run.worlds, monotonic()
    whole, speed = sum(max(0, steps - world.steps) for world in run.worlds), Speed()
    begun = perf_counter()

    def heard(worlds: Sequence[Inhabited], made: int) -> None:
        nonlocal latest, saved
        latest = tuple(worlds)
        doing(what, made, whole, speed(worlds))
        if monotonic() - saved > SAVED:
            save(dataclasses.replace(run, worlds=latest), path)
            saved = monotonic()

    try:
        worlds, pace = advance(run.settings, run.worlds, steps, watch=heard)
    except KeyboardInterrupt:
        sofar = run.seconds + perf_counter() - begun
        save(dataclasses.replace(run, worlds=latest, seconds=sofar), path)
        say(f"Stopped. Go on with: {again}")
        raise SystemExit(130) from None
    after = dataclasses.replace(
        run,
        worlds=tuple(worlds),
        seconds=run.seconds + pace.running,
        compiling=run.compiling + pace.compiling,
    )
    if whole or not path.exists():
        save(after, path)
    return after


def _lab(run: Evolution, seed: int, individuals: int | None, doing: Doing, what: str) -> list[Assay | None]:
    return assay(
        run,
        individuals=individuals,
        seed=seed,
        progress=lambda made, whole: doing(f"{what} in the lab", made, whole),
    )


def _summary(run: Evolution) -> None:
    """A line a world: how many, whence, and for how long."""
    rows = []
    for name, world in zip(run.numbers, run.worlds, strict=True):
        late = world.numbers[-LATE:]
        generations = int(world.lineage.generation()[world.uids()].max(initial=0))
        rows.append(
            [
                str(name),
                units.count(float(late[:, 0].mean())) if len(late) else "–",
                units.count(int(late[:, 3].sum())),
                units.count(generations),
                _state(world, late),
            ]
        )
    say(
        f"{units.count(len(run.numbers), 'world')}, {units.count(run.steps, 'step')} each, seed {run.seed}, "
        f"rho {run.settings.rho:.3g} (what one takes in that eats blindly, over what living costs). Populations are means, "
        f"newcomers sums, over the last {units.count(min(LATE, run.steps), 'step')}."
    )
    columns(["world", "population", "newcomers", "generations", "lives"], rows)
    if any(row[-1] == "by itself" for row in rows):
        say(
            "By itself: no newcomer then. Whether it is viable is asked by closed restarts: fairyring ecology study."
        )


def _state(world: Inhabited, late: np.ndarray) -> str:
    if not len(world.living()):
        return "extinct"
    if late[:, 4].any():
        return "capacity-limited"
    return "propped" if late[:, 3].any() else "by itself"


def _decided(run: Evolution, labs: Sequence[Assay | None], controls: Sequence[Assay | None]) -> None:
    """The stated decision for each world, every number beside its threshold."""
    against = [_asked(lab) for lab in controls if lab is not None]
    if len(against) < 3:
        say(f"No decision: only {len(against)} of the control worlds are inhabited, and it takes three.")
        return
    rows, made = [], None
    for name, lab in zip(run.numbers, labs, strict=True):
        if lab is None:
            rows.append([str(name), *["–"] * 5, "no: nobody lives"])
            continue
        made = decisions.chemotaxis_in_world(_asked(lab), against)
        beside, _, contrast, blind = made.criteria
        rows.append(
            [
                str(name),
                *map(number, (beside.estimate, beside.compared, contrast.estimate, contrast.compared)),
                number(blind.compared),
                "yes" if made.verdict else "no",
            ]
        )
    yes = sum(row[-1] == "yes" for row in rows)
    say(f"Chemotaxis evolved in {yes} of {units.count(len(rows), 'world')}.")
    columns(
        ["world", "index", "at least", "tumble contrast", "at least", "without sensor", "chemotaxis"], rows
    )
    if made is not None:
        beside, least, contrast, blind = made.criteria
        say(
            f"Yes takes all of: an index of at least (99 % bound over individuals) more than {number(beside.least)}, the limit "
            f"of {units.count(made.controls, 'scrambled world')}, and more than {number(least.least)}; a contrast of at least more "
            f"than {number(contrast.least)}; and {number(blind.least)} to {number(blind.most)} without the sensor. A world "
            f"like the controls gets a yes with a chance of {units.share(made.stated_error)} at most."
        )


def _asked(lab: Assay) -> decisions.WorldAssay:
    return decisions.WorldAssay(
        index=lab.index, contrast=lab.contrast, index_without_sensor=lab.index_without_sensor
    )


def _mean(rows: np.ndarray) -> float:
    known = rows[np.isfinite(rows)]
    return float(known.mean()) if len(known) else float("nan")
