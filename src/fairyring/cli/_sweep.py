"""`sweep` and `compare`: many runs, made or found, as a table and a report."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fairyring.cli._plan_file import PlanFile, settings_in
from fairyring.cli._terminal import screen, show_cautions, without_warnings
from fairyring.core.errors import MissingExtra, PlanError


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
) -> int:
    """Sweep over the plan of `file`; see the command `sweep`. Returns the exit status."""
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
    from fairyring.sweeps import SweepRun
    from fairyring.sweeps import sweep as run_sweep

    folder = Path("runs") / f"{file.stem}-sweep" if run is None else run
    options = given.options("evaluate_every", "dropout", "secure_sum", "stop", "track")
    if track:
        options["track"] = list(track)
    planned, ended = seeds, 0
    for values in settings.values():
        planned *= len(values)

    def on_run(done: SweepRun) -> None:
        nonlocal ended
        ended += 1
        means = done.validation.columns() if done.validation is not None else {}
        words = ", ".join(f"{name.removeprefix('metrics.')} {value:.4g}" for name, value in means.items())
        _print(f"run {ended}/{planned}  {done.folder}  {done.error or words}")

    show_cautions(screen(), given.plan, given.population, rounds)
    _print(f"{planned} runs of {rounds} rounds; compiling first.")
    try:
        with without_warnings():
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
        _print(f"Stopped after {ended} runs. Give the same command with --run {folder} --resume to go on.")
        raise SystemExit(130) from None
    _print(f"\n{found}")
    try:
        _print(f"Report: {write_report(folder)}")
    except MissingExtra as error:
        _print(f"No report was written: {error.do}")
    return 0 if found.best is not None else 1


def compare(runs: Sequence[Path], out: Path) -> None:
    """Print the table of these runs, and write their report; see the command `compare`."""
    from fairyring.report import write_comparison
    from fairyring.sweeps import compare as compared

    comparison = compared(list(runs))
    _print(str(comparison))
    try:
        _print(f"Report: {write_comparison(comparison, out)}")
    except MissingExtra as error:
        _print(f"No report was written: {error.do}")


def _print(line: str) -> None:
    screen().print(line, highlight=False, markup=False, soft_wrap=True)
