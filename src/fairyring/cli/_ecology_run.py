"""`ecology run`: worlds evolve, go to the lab, and are judged beside scrambled ones."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fairyring.cli._ecology_assay import decided, lab
from fairyring.cli._ecology_words import (
    Doing,
    Speed,
    at_least_one,
    changes,
    columns,
    folder_for,
    per_second,
    say,
)
from fairyring.core.errors import EcologyError, RunError, RunMismatch
from fairyring.ecology.history import Evolution, WorldRun, addressed, evolve, kind_of, load
from fairyring.ecology.lab import Assay
from fairyring.ecology.studies import LATE, controls_beside, usual_controls
from fairyring.ecology.world import NUMBERS, World, World1, World2, override
from fairyring.report import units

_KINDS: dict[str, type[World]] = {"v1": World1, "v2": World2}
_WORLDS, _FEWEST = 8, 4  # worlds of a run; fewest control worlds beside it
_STEPS, _PORT = 8000, 8765
# What a step has too many of comes later or not at all; a run in which that happened is not quite the world it is said to be.
_PUT_OFF = {
    "delayed": ("birth", "came a step or more late"),
    "unmet": ("conjugation", "did not come about"),
}


def watch(
    kind: str, seed: int | None, words: Sequence[str], port: int | None, useless: Sequence[str]
) -> None:
    """Show a world as a page until interrupted; see the command `run`."""
    if useless:
        given = ", ".join(useless)
        raise EcologyError(
            "--live",
            given=f"with {given}",
            expected="one world without an end, of which nothing is kept: what is meddled with cannot be replayed",
            do=f"Leave out --live, or {given}.",
        )
    from fairyring.ecology.watch import LivingWorld, serve

    seed = addressed("seed", seed or 0)
    settings = override(_KINDS[kind](), changes(words))
    say(f"World 0 of seed {seed}: it is compiled first, and runs until Ctrl-C.")
    serve(
        LivingWorld(settings, seed),
        port=_PORT if port is None else port,
        on_start=lambda url: say(f"Watch it at {url}"),
    )


def refuse_port(port: int) -> None:
    """Refuse a port where there is no page."""
    raise EcologyError(
        "--port", given=port, expected="a live page", do="Leave it out, or watch a world: --live."
    )


def run(
    kind: str,
    *,
    worlds: int | None,
    steps: int | None,
    seed: int | None,
    settings: Sequence[str],
    out: Path | None,
    resume: bool,
    controls: int | None,
) -> None:
    """Evolve, judge and say so; see the command of the same name."""
    asked = {"--worlds": worlds, "--steps": steps, "--seed": seed, "--controls": controls}
    for name in ("--worlds", "--steps"):
        at_least_one(name, asked[name])
    steps, start = _STEPS if steps is None else steps, addressed("seed", seed or 0)
    path = out or Path("runs") / f"{kind}-seed{start}.eco"
    beside = path.with_name(f"{path.stem}.scrambled{path.suffix}")
    if controls is not None and controls and controls < _FEWEST:
        raise EcologyError(
            "--controls", given=controls, expected=f"{_FEWEST} or more, or 0", do="Ask for more, or for none."
        )
    if resume:
        evolved = _found(path, kind, worlds, seed, settings)
    else:
        for taken in (path, beside):
            _refuse(taken)
        world = override(_KINDS[kind](), changes(settings))
        evolved = evolve(world, _WORLDS if worlds is None else worlds, 0, start)
    folder_for(path)
    count = usual_controls(len(evolved.numbers)) if controls is None else controls
    try:
        evolved, scrambled, labs = _made(evolved, steps, path, beside, count)
    except KeyboardInterrupt:
        if path.exists():
            say(f"Stopped. Go on with: {_command(kind, asked, settings, path)}")
        else:
            say("Stopped before anything was made.")
        raise SystemExit(130) from None
    _summary(evolved)
    if scrambled is not None:
        say()
        decided(evolved, *labs)
        say(
            f"The controls cost {units.duration(scrambled.seconds)} beside {units.duration(evolved.seconds)} of the "
            f"worlds themselves. They are in {beside}."
        )
    say()
    rate = per_second(evolved.agent_steps, evolved.seconds)
    say(f"Run: {path}, {units.duration(evolved.seconds)} of running{f', {rate}' if rate else ''}")


def _made(
    evolved: Evolution, steps: int, path: Path, beside: Path, count: int
) -> tuple[Evolution, Evolution | None, list[list[Assay | None]]]:
    """The run, its control worlds if there are to be any, and then both in the lab."""
    size = f"{units.count(len(evolved.numbers), 'world')} of {units.count(steps, 'step')}"
    say(f"{size} each{f', then {count} scrambled controls' if count else ''}: the step is compiled first.")
    with Doing() as doing:
        evolved = _until(evolved, steps, path, doing, "steps of all worlds")
        if not count:
            return evolved, None, []
        scrambled = _until(
            controls_beside(evolved, beside, count),
            evolved.steps,
            beside,
            doing,
            "steps of all scrambled controls",
        )
        labs = [
            lab(each, evolved.seed, None, doing, what)
            for each, what in ((evolved, "worlds"), (scrambled, "scrambled controls"))
        ]
        return evolved, scrambled, labs


def _found(path: Path, kind: str, worlds: int | None, seed: int | None, words: Sequence[str]) -> Evolution:
    """The run to go on with, refused where something else was asked for than what it is."""
    if not path.exists():
        raise RunError(
            str(path),
            given="no such file",
            expected="a run to go on with",
            do="Name its file with --out, or leave out --resume to begin it.",
        )
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


def _command(kind: str, asked: Mapping[str, int | None], words: Sequence[str], path: Path) -> str:
    """The command that goes on with a run, with all that was asked, as a shell takes it."""
    numbers = [word for name, value in asked.items() if value is not None for word in (name, str(value))]
    told = [word for each in words for word in ("--set", each)]
    return shlex.join(["fairyring", "ecology", "run", kind, *numbers, *told, "--out", str(path), "--resume"])


def _until(run: Evolution, steps: int, path: Path, doing: Doing, what: str) -> Evolution:
    """Run on in its file, and show how far and how fast."""
    start, whole, speed = (
        sum(world.steps for world in run.worlds),
        sum(max(0, steps - world.steps) for world in run.worlds),
        Speed(),
    )

    def heard(latest: Evolution) -> None:
        doing(what, sum(world.steps for world in latest.worlds) - start, whole, speed(latest.worlds))

    return run.until(steps, out=path, watch=heard)


def _summary(run: Evolution) -> None:
    """A line a world: how many, whence, and for how long."""
    rows = []
    for name, world in zip(run.numbers, run.worlds, strict=True):
        late = world.numbers[-LATE:]
        generations = int(world.lineage.generation()[world.uids()].max(initial=0))
        rows.append(
            [
                str(name),
                units.count(float(_column(late, "population").mean())) if len(late) else "–",
                units.count(int(_column(late, "newcomers").sum())),
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
    for told in _put_off(run):
        say(told)
    if any(row[-1] == "by itself" for row in rows):
        say(
            "By itself: no newcomer then. Whether it is viable is asked by closed restarts: fairyring ecology study."
        )


def _state(world: WorldRun, late: np.ndarray) -> str:
    if not len(world.living()):
        return "extinct"
    if _column(late, "waiting").any():
        return "capacity-limited"
    return "propped" if _column(late, "newcomers").any() else "by itself"


def _put_off(run: Evolution) -> list[str]:
    """A sentence for each thing that was more than a step does of it, if there was any."""
    lines = []
    for name, (noun, became) in _PUT_OFF.items():
        if name not in NUMBERS:
            continue
        each = [int(_column(world.numbers, name).sum()) for world in run.worlds]
        if sum(each):
            where = f"{sum(map(bool, each))} of {units.count(len(each), 'world')}"
            lines.append(
                f"{units.count(sum(each), noun)} {became}, past the most that a step does, in {where}."
            )
    return lines


def _column(numbers: np.ndarray, name: str) -> np.ndarray:
    """One of `NUMBERS`, by name, of some steps."""
    return numbers[:, NUMBERS.index(name)].astype(np.int64)
