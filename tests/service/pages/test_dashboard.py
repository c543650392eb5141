"""The dashboard in a real browser, before a service whose numbers a test changes."""

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from fairyring.service import pages
from tests.report.kit.test_pages import COVERED, FAINT, WIDER
from tests.service.pages.fake_service import DOCUMENT, FakeService, rounds_of, run_row, snapshot

changed = msgspec.structs.replace
HOSTILE = "<img src=x onerror='window.hacked=1'>"
RIGHT_TO_LEFT = "\u202eתוצאות של בית חולים\u202e <b>fat</b>"
LONG = "a_name_that_does_not_break_anywhere_" + "x" * 264
# Counts what is put in, taken out or made anew in what a snapshot shows.
WATCH = """() => {
  window.mark = "not loaded again";
  window.moves = [];
  new MutationObserver((all) => window.moves.push(...all.filter(({ type }) => type === "childList")
    .filter(({ addedNodes, removedNodes }) => [...addedNodes, ...removedNodes].some((node) => node.nodeType === 1))
    .map(({ target }) => target.className || target.tagName))).observe(document.body, { childList: true, subtree: true });
}"""


def until(what: Callable[[], object]) -> None:
    """Wait for something that another thread brings about."""
    end = time.monotonic() + 10
    while not what():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)


def failed_run() -> pages.RunRow:
    return run_row(
        "bad-1", name="Keyboard suggestions", state="failed", phase="", round=4, why="Training diverged in round 4.",
        epsilon_spent=None, epsilon=None, delta=None, masked=False, author="", signed=False, metrics={}, loss=None,
        rounds_per_hour=None, privacy="Nothing is promised: the service sees every update.",
        failures=(pages.Failure(reason="the loss is not finite", count=88),),
        funnel=pages.Funnel(checked_in=120, invited=100, trained=12, failed=88),
    )  # fmt: skip


def many_runs() -> pages.Snapshot:
    """Runs in every state, forty of which have ended."""
    going = [
        run_row(),
        run_row("xray", name="Chest X-rays, four hospitals", state="paused", wanted="pause", phase="", epsilon_spent=7.6),
        run_row("words", name="", state="queued", round=0, loss=None, metrics={}, failures=(), funnel=pages.Funnel(), rounds_per_hour=None),
    ]  # fmt: skip
    over = [
        run_row(
            f"old-{n}",
            name=f"Rate {n / 10}",
            state="finished" if n % 3 else "cancelled",
            phase="",
            round=60 - n,
        )
        for n in range(40)
    ]
    return snapshot([*going, failed_run(), *over])


def hostile_runs() -> pages.Snapshot:
    """Names, metrics, reasons and fleets that a page may not take for anything but texts."""
    runs = [
        run_row(
            run_id, name=name, why=name, privacy=name, author=name, phase=name[:40], round=9,
            metrics={name: 0.5, "__proto__": 0.25, "constructor": None},
            failures=(pages.Failure(reason=name, count=3), pages.Failure(reason="__proto__", count=2)),
        )
        for run_id, name in {"x?y#z&<b>%41": HOSTILE, "rtl": RIGHT_TO_LEFT, "long": LONG}.items()
    ]  # fmt: skip
    shown = snapshot(runs)
    return changed(
        shown,
        service=changed(
            shown.service, processes=(pages.Process(owner=HOSTILE, address=LONG, leases=1),), address=LONG
        ),
        fleet=changed(
            shown.fleet, by_version={HOSTILE: 3, LONG: 2, "__proto__": 1}, by_runtime={RIGHT_TO_LEFT: 4}
        ),
        requests=changed(shown.requests, refused={HOSTILE: 1, LONG: 2}),
    )


def hostile_details(service: FakeService) -> None:
    for row in service.shown.runs:
        rounds = tuple(changed(one, metrics=row.metrics, aborted=row.name) for one in rounds_of(row))
        document = json.dumps({HOSTILE: LONG, "__proto__": {RIGHT_TO_LEFT: [HOSTILE, {"a": {}}]}})
        service.details[row.id] = pages.RunDetail(
            run=row, rounds=rounds, document=document, sentences=(HOSTILE, LONG), report="javascript:alert(1)"
        )


VIEWS: dict[str, tuple[Callable[[], pages.Snapshot], str]] = {
    "empty": (snapshot, ""),
    "one": (lambda: snapshot([run_row()]), ""),
    "run": (lambda: snapshot([run_row()]), "#/run/digits-7"),
    "failed": (lambda: snapshot([failed_run()]), "#/run/bad-1"),
    "many": (many_runs, ""),
    "compared": (many_runs, "#/compare/digits-7,old-1,old-2,xray,old-3,bad-1"),
    "devices": (many_runs, "#/devices"),
    "hostile": (hostile_runs, ""),
    "hostile run": (hostile_runs, "#/run/x%3Fy%23z%26%3Cb%3E%2541"),
    "hostile compared": (hostile_runs, "#/compare/x%3Fy%23z%26%3Cb%3E%2541,rtl,long"),
    "hostile devices": (hostile_runs, "#/devices"),
}


@pytest.fixture(scope="module")
def one_page(browser: Any) -> Iterator[tuple[FakeService, Any]]:
    """A service and a page that many views are shown on, one after the other."""
    with FakeService(snapshot()) as service:
        page = browser.new_page(viewport={"width": 400, "height": 800}, reduced_motion="reduce")
        page.goto(service.url)
        yield service, page
        page.close()


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_fits_and_can_be_read(view: str, one_page: tuple[FakeService, Any]) -> None:
    service, page = one_page
    make, place = VIEWS[view]
    service.show(make())
    service.details.clear()
    if "hostile" in view:
        hostile_details(service)
    page.goto(service.url + place)
    page.reload()
    page.locator("#overview, #run, #compare, #devices").locator("visible=true").first.wait_for()
    if place.startswith(("#/run", "#/compare")):
        page.locator("figure svg text").first.wait_for()
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    for width, scheme in ((400, "dark"), (1366, "light")):
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
        assert page.evaluate(WIDER) == [], width
        assert page.evaluate(COVERED) == [], width
        assert page.evaluate(FAINT) == [], scheme
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("document.querySelectorAll('main img, main b b').length") == 0


def test_texts_of_others_are_shown_as_they_are(visit: Callable) -> None:
    with FakeService(hostile_runs()) as service:
        hostile_details(service)
        page = visit(service.url)
        heads = page.locator("article h2 bdi")
        heads.nth(2).wait_for()
        assert heads.all_text_contents() == [HOSTILE, RIGHT_TO_LEFT, LONG]
        heads.first.click()
        page.locator("pre", has_text="onerror").wait_for(state="attached")
        assert HOSTILE in page.locator("#run .sentences").inner_text()
        assert page.locator("#run a", has_text="Report").count() == 1
        assert not page.locator("#run a", has_text="Report").is_visible()  # it is no path of this service
        assert {"Constructor", "__proto__".replace("_", " ")} <= set(
            page.locator("figure h3").all_text_contents()
        )
        assert page.evaluate("window.hacked") is None


# Whether the letters of a text stand from left to right.
FORWARDS = """(node, words) => {
  const texts = document.createTreeWalker(node, NodeFilter.SHOW_TEXT);
  let text = texts.nextNode();
  while (!text.data.includes(words)) text = texts.nextNode();
  const letter = (at) => {
    const range = document.createRange();
    range.setStart(text, at);
    range.setEnd(text, at + 1);
    return range.getBoundingClientRect().left;
  };
  const at = text.data.indexOf(words);
  return letter(at) < letter(at + words.length - 1);
}"""


# The first also ends what it is put within; the second is a language.
@pytest.mark.parametrize("turned", ["\u202eeno\u2069\u202e", "תוצאות"])
def test_a_text_that_runs_backwards_turns_nothing_else_round(turned: str, visit: Callable) -> None:
    run = run_row(
        name=turned, phase=turned, failures=(pages.Failure(reason=turned, count=3),), metrics={turned: 1.0}
    )
    with FakeService(snapshot([run])) as service:
        card = visit(service.url).locator("article")
        card.wait_for()
        for words in ("of 96", "closes", "(3)", "Running", "last evaluation"):
            assert card.evaluate(FORWARDS, words), words


def test_numbers_change_in_place(visit: Callable) -> None:
    row = run_row()
    with FakeService(snapshot([row])) as service:
        page = visit(service.url)
        pause = page.get_by_role("button", name="Pause")
        page.locator("article figure svg text").first.wait_for()
        pause.focus()
        page.evaluate(WATCH)
        later = changed(
            row,
            phase_done=90,
            loss=0.7654,
            epsilon_spent=2.5,
            funnel=changed(row.funnel, masked=90, failed=11),
        )
        service.show(snapshot([later]))
        page.get_by_text("0.7654").wait_for()
        assert "90 of 96" in page.locator(".where").inner_text()
        assert page.locator(".funnel li", has_text="masked").locator("b").inner_text() == "90"
        assert page.locator(".stats").get_by_text("of 8; 5.5 left").is_visible()
        assert page.evaluate("window.mark") == "not loaded again"
        assert page.evaluate("window.moves") == []
        assert pause.evaluate("(one) => one === document.activeElement")
        service.show(snapshot([changed(later, state="finished", phase="", round=60), run_row("next")]))
        page.locator(".ended li").wait_for()
        assert page.locator("article").count() == 1
        assert "✓" in page.locator(".ended .state").inner_text()


def test_curves_grow_and_only_new_rounds_are_asked_for(visit: Callable) -> None:
    row = run_row(round=8)
    with FakeService(snapshot([row])) as service:
        page = visit(service.url + "#/run/digits-7", clocked=True)
        loss = page.locator("figure", has_text="Loss").first
        loss.locator("b", has_text=re.compile(r"\d")).first.wait_for()
        before = loss.locator("path.line.faint").first.get_attribute("d")
        page.clock.fast_forward(1100)  # a page asks at most once a second
        service.show(snapshot([changed(row, round=20, phase="inviting")]))
        page.wait_for_function(
            "(old) => document.querySelector('figure path.line.faint').getAttribute('d') !== old", arg=before
        )
        assert service.asked == ["digits-7 after=0", "digits-7 after=6"]
        page.locator("summary", has_text="The numbers").click()
        assert page.locator(".numbers tbody tr").count() == 19
        aborted = page.locator(".numbers tr.aborted").inner_text()
        assert "none: masking: too few devices were left" in aborted
        # The fourth round had no sum: its line has two parts there.
        assert page.locator("figure path.line.faint").first.get_attribute("d").count("M") == 2


def test_runs_under_way_are_drawn_but_not_any_number_of_them(visit: Callable) -> None:
    runs = [run_row(f"run-{n}", metrics={"unheard_of": 0.5} if n else {"accuracy": 0.5}) for n in range(8)]
    with FakeService(snapshot(runs)) as service:
        page = visit(service.url)
        page.locator("article").nth(5).locator("figure svg text").first.wait_for()
        assert sorted(service.asked) == [f"run-{n} after=0" for n in range(6)]
        # Where the measure that a run is judged by is not recorded, the loss is drawn.
        assert page.locator("article h3").all_text_contents() == ["Accuracy", *["Loss"] * 5]


def test_a_chart_is_read_with_keys(visit: Callable) -> None:
    with FakeService(snapshot([run_row()])) as service:
        page = visit(service.url + "#/run/digits-7")
        drawing = page.locator("figure", has_text="Privacy spent").locator("svg[role=img]")
        drawing.focus()
        assert "Round 11: spent 2.216" in drawing.get_attribute("aria-label")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowLeft")
        assert "Round 10: spent 2.113" in drawing.get_attribute("aria-label")
        page.keyboard.press("Home")
        assert "Round 1: spent 0.6682" in drawing.get_attribute("aria-label")


def test_an_operator_pauses_and_cancels_and_is_asked_first(visit: Callable) -> None:
    with FakeService(snapshot([run_row()])) as service:
        page = visit(service.url)
        page.get_by_role("button", name="Pause").click()
        page.get_by_text("Pausing").or_(page.get_by_role("button", name="Go on")).first.wait_for()
        assert service.wanted == [("digits-7", "pause")]
        page.get_by_role("button", name="Cancel …").click()
        assert page.get_by_role("button", name="Keep it running").evaluate(
            "(o) => o === document.activeElement"
        )
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Cancel …").click()
        page.keyboard.press("Escape")
        assert service.wanted == [("digits-7", "pause")]
        page.get_by_role("button", name="Cancel …").click()
        page.get_by_role("button", name="Cancel the run").click()
        page.get_by_role("button", name="Cancel …").wait_for(state="hidden")
        assert service.wanted == [("digits-7", "pause"), ("digits-7", "cancel")]


def test_a_viewer_is_told_who_may(visit: Callable) -> None:
    with FakeService(snapshot([run_row()]), role="viewer") as service:
        page = visit(service.url)
        page.get_by_text("An operator can pause or cancel this run").wait_for()
        assert page.locator("article button:visible").count() == 0


def test_a_refusal_is_shown_with_its_reason(visit: Callable) -> None:
    with FakeService(snapshot([run_row()])) as service:
        page = visit(service.url)
        page.get_by_role("button", name="Pause").wait_for()
        service.role = "viewer"  # an operator no longer
        page.get_by_role("button", name="Pause").click()
        page.get_by_role("alert").get_by_text("role. Ask an operator.").wait_for()
        page.get_by_text("An operator can pause or cancel this run").wait_for()
        service.role, service.refuses = "operator", (409, {"error": {"what": HOSTILE, "given": "a run that is over", "expected": "one that goes on", "do": ""}})  # fmt: skip
        page.reload()
        page.get_by_role("button", name="Pause").click()
        alert = page.get_by_role("alert").get_by_text("a run that is over")
        assert alert.inner_text().startswith(f"{HOSTILE}; given a run that is over; expected one")
        assert service.wanted == []


def test_a_lost_connection_is_shown_with_the_age_of_the_numbers_and_ends(visit: Callable) -> None:
    with FakeService(snapshot([run_row()])) as service:
        page = visit(service.url, clocked=True)
        page.get_by_text("● live").wait_for()
    banner, lost = page.locator("#banner"), page.get_by_text("○ lost")
    page.clock.run_for(3000)  # the browser may still open another stream
    assert not lost.is_visible()

    def goes_on() -> bool:
        page.clock.run_for(1000)
        return lost.is_visible()

    until(goes_on)
    assert re.search(r"These numbers are ([4-9]|[1-3]\d)\s*s old", banner.inner_text())
    assert banner.evaluate("(one) => getComputedStyle(one).position") == "sticky"
    assert page.locator("article").is_visible()  # the numbers stay
    with FakeService(snapshot([run_row(loss=0.1234)]), port=service.port):
        page.get_by_text("0.1234").wait_for()
        banner.wait_for(state="hidden")
        assert page.get_by_text("● live").is_visible()


def test_silence_is_asked_about(visit: Callable) -> None:
    """Nothing comes while nothing changes; a connection that is dead is as silent."""
    with FakeService(snapshot([run_row()])) as service:
        page = visit(service.url, clocked=True)
        page.get_by_text("● live").wait_for()
        with page.expect_response("**/v1/snapshot"):
            page.clock.run_for(11_500)
        page.clock.run_for(9_000)
        assert page.get_by_text("● live").is_visible()
        page.route("**/v1/snapshot", lambda route: route.abort())
        page.clock.run_for(3_000)
        page.get_by_text("○ lost").wait_for()
        assert re.search(r"These numbers are 1[0-4]\s*s old", page.locator("#banner").inner_text())
        page.unroute("**/v1/snapshot")
        page.clock.run_for(2_000)
        page.get_by_text("● live").wait_for()
        service.role = None  # whose session has ended
        page.clock.run_for(11_500)
        page.get_by_label("Password").wait_for()
        assert not page.locator("article").is_visible()


def test_a_page_that_nobody_looks_at_holds_no_connection(visit: Callable) -> None:
    hide = """(hidden) => {
      Object.defineProperty(document, "hidden", { get: () => hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    with FakeService(snapshot([run_row()])) as service:
        page = visit(service.url)
        page.locator("article").wait_for()
        page.evaluate(hide, True)
        until(lambda: service.listeners == 0)
        page.wait_for_timeout(200)  # it has not only opened another
        assert service.listeners == 0
        service.show(snapshot([run_row(loss=0.1234)]))
        page.evaluate(hide, False)
        page.get_by_text("0.1234").wait_for()
        assert service.listeners == 1


def test_a_service_that_is_not_there_yet_is_waited_for(visit: Callable) -> None:
    with FakeService(snapshot([run_row()])) as service:
        page = visit("about:blank", clocked=True)
        page.route("**/v1/me", lambda route: route.abort())
        page.goto(service.url)
        page.get_by_text("The service does not answer").wait_for()
        page.unroute("**/v1/me")
        page.clock.fast_forward(2100)
        page.locator("article").wait_for()


def test_who_is_not_signed_in_sees_nothing_until_they_are(visit: Callable) -> None:
    with FakeService(snapshot([run_row()]), role=None) as service:
        page = visit(service.url)
        page.get_by_label("Name").fill("otto")
        page.get_by_label("Password").fill("wrong")
        page.get_by_role("button", name="Sign in").click()
        page.get_by_text("do not fit together").wait_for()
        assert page.locator("article").count() == 0
        page.get_by_label("Password").fill("right")
        page.keyboard.press("Enter")
        page.locator("article").wait_for()
        assert page.get_by_text("otto, operator").is_visible()
        page.get_by_role("button", name="Sign out").click()
        page.get_by_label("Password").wait_for()
        assert not page.locator("article").is_visible()
        assert page.title() == "fairyring"


def test_runs_are_compared(visit: Callable) -> None:
    a, b = run_row("a", name="Rate 2", state="finished"), run_row("b", name="Rate 1", state="finished")
    with FakeService(snapshot([a, b, run_row("c", name="Third")])) as service:
        other = json.loads(json.dumps(DOCUMENT))
        other["local"]["optimizer"]["sgd"]["learning_rate"] = 1.0
        other["aggregation"].insert(0, {"weight_by_examples": {"bound": None}})
        service.details["b"] = pages.RunDetail(
            run=b, rounds=tuple(rounds_of(b, 0.03)), document=json.dumps(other), sentences=()
        )
        page = visit(service.url + "#/compare")
        page.get_by_text("Choose two or more runs").wait_for()
        page.get_by_label("Rate 2").focus()
        page.keyboard.press("Space")
        page.get_by_label("Rate 1").check()
        loss = page.locator("figure", has_text="Loss, evaluation")
        loss.locator("path.mark").nth(1).wait_for()
        lines = loss.locator("svg[role=img] path.line")
        assert lines.count() == 2
        assert len({line.get_attribute("d") for line in lines.all()}) == 2
        assert len({line.evaluate("(o) => getComputedStyle(o).strokeDasharray") for line in lines.all()}) == 2
        rows = page.locator("table.beside").nth(1).locator("tbody tr")
        differ = {row.locator("th").inner_text(): row.locator("td").all_inner_texts() for row in rows.all()}
        # A stage that was put in before the others moves none of them.
        assert differ == {
            "local.optimizer.sgd.learning_rate": ["2", "1"],
            "aggregation.weight_by_examples.bound": ["–", "none"],
        }
        page.get_by_role("checkbox", name="Rate 1").uncheck()
        page.get_by_text("Choose two or more runs").wait_for()
        assert page.url.endswith("#/compare/a")


def test_a_run_that_is_not_there_is_said_to_be_missing(visit: Callable) -> None:
    with FakeService(snapshot([run_row()])) as service:
        page = visit(service.url + "#/run/%E0%A4%A")
        page.get_by_text("There is no run of this name").wait_for()
        page.get_by_role("link", name="Devices").click()
        page.get_by_text("10,412").wait_for()
        assert page.locator("nav a[aria-current]").inner_text() == "Devices"


def test_an_update_of_the_service_is_noticed(visit: Callable) -> None:
    shown = snapshot([run_row()])
    with FakeService(shown) as service:
        page = visit(service.url)
        page.locator("article").wait_for()
        service.show(changed(shown, service=changed(shown.service, version="0.9.1")))
        page.get_by_text("The service was updated. Load this page again.").wait_for()
