"""The owner's page in a real browser, and what it refuses to whoever is not its owner."""

import http.client
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from fairyring.core.errors import FairyringError, RunDamaged
from fairyring.device.page import Holding, OwnerPage, OwnerState, Participation, Refusal, Totals
from tests.report.kit.test_pages import FAINT, WIDER
from tests.service.pages.test_dashboard import FORWARDS

HOSTILE = "<img src=x onerror='window.hacked=1'>"
DAY = 86_400.0
changed = msgspec.structs.replace


def whole_state() -> OwnerState:
    """A phone that took part in fourteen rounds, one of them without masks, and refused two things."""
    now = time.time()
    took = [
        Participation(
            when=now - n * DAY, plan="Next word", author="Example Keyboards", round=41 - n, bytes_up=212_000,
            outcome="in the sum" if n % 4 else "left out: it was unplugged", masked=n != 2,
            epsilon=None if n == 2 else "Every device is promised epsilon 8 at delta 1e-05.",
        )
        for n in range(14)
    ]  # fmt: skip
    return OwnerState(
        device="7f3a91c2", name="Anna's phone", service="https://fl.example.org", on=True,
        doing="waiting to be asked", eligible=False, why_not=("It is not charging.",),
        examples=(
            Holding(source="keyboard", consent="You agreed on 3 May.", number=1432, oldest=now - 20 * DAY, kept_until=now + 10 * DAY),
            Holding(source="photos of handwriting", consent="You agreed on 9 June.", number=87, oldest=now - DAY),
        ),
        taken_part=tuple(took),
        refused=(Refusal(when=now - 5000, what="the plan “Collect everything”", why="It is signed by nobody you trust."),),
        totals=Totals(rounds=14, bytes_up=2_750_000, bytes_down=18_400_000),
        caps=("At most 8 rounds a week.",), promises=("Examples never leave this device.",),
    )  # fmt: skip


class Device:
    """A device whose owner's page may turn it off and make it forget."""

    def __init__(self, state: OwnerState) -> None:
        self.state, self.fails, self.asked = state, None, []

    def now(self) -> OwnerState:
        if isinstance(self.fails, FairyringError):
            raise self.fails
        return self.state

    def switch(self, on: bool) -> None:
        self.asked.append(("switch", on))
        self.state = changed(self.state, on=on, doing="waiting to be asked" if on else "nothing")

    def forget(self, source: str | None) -> int:
        self.asked.append(("forget", source))
        gone = [held for held in self.state.examples if source in (None, held.source)]
        self.state = changed(
            self.state, examples=tuple(held for held in self.state.examples if held not in gone)
        )
        return sum(held.number for held in gone)


@pytest.fixture
def device() -> Device:
    return Device(whole_state())


@pytest.fixture
def page(device: Device) -> Iterator[OwnerPage]:
    with OwnerPage(device.now, device) as page:
        yield page


class Reply:
    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status, self.body, self.headers = answer.status, answer.read(), answer.headers


def ask(
    page: OwnerPage,
    path: str,
    *,
    method: str = "GET",
    token: str | None = None,
    body: str = "",
    **headers: str,
) -> Reply:
    """Ask with a right `Host`, and nothing else that a page of its own would say."""
    _, _, where, secret, _ = page.url.split("/")
    connection = http.client.HTTPConnection(where, timeout=10)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(
        method, f"/{secret if token is None else token}/{path}", body=body.encode() or None, headers=names
    )
    return Reply(connection.getresponse())


def as_page(page: OwnerPage) -> dict[str, str]:
    """The headers that the page itself sends."""
    return {"Origin": page.url.rsplit("/", 2)[0], "Fairyring_Intent": "owner"}


def test_it_says_what_left_the_device(page: OwnerPage, visit: Callable) -> None:
    seen = visit(page.url)
    seen.get_by_role("heading", name="This device takes part in learning").wait_for()
    text = seen.locator("main").inner_text()
    assert "In 14 rounds altogether 2.8 MB left it, and 18 MB came to it." in text
    first, *_, third = seen.locator("#taken-part li").all()[:3]
    assert "left out: it was unplugged" in first.inner_text()
    assert "under masks: the service sees only the sum over many devices" in first.inner_text()
    assert "without masks: the service sees it" in third.inner_text()
    assert "epsilon" not in third.inner_text()
    assert "It is signed by nobody you trust." in text
    assert "It is not charging." in text
    assert "At most 8 rounds a week." in text
    assert seen.locator("#taken-part li").count() == 8
    seen.get_by_role("button", name="Show all 14").click()
    assert seen.locator("#taken-part li").count() == 14


def test_the_switch_turns_the_device_off_and_on(page: OwnerPage, device: Device, visit: Callable) -> None:
    seen = visit(page.url)
    switch = seen.get_by_role("switch", name="Take part")
    switch.focus()
    assert switch.get_attribute("aria-checked") == "true"
    seen.keyboard.press("Space")
    seen.get_by_role("heading", name="This device is switched off").wait_for()
    assert switch.get_attribute("aria-checked") == "false"
    assert not seen.get_by_text("It is not charging.").is_visible()
    switch.click()
    seen.get_by_role("heading", name="takes part").wait_for()
    assert device.asked == [("switch", False), ("switch", True)]


def test_it_asks_before_it_forgets(page: OwnerPage, device: Device, visit: Callable) -> None:
    seen = visit(page.url, clocked=True)
    of_photos = seen.locator("#examples li", has_text="Photos of handwriting").get_by_role("button")
    of_photos.click()
    assert "87 examples will be deleted" in seen.get_by_role("dialog").inner_text()
    seen.keyboard.press("Enter")  # the answer that is offered keeps them
    of_photos.click()
    seen.keyboard.press("Escape")
    assert device.asked == []
    of_photos.click()
    seen.get_by_role("button", name="Forget", exact=True).click()
    seen.get_by_text("87 examples were deleted.").wait_for()
    assert seen.locator("#examples li").count() == 1
    assert not seen.get_by_role("button", name="Forget everything").is_visible()  # one source is left
    device.state = whole_state()
    seen.clock.fast_forward(2100)
    seen.get_by_role("button", name="Forget everything").click()
    assert "1,519 examples" in seen.get_by_role("dialog").inner_text()
    seen.get_by_role("button", name="Forget", exact=True).click()
    seen.get_by_text("It holds no examples.").wait_for()
    assert device.asked == [("forget", "photos of handwriting"), ("forget", None)]


def test_what_the_device_refuses_is_said(device: Device, visit: Callable) -> None:
    def refuse(on: bool) -> None:
        raise RunDamaged("the device's folder", given="a full disk", expected="room", do="Make some.")

    device.switch = refuse
    with OwnerPage(device.now, device) as page:
        seen = visit(page.url, clocked=True)
        seen.get_by_role("switch").click()
        seen.get_by_role("alert").get_by_text("a full disk").wait_for()
        device.fails = RunDamaged("the ledger", given="less", expected="more", do="See the log.")
        seen.clock.fast_forward(2100)
        seen.get_by_text("The device does not answer").wait_for()
        device.fails = None
        seen.clock.fast_forward(2100)
        seen.locator("#banner").wait_for(state="hidden")


def test_a_device_that_has_stopped_is_noticed(device: Device, visit: Callable) -> None:
    with OwnerPage(device.now, device) as page:
        seen = visit(page.url, clocked=True)
        seen.get_by_role("switch").wait_for()
    seen.clock.fast_forward(2100)
    seen.get_by_text(re.compile("The device does not answer.*What is shown is from")).wait_for()
    assert seen.get_by_text("Anna's phone").is_visible()


def hostile_state() -> OwnerState:
    state, long = whole_state(), "x" * 300
    return changed(
        state, name=HOSTILE, doing=HOSTILE, why_not=(HOSTILE, long), device=long,
        examples=tuple(changed(held, source=name, consent=HOSTILE) for held, name in zip(state.examples, (HOSTILE, long), strict=True)),
        taken_part=tuple(changed(one, plan=HOSTILE, author=long, outcome="\u202eתוצאה") for one in state.taken_part),
        refused=(Refusal(when=0, what=long, why=HOSTILE),), caps=(HOSTILE,), promises=(long,), service=long,
    )  # fmt: skip


def test_a_text_that_runs_backwards_turns_nothing_else_round(device: Device, visit: Callable) -> None:
    turned = "\u202eeno\u2069\u202e"
    state = device.state
    device.state = changed(
        state, doing=turned, service=turned, examples=(changed(state.examples[0], source=turned),),
        taken_part=(changed(state.taken_part[1], plan=turned, author=turned),),
    )  # fmt: skip
    with OwnerPage(device.now, device) as page:
        body = visit(page.url).locator("body")
        body.get_by_role("switch").wait_for()
        for words in ("round 40", "1,432 examples", "This page is served"):
            assert body.evaluate(FORWARDS, words), words


def bare_state() -> OwnerState:
    return changed(
        whole_state(), on=False, doing="nothing", examples=(), taken_part=(), refused=(), name="", service="",
        totals=Totals(rounds=0, bytes_up=0, bytes_down=0),
    )  # fmt: skip


@pytest.mark.parametrize("make", [whole_state, bare_state, hostile_state])
def test_it_fits_and_can_be_read(make: Callable[[], OwnerState], visit: Callable) -> None:
    device = Device(make())
    with OwnerPage(device.now, device) as page:
        seen = visit(page.url, width=400, scheme="dark")
        seen.get_by_role("switch").wait_for()
        for width, scheme in ((400, "dark"), (1366, "light")):
            seen.set_viewport_size({"width": width, "height": 800})
            seen.emulate_media(color_scheme=scheme)
            assert seen.evaluate(WIDER) == []
            assert seen.evaluate(FAINT) == []
        if make is hostile_state:
            seen.locator("#examples button").first.click()
            assert HOSTILE in seen.get_by_role("dialog").inner_text()
            assert seen.locator("#name").inner_text() == HOSTILE
            assert seen.evaluate("document.querySelectorAll('img').length") == 0
            assert seen.evaluate("window.hacked") is None


@pytest.mark.parametrize("token", ["", "wrong", "A" * 32, "%2e%2e", "%C3%BC"])
def test_without_the_secret_nothing_is_answered(page: OwnerPage, device: Device, token: str) -> None:
    for path in ("", "state", "page.js"):
        reply = ask(page, path, token=token)
        assert reply.status == 404
        assert b"phone" not in reply.body
    posted = ask(page, "switch", method="POST", token="wrong", body='{"on":false}', **as_page(page))
    assert posted.status == 404
    assert device.asked == []


def test_a_page_has_another_secret_every_time(device: Device) -> None:
    with OwnerPage(device.now, device) as one, OwnerPage(device.now, device) as other:
        secrets = {page.url.split("/")[3] for page in (one, other)}
        assert len(secrets) == 2
        assert min(map(len, secrets)) >= 32


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:{port}", "u@127.0.0.1:{port}", "10.0.0.1:{port}", "[", ""]
)  # fmt: skip
def test_it_is_not_served_under_the_name_of_another(page: OwnerPage, host: str) -> None:
    port = page.url.split("/")[2].rpartition(":")[2]
    reply = ask(page, "state", Host=host.format(port=port))
    assert reply.status == 421
    assert b"phone" not in reply.body
    assert ask(page, "state", Host=f"localhost:{port}").status == 200
    assert ask(page, "state", Host=f"[::1]:{port}").status == 200


def test_only_the_page_itself_changes_anything(page: OwnerPage, device: Device) -> None:
    def post(**headers: str) -> int:
        return ask(page, "switch", method="POST", body='{"on":false}', **headers).status

    own = as_page(page)
    for origin in ("https://evil.example", "null", own["Origin"].replace("127.0.0.1", "localhost"), ""):
        assert post(**own | {"Origin": origin}) == 403
    assert post(Origin=own["Origin"]) == 403
    assert post(Fairyring_Intent="owner") == 403
    assert post(**own | {"Fairyring_Intent": "dashboard"}) == 403
    assert ask(page, "state", Origin="https://evil.example").status == 403
    assert device.asked == []
    assert post(**own) == 200
    assert device.asked == [("switch", False)]


def test_what_is_not_understood_changes_nothing(page: OwnerPage, device: Device) -> None:
    def post(path: str, body: str, **headers: str) -> int:
        return ask(page, path, method="POST", body=body, **as_page(page) | headers).status

    for body in ("", "{}", "[]", '{"on": 1}', '{"on": true, "more": 1}', "\x00", "{" * 500):
        assert post("switch", body, **({} if body else {"Content_Length": "0"})) == 400
    assert post("forget", "{}") == 400
    assert post("switch", '{"on": true}' + " " * 5000) == 413
    assert post("switch", '{"on": true}', Content_Length="-1") == 413
    assert post("elsewhere", "{}") == 404
    assert ask(page, "../page.py").status == 404
    assert ask(page, "switch").status == 404
    assert ask(page, "state", method="DELETE").status == 501
    assert device.asked == []


def test_headers_let_nothing_in(page: OwnerPage) -> None:
    for path in ("", "state", "nothing"):
        headers = ask(page, path).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
        assert "Python" not in headers["Server"]


def test_who_says_nothing_holds_nobody_up(page: OwnerPage) -> None:
    where = page.url.split("/")[2].rpartition(":")
    before = threading.active_count()
    silent = [socket.create_connection((where[0], int(where[2]))) for _ in range(5)]
    assert ask(page, "state").status == 200
    assert threading.active_count() <= before + 8
    for one in silent:
        one.close()


def test_a_port_that_is_taken_is_refused(page: OwnerPage, device: Device) -> None:
    port = int(page.url.split("/")[2].rpartition(":")[2])
    with pytest.raises(FairyringError, match=f"port {port}"):
        OwnerPage(device.now, device, port)
    with pytest.raises(FairyringError, match="free port"):
        OwnerPage(device.now, device, 70_000)


def test_nothing_of_it_is_printed(page: OwnerPage, capfd: Any) -> None:
    ask(page, "state")
    ask(page, "state", token="wrong")
    assert capfd.readouterr() == ("", "")


def test_a_device_needs_little_for_it() -> None:
    code = "import sys, fairyring.device.page; print(sorted({'jax', 'numpy', 'starlette', 'uvicorn', 'rich'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
