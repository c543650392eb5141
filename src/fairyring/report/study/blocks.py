"""The content of a section as data: text, tables, figures; and its one translation into HTML.

All strings are plain text. A word in `backticks` of a `Text` is set as code.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fairyring.report.kit import (
    Figure,
    Section,
    absent,
    escaped,
    folded,
    grid,
    judged,
    pair,
    paragraph,
    table,
    trio,
)


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Heading:
    """The title of a part of a section."""

    text: str


@dataclass(frozen=True)
class Missing:
    """A sentence in the place of something that the study does not hold."""

    text: str


@dataclass(frozen=True)
class Alarm:
    """A warning that stands out."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    items: Sequence[str]


@dataclass(frozen=True)
class Verdict:
    """A cell that says whether something was met."""

    met: bool
    text: str


@dataclass(frozen=True)
class Table:
    """A table with a head; its first column names the rows."""

    head: Sequence[str]
    rows: Sequence[Sequence[str | Verdict]]


@dataclass(frozen=True)
class Facts:
    """Names and values, a row each."""

    rows: Iterable[tuple[Any, Any]]


@dataclass(frozen=True)
class Figures:
    """Figures side by side; `small` ones three in a row, others two."""

    figures: Sequence[Figure]
    small: bool = False


@dataclass(frozen=True)
class Folded:
    """Blocks behind a summary, shown on demand."""

    summary: str
    blocks: Sequence["Block"]


Block = Text | Heading | Missing | Alarm | Bullets | Table | Facts | Figures | Folded


def section(key: str, title: str, *blocks: Block) -> Section:
    """A section of a document made of blocks."""
    return Section(key, title, "".join(map(_html, blocks)))


def _html(block: Block) -> str:
    match block:
        case Text(text):
            return paragraph(text)
        case Heading(text):
            return f"<h3>{escaped(text)}</h3>"
        case Missing(text):
            return absent(text)
        case Alarm(text):
            return f'<p class="note alarm">{escaped(text)}</p>'
        case Bullets(items):
            return f"<ul>{''.join(f'<li>{escaped(item)}</li>' for item in items)}</ul>"
        case Table(head, rows):
            return grid(head, [[_cell(cell) for cell in row] for row in rows])
        case Facts(rows):
            return table(rows)
        case Figures(figures, small):
            return trio(figures) if small else pair(figures)
        case Folded(summary, blocks):
            return folded(summary, "".join(map(_html, blocks)))


def _cell(cell: str | Verdict) -> str:
    return judged(cell.met, cell.text) if isinstance(cell, Verdict) else escaped(cell)
