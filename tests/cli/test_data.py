"""`data`: the list, the description of a data set, and a data set that is not on this machine."""

import importlib
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

if not hasattr(importlib.import_module("fairyring.population"), "describe"):
    pytest.skip("the readers are not part of this tree", allow_module_level=True)

from fairyring.population import describe, names


@pytest.fixture
def nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No `FAIRYRING_DATA`, no cache and no network."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.delenv("FAIRYRING_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    return tmp_path


def test_lists_every_set_with_its_licence(call: Callable, nothing_here: Path) -> None:
    out = call("data").out
    assert [name for name in names() if name not in out] == []
    assert "CC BY 4.0" in out


def test_tells_what_a_set_is(call: Callable, nothing_here: Path) -> None:
    out = " ".join(call("data", "digits").out.split())
    about = describe("digits")
    assert about.title in out
    assert about.licence in out
    assert about.page in out


def test_says_what_to_do_where_a_set_is_missing(call: Callable, nothing_here: Path) -> None:
    called = call("data", "shakespeare")
    assert called.status == 0
    assert "not found" in called.out
    assert "tinyshakespeare.txt" in called.out


def test_says_what_to_do_without_a_network(call: Callable, nothing_here: Path) -> None:
    called = call("data", "shakespeare", "--fetch")
    assert called.status == 2
    assert "unreachable" in called.err
    assert "put it at" in " ".join(called.err.split())


def test_a_misspelt_set_is_refused(call: Callable) -> None:
    called = call("data", "shakespere")
    assert called.status == 2
    assert "shakespeare" in called.err
