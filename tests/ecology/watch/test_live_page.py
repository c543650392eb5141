"""The page itself, in a real browser, before a small world."""

import csv
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fairyring.ecology.watch.live import palette
from fairyring.ecology.watch.live.app import MOST_PAGES
from fairyring.ecology.watch.video import render
from tests.ecology.watch.fake_scene import FakeScene, FakeSettings
from tests.ecology.watch.test_live import hear, live, look, until

WIDTH = 64


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open a page at an address and wait until it has drawn; what it throws fails the test."""
    pages, thrown = [], []

    def open_page(url: str, *, greeted: bool = True, **options: Any) -> Any:
        page = browser.new_page(
            **{"viewport": {"width": 1000, "height": 700}, "reduced_motion": "reduce"} | options
        )
        page.on("pageerror", lambda error: thrown.append(error))
        page.on("console", lambda said: thrown.append(said.text) if "Content Security" in said.text else None)
        pages.append(page)
        page.goto(url)
        until(lambda: not greeted or shown(page, "frames"))
        return page

    yield open_page
    for page in pages:
        page.close()
    assert not thrown


def shown(page: Any, name: str) -> int | None:
    """What the page last wrote down about itself: the step it shows, the frames it has shown."""
    value = page.evaluate(f"document.body.dataset.{name}")
    return None if value is None else int(value)


def world(*, rewards: bool = False) -> FakeScene:
    """One bacterium at (48, 16) heading along x, food around (16, 48), and nothing anywhere else."""
    scene = FakeScene(FakeSettings(width=WIDTH, capacity=64, founders=1, rewards=rewards))
    scene._xy[0], scene._heading[0] = np.array([48, 16]), 0.0
    scene.turn("minimum", 0)
    scene.paint(16, 48, 6, 3.0)
    scene.turned.clear()
    scene.painted.clear()
    return scene


def colour(page: Any, x: float, y: float) -> tuple[int, int, int]:
    """What is drawn at a place of the world, red, green and blue."""
    # In the next animation frame: the page has drawn what it was sent.
    red, green, blue, _ = page.evaluate(
        """([x, y, width]) => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => {
            const canvas = document.getElementById("dish");
            const at = (v) => Math.floor((v * canvas.width) / width);
            done([...canvas.getContext("2d").getImageData(at(x), at(y), 1, 1).data]);
        })))""",
        [x, y, WIDTH],
    )
    return red, green, blue


def on_screen(page: Any, x: float, y: float) -> tuple[float, float]:
    box = page.locator("#dish").bounding_box()
    return box["x"] + x / WIDTH * box["width"], box["y"] + y / WIDTH * box["height"]


def test_it_draws_what_is_there_in_the_colours_of_films(visit: Callable[..., Any]) -> None:
    scene = world()
    with live(scene) as served:
        page = visit(served.url)
        frame = scene.frame()
        pixel = 1024 // WIDTH
        film = render(frame, 1024).astype(int)
        for x, y in ((16, 48), (20, 44), (48, 48), (40, 30)):
            assert np.abs(np.array(colour(page, x, y)) - film[int(y * pixel), int(x * pixel)]).max() <= 6
        # The body is between those of hunger and of plenty; the page shades it along its length.
        body = np.array(colour(page, 48.2, 16))
        assert (body >= np.array(palette.HUNGRY) - 40).all()
        assert (body <= np.array(palette.FED) + 20).all()
        until(lambda: page.locator("#alive").text_content() == "1")


def test_a_body_put_by_hand_is_the_body_a_canvas_draws(visit: Callable[..., Any]) -> None:
    with live(world()) as served:
        page = visit(served.url)
        drawn, stamped, side, ready = page.evaluate(
            """async (places) => {
                const { Bodies } = await import("/bodies.js");
                const palette = { hungry: [38, 92, 66], fed: [140, 255, 176], tumbling: [255, 200, 92] };
                const bodies = new Bodies(palette, 2);
                bodies.fit(5, true);
                const odd = (bodies.side % 2) / 2;
                const seen = [[], []];
                for (const by_hand of [0, 1]) {
                    for (const [kind, x, y] of places) {
                        const canvas = document.createElement("canvas");
                        canvas.width = canvas.height = 48;
                        const pen = canvas.getContext("2d", { alpha: false });
                        pen.fillStyle = "rgb(200 60 40)";
                        pen.fillRect(0, 0, 48, 48);
                        const image = pen.getImageData(0, 0, 48, 48);
                        if (by_hand) {
                            bodies.stamp(new Uint32Array(image.data.buffer), 48, kind, x + odd, y + odd);
                            pen.putImageData(image, 0, 0);
                        } else bodies.draw(pen, kind, x + odd, y + odd);
                        seen[by_hand].push(pen.getImageData(0, 0, 48, 48).data.join(" "));
                    }
                }
                return [...seen, bodies.side, bodies.stamped];
            }""",
            [
                # On whole pixels; over every edge; the last of all kinds; out of sight; half a pixel to the right and down.
                *([kind, 24, 20] for kind in (0, 17, 290, 639)),
                *([301, x, y] for x, y in ((2, 24), (46, 24), (24, 2), (24, 46), (-30, 24), (24, 90))),
                [301, 24, 24],
                [301, 24.5, 24],
                [301, 24, 24.5],
            ],
        )
        assert ready
        assert side >= 16
        drawn, stamped = (
            np.array(" ".join(of).split(), float).reshape(-1, 48, 48, 4) for of in (drawn, stamped)
        )
        assert np.abs(drawn - stamped)[:11].max() <= 3
        assert (np.abs(drawn[[8, 9]] - [200, 60, 40, 255]) <= 1).all()
        assert (np.abs(drawn[:8] - [200, 60, 40, 255]).max((1, 2, 3)) > 40).all()
        away = np.abs(stamped[10:] - [200, 60, 40, 255]).sum(3)
        middle = [
            [(away[i].sum(axis) * np.arange(48)).sum() / away[i].sum() for axis in (0, 1)] for i in range(3)
        ]
        np.testing.assert_allclose(np.subtract(middle[1], middle[0]), [0.5, 0], atol=0.1)
        np.testing.assert_allclose(np.subtract(middle[2], middle[0]), [0, 0.5], atol=0.1)


def test_it_steps_runs_and_stands(visit: Callable[..., Any]) -> None:
    scene = FakeScene(FakeSettings(width=WIDTH, capacity=256, founders=60), seed=12)
    with live(scene) as served:
        page = visit(served.url)
        assert scene.step == 0
        assert page.locator("#seed").input_value() == page.locator("#seed-is").text_content() == "12"
        page.click("#one")
        until(lambda: shown(page, "step") == 1)
        page.keyboard.press(".")
        until(lambda: shown(page, "step") == 2)
        assert scene.advanced == [1, 1]
        page.locator("#dish").focus()
        page.keyboard.press(" ")
        until(lambda: scene.step > 10)
        page.keyboard.press("ArrowRight")
        until(lambda: 2 in scene.advanced)
        page.locator("#speed").fill("10")
        assert page.locator("#speed-is").text_content() == "as fast as it goes"
        until(lambda: max(scene.advanced) > 2)
        page.click("#play")
        until(lambda: page.locator("#play").text_content() == "Play")
        until(lambda: shown(page, "step") == scene.step)
        then = scene.step
        page.wait_for_timeout(150)
        assert scene.step == then == shown(page, "step")
        until(lambda: page.locator("#pace").text_content() == "0")
        page.locator("#seed").fill("7")
        page.get_by_role("button", name="Restart").click()
        until(lambda: shown(page, "step") == 0)
        assert scene.restarts == [7]
        until(lambda: page.locator("#seed-is").text_content() == "7")
        assert page.locator("#seed").input_value() == "7"


def test_a_slider_turns_the_world_and_shows_what_it_became(visit: Callable[..., Any]) -> None:
    scene = world(rewards=True)
    with live(scene) as served:
        page = visit(served.url)
        for name, place, value, words in (
            ("rho", "1000", 5.0, "5"),
            ("emission_cost", "500", 0.05, "0.05 energy"),
            ("source_lifetime", "0", 20.0, "20 steps"),
        ):
            page.locator(f"#knob-{name}").fill(place)
            until(lambda name=name, value=value: scene.turned[-1:] == [(name, value)])
            until(
                lambda name=name, words=words: (
                    page.locator(f"#knob-{name}").get_attribute("aria-valuetext") == words
                )
            )
        # A page that comes later sees what the first has turned.
        other = visit(served.url)
        until(lambda: other.locator("#knob-rho").input_value() == "1000")
        # It says what it began with, and goes back to it.
        assert page.locator("#knob-rho-says").text_content().startswith("0.2 to 5 · began with 1.2")
        assert page.locator("summary").first.text_content() == "Most used4 changed"
        page.get_by_role("button", name="Reset Blind uptake / cost").click()
        until(lambda: scene.turned[-1] == ("rho", 1.2))
        until(lambda: page.locator("summary").first.text_content() == "Most used3 changed")
        assert page.get_by_role("button", name="Reset Blind uptake / cost").count() == 0
        # A setting that takes a new world says so, and begins one; nothing is turned by it.
        page.locator("summary", has_text="Size").click()
        assert "new world" in page.locator("#knob-width-says").text_content()
        turned = len(scene.turned)
        page.locator("#knob-width").fill("0")
        assert page.locator("#planned").text_content() == "Changed for the next: 1."
        page.wait_for_timeout(120)
        assert len(scene.turned) == turned
        page.get_by_role("button", name="Start a new world").click()
        until(lambda: scene.settings.width == 16)
        until(lambda: page.locator("#restart").text_content() == "Restart")
        assert scene._values["emission_cost"] == 0.05
        # Rewards are shown as signed bars, and the signal has a legend.
        until(lambda: other.locator(".bars tbody tr").count() == 10)
        assert other.locator("#signal-legend").is_visible()


def test_whoever_is_clicked_tells_its_life_and_is_ringed(visit: Callable[..., Any]) -> None:
    scene = world()
    scene._energy[0] = 4.0
    scene.advance(1)
    scene._xy[:2], scene._tumbled[:2] = np.array([(48, 16), (20, 20)]), False
    with live(scene) as served:
        page = visit(served.url)
        assert page.locator("#life").is_hidden()
        page.mouse.click(*on_screen(page, 20.6, 20.4))
        page.locator("#life-is").wait_for()
        assert page.locator("#turn").is_hidden()
        assert page.locator("#life-title").text_content() == "Bacterium 1"
        assert page.locator("#life-generation").text_content() == "1"
        assert page.locator("#life-age").text_content() == "0 steps, since step 1"
        assert page.locator("#life-mind td[data-cell]").count() == 9
        # It is followed: the world is seen around it, and its ring a few cells away from the middle.
        at = np.linspace(0, 2 * np.pi, 90)
        radius = 2.2 * 2.6
        until(
            lambda: (
                max(
                    min(colour(page, 32 + radius * np.cos(a), 32 + radius * np.sin(a)))
                    for a in at[:: len(at) // 6]
                )
                > 150
            )
        )
        page.locator("#life-ancestors button").first.click()
        until(lambda: page.locator("#life-title").text_content() == "Bacterium 0")
        assert page.locator("#life-offspring").text_content() == "1"
        page.keyboard.press("Escape")
        page.locator("#life-none").wait_for()


def test_food_is_painted_where_the_brush_is_drawn(visit: Callable[..., Any]) -> None:
    scene = world()
    with live(scene) as served:
        page = visit(served.url)
        assert max(colour(page, 40, 40)) < 40
        page.keyboard.press("b")
        assert page.locator("#brush").get_attribute("aria-pressed") == "true"
        page.mouse.move(*on_screen(page, 30, 40))
        page.mouse.down()
        for x in (34, 37, 40):
            page.mouse.move(*on_screen(page, x, 40))
            page.wait_for_timeout(70)
        page.mouse.up()
        until(lambda: scene.painted and scene.painted[-1][0] == pytest.approx(40, abs=0.2))
        assert scene.painted[0][:2] == pytest.approx((30, 40), abs=0.2)
        until(lambda: colour(page, 40, 40)[0] > 80)
        # Nobody was picked meanwhile, and without the brush nothing is painted.
        assert page.locator("#life").is_hidden()
        page.click("#brush")
        painted = len(scene.painted)
        page.mouse.click(*on_screen(page, 10, 10))
        page.wait_for_timeout(100)
        assert len(scene.painted) == painted


def test_it_comes_back_when_the_server_does(visit: Callable[..., Any]) -> None:
    with live(world()) as served:
        page = visit(served.url)
    until(lambda: page.locator("#banner").is_visible())
    assert "Trying again" in page.locator("#banner").text_content()
    scene = world()
    scene.advance(5)
    with live(scene, port=served.port):
        until(lambda: shown(page, "step") == 5)
        assert page.locator("#banner").is_hidden()
        page.click("#one")
        until(lambda: shown(page, "step") == 6)


def test_a_page_without_a_place_says_why_and_gets_one(visit: Callable[..., Any]) -> None:
    with live(world()) as served, ExitStack() as stack:
        others = [stack.enter_context(look(served.port)) for _ in range(MOST_PAGES)]
        for other in others:
            hear(other, "state")
        page = visit(served.url, greeted=False)
        until(lambda: page.locator("#banner").text_content().endswith("Trying again …"))
        assert page.locator("#banner").text_content().startswith("live page: 8 open pages.")
        others[0].close()
        until(lambda: shown(page, "frames"))
        assert page.locator("#banner").is_hidden()


def test_it_fits_a_phone_and_everything_has_a_name(visit: Callable[..., Any]) -> None:
    with live(world()) as served:
        page = visit(served.url, viewport={"width": 390, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        nameless = page.evaluate(
            """() => [...document.querySelectorAll("button, input, select, canvas")].filter((one) => !(
                one.ariaLabel || one.textContent.trim() || [...(one.labels ?? [])].some((l) => l.textContent.trim())
            )).map((one) => one.outerHTML)"""
        )
        assert nameless == []


def test_of_the_dead_the_page_says_when_and_marks_where(visit: Callable[..., Any]) -> None:
    scene = world()
    scene._energy[0] = 0.05
    with live(scene) as served:
        page = visit(served.url)
        page.mouse.click(*on_screen(page, 48, 16))
        page.locator("#life-is").wait_for()
        for _ in range(4):
            page.click("#one")
        until(lambda: shown(page, "step") == 4)
        until(lambda: page.locator("#life-says").text_content().startswith("It died at step 3, 3 steps old."))
        assert page.locator("#life-title").text_content() == "Bacterium 0"
        # Its line has died out with it, and the page says so.
        page.click("#heir")
        until(lambda: "a line that has died out" in page.locator("#banner").text_content())
        assert page.locator("#life-is").is_visible()
        # A cross in the middle of the view, which has followed it, and no ring around.
        until(lambda: min(colour(page, 32, 32)) > 150)
        # Words beside the dish come a little after the picture.
        until(lambda: page.locator("#alive").text_content() == "0")
        assert page.locator("#life-age").text_content() == "3 steps, since step 0"
        # The table of nobody is empty.
        until(lambda: page.locator("#mind-table td b").first.text_content() == "–")


def test_whom_one_meets_is_well_fed_slow_and_followed_by_its_line(visit: Callable[..., Any]) -> None:
    scene = FakeScene(FakeSettings(width=WIDTH, capacity=256, founders=60), seed=12, steady=True)
    scene._energy[:60] = np.linspace(0.1, 1.9, 60)
    with live(scene) as served:
        page = visit(served.url)
        page.click("#play")
        page.click("#meet")
        page.locator("#life-is").wait_for()
        uid = int(page.locator("#life-title").text_content().split()[1])
        assert uid >= 54  # of the best-fed tenth
        until(lambda: page.locator("#speed-is").text_content() == "1 step in 4 frames")
        page.locator("#at-death").select_option("line")
        scene.steady = False
        scene._energy[uid] = 9.0
        until(lambda: scene._lives[uid].offspring > 0)
        scene._energy[scene._uid == uid] = -1.0
        until(lambda: scene._lives[uid].died is not None)
        until(lambda: page.locator("#life-title").text_content() != f"Bacterium {uid}")
        heir = int(page.locator("#life-title").text_content().split()[1].replace(",", ""))
        assert uid in scene._lives[heir].ancestors
        # Or the world stops with it.
        page.locator("#at-death").select_option("stop")
        scene._energy[scene._uid == heir] = -1.0
        until(lambda: page.locator("#play").text_content() == "Play")
        page.click("#let-go")
        until(lambda: page.locator("#speed-is").text_content() == "1 step a frame")


def test_picture_film_and_numbers_are_saved(visit: Callable[..., Any], tmp_path: Path) -> None:
    scene = FakeScene(FakeSettings(width=WIDTH, capacity=256, founders=60), seed=12)

    def saved(button: str) -> bytes:
        with page.expect_download(timeout=60_000) as download:
            page.click(button)
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
        return path.read_bytes()

    with live(scene) as served:
        page = visit(served.url)
        page.click("#save-film")
        until(lambda: page.locator("#save-film").get_attribute("aria-pressed") == "true")
        for step in range(1, 6):
            page.click("#one")
            until(lambda step=step: shown(page, "step") == step)
        film = saved("#save-film")
        picture = saved("#save-picture")
        numbers = saved("#save-numbers").decode()
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "world-seed-12-step-5.png", "world-seed-12.csv", "world-seed-12.mp4",
        ]  # fmt: skip
    assert film[4:8] == b"ftyp"
    with Image.open(BytesIO(picture)) as image:
        seen = np.asarray(image.convert("RGB"))
    # The dish as it was, and a line below with the colours and what they stand for.
    wide = seen.shape[1]
    assert 1.03 < seen.shape[0] / wide < 1.1
    legend = set(map(tuple, seen[wide:].reshape(-1, 3).tolist()))
    assert {palette.FED, palette.TUMBLING, palette.FOOD} <= legend
    rows = list(csv.DictReader(numbers.splitlines()))
    assert list(rows[0]) == ["step", "population", "food", "births", "deaths", "immigrants"]
    assert [int(row["step"]) for row in rows] == list(range(6))
    alive = int(scene._alive.sum())
    assert int(rows[-1]["population"]) == alive
    assert (
        60
        + sum(int(rows[-1][name]) * sign for name, sign in (("births", 1), ("deaths", -1), ("immigrants", 1)))
        == alive
    )


@pytest.mark.parametrize("rewards", [False, True])
def test_on_a_common_screen_all_of_it_is_seen_at_once(visit: Callable[..., Any], rewards: bool) -> None:
    scene = world(rewards=rewards)
    with live(scene) as served:
        page = visit(served.url, viewport={"width": 1366, "height": 768})
        until(lambda: page.locator("#alive").text_content() == "1")
        for tab in ("#tab-turn", "#tab-life"):
            page.click(tab)
            page.wait_for_timeout(60)
            assert page.evaluate("document.documentElement.scrollHeight") <= 768
        page.keyboard.press("n")
        page.locator("#life-is").wait_for()
        scene._energy[0] = -1.0
        page.click("#one")
        until(lambda: page.locator("#life-says").text_content().startswith("It died"))
        assert page.locator("#heir").is_visible()
        assert page.evaluate("document.documentElement.scrollHeight") <= 768
        page.click("#full")
        until(lambda: page.evaluate("document.fullscreenElement?.className") == "world")
        page.click("#full")
        until(lambda: page.evaluate("document.fullscreenElement") is None)
