"""What is printed for people, on terminals of several widths: every value is there, and colours are as the user wants them."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fairyring.cli import _sweep
from fairyring.cli._screen import say, show_pairs, show_table
from fairyring.sweeps import compare
from tests.report.run.run_folders import make_run_folder

NUMBERS = ["world", *(f"chemotactic index {n}" for n in range(12))]
ROWS = [[str(row), *(f"-0.00{row}{n:02}" for n in range(12))] for row in range(3)]


@pytest.fixture(params=[40, 60, 80])
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """From when it is called, standard output is a terminal of this width."""

    def begin() -> int:
        monkeypatch.setenv("TTY_COMPATIBLE", "1")
        monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setenv("COLUMNS", str(request.param))
        return request.param

    return begin


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-z]", "", text)


def words(text: str) -> list[str]:
    return sorted({word.strip(":") for word in plain(text).split()})


def too_long(text: str, width: int) -> list[str]:
    """Lines that are wider than the terminal though none of their words is."""
    return [
        line
        for line in plain(text).splitlines()
        if len(line) > width and max(map(len, line.split())) < width - 20
    ]


def test_no_number_of_a_table_is_cut(capsys: pytest.CaptureFixture[str], width: Callable[[], int]) -> None:
    show_table(NUMBERS, ROWS, words=("world",))
    piped = capsys.readouterr().out
    assert [line.split() for line in piped.splitlines()[-3:]] == ROWS  # a row is a line, however long
    room = width()
    show_table(NUMBERS, ROWS, words=("world",))
    shown = plain(capsys.readouterr().out)
    assert max(map(len, shown.splitlines())) <= room
    blocks = [dict(line.split(": ") for line in block.splitlines()) for block in shown.split("\n\n")]
    assert blocks == [dict(zip(NUMBERS, row, strict=True)) for row in ROWS]


def test_words_are_wrapped_before_a_table_becomes_blocks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "40")
    show_table(
        ["name", "value", "what it is"], [["a", "0.125", "some words " * 4]], words=("name", "what it is")
    )
    lines = plain(capsys.readouterr().out).splitlines()
    assert lines[0].split() == ["name", "value", "what", "it", "is"]
    assert lines[1].startswith("a     0.125  some words")
    assert len(lines) == 3
    assert max(map(len, lines)) <= 40
    show_pairs([("a label", "some words " * 4), ("b", "x" * 50)])
    lines = plain(capsys.readouterr().out).splitlines()
    assert lines == [
        "a label  some words some words some",
        "         words some words",
        f"b        {'x' * 50}",
    ]
    say("  " + "some words " * 4)
    assert plain(capsys.readouterr().out).splitlines() == [
        "  some words some words some words some",
        "  words",
    ]


@pytest.mark.parametrize("command", ["bench", "data", "data digits", "ecology zoo", "cache"])
def test_narrow_terminals_lose_nothing(call: Callable, width: Callable[[], int], command: str) -> None:
    whole = call(*command.split()).out
    assert whole
    room = width()
    shown = call(*command.split()).out
    assert [word for word in words(whole) if word not in words(shown)] == []
    assert too_long(shown, room) == []


def test_runs_side_by_side_lose_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], width: Callable[[], int]
) -> None:
    folders = [
        make_run_folder(tmp_path / name, rounds=5, run={"seed": seed}) for seed, name in enumerate("ab")
    ]
    found = compare(folders)
    _sweep._show_comparison(found)
    whole = capsys.readouterr().out
    room = width()
    _sweep._show_comparison(found)
    shown = capsys.readouterr().out
    assert [word for word in words(whole) if word not in words(shown)] == []
    assert too_long(shown, room) == []


def test_an_error_is_whole_on_a_narrow_terminal(
    call: Callable, width: Callable[[], int], tmp_path: Path
) -> None:
    room = width()
    err = plain(call("report", tmp_path / "nowhere").err)
    assert {len(line) for line in err.splitlines()} == {room}
    assert str(tmp_path / "nowhere") in re.sub(r"[\s│]", "", err)
    assert "Givethefolderofarun" in re.sub(r"[\s│]", "", err)


def test_colours_are_as_the_user_wants_them(
    call: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wrong = "report", tmp_path / "nowhere"
    assert "\x1b" not in call(*wrong).err
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[31m" in call(*wrong).err
    coloured = call("bench").out
    assert "\x1b[2m" in coloured
    assert max(map(len, coloured.splitlines())) > 80  # in colours, it is no terminal all the same
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[31m" not in call(*wrong).err
