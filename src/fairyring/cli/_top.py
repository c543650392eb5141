"""`top`: the runs and the devices of a service, as its dashboard shows them, in a terminal."""

import io
import time
from collections import deque
from collections.abc import Iterator

import msgspec
from rich.console import Console
from rich.live import Live
from rich.text import Text

from fairyring.cli._result import Result
from fairyring.cli._screen import say, screen, show_table
from fairyring.cli._service import Server
from fairyring.core.errors import FairyringError
from fairyring.core.rounding import at_most
from fairyring.records import units
from fairyring.service.pages import Funnel, RunRow, Snapshot

PATIENCE = 10.0  # seconds after which a service that says nothing does not answer
_LONG = 36  # characters of a text
_ENDED = 5  # runs that are over, of those shown
_OVER = ("finished", "cancelled", "failed")


def top(server: Server, *, once: bool = False, every: float = 1.0) -> Result:
    """Show a service's runs and devices until Ctrl-C, or once; once, too, if the output is no terminal.

    Args:
        server: the service.
        once: whether to show it once.
        every: seconds between two looks.

    Raises:
        FairyringError: the service does not answer, or nobody has signed in.
    """
    snapshot, console = _read(server), screen()
    if not once and console.is_terminal:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            (snapshot,) = deque(_follow(server, snapshot, live, every), maxlen=1)  # the last is shown again
    return Result(msgspec.to_builtins(snapshot), lambda: show(snapshot, console))


def _read(server: Server) -> Snapshot:
    found = server.get("/v1/snapshot")
    try:
        return msgspec.convert(found, Snapshot)
    except msgspec.ValidationError as error:
        raise FairyringError(
            f"{server.url}/v1/snapshot",
            given=f"what is no snapshot ({error})",
            expected="a service of this version of fairyring",
            do="Check the address, and the versions of both.",
        ) from error


def show(snapshot: Snapshot, console: Console, lost: str = "") -> None:
    """Print a snapshot; `lost`: why there is no newer one."""
    service, fleet, requests = snapshot.service, snapshot.fleet, snapshot.requests
    up = units.duration(max(0.0, service.now - service.started))
    processes = units.count(len(service.processes), "process", "processes")
    say(
        f"fairyring {_clean(service.version)} at {_clean(service.address)}, up {up}, {processes}",
        console=console,
    )
    barred = f", {units.count(fleet.barred)} barred" if fleet.barred else ""
    devices = f"{units.count(fleet.enrolled, 'device')} enrolled, {units.count(fleet.active_1h)} active within the hour{barred}"
    refused = units.count(sum(requests.refused.values()))
    say(
        f"{devices}; {units.number(float(f'{requests.per_second:.3g}'))} requests a second, {refused} refused",
        console=console,
    )
    if lost:
        console.print(Text(lost, style="bold red"))
    say("", console=console)
    under_way = [run for run in snapshot.runs if run.state not in _OVER]
    over = [run for run in snapshot.runs if run.state in _OVER]
    if under_way:
        names = ["run", "state", "round", "phase", "devices", "failed", "loss", "metric", "epsilon", "up"]
        rows = [_under_way(run, service.now) for run in under_way]
        show_table(names, rows, words=("run", "state", "phase"), console=console)
    else:
        say("No run is under way.", console=console)
    if over:
        names = ["ended", "state", "round", "loss", "metric", "epsilon", "up"]
        say("", console=console)
        show_table(names, [_over(run) for run in over[:_ENDED]], words=("ended", "state"), console=console)
        if len(over) > _ENDED:
            say(f"and {units.count(len(over) - _ENDED)} more that have ended", console=console)


def _under_way(run: RunRow, now: float) -> list[str]:
    name, state, place, *rest = _over(run)
    phase = _clean(run.phase.replace("_", " ")) or "–"
    if run.phase and run.phase_expected:
        phase += f" {units.count(run.phase_done)} of {units.count(run.phase_expected)}"
    if run.phase and run.phase_deadline is not None and run.phase_deadline > now:
        phase += f", {units.duration(run.phase_deadline - now)} left"
    failed = sum(failure.count for failure in run.failures)
    return [name, state, place, phase, units.count(_reached(run.funnel)), units.count(failed), *rest]


def _reached(funnel: Funnel) -> int:
    """How many devices are at the last stage that any has reached."""
    stages = [name for name in Funnel.__struct_fields__ if name != "failed"]
    return next((many for name in reversed(stages) if (many := getattr(funnel, name))), 0)


def _over(run: RunRow) -> list[str]:
    over = run.state in _OVER
    coming = (
        "cancelling"
        if run.wanted == "cancel"
        else "pausing"
        if run.wanted == "pause" and run.state != "paused"
        else None
    )
    judged = "accuracy" if "accuracy" in run.metrics else next(iter(run.metrics), None)
    metric = "–" if judged is None else f"{_clean(judged)} {units.metric(judged, run.metrics[judged])}"
    spent = "–" if run.epsilon_spent is None else at_most(run.epsilon_spent)
    limit = "" if run.epsilon is None else f" of {units.number(run.epsilon)}"
    return [
        _clean(run.name or run.id),
        coming if coming is not None and not over else _clean(run.state),
        f"{units.count(run.round)}/{units.count(run.rounds)}",
        "–" if run.loss is None else units.number(run.loss),
        metric,
        f"{spent}{limit}",
        units.size(run.bytes_up),
    ]


def _clean(text: str) -> str:
    """A text of others in a terminal, cut where it is long."""
    plain = _printable(text)
    return plain if len(plain) <= _LONG else f"{plain[: _LONG - 1]}…"


def _printable(text: str) -> str:
    """The same text, in which nothing moves the cursor."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)


def _follow(server: Server, snapshot: Snapshot, live: Live, every: float) -> Iterator[Snapshot]:
    """Shows snapshots, and gives each of them, until Ctrl-C."""
    heard, lost = time.monotonic(), ""
    try:
        while True:
            yield snapshot
            live.update(_page(snapshot, live.console, lost), refresh=True)
            time.sleep(every)
            try:
                snapshot, heard, lost = _read(server), time.monotonic(), ""
            except FairyringError as error:
                age = units.duration(time.monotonic() - heard)
                why = _printable(str(error.given))
                lost = f"The connection is lost ({why}). These numbers are {age} old. Trying again …"
    except KeyboardInterrupt:  # the way to end it
        return


def _page(snapshot: Snapshot, console: Console, lost: str) -> Text:
    """What is shown, printed to a text of the terminal's width first: lines and tables are those of every other command."""
    width, height = console.size
    page = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, legacy_windows=False)
    show(snapshot, page, lost)
    assert isinstance(page.file, io.StringIO)
    return Text.from_ansi(page.file.getvalue())
