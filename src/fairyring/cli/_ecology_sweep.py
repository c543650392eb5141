"""`ecology sweep`: worlds with every setting of a grid and every seed, as a table."""

from collections.abc import Sequence
from math import prod
from pathlib import Path

from fairyring.cli._ecology_words import Doing, at_least_one, changes, say
from fairyring.cli._sweep import grid_from
from fairyring.core.errors import EcologyError
from fairyring.ecology.results import RUNS_TABLE, SETTINGS_TABLE, SweepRun
from fairyring.ecology.studies import sweep as run_sweep
from fairyring.ecology.world import KINDS, override
from fairyring.report import units

_MEASURES = 3  # of a run, in its line


def sweep(
    kind: str,
    *,
    grid: Sequence[str],
    settings: Sequence[str],
    seeds: int,
    worlds: int,
    steps: int,
    run: Path | None,
    resume: bool,
    assay: bool,
) -> int:
    """Sweep over settings of a world; see the command of the same name. Returns the exit status."""
    for name, value in (("--seeds", seeds), ("--worlds", worlds), ("--steps", steps)):
        at_least_one(name, value)
    values = grid_from(grid, "food_influx=15,30,60")
    if not values:
        raise EcologyError(
            "sweep",
            given="no setting with several values",
            expected="one or more",
            do="Give --grid food_influx=15,30,60.",
        )
    folder = run or Path("runs") / f"{kind}-sweep"
    planned, ended = seeds * prod(map(len, values.values())), 0
    doing = Doing()

    def on_run(done: SweepRun) -> None:
        nonlocal ended
        ended += 1
        means = [(name, value) for name, value in done.measures.items() if value is not None]
        words = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in means[:_MEASURES])
        say(f"run {ended}/{planned}  {done.file}  {done.error or words}", doing.console)

    def progress(what: str, done: int, total: int) -> None:
        doing("runs", ended, planned, f"{what} {units.count(done)} of {units.count(total)}")

    base = override(KINDS[kind](), changes(settings))
    say(
        f"{units.count(planned, 'run')} of {units.count(worlds, 'world')} and {units.count(steps, 'step')}: "
        "the step is compiled first."
    )
    try:
        with doing:
            found = run_sweep(
                base,
                values,
                worlds=worlds,
                steps=steps,
                seeds=seeds,
                assayed=assay,
                folder=folder,
                resume=resume,
                on_run=on_run,
                progress=progress,
            )
    except KeyboardInterrupt:
        say(f"Stopped after {ended} runs. Give the same command with --run {folder} --resume to go on.")
        raise SystemExit(130) from None
    say(f"\n{found}")
    say(f"Tables: {folder / SETTINGS_TABLE}, {folder / RUNS_TABLE}")
    return 1 if found.failed else 0
