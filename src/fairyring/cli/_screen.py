"""What is printed for people: lines, pairs and tables, for a terminal of any width. No column is left out, and no value is cut.

If the output is not a terminal, a line is a line and a row is a line, however long.
"""

import os
import sys
from collections.abc import Collection, Sequence
from textwrap import wrap

from rich.console import Console
from rich.text import Text

GAP = 2  # spaces between two columns
NARROWEST = 16  # characters to which a column of words is narrowed


def screen(*, error: bool = False) -> Console:
    """Standard output, or standard error.

    Colours are left out with `NO_COLOR`. With `FORCE_COLOR` a file or a pipe has them too, but no bars that move.
    """
    stream = sys.stderr if error else sys.stdout
    if os.environ.get("FORCE_COLOR") and "TTY_COMPATIBLE" not in os.environ and not stream.isatty():
        return Console(stderr=error, force_terminal=False, color_system="standard")
    return Console(stderr=error)


def say(*lines: str, console: Console | None = None) -> None:
    """Print lines as they are, or an empty one; in a terminal they are wrapped between words."""
    console = console or screen()
    for line in "\n".join(lines).split("\n"):
        indent = " " * (len(line) - len(line.lstrip()))
        for part in _wrapped(line, _room(console), indent):
            console.print(Text(part), soft_wrap=True)


def show_pairs(
    pairs: Sequence[tuple[str, str]], *, styles: dict[str, str] | None = None, console: Console | None = None
) -> None:
    """Print labels with words, a pair below the other.

    Args:
        pairs: labels and words.
        styles: label -> style of its words.
        console: where to write; standard output if None.
    """
    console, styles = console or screen(), styles or {}
    left = max((len(label) for label, _ in pairs), default=0) + GAP
    room = _room(console)
    beside = room is None or room - left >= NARROWEST
    for label, words in pairs:
        indent = " " * (left if beside else GAP)
        lines = [
            part for line in words.split("\n") for part in _wrapped(line, room and room - len(indent)) or [""]
        ]
        if not beside:
            console.print(Text(label, style="dim"), soft_wrap=True)
        for n, line in enumerate(lines):
            before = label.ljust(left) if beside and not n else indent
            console.print(Text.assemble((before, "dim"), (line, styles.get(label, ""))), soft_wrap=True)


def show_table(
    names: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    words: Collection[str] = (),
    console: Console | None = None,
) -> None:
    """Print a table. In a terminal that is too narrow for it, each row becomes a block of lines `name: value`.

    Args:
        names: of the columns. Their words are stacked if that makes a column narrower.
        rows: the cells.
        words: columns of words. They stand at the left, and are wrapped if the terminal is narrow. The others have numbers: they stand at
            the right, and are never wrapped.
        console: where to write; standard output if None.
    """
    console = console or screen()
    heads = [_stacked(name, max((len(row[i]) for row in rows), default=0)) for i, name in enumerate(names)]
    widths = [max(map(len, [*head, *(row[i] for row in rows)])) for i, head in enumerate(heads)]
    room = _room(console)
    if room is not None:
        fitting = _narrowed(names, rows, widths, words, room - GAP * (len(names) - 1))
        if fitting is None:
            _show_blocks(names, rows, room, console)
            return
        widths = fitting
    tall = max(map(len, heads), default=0)
    _show_row([[""] * (tall - len(head)) + head for head in heads], names, widths, words, console, "dim")
    for row in rows:
        cells = [
            _wrapped(cell, width) or [""] if name in words else [cell]
            for cell, width, name in zip(row, widths, names, strict=True)
        ]
        _show_row(cells, names, widths, words, console)


def _show_row(
    cells: Sequence[Sequence[str]],
    names: Sequence[str],
    widths: Sequence[int],
    words: Collection[str],
    console: Console,
    style: str = "",
) -> None:
    """A row whose cells have one or more lines each."""
    for n in range(max(map(len, cells), default=0)):
        line = [cell[n] if n < len(cell) else "" for cell in cells]
        padded = [
            part.ljust(width) if name in words else part.rjust(width)
            for part, width, name in zip(line, widths, names, strict=True)
        ]
        console.print(Text((" " * GAP).join(padded).rstrip(), style=style), soft_wrap=True)


def _show_blocks(names: Sequence[str], rows: Sequence[Sequence[str]], room: int, console: Console) -> None:
    for n, row in enumerate(rows):
        if n:
            console.print()
        for name, cell in zip(names, row, strict=True):
            for part in _wrapped(f"{name}: {cell}", room, " " * GAP):
                console.print(Text(part), soft_wrap=True)


def _narrowed(
    names: Sequence[str],
    rows: Sequence[Sequence[str]],
    widths: Sequence[int],
    words: Collection[str],
    room: int,
) -> list[int] | None:
    """Widths of columns that take up this room: columns of words are narrowed, evenly; None if that is not enough."""
    found = list(widths)
    if sum(found) <= room:
        return found
    narrowable = sorted(
        (i for i, name in enumerate(names) if name in words and found[i] > NARROWEST),
        key=lambda i: found[i],
    )
    left = room - sum(width for i, width in enumerate(found) if i not in narrowable)
    for n, i in enumerate(narrowable):
        longest = max(
            len(word) for text in (names[i], *(row[i] for row in rows)) for word in text.split() or [""]
        )
        found[i] = min(found[i], left // (len(narrowable) - n))
        if found[i] < max(NARROWEST, longest):
            return None
        left -= found[i]
    return found if left >= 0 else None


def _stacked(name: str, width: int) -> list[str]:
    """The name of a column in lines no wider than its widest word, or its values if they are wider."""
    words = name.split()
    return wrap(name, max([width, *map(len, words)]), break_long_words=False) or [""]


def _wrapped(line: str, room: int | None, indent: str = "") -> list[str]:
    """A line in parts of at most this width, if no word is longer: words are never cut."""
    if room is None or len(line) <= room:
        return [line]
    return wrap(
        line,
        max(room, 1),
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _room(console: Console) -> int | None:
    """The width of a terminal; None where the output is none."""
    return console.width if console.is_terminal else None
