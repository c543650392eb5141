"""Figures as they stand in a document: how they are found there, read, and written.

A `Place` is a piece of a document with `#` where a figure is; it must be found exactly once, whatever the lines break at. Its
figures say how to find the same number in the JSON that a benchmark keeps. `_places.py` lists them.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
NUMBER = r"(\d[\d,]*(?:\.\d+)?)"


class Unmeasured(Exception):
    """A benchmark ran, but without this figure."""


class Measured(NamedTuple):
    """What a benchmark gave.

    Attributes:
        value: to be compared.
        low: the least of several turns; `value` where there was one.
        high: the most of several turns.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        name: what it is of, with its unit.
        part: the benchmark that measures it, a file's name without `.py`.
        measured: finds it in the benchmark's results; raises `Unmeasured` or `KeyError` where they are without it.
        tolerance: by which share of the documented figure it may be off.
        absolute: whether it is of one machine.
        quiet: whether it takes a machine that does nothing else: times by the wall, also as a ratio. PyTorch's threads spin while they
            wait for each other, so that beside another program a peer may be ten times as slow.
        at_most: whether less is as documented, too.
        written: how the documents write such a number.
    """

    name: str
    part: str
    measured: Callable[[dict[str, Any]], Measured]
    tolerance: float
    absolute: bool = False
    quiet: bool = False
    at_most: bool = False
    written: Callable[[float], str] = lambda value: significant(value, 2)


class Said(NamedTuple):
    """What a document says.

    Attributes:
        figure: of what.
        value: the number.
        rounding: half a unit of its last digit.
        file: the document, from the root of the repository.
        line: counted from 1.
        span: where in the document the number stands.
    """

    figure: Figure
    value: float
    rounding: float
    file: str
    line: int
    span: tuple[int, int]


@dataclass(frozen=True)
class Place:
    """A piece of a document with its figures, in order.

    Attributes:
        file: the document, from the root of the repository.
        text: the piece, `#` for each figure. One that begins with `|` is a whole row of a table.
        figures: as many as there are `#`.
    """

    file: str
    text: str
    figures: tuple[Figure, ...]

    def find(self, document: str) -> list[Said]:
        """What the document says here. Raises `LookupError` where the piece is not found exactly once."""
        words = [r"\s+".join(map(re.escape, piece.split(" "))) for piece in self.text.split("#")]
        pattern = NUMBER.join(words)
        if self.text.startswith("|"):
            pattern = f"^{pattern}$"
        matches = list(re.finditer(pattern, document, re.MULTILINE))
        if len(matches) != 1 or len(words) - 1 != len(self.figures):
            raise LookupError(
                f"{self.file}: {self.text!r} is found {len(matches)} times and has {len(words) - 1} figures, "
                f"expected once and {len(self.figures)}. Where the document was rewritten, rewrite the piece in "
                "benchmarks/_places.py."
            )
        match, found = matches[0], []
        for group, figure in enumerate(self.figures, 1):
            number = match[group].replace(",", "")
            decimals = len(number.partition(".")[2])
            line = document.count("\n", 0, match.start(group)) + 1
            span = match.span(group)
            found.append(Said(figure, float(number), 0.5 * 10**-decimals, self.file, line, span))
        return found


def read(file: str) -> str:
    """The text of a document."""
    return (ROOT / file).read_text("utf-8")


def said(places: Iterable[Place]) -> list[Said]:
    """What the documents say at all places. Raises `LookupError` that names every place that is not found exactly once."""
    found, lost = [], []
    for place in places:
        try:
            found += place.find(read(place.file))
        except LookupError as error:
            lost.append(str(error))
    if lost:
        raise LookupError("\n".join(lost))
    return found


# -- how numbers are written -----------------------------------------------------------------------------------


def significant(value: float, digits: int) -> str:
    """A number with so many significant digits: 88,100 or 0.097."""
    rounded = float(f"{value:.{digits - 1}e}")
    exponent = int(f"{rounded:e}".partition("e")[2])
    return f"{rounded:,.{max(0, digits - 1 - exponent)}f}"


def whole(value: float) -> str:
    """A number of milliseconds: 952."""
    return f"{value:,.0f}"


def three(value: float) -> str:
    """A rate: 88,100."""
    return significant(value, 3)


def times(value: float) -> str:
    """How many times as fast: 8.4 or 104."""
    return f"{value:.1f}" if round(value, 1) < 10 else f"{value:,.0f}" if value < 1000 else three(value)


def tenths(value: float) -> str:
    """A number of seconds: 3.1."""
    return f"{value:.1f}"


def hundredths(value: float) -> str:
    """A ratio near 1: 1.08."""
    return f"{value:.2f}"
