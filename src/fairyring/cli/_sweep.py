"""`sweep` and `compare`: many runs, made or found, as a table and a report."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairyring.cli._engine import engine_from
from fairyring.cli._plan_file import PlanFile, settings_in
from fairyring.cli._result import Interrupted, Result
from fairyring.cli._screen import say, screen, show_table
from fairyring.cli._terminal import cautions_of, show_warning, without_warnings
from fairyring.core.errors import MissingExtra, PlanError, TrainingWarning
from fairyring.records.layout import RUN
from fairyring.statistics import interval_text

if TYPE_CHECKING:
    from fairyring.statistics import Interval
    from fairyring.sweeps import Comparison, Setting, Sweep


def grid_from(
    items: Sequence[str], example: str = "local.optimizer.learning_rate=0.03,0.1,0.3"
) -> dict[str, list[str]]:
    """``["local.batch_size=5,10"]`` as ``{"local.batch_size": ["5", "10"]}``.

    Raises:
        PlanError: an item has no name or no values.
    """
    grid: dict[str, list[str]] = {}
    for item in items:
        name, equals, values = item.partition("=")
        parts = [value.strip() for value in values.split(",")]
        if not name.strip() or not equals or not all(parts):
            raise PlanError(
                "--grid",
                given=repr(item),
                expected="NAME=VALUE,VALUE,...",
                do=f"Write it as --grid {example}.",
            )
        if name.strip() in grid:
            raise PlanError(
                "--grid",
                given=f"{name.strip()} twice",
                expected="each field once, with all its values",
                do="Write them as NAME=VALUE,VALUE.",
            )
        grid[name.strip()] = parts
    return grid


def sweep(
    file: Path,
    *,
    grid: Sequence[str],
    settings_file: Path | None,
    seeds: int,
    rounds: int | None,
    run: Path | None,
    resume: bool,
    choose_by: str,
    at_once: int | None,
    track: Sequence[str] = (),
    engine: str | None = None,
) -> Result:
    """Sweep over the plan of `file`; see the command `sweep`. The exit status is 1 if no setting is chosen."""
    fixed, several = settings_in(settings_file)
    settings = several | grid_from(grid)
    if not settings:
        raise PlanError(
            "sweep",
            given="no field with several values",
            expected="one or more",
            do="Give --grid local.optimizer.learning_rate=0.03,0.1, or a list in the file of settings.",
        )
    with without_warnings():  # they are printed below
        given = PlanFile.read(file)
        if fixed:
            from fairyring.learning import override

            rounds = int(fixed.pop("rounds")) if rounds is None and "rounds" in fixed else rounds
            given = replace(given, plan=override(given.plan, fixed))
    rounds = given.planned_rounds(file, rounds)
    if given.test is None:
        raise PlanError(
            str(file),
            given="no test clients",
            expected="clients on which the chosen setting is judged",
            do="Add a line such as test = ...",
        )
    from fairyring.report import write_report
    from fairyring.sweeps import SweepRun, settings_of
    from fairyring.sweeps import sweep as run_sweep

    folder = Path("runs") / f"{file.stem}-sweep" if run is None else run
    options = given.options("evaluate_every", "dropout", "secure_sum", "stop", "track")
    if track:
        options["track"] = list(track)
    options |= engine_from(engine, file)
    planned, ended = seeds, 0
    for values in settings.values():
        planned *= len(values)

    def on_run(done: SweepRun) -> None:
        nonlocal ended
        ended += 1
        means = done.validation.columns() if done.validation is not None else {}
        words = ", ".join(f"{name.removeprefix('metrics.')} {value:.4g}" for name, value in means.items())
        say(f"run {ended}/{planned}  {done.folder}  {done.error or words}")
        for caution in _said_by(folder / str(done.folder)):
            show_warning(screen(), caution)

    with without_warnings():
        _show_cautions(settings_of(given.plan, settings), given.population, rounds)
    say(f"{planned} runs of {rounds} rounds; compiling first.")
    try:
        with without_warnings(TrainingWarning):
            found = run_sweep(
                given.plan,
                settings,
                given.population,
                rounds=rounds,
                test=given.test,
                validation=given.validation,
                seeds=seeds,
                choose_by=choose_by,
                folder=folder,
                resume=resume,
                at_once=at_once,
                on_run=on_run,
                **options,
            )
    except KeyboardInterrupt:
        kept = f"Stopped after {ended} runs. Give the same command with --run {folder} --resume to go on."
        raise Interrupted(kept) from None
    page, words = _report(lambda: write_report(folder))

    def show() -> None:
        say()
        _show_sweep(found)
        say(words)

    return Result(
        {"sweep": folder, **_found(found), "report": page}, show, 0 if found.best is not None else 1
    )


def _show_cautions(settings: "Sequence[Setting]", population: Any, rounds: int) -> None:
    """Print what weakens the promises of settings: once what holds for all of them, else with their names."""
    by_caution: dict[str, list[str]] = {}
    for setting in settings:
        for caution in cautions_of(setting.plan, population, rounds):
            by_caution.setdefault(caution, []).append(setting.name)
    for caution, names in by_caution.items():
        whose = "" if len(names) == len(settings) else f"{'; '.join(names)}: "
        show_warning(screen(), whose + caution)


def _said_by(run: Path) -> list[str]:
    """What a run has said of its training, as its header has it."""
    try:
        header = json.loads((run / RUN).read_text("utf-8"))
    except (OSError, ValueError):
        return []
    return [str(caution) for caution in header.get("cautions", ())]


def _found(found: "Sweep") -> dict[str, Any]:
    """A sweep as plain values."""
    return {
        "choose_by": found.choose_by,
        "seeds": found.seeds,
        "rounds": found.rounds,
        "settings": [
            {
                "name": name,
                "values": labels,
                "finished": sum(run.finished for run in found.of(place)),
                "validation": {column: interval(found.validation(place, column)) for column in found.columns},
            }
            for place, (name, labels) in enumerate(zip(found.names, found.labels, strict=True))
        ],
        "best": found.names[found.best] if found.best is not None else None,
        "test": {column: interval(found.test(column)) for column in found.columns}
        if found.best is not None
        else None,
        "failed": [
            {"setting": found.names[run.setting], "seed": run.seed, "error": run.error}
            for run in found.failed
        ],
        "runs": [{**fields(run), "setting": found.names[run.setting]} for run in found.runs],
        "privacy": found.privacy,
    }


def fields(run: Any) -> dict[str, Any]:
    """A run of a sweep as plain values."""
    return {name: getattr(run, name) for name in run.__struct_fields__}


def _show_sweep(found: "Sweep") -> None:
    paths = list(found.labels[0])
    ends = [path.rpartition(".")[2] for path in paths]
    short = [end if ends.count(end) == 1 else path for path, end in zip(paths, ends, strict=True)]
    rows = [
        [
            *labels.values(),
            f"{sum(run.finished for run in found.of(place))}/{len(found.seeds)}",
            *(interval_text(found.validation(place, column)) for column in found.columns),
            "best" if place == found.best else "",
        ]
        for place, labels in enumerate(found.labels)
    ]
    show_table(
        [*short, "runs", *(column.removeprefix("metrics.") for column in found.columns), "chosen"],
        rows,
        words=(*short, "chosen"),
    )
    say(found.verdict)
    for run in found.failed:
        say(f"failed: {found.names[run.setting]}, seed {run.seed}: {run.error}")
    if found.privacy:
        say(found.privacy)


def compare(runs: Sequence[Path], out: Path) -> Result:
    """The table of these runs, and their report; see the command `compare`."""
    from fairyring.report import write_comparison
    from fairyring.sweeps import compare as compared

    comparison = compared(list(runs))
    page, words = _report(lambda: write_comparison(comparison, out))
    found = {
        "settings": [
            {
                "name": one.name,
                "differs": dict(one.differs),
                "runs": [run.folder for run in one.runs],
                "values": {column: interval(one.interval(column)) for column in comparison.columns},
            }
            for one in comparison.settings
        ],
        "report": page,
    }

    def show() -> None:
        _show_comparison(comparison)
        say(words)

    return Result(found, show)


def _show_comparison(comparison: "Comparison") -> None:
    columns = comparison.columns
    rows = [
        [one.name, str(len(one.runs)), *(interval_text(one.interval(column)) for column in columns)]
        for one in comparison.settings
    ]
    names = [column.replace("test.", "test ").replace("metrics.", "") for column in columns]
    show_table(["setting", "runs", *names], rows, words=("setting",))
    settings = comparison.settings
    if not all(value in one.name for one in settings for value in one.differs.values() if value != "–"):
        for field in comparison.fields:
            values = "; ".join(f"{one.name}: {one.differs.get(field, '–')}" for one in settings)
            say(f"{field}  {values}")


def _report(write: Callable[[], Path]) -> tuple[Path | None, str]:
    """Where a report was written, and a line that says so."""
    try:
        page = write()
    except MissingExtra as error:
        return None, f"No report was written: {error.do}"
    return page, f"Report: {page}"


def interval(over_seeds: "Interval | None") -> dict[str, float] | None:
    """A mean over seeds, with its interval."""
    if over_seeds is None:
        return None
    return {"mean": over_seeds.estimate, "low": over_seeds.low, "high": over_seeds.high}
