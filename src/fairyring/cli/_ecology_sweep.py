"""`ecology sweep`: worlds with every setting of a grid and every seed, as a table."""

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

from fairyring.cli._ecology_words import Doing, at_least_one, changes
from fairyring.cli._result import Interrupted, Result
from fairyring.cli._screen import say, show_table
from fairyring.cli._sweep import fields, grid_from, interval
from fairyring.core.errors import EcologyError
from fairyring.ecology.results import RUNS_TABLE, SETTINGS_TABLE, Sweep, SweepRun
from fairyring.ecology.studies import sweep as run_sweep
from fairyring.ecology.world import KINDS, override
from fairyring.report import units
from fairyring.statistics import interval_text

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
) -> Result:
    """Sweep over settings of a world; see the command of the same name. The exit status is 1 if a run failed."""
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
        say(f"run {ended}/{planned}  {done.file}  {done.error or words}", console=doing.console)

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
        kept = f"Stopped after {ended} runs. Give the same command with --run {folder} --resume to go on."
        raise Interrupted(kept) from None
    tables = {"settings": folder / SETTINGS_TABLE, "runs": folder / RUNS_TABLE}

    def show() -> None:
        say()
        _show(found)
        say(f"Tables: {', '.join(map(str, tables.values()))}")

    return Result({"sweep": folder, **_found(found), "tables": tables}, show, 1 if found.failed else 0)


def _found(found: Sweep) -> dict[str, Any]:
    """A sweep as plain values."""
    return {
        "world": found.world,
        "seeds": found.seeds,
        "worlds": found.worlds,
        "steps": found.steps,
        "settings": [
            {
                "name": name,
                "values": labels,
                "finished": sum(run.finished for run in found.of(place)),
                "means": {column: interval(found.mean(place, column)) for column in found.columns},
            }
            for place, (name, labels) in enumerate(zip(found.names, found.labels, strict=True))
        ],
        "failed": [
            {"setting": found.names[run.setting], "seed": run.seed, "error": run.error}
            for run in found.failed
        ],
        "runs": [{**fields(run), "setting": found.names[run.setting]} for run in found.runs],
    }


def _show(found: Sweep) -> None:
    names = list(found.labels[0])
    rows = [
        [
            *labels.values(),
            f"{sum(run.finished for run in found.of(place))}/{len(found.seeds)}",
            *(interval_text(found.mean(place, column)) for column in found.columns),
        ]
        for place, labels in enumerate(found.labels)
    ]
    show_table([*names, "runs", *(column.replace("_", " ") for column in found.columns)], rows, words=names)
    for run in found.failed:
        say(f"failed: {found.names[run.setting]}, seed {run.seed}: {run.error}")
