"""`top`: the runs and the devices of a service, as its dashboard shows them, in a terminal."""

import getpass
import io
import ipaddress
import os
import time
import urllib.error
import urllib.request
from http.cookiejar import CookieJar
from typing import Any
from urllib.parse import urlsplit

import msgspec
from rich.console import Console
from rich.live import Live
from rich.text import Text

from fairyring.cli._result import Result
from fairyring.cli._screen import say, screen, show_table
from fairyring.core.errors import FairyringError
from fairyring.core.rounding import at_most
from fairyring.records import units
from fairyring.service.pages import INTENT, Funnel, RunRow, Snapshot

PASSWORD = "FAIRYRING_PASSWORD"
_LONGEST = 64 << 20  # bytes of an answer
_PATIENCE = 10.0  # seconds
_LONG = 36  # characters of a text
_ENDED = 5  # runs that are over, of those shown
_OVER = ("finished", "cancelled", "failed")


def top(address: str, *, once: bool = False, user: str | None = None, every: float = 1.0) -> Result:
    """Show a service's runs and devices until Ctrl-C, or once; once, too, if the output is no terminal.

    Args:
        address: of the service.
        once: whether to show it once.
        user: whom to sign in; the password is that of the environment, or is asked for.
        every: seconds between two looks.

    Raises:
        FairyringError: the service does not answer, or nobody is signed in.
    """
    source = _Source(address)
    if user is not None:
        source.sign_in(user, os.environ.get(PASSWORD) or getpass.getpass(f"Password of {user}: "))
    snapshot = source.read()
    console = screen()
    if once or not console.is_terminal:
        return Result(msgspec.to_builtins(snapshot), lambda: show(snapshot, console))
    with Live(console=console, screen=True, auto_refresh=False) as live:
        try:
            snapshot = _follow(source, snapshot, live, every)
        except KeyboardInterrupt:  # the way to end it
            snapshot = source.last or snapshot
    return Result(msgspec.to_builtins(snapshot), lambda: show(snapshot, console))


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
    """A text of others in a terminal: nothing in it moves the cursor, and a long one is cut."""
    plain = "".join(letter if letter.isprintable() else "�" for letter in text)
    return plain if len(plain) <= _LONG else f"{plain[: _LONG - 1]}…"


def _follow(source: "_Source", snapshot: Snapshot, live: Live, every: float) -> Snapshot:
    heard = time.monotonic()
    lost = ""
    while True:
        # Printed to a text of the terminal's width first, so that lines and tables are those of every other command.
        width, height = live.console.size
        page = Console(
            file=io.StringIO(), width=width, height=height, force_terminal=True, legacy_windows=False
        )
        show(snapshot, page, lost)
        assert isinstance(page.file, io.StringIO)
        live.update(Text.from_ansi(page.file.getvalue()), refresh=True)
        time.sleep(every)
        try:
            snapshot, heard, lost = source.read(), time.monotonic(), ""
        except FairyringError as error:
            age = units.duration(time.monotonic() - heard)
            lost = f"The connection is lost ({error.given}). These numbers are {age} old. Trying again …"


class _Source:
    """A service's snapshots over HTTP. It keeps the cookie of who has signed in."""

    def __init__(self, address: str) -> None:
        given = urlsplit(address if "://" in address else f"http://{address}")
        if given.scheme not in ("http", "https") or not given.hostname:
            raise FairyringError(
                "address of a service",
                given=repr(address),
                expected="such as https://fl.example.org or http://127.0.0.1:8440",
                do="Give the address that the service printed when it was started.",
            )
        self._base = f"{given.scheme}://{given.netloc}{given.path.rstrip('/')}"
        self._in_the_clear = given.scheme == "http" and not _is_here(given.hostname)
        self._open = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar())).open
        self.last: Snapshot | None = None

    def read(self) -> Snapshot:
        """The snapshot of this moment."""
        body = self._ask("/v1/snapshot")
        try:
            self.last = msgspec.json.decode(body, type=Snapshot)
        except msgspec.DecodeError as error:
            raise FairyringError(
                f"{self._base}/v1/snapshot",
                given=f"what is no snapshot ({error})",
                expected="a service of this version of fairyring",
                do="Check the address, and the versions of both.",
            ) from error
        return self.last

    def sign_in(self, user: str, password: str) -> None:
        """Sign somebody in. A password is not sent in the clear over a network."""
        if self._in_the_clear:
            raise FairyringError(
                "--user", given=f"{self._base}, without TLS", expected="an address with https://",
                do="A password is not sent in the clear: use TLS, or a tunnel to a loopback address.",
            )  # fmt: skip
        self._ask("/v1/login", {"name": user, "password": password})

    def _ask(self, path: str, content: dict[str, Any] | None = None) -> bytes:
        body = None if content is None else msgspec.json.encode(content)
        headers = {"Accept": "application/json"}
        if body is not None:
            headers |= {"Content-Type": "application/json", INTENT[0]: INTENT[1]}
        request = urllib.request.Request(f"{self._base}{path}", data=body, headers=headers)
        try:
            with self._open(request, timeout=_PATIENCE) as answer:
                return answer.read(_LONGEST)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refused(path, error.code, f"status {error.code}") from None
        except (OSError, ValueError) as error:
            why = getattr(error, "reason", None) or error
            raise self._refused(path, 0, f"no answer: {getattr(why, 'strerror', None) or why}") from error

    def _refused(self, path: str, status: int, given: str) -> FairyringError:
        do = {
            401: "Sign in: --user NAME. Check the name and the password.",
            403: "Sign in as somebody who may see this service.",
            0: "Check the address, and that the service is running: fairyring serve",
        }.get(status, "Check the address.")
        return FairyringError(f"{self._base}{path}", given=given, expected="a service of fairyring", do=do)


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
