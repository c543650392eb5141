"""`top`: a service in a terminal of any width, whatever its names are, and when it goes away."""

import io
import json
from collections.abc import Callable, Iterator

import msgspec
import pytest
from rich.console import Console
from rich.text import Text

from fairyring.cli import _top
from fairyring.core.errors import FairyringError
from fairyring.service import pages
from tests.cli.documented import document
from tests.service.pages.fake_service import FakeService, run_row, snapshot

changed = msgspec.structs.replace
OVER = [run_row(f"old-{n}", name=f"Rate {n}", state="finished", phase="", round=60) for n in range(8)]


@pytest.fixture(scope="module")
def service() -> Iterator[FakeService]:
    with FakeService(snapshot([run_row(), *OVER])) as service:
        yield service


@pytest.fixture(autouse=True)
def _shown_anew(service: FakeService) -> None:
    service.show(snapshot([run_row(), *OVER]))
    service.role = "operator"


def printed(shown: pages.Snapshot, width: int, lost: str = "") -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    _top.show(shown, console, lost)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_it_shows_what_the_dashboard_shows(call: Callable, service: FakeService) -> None:
    shown = call("top", service.url, "--once")
    assert shown.status == 0
    assert "fairyring 0.9.0 at https://fl.example.org, up 25 h 50 min, 2 processes" in shown.out
    assert "10,412 devices enrolled, 1,874 active within the hour, 2 barred" in shown.out
    assert "41.7 requests a second, 217 refused" in shown.out
    row = next(line for line in shown.out.splitlines() if line.startswith("Handwritten"))
    for words in ("running", "12/60", "masking 71 of 96", "s left", "39", "0.8312", "accuracy 81.2 %", "2.315 of 8", "36.4 MiB"):  # fmt: skip
        assert words in row
    assert "Rate 4" in shown.out
    assert "Rate 5" not in shown.out
    assert "and 3 more that have ended" in shown.out
    assert call("top", service.url).out.splitlines()[0] == shown.out.splitlines()[0]  # no terminal: once


def test_its_document_is_the_snapshot(call: Callable, service: FakeService) -> None:
    found = document("top", call("top", service.url, "--once", "--json").out)
    assert msgspec.convert(found, pages.Snapshot) == service.shown


@pytest.mark.parametrize("width", [40, 60, 100, 200])
def test_every_width_has_room(width: int) -> None:
    long = changed(run_row(), name="w" * 300, phase="checking_in", epsilon_spent=None)
    paused = run_row("p", name="A name of several words", state="paused", wanted="pause", phase="")
    lines = printed(snapshot([long, paused, *OVER]), width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for words in ("2.315 of 8", "accuracy 81.2 %", "12/60", "36.4 MiB"):
        assert words in text


def test_names_do_not_steer_the_terminal() -> None:
    name = "\x1b[2J\x1b]0;owned\x07\r\nrm\u202e \x9b31m[b]x[/b]"
    row = run_row(name=name, phase=name, metrics={name: 0.5}, state=name)
    shown = snapshot([row])
    shown = changed(shown, service=changed(shown.service, address=name, version=name))
    text = "\n".join(printed(shown, 200))
    assert not set(text) & set("\x1b\x07\r\x9b\u202e")
    assert "[b]x[/b]" in text  # and nothing of it is markup


@pytest.mark.parametrize(
    ("state", "wanted", "words"),
    [
        ("running", "run", "running"),
        ("running", "pause", "pausing"),
        ("paused", "pause", "paused"),
        ("paused", "cancel", "cancelling"),
        ("cancelled", "cancel", "cancelled"),
    ],
)
def test_what_is_wanted_is_said_until_it_is_so(state: str, wanted: str, words: str) -> None:
    row = printed(snapshot([run_row(state=state, wanted=wanted)]), 200)[-1]
    assert row.removeprefix("Handwritten digits").split()[0] == words


def test_where_nothing_runs_it_says_so() -> None:
    assert "No run is under way." in printed(snapshot(), 80)


def test_who_is_not_signed_in_signs_in(
    call: Callable, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.role = None
    refused = call("top", service.url, "--once", "--json")
    assert refused.status == 2
    assert json.loads(refused.out)["error"]["do"] == "Sign in."
    monkeypatch.setenv("FAIRYRING_PASSWORD", "wrong")
    assert call("top", service.url, "--once", "--user", "vera").status == 2
    monkeypatch.setenv("FAIRYRING_PASSWORD", "right")
    assert "Handwritten digits" in call("top", service.url, "--once", "--user", "vera").out


def test_a_service_that_does_not_answer(call: Callable) -> None:
    called = call("top", "http://127.0.0.1:9", "--once", "--json")
    assert called.status == 2
    assert "Connection refused" in json.loads(called.out)["error"]["given"]


def test_what_is_no_service_is_said_to_be_none(call: Callable, service: FakeService) -> None:
    called = call("top", f"{service.url}elsewhere/", "--once", "--json")
    assert json.loads(called.out)["error"]["given"] == "status 404"
    service.show(pages.Process(owner="", address="", leases=0))  # pyright: ignore[reportArgumentType]
    called = call("top", service.url, "--once", "--json")
    assert "no snapshot" in json.loads(called.out)["error"]["given"]


def test_it_follows_a_service_and_says_when_it_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    class Server:
        url = "http://fl.example.org"

        def get(self, path: str) -> object:
            assert path == "/v1/snapshot"
            if len(seen) == 1:
                return msgspec.to_builtins(snapshot([run_row(loss=0.1234)]))
            if len(seen) == 2:
                raise FairyringError("x", given="no answer: Connection refused", expected="", do="")
            raise KeyboardInterrupt

    class Screen:
        console = Console(file=io.StringIO(), width=120, height=30, force_terminal=True)

        def update(self, shown: Text, *, refresh: bool) -> None:
            assert refresh
            seen.append(shown.plain)

    monkeypatch.setattr("time.sleep", lambda _: None)
    given = list(_top._follow(Server(), snapshot([run_row()]), Screen(), 1.0))  # pyright: ignore[reportArgumentType]
    assert [one.runs[0].loss for one in given] == [0.8312, 0.1234, 0.1234]
    assert "0.8312" in seen[0]
    assert "0.1234" in seen[1]
    assert "The connection is lost (no answer: Connection refused)" in seen[2]
    assert "0.1234" in seen[2]
