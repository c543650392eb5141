"""`ecology run`: worlds evolve, and are judged in the lab against scrambled controls."""

import dataclasses
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fairyring.cli._ecology_assay import decided, show_decisions
from fairyring.cli._ecology_words import (
    Doing,
    Speed,
    at_least_one,
    changes,
    per_second,
    show_written,
    table_file,
)
from fairyring.cli._result import Interrupted, Result
from fairyring.cli._screen import say, show_table
from fairyring.core.errors import EcologyError, RunError
from fairyring.ecology.history import (
    LATE,
    Evolution,
    addressed,
    evolve,
    make_folder,
    overruns,
    resume,
    summaries,
)
from fairyring.ecology.results import write_csv
from fairyring.ecology.studies import ControlledRun, control_count, controls_path, run_with_controls
from fairyring.ecology.world import KINDS, override
from fairyring.report import units

_WORLDS, _STEPS, _PORT = 8, 8000, 8765
_OVERRUNS = {
    "delayed": ("birth", "came a step or more late"),
    "unmet": ("conjugation", "did not happen"),
}


def watch(
    kind: str, seed: int | None, words: Sequence[str], port: int | None, useless: Sequence[str]
) -> Result:
    """Show a world as a page until interrupted; see the command `run`."""
    if useless:
        given = ", ".join(useless)
        raise EcologyError(
            "--live",
            given=f"with {given}",
            expected="one world without an end that is not stored, since a world one interferes with cannot be replayed",
            do=f"Leave out --live, or {given}.",
        )
    from fairyring.ecology.watch import LivingWorld, serve

    seed = addressed("seed", seed or 0)
    settings = override(KINDS[kind](), changes(words))
    serve(
        LivingWorld(settings, seed),
        port=_PORT if port is None else port,
        on_start=lambda url: say(
            f"Watch it at {url}\nWorld 0 of seed {seed}: it is compiled first, and runs until Ctrl-C."
        ),
    )
    return Result({"world": 0, "seed": seed}, lambda: None)


def refuse_port(port: int) -> None:
    """Refuse a port without a page."""
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
    resumed: bool,
    controls: int | None,
    csv: Path | None,
) -> Result:
    """Run and judge; see the command of the same name."""
    options = {"--worlds": worlds, "--steps": steps, "--seed": seed, "--controls": controls}
    for name in ("--worlds", "--steps"):
        at_least_one(name, options[name])
    steps, seed_or_default = _STEPS if steps is None else steps, addressed("seed", seed or 0)
    path = out or Path("runs") / f"{kind}-seed{seed_or_default}.eco"
    table_file(csv)
    control_count(1, controls)  # refuse an impossible number before anything else
    if resumed:
        evolved = resume(path, kind=kind, worlds=worlds, seed=seed, changes=changes(settings))
    else:
        for taken in (path, controls_path(path)):
            _refuse(taken)
        world = override(KINDS[kind](), changes(settings))
        evolved = evolve(world, _WORLDS if worlds is None else worlds, 0, seed_or_default)
    make_folder(path.parent)
    count = control_count(len(evolved.numbers), controls)
    size = f"{units.count(len(evolved.numbers), 'world')} of {units.count(steps, 'step')}"
    say(f"{size} each{f', then {count} scrambled controls' if count else ''}: the step is compiled first.")
    try:
        with Doing() as doing:
            result = run_with_controls(evolved, steps, path, count, watch=_watcher(doing), progress=doing)
    except KeyboardInterrupt:
        if path.exists():
            raise Interrupted("Stopped.", _command(kind, options | {"--csv": csv}, settings, path)) from None
        raise Interrupted("Stopped before there was anything to store.") from None
    table = None if csv is None else write_csv(result, csv)
    return Result(_found(result, path) | {"table": table}, lambda: _show(result, path, table))


def _found(result: ControlledRun, path: Path) -> dict[str, Any]:
    run, judged = result.run, result.judgement
    return {
        "run": path,
        "controls": controls_path(path) if result.controls is not None else None,
        "seed": run.seed,
        "steps": run.steps,
        "rho": run.settings.rho,
        "seconds": run.seconds,
        "agent_steps": run.agent_steps,
        "worlds": [dataclasses.asdict(world) for world in summaries(run)],
        "overruns": [dataclasses.asdict(one) for one in overruns(run)],
        "decisions": decided(run, judged) if judged is not None else None,
    }


def _show(result: ControlledRun, path: Path, table: Path | None) -> None:
    _summary(result.run)
    if result.controls is not None and result.judgement is not None:
        say()
        show_decisions(result.run, result.judgement)
        say(
            f"The controls took {units.duration(result.controls.seconds)}, the worlds themselves "
            f"{units.duration(result.run.seconds)}. The controls are in {controls_path(path)}."
        )
    show_written(table)
    say()
    rate = per_second(result.run.agent_steps, result.run.seconds)
    say(f"Run: {path}, {units.duration(result.run.seconds)} of running{f', {rate}' if rate else ''}")


def _watcher(doing: Doing) -> Callable[[str, Evolution, int, int], None]:
    """Progress of running worlds, with their speed."""
    speeds: dict[str, Speed] = {}

    def watch(what: str, latest: Evolution, done: int, total: int) -> None:
        speed = speeds.setdefault(what, Speed())
        doing(f"steps of all {what}", done, total, speed(latest.worlds))

    return watch


def _refuse(path: Path) -> None:
    if path.exists():
        raise RunError(
            str(path),
            given="an existing file",
            expected="a new one",
            do="Choose another with --out, or continue that run: --resume.",
        )


def _command(kind: str, options: Mapping[str, object], words: Sequence[str], path: Path) -> str:
    """The command that continues a run with the same options, quoted for a shell."""
    given = [word for name, value in options.items() if value is not None for word in (name, str(value))]
    settings = [word for each in words for word in ("--set", each)]
    return shlex.join(
        ["fairyring", "ecology", "run", kind, *given, *settings, "--out", str(path), "--resume"]
    )


def _summary(run: Evolution) -> None:
    """One line for each world."""
    worlds = summaries(run)
    say(
        f"{units.count(len(run.numbers), 'world')}, {units.count(run.steps, 'step')} each, seed {run.seed}, "
        f"rho {run.settings.rho:.3g} (intake of a blind bacterium over the cost of living). Populations are means, and "
        f"immigrants sums, over the last {units.count(min(LATE, run.steps), 'step')}."
    )
    rows = [
        [
            str(world.number),
            "–" if world.population is None else units.count(world.population),
            units.count(world.immigrants),
            units.count(world.generations),
            world.state,
        ]
        for world in worlds
    ]
    show_table(["world", "population", "immigrants", "generations", "lives"], rows, words=("world",))
    for line in overrun_lines(run):
        say(line)
    if any(world.state == "by itself" for world in worlds):
        say(
            "By itself: without immigrants in that time. Whether it is viable takes closed restarts: fairyring ecology study."
        )


def overrun_lines(run: Evolution) -> list[str]:
    """A sentence for each kind of event that was more than a step can process."""
    lines = []
    for overrun in overruns(run):
        noun, happened = _OVERRUNS[overrun.name]
        lines.append(
            f"{units.count(overrun.count, noun)} {happened}, beyond the number that a step processes, in "
            f"{overrun.worlds} of {units.count(len(run.worlds), 'world')}."
        )
    return lines
