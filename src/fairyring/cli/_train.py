"""`train` and `demo`: read a plan file, simulate, show progress, print a summary, write the report. And `track`: send a run's numbers."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fairyring.cli._audit import audit
from fairyring.cli._engine import engine_from
from fairyring.cli._plan_file import PlanFile, settings_from, settings_in
from fairyring.cli._result import Interrupted, Result
from fairyring.cli._screen import say, screen
from fairyring.cli._source import Source
from fairyring.cli._terminal import show_cautions, summarise, summary, without_warnings
from fairyring.core.errors import MissingExtra, PlanError
from fairyring.records.folder import RunFolder, clear
from fairyring.records.layout import CHECKPOINTS, IS_CHECKPOINT, RUN
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
    engine: str | None = None,
) -> Result:
    """Train the plan of `file`; see the command `train`."""
    options = {
        "--settings": settings_file,
        "--rounds": rounds,
        "--seed": seed,
        "--keep": keep,
        "--init": init,
        "--engine": engine,
    }
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
        changes = fixed | settings_from(settings)
        folder = Path("runs") / file.stem if run is None else run
        another = (folder / RUN).is_file() and not (resume or overwrite)
        try:
            return _train(file, changes, folder, rounds, seed, given, engine)
        except KeyboardInterrupt:
            if another or not (folder / RUN).is_file():
                raise Interrupted("Stopped before there was anything to keep.") from None
            raise _interrupted(file, options, settings, track, folder) from None


def _interrupted(
    file: Path, options: Mapping[str, object], settings: Sequence[str], track: Sequence[str], folder: Path
) -> Interrupted:
    """What is kept of a run that was stopped, and the command that goes on with it, quoted for a shell."""
    words = [word for name, value in options.items() if value is not None for word in (name, str(value))]
    words += [word for each in settings for word in ("--set", each)]
    words += [word for each in track for word in ("--track", each)]
    command = shlex.join(["fairyring", "train", str(file), *words, "--run", str(folder), "--resume"])
    rounds = len(RunFolder.open(folder).records())
    found = (IS_CHECKPOINT.fullmatch(path.name) for path in (folder / CHECKPOINTS).glob("*"))
    saved = max((int(checkpoint[1]) for checkpoint in found if checkpoint), default=0)
    kept = f"Stopped after round {rounds}" if rounds else "Stopped before the first round had ended"
    if saved < rounds:
        kept += f"; what followed round {saved} is run again" if saved else "; it is run again from the start"
    return Interrupted(f"{kept}.", command)


def _train(
    file: Path,
    changes: dict[str, str],
    folder: Path,
    rounds: int | None,
    seed: int | None,
    arguments: dict[str, Any],
    engine: str | None,
) -> Result:
    given = PlanFile.read(file)
    arguments = arguments | engine_from(engine, file)
    from fairyring.learning import override
    from fairyring.simulation import simulate

    plan = override(given.plan, changes) if changes else given.plan
    rounds = given.planned_rounds(file, rounds)
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
    if not stored:  # there was no round left to run
        source.store(folder)
    facts = json.loads((folder / RUN).read_text("utf-8"))
    page, hint = _report(folder)

    def show() -> None:
        summarise(screen(), done.records, facts, folder, page)
        if hint:
            say("", hint)

    return Result(summary(done.records, facts, folder, page), show)


def track(folder: Path, to: Sequence[str]) -> Result:
    """Send the numbers of a run to trackers; see the command `track`. The exit status is 1 if one has not taken all of them."""
    from fairyring.runs import load_run
    from fairyring.tracking import deliver, trackers_from

    run = load_run(folder)
    rounds = len(run.records)
    taken = [(tracker.name, deliver(run, tracker)) for tracker in trackers_from(list(to))]

    def show() -> None:
        for name, complete in taken:
            if complete:
                say(f"{rounds} rounds sent to {name}")

    found = {
        "run": folder,
        "rounds": rounds,
        "trackers": [{"name": name, "complete": complete} for name, complete in taken],
    }
    return Result(found, show, 0 if all(complete for _, complete in taken) else 1)


def demo(out: Path) -> Result:
    """Run the demonstration in `out`, replacing an earlier one, and audit it."""
    clear(out)
    say(
        "Handwritten digits of 1,000 simulated clients: one model for all, trained with secure "
        "aggregation and noise, within a privacy budget for every client. Then the run is audited.",
        "",
    )
    trained = train(_DEMO, run=out)
    trained.show()
    say("", "The audit: canaries test the promise, and images are reconstructed from updates.", "")
    audited = audit(out, _DEMO, canaries=1000, targets=6, shadows=0)
    return Result({"train": trained.found, "audit": audited.found}, audited.show, audited.status)


def _report(folder: Path) -> tuple[Path | None, str]:
    from fairyring.report import write_report

    try:
        return write_report(folder), ""
    except MissingExtra as error:
        return None, f"No report was written: {error.do}"
