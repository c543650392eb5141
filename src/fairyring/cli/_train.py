"""`train` and `demo`: read a file, simulate, show progress, sum up, report. The demo is a file like any other."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fairyring.cli._audit import audit
from fairyring.cli._plan_file import PlanFile, settings_from
from fairyring.cli._source import Source
from fairyring.cli._terminal import LiveProgress, screen, show_warning, summarise, without_warnings
from fairyring.core.errors import MissingExtra, PlanError
from fairyring.records.layout import LOCK, OF_A_RUN, RUN
from fairyring.records.lock import Lock
from fairyring.records.round_record import RoundRecord

_DEMO = Path(__file__).with_name("demo_plan.py")


def train(
    file: Path,
    *,
    settings: Sequence[str] = (),
    run: Path | None = None,
    resume: bool = False,
    rounds: int | None = None,
    seed: int | None = None,
) -> None:
    """Train the plan of `file`; see the command of the same name."""
    with without_warnings():  # they are said in the terminal's own way
        _train(file, settings, run, resume, rounds, seed)


def _train(
    file: Path, settings: Sequence[str], run: Path | None, resume: bool, rounds: int | None, seed: int | None
) -> None:
    changes = settings_from(settings)
    given = PlanFile.read(file)
    from fairyring.learning import override
    from fairyring.population import Population
    from fairyring.rounds.cautions import warnings_of
    from fairyring.simulation import simulate

    plan = override(given.plan, changes) if changes else given.plan
    rounds = given.rounds if rounds is None else rounds
    if rounds is None:
        raise PlanError(
            str(file),
            given="no number of rounds",
            expected="one",
            do="Add rounds = 100 to it, or give --rounds 100.",
        )
    folder = Path("runs") / file.stem if run is None else run
    names = ("evaluate_every", "dropout", "secure_sum", "keep_client_states", "stop")
    optional = {name: getattr(given, name) for name in names}
    options: dict[str, Any] = {name: value for name, value in optional.items() if value is not None}
    console = screen()
    if isinstance(given.population, Population):  # what else it may be is refused below
        sizes = given.population.sizes
        for caution in warnings_of(plan, sum(size > 0 for size in sizes), rounds, sum(sizes)):
            show_warning(console, caution)
    progress = LiveProgress(console, rounds)
    source, noted = Source(str(file.resolve()), dict(changes)), False

    def watched(record: RoundRecord) -> None:
        # Only now is the folder known to be this run's: another one's keeps the name of the file it was made from.
        nonlocal noted
        if not noted:
            source.note(folder)
            noted = True
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
                resume=resume,
                on_round=watched,
                **options,
            )
    except KeyboardInterrupt:
        console.print(
            f"Stopped after round {progress.last}. Go on with: fairyring train {file} --run {folder} --resume",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        raise SystemExit(130) from None
    if not noted:  # there was nothing left to run
        source.note(folder)
    facts = json.loads((folder / RUN).read_text("utf-8"))
    page, hint = _report(folder)
    summarise(console, done.records, facts, folder, page)
    if hint:
        console.print(f"\n{hint}", markup=False)


def demo(out: Path) -> int:
    """Train the demonstration into `out`, replacing an earlier demonstration there, and audit it; returns the exit status."""
    _clear(out)
    screen().print(
        "Handwritten digits over 1,000 simulated clients: one model for all, under masks and\n"
        "noise, within a privacy budget for every client. Then the model is attacked.\n",
        highlight=False,
    )
    train(_DEMO, run=out)
    screen().print(
        "\nThe audit: canaries against the promise, and images read off updates.\n", highlight=False
    )
    return audit(out, _DEMO, canaries=1000, targets=6, shadows=0)


def _report(folder: Path) -> tuple[Path | None, str]:
    from fairyring.report import write_report

    try:
        return write_report(folder), ""
    except MissingExtra as error:
        return None, f"No report was written: {error.do}"


def _clear(folder: Path) -> None:
    """Remove an earlier run, and nothing that a run does not write."""
    names = {entry.name.removesuffix(".part") for entry in folder.iterdir()} if folder.is_dir() else set()
    if not names or names - OF_A_RUN:
        return
    held = Lock(folder / LOCK)  # nobody writes it now
    try:
        for entry in folder.iterdir():
            if entry.is_dir():
                for inner in entry.iterdir():
                    inner.unlink()
                entry.rmdir()
            else:
                entry.unlink()
    finally:
        held.release()
