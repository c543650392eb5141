"""A browser before the dashboard; what a page throws, or its policy refuses, fails the test."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """`visit(url)` opens a page of the given width and colours; `clocked`: its `clock` can be put forward, so that nobody waits."""
    pages, thrown = [], []

    def open_page(url: str, *, width: int = 1000, scheme: str = "light", clocked: bool = False) -> Any:
        page = browser.new_page(
            viewport={"width": width, "height": 800},
            color_scheme=scheme,
            reduced_motion="reduce",
            locale="en-GB",
        )
        if clocked:
            page.clock.install()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: thrown.append(error.stack))
        page.on("console", lambda said: thrown.append(said.text) if "Content Security" in said.text else None)
        pages.append(page)
        page.goto(url)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert not thrown
