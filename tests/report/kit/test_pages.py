"""Every kind of page in a real browser: nothing is wider than the page, no text of a figure is cut or covered, all text can be read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fairyring.report import write_report, write_study_report
from fairyring.report.kit import Document, Figure, Section, curves, page, pair, stat
from tests.report.run.run_folders import make_run_folder, several_tests
from tests.report.run.test_privacy import PROMISE
from tests.report.study import studies

# What sticks out of the page; a table may, within a part that scrolls by itself.
WIDER = """() => {
  const width = document.documentElement.clientWidth;
  return [...document.querySelectorAll("body *")]
    .filter((one) => !one.parentElement.closest(".scroll, svg") && one.getBoundingClientRect().right > width + 1)
    .map((one) => `${one.tagName} ${one.className} ${one.textContent.slice(0, 60)}`);
}"""
# Texts of a figure that leave it, or lie on each other.
COVERED = """() => {
  const found = [];
  for (const svg of document.querySelectorAll("figure svg")) {
    const all = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll("text")].map((text) => [text.textContent.trim(), text.getBoundingClientRect()]);
    texts.forEach(([words, box], at) => {
      if (!words) return;
      if (box.left < all.left - 2 || box.right > all.right + 2 || box.top < all.top - 2 || box.bottom > all.bottom + 2)
        found.push(`${words} leaves its figure`);
      for (const [others, other] of texts.slice(at + 1)) {
        const across = Math.min(box.right, other.right) - Math.max(box.left, other.left);
        const down = Math.min(box.bottom, other.bottom) - Math.max(box.top, other.top);
        if (others && across > 1 && down > 0.35 * Math.min(box.height, other.height)) found.push(`${words} on ${others}`);
      }
    });
  }
  return found;
}"""
# Texts with less contrast than WCAG 2.2 asks for (AA): 4.5, or 3 of large ones.
FAINT = """() => {
  const channels = (colour) => (colour.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const colour = channels(getComputedStyle(one).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = new Set();
  for (const one of document.querySelectorAll("body *:not(style)")) {
    if (![...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim())) continue;
    const style = getComputedStyle(one), size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 600);
    const [a, b] = [light(channels(one.closest("svg") ? style.fill : style.color)), light(behind(one))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < (large ? 3 : 4.5)) found.add(`${ratio.toFixed(2)} ${one.tagName} ${one.textContent.slice(0, 40)}`);
  }
  return [...found];
}"""


def whole_run(folder: Path) -> Path:
    """A run with long names in every place where a name is shown."""
    long = "a hospital with a name that does_not_break_anywhere_" + "x" * 60
    make_run_folder(
        folder,
        rounds=12,
        clients=30,
        test_clients=30,
        run={"privacy": PROMISE, "fingerprint": "4f1c09a77be2d5e3" * 4},
        plan={"task": {"name": "classification", "model": long}, "aggregation": [long]},
        ids=[f"{long} {number}" for number in range(30)],
    )
    several_tests(
        folder,
        ["same hospitals", long, "abroad"],
        ["accuracy", "macro_f1", "auc", *(f"measure_{i}" for i in range(9))],
    )
    return write_report(folder)


def bare_run(folder: Path) -> Path:
    """A run that failed in its second round."""
    run = {"status": "failed", "failed_by": "training diverged", "rounds": 8}
    make_run_folder(folder, rounds=1, run=run)
    (folder / "clients.safetensors").unlink()
    return write_report(folder)


def many_lines(folder: Path) -> Path:
    """Curves of eight settings with long names, as of a sweep or a comparison."""
    names = [
        f"learning_rate={rate}, batch_size={size}, rounds=60"
        for rate in (0.001, 0.01, 0.1, 1)
        for size in (5, 20)
    ]
    runs = {name: [[(at, 1 / at + place) for at in range(1, 9)]] for place, name in enumerate(names)}
    drawn = [
        Figure(curves("loss", some, where="in training", key=key), "Lines.", "Loss")
        for key, some in (("a", runs), ("b", {n[:18]: r for n, r in list(runs.items())[:3]}))
    ]
    document = Document(
        kind="run", tab="x", kicker="Sweep over local.optimizer.learning_rate,local.batch_size", title=f"Chosen: {names[0].replace(' ', '')}",
        lead=names[0].replace(" ", ""), stats=[stat("Test accuracy", "98.12 %", "[97.12 %, 100.0 %]")] * 5,
        sections=[Section("curves", "By round", pair(drawn))], made_of="nothing", version="0",
    )  # fmt: skip
    folder.mkdir()
    (folder / "report.html").write_text(page(document))
    return folder / "report.html"


def study(kind: str) -> Callable[[Path], Path]:
    return lambda folder: write_study_report(studies.written(folder, getattr(studies, kind)()))


PAGES = {"run": whole_run, "failed": bare_run, "lines": many_lines} | {
    kind: study(kind) for kind in ("world1", "world2", "jars", "rotation")
}


@pytest.mark.parametrize("kind", PAGES)
def test_a_page_fits_and_can_be_read(kind: str, browser: Any, tmp_path: Path) -> None:
    address = PAGES[kind](tmp_path / kind).as_uri()
    views = (
        (400, "dark", "screen"),
        (1366, "light", "screen"),
        (1920, "dark", "screen"),
        (700, "dark", "print"),
    )
    for width, scheme, media in views:
        seen = browser.new_page(
            viewport={"width": width, "height": 800}, color_scheme=scheme, bypass_csp=True
        )
        seen.emulate_media(media=media)
        seen.goto(address)
        seen.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert seen.evaluate(WIDER) == [], (width, media)
        assert seen.evaluate(COVERED) == [], (width, media)
        assert seen.evaluate(FAINT) == [], (scheme, media)
        seen.close()
