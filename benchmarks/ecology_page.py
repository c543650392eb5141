"""How many frames a second does the live page draw, and what does looking cost the world?

    python benchmarks/ecology_page.py [--scene MODULE:FUNCTION] [--seconds 4] [--repeats 3]

The world is what FUNCTION returns, a `Scene`; without it the tests' NumPy world with 2,000 bacteria that neither divide
nor die. The page runs in Chromium without a window, at 1400 x 900, on the same cores as everything else: where there
is no graphics processor, drawing is done by them too.

Prints steps a second of the world by itself, served with nobody looking, and with a page that looks, all as fast as it
goes and in turns, medians; then frames a second: as fast as it goes (the page asks for at most 24), at one step a frame,
and following a bacterium. Wanted: 20 frames a second with 2,000 bacteria while the world keeps its speed. Whatever else
runs takes from all of them: the load is printed.
"""

import argparse
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from _machine import introduce
from playwright.sync_api import sync_playwright

from fairyring.ecology.watch.live.server import Live
from fairyring.ecology.watch.scene import Scene

WANTED = 20.0


def crowd() -> Scene:
    """2,000 bacteria that stay so many."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    fake = import_module("tests.ecology.watch.fake_scene")
    return fake.FakeScene(fake.FakeSettings(founders=2000), steady=True)


def rate(count: Callable[[], int], seconds: float) -> float:
    """How much a count grows in a second."""
    began, first = time.perf_counter(), count()
    time.sleep(seconds)
    return (count() - first) / (time.perf_counter() - began)


def by_itself(scene: Scene, seconds: float) -> float:
    """Steps a second without a server."""
    began, first = time.perf_counter(), scene.step
    while time.perf_counter() - began < seconds:
        scene.advance(64)
    return (scene.step - first) / (time.perf_counter() - began)


def measure(browser: Any, make: Callable[[], Scene], seconds: float, repeats: int) -> None:
    """Measure and print."""
    scene = make()
    scene.advance(64)
    steps: dict[str, list[float]] = {"by itself": [], "nobody looks": [], "a page looks": []}
    frames: dict[str, list[float]] = {"as fast as it goes": [], "1 step a frame": [], "following": []}
    for _ in range(repeats):
        steps["by itself"].append(by_itself(scene, seconds))
        with Live(scene) as served:
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            page.goto(served.url)

            def drawn(page: Any = page) -> int:
                return int(page.evaluate("document.body.dataset.frames ?? 0"))

            while not drawn():
                time.sleep(0.02)
            page.locator("#speed").fill("10")
            page.click("#play")
            began, first = time.perf_counter(), scene.step
            frames["as fast as it goes"].append(rate(drawn, seconds))
            steps["a page looks"].append((scene.step - first) / (time.perf_counter() - began))
            page.locator("#speed").fill("3")
            frames["1 step a frame"].append(rate(drawn, seconds))
            page.click("#meet")
            page.locator("#speed").fill("3")  # meeting one slows the world down
            time.sleep(1)
            frames["following"].append(rate(drawn, seconds))
            # It goes on as fast as it goes when the page is closed.
            page.locator("#speed").fill("10")
            time.sleep(0.2)
            page.close()
            steps["nobody looks"].append(rate(lambda: scene.step, seconds))
    alive = scene.frame().counts.population
    print(f"{alive} alive; median of {repeats}")
    alone = statistics.median(steps["by itself"])
    for name, found in steps.items():
        middle = statistics.median(found)
        print(f"  steps a second, {name:20}{middle:10.0f}{100 * middle / alone:6.0f} %")
    for name, found in frames.items():
        middle = statistics.median(found)
        print(f"  frames a second, {name:19}{middle:10.1f}  {'met' if middle >= WANTED else 'missed'}")


def main() -> None:
    """Read the arguments, and measure."""
    arguments = argparse.ArgumentParser(description="What does looking at a world cost?")
    arguments.add_argument("--scene", help="MODULE:FUNCTION that returns a scene")
    arguments.add_argument("--seconds", type=float, default=4.0)
    arguments.add_argument("--repeats", type=int, default=3)
    options = arguments.parse_args()
    make = crowd
    if options.scene:
        module, function = options.scene.split(":")
        make = getattr(import_module(module), function)
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("no chromium on this machine")
    introduce()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        measure(browser, make, options.seconds, options.repeats)
        browser.close()


if __name__ == "__main__":
    main()
