"""What the page computes by itself: numbers in words as `records.units` has them, ticks of an axis, lines made thinner."""

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fairyring.core.rounding import at_most
from fairyring.records import units
from fairyring.service import pages
from tests.service.pages.fake_service import FakeService, snapshot

ROOT = Path(pages.__file__).parents[2]
COMPUTE = """async ([module, name, all]) => {
  const found = (await import(`/static/${module}.js`))[name];
  return all.map((given) => found(...given));
}"""
NUMBERS = st.floats(1e-12, 1e12) | st.floats(-1e12, -1e-12) | st.integers(0, 10**12).map(float)


@pytest.fixture(scope="module")
def compute(browser: Any) -> Iterator[Callable[..., list[Any]]]:
    """`compute(module, name, arguments)` calls a function of the page with each of many arguments."""
    with FakeService(snapshot()) as service:
        page = browser.new_page()
        page.goto(service.url)
        yield lambda module, name, given: page.evaluate(COMPUTE, [module, name, given])
        page.close()


def plain(texts: list[str]) -> list[str]:
    return [text.replace("\u00a0", " ") for text in texts]


@settings(max_examples=20)
@given(st.lists(NUMBERS, min_size=1, max_size=60))
def test_numbers_are_written_as_in_reports(compute: Callable, values: list[float]) -> None:
    # Python rounds a half to the even digit, JavaScript away from zero; both are right for a number that is only shown.
    halves = re.compile(r"\.?\d*5$")
    kept = [value for value in values if not halves.search(repr(value)) or float(value).is_integer()] or [1.0]
    given = [[value] for value in kept]
    assert compute("words", "number", given) == [units.number(value) for value in kept]
    whole = [math.trunc(abs(value)) for value in kept]
    assert plain(compute("words", "size", [[value] for value in whole])) == [
        units.size(value) for value in whole
    ]
    assert compute("words", "count", [[value] for value in whole]) == [units.count(value) for value in whole]
    shares = [value % 1 for value in kept]
    assert plain(compute("words", "metric", [["top_5", share] for share in shares])) == [
        units.metric("top_5", share) for share in shares
    ]


@example([1.0000000000000002e-06, 0.0009999999, 0.001, 7.99, 9999.5, 1e4])
@settings(max_examples=20)
@given(st.lists(st.floats(1e-6, 1e4).map(lambda value: float(f"{value:.6g}")), min_size=1, max_size=60))
def test_what_is_spent_is_rounded_up_and_what_is_left_down(compute: Callable, values: list[float]) -> None:
    given = [[value] for value in values]
    spent = [float(text.replace(",", "")) for text in compute("words", "atMost", given)]
    left = [float(text.replace(",", "")) for text in compute("words", "atLeast", given)]
    for value, most, least in zip(values, spent, left, strict=True):
        digits = 3 if value < 1e-3 else 4
        assert most == pytest.approx(float(at_most(value, digits)), rel=1e-15)
        assert least <= value <= most
        assert (most - least) / value < 1.01 * 10 ** (1 - digits)


def test_what_is_not_known_is_a_dash(compute: Callable) -> None:
    assert {*compute("words", "number", [[None]]), *compute("words", "atMost", [[None]])} == {"–"}
    assert compute("words", "metric", [["accuracy", None]]) == ["–"]
    assert compute("words", "title", [["macro_f1"], ["squared_error"], ["auc"]]) == [
        units.title(f"metrics.{name}") for name in ("macro_f1", "squared_error", "auc")
    ]
    assert plain(compute("words", "duration", [[0], [59.6], [185], [7800], [93_000]])) == [
        "0 s", "1 min 00 s", "3 min 05 s", "2 h 10 min", "1 d 1 h",
    ]  # fmt: skip


@settings(max_examples=20)
@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=40))
def test_ticks_are_few_and_span_what_is_drawn(compute: Callable, ranges: list[tuple[float, float]]) -> None:
    given = [sorted(pair) for pair in ranges]
    for (low, high), ticks in zip(given, compute("chart", "ticksOf", given), strict=True):
        room = 1e-6 * max(abs(low), abs(high))
        assert ticks[0] <= low + room
        assert ticks[-1] >= high - room
        assert 2 <= len(ticks) <= 5
        assert ticks == sorted(set(ticks))


@settings(max_examples=10)
@given(st.lists(st.none() | st.floats(-1e6, 1e6), max_size=900), st.integers(20, 300))
def test_a_thin_line_keeps_its_extremes_and_its_order(
    compute: Callable, values: list[Any], wide: int
) -> None:
    points = [[n, value] for n, value in enumerate(values, 1)]
    (thin,) = compute("chart", "thinned", [[points, wide]])
    assert len(thin) <= max(3 * wide, 2 * math.ceil(len(points) / 3))
    kept = [value for _, value in thin if value is not None]
    known = [value for value in values if value is not None]
    assert (min(kept), max(kept)) == (min(known), max(known)) if known else not kept
    assert thin == sorted(thin, key=lambda point: point[0])
    assert all(point in points for point in thin)


def test_every_file_is_served_and_loads_nothing_else() -> None:
    contents = pages.contents()
    here = {path.name for path in Path(pages.__file__).parent.iterdir() if path.suffix in (".js", ".css", ".svg", ".html")}  # fmt: skip
    assert {name for name, _ in pages.FILES.values()} == here
    for path, (body, kind) in contents.items():
        text = body.decode()
        named = re.findall(r'(?:src|href)="([^"#]+)"', text) if path == "/" else re.findall(r'from "\./(\w+\.js)"', text)  # fmt: skip
        assert {name if name.startswith("/") else f"/static/{name}" for name in named} <= contents.keys()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text), path
        outside = re.findall(r"https?://[\w.]+", text)
        assert {*outside} <= {"http://www.w3.org"}, path  # the name of SVG
        if kind.startswith("text/html"):
            assert not re.search(r"\sstyle=|\son\w+=|<script>", text)


def test_colours_are_those_of_reports() -> None:
    sheets = [ROOT / "report" / "kit" / "style.css", ROOT / "service" / "pages" / "page.css", ROOT / "device" / "page" / "page.css"]  # fmt: skip
    palettes = [re.findall(r"(--[\w-]+): (#\w+);", sheet.read_text("utf-8")) for sheet in sheets]
    assert len(palettes[0]) == 22
    assert palettes[1] == palettes[0] == palettes[2]
