"""Calling the command line in this process, with captured streams."""

from collections.abc import Callable
from typing import NamedTuple

import pytest

from fairyring.cli import main


class Called(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Called]:
    """`call("report", folder)` runs `fairyring report FOLDER`, 200 columns wide."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*tokens: object) -> Called:
        try:
            status = main([str(token) for token in tokens])
        except SystemExit as left:
            status = int(left.code or 0)
        return Called(status, *capsys.readouterr())

    return run
