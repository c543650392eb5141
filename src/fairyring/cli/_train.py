"""`train` and `demo`: read a plan file, simulate, show progress, print a summary, write the report."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fairyring.cli._audit import audit
from fairyring.cli._plan_file import PlanFile, settings_from, settings_in
from fairyring.cli._source import Source
from fairyring.cli._terminal import screen, show_cautions, summarise, without_warnings
from fairyring.core.errors import MissingExtra, PlanError
from fairyring.records.folder import clear
from fairyring.records.layout import RUN
from fairyring.records.round_record import RoundRecord
from fairyring.rounds.progress import LiveProgress

_DEMO = Path(__file__).with_name("demo_plan.py")


def train(
    file: Path,
    *,
    settings: Sequence[str] = (),
    settings_file: Path | None = None,
    run: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    rounds: int | None = None,
    seed: int | None = None,
    keep: str | None = None,
    init: Path | None = None,
    track: Sequence[str] = (),
) -> None:
    """Train the plan of `file`; see the command `train`."""
    given: dict[str, Any] = {"resume": resume, "overwrite": overwrite}
    if keep is not None:
        given["keep"] = int(keep) if keep.isdecimal() else keep
    if init is not None:
        given["init"] = init
    if track:
        given["track"] = list(track)
    with without_warnings():  # the command prints them
        fixed, several = settings_in(settings_file)
        if several:
            raise PlanError(
                str(settings_file),
                given=f"several values of {', '.join(several)}",
                expected="one value of each",
                do="Give the file to fairyring sweep, or choose.",
            )
        numbers = {
            name: int(fixed.pop(name)) for name in ("rounds", "seed") if fixed.get(name, "").isdecimal()
        }
        rounds = numbers.get("rounds") if rounds is None else rounds
        seed = numbers.get("seed") if seed is None else seed
        _train(file, fixed | settings_from(settings), run, rounds, seed, given)


def _train(
    file: Path,
    changes: dict[str, str],
    run: Path | None,
    rounds: int | None,
    seed: int | None,
    arguments: dict[str, Any],
) -> None:
    given = PlanFile.read(file)
    from fairyring.learning import override
    from fairyring.simulation import simulate

    plan = override(given.plan, changes) if changes else given.plan
    rounds = given.planned_rounds(file, rounds)
    folder = Path("runs") / file.stem if run is None else run
    options = given.options(
        "evaluate_every", "dropout", "secure_sum", "keep_client_states", "stop", "keep", "init", "track"
    )
    console = screen()
    show_cautions(console, plan, given.population, rounds)
    progress = LiveProgress(console, rounds)
    source, stored = Source(str(file.resolve()), dict(changes)), False

    def on_round(record: RoundRecord) -> None:
        # Only now is it certain that the folder belongs to this run. The folder of another run must keep its own source.
        nonlocal stored
        if not stored:
            source.store(folder)
            stored = True
        progress(record)

    try:
        with progress:
            done = simulate(
                plan,
                given.population,
                rounds=rounds,
                seed=seed if seed is not None else given.seed or 0,
                test=given.test,
                run=str(folder),
                on_round=on_round,
                **{**options, **arguments},
            )
    except KeyboardInterrupt:
        console.print(
            f"Stopped after round {progress.last}. Continue with: fairyring train {file} --run {folder} --resume",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        raise SystemExit(130) from None
    if not stored:  # there was no round left to run
        source.store(folder)
    facts = json.loads((folder / RUN).read_text("utf-8"))
    page, hint = _report(folder)
    summarise(console, done.records, facts, folder, page)
    if hint:
        console.print(f"\n{hint}", markup=False)


def track(folder: Path, to: Sequence[str]) -> int:
    """Send the numbers of a run to trackers; see the command `track`. Returns the exit status."""
    from fairyring.runs import load_run
    from fairyring.tracking import deliver, trackers_from

    run, complete = load_run(folder), True
    for tracker in trackers_from(list(to)):
        taken = deliver(run, tracker)
        complete = complete and taken
        if taken:
            screen().print(
                f"{len(run.records)} rounds sent to {tracker.name}",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
    return 0 if complete else 1


def demo(out: Path) -> int:
    """Run the demonstration in `out`, replacing an earlier one, and audit it. Returns the exit status."""
    clear(out)
    screen().print(
        "Handwritten digits of 1,000 simulated clients: one model for all, trained with secure\n"
        "aggregation and noise, within a privacy budget for every client. Then the run is audited.\n",
        highlight=False,
    )
    train(_DEMO, run=out)
    screen().print(
        "\nThe audit: canaries test the promise, and images are reconstructed from updates.\n",
        highlight=False,
    )
    return audit(out, _DEMO, canaries=1000, targets=6, shadows=0)


def _report(folder: Path) -> tuple[Path | None, str]:
    from fairyring.report import write_report

    try:
        return write_report(folder), ""
    except MissingExtra as error:
        return None, f"No report was written: {error.do}"
