"""The pieces of a page: escaped text, figures with captions, tables, and sentences for what is missing."""

import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fairyring.records import units

_UNIT = re.compile(r"(\d) (?=(?:%|[KMGT]iB|B|ms|s|min|h)(?![\w]))")


@dataclass(frozen=True)
class Figure:
    """A drawing with its caption.

    Attributes:
        svg: the drawing.
        caption: shown below it.
        label: what it shows, for readers who cannot see it.
    """

    svg: str
    caption: str
    label: str

    @property
    def html(self) -> str:
        """The figure as HTML."""
        caption = f"<figcaption>{escaped(self.caption)}</figcaption>"
        return f'<figure role="group" aria-label="{escaped(self.label)}">{self.svg}{caption}</figure>'


def pair(figures: Sequence[Figure]) -> str:
    """Figures, two in a row where there is room."""
    if len(figures) == 1:
        return f'<div class="pair"><div class="alone">{figures[0].html}</div></div>'
    return f'<div class="pair">{"".join(one.html for one in figures)}</div>' if figures else ""


def trio(figures: Sequence[Figure]) -> str:
    """Small figures, three in a row where there is room."""
    return f'<div class="trio">{"".join(one.html for one in figures)}</div>'


def table(rows: Iterable[tuple[Any, Any]]) -> str:
    """A table of names and values."""
    cells = "".join(
        f'<tr><th scope="row">{escaped(name)}</th><td>{escaped(value)}</td></tr>' for name, value in rows
    )
    return f"<table><tbody>{cells}</tbody></table>"


def stat(label: str, value: str, note: str, style: str = "") -> str:
    """A number for the head of a page, with its label and a note below."""
    kind = f' class="{style}"' if style else ""
    return (
        f"<div><dt>{escaped(label)}</dt><dd{kind}>{escaped(value)}<small>{escaped(note)}</small></dd></div>"
    )


def absent(sentence: str) -> str:
    """A sentence that says what is missing."""
    return f'<p class="absent">{_prose(sentence)}</p>'


def flat(tree: Any, path: str = "") -> Iterable[tuple[str, str]]:
    """A tree of plain values as rows of dotted names and values in words."""
    if isinstance(tree, Mapping) and tree:
        for name, value in tree.items():
            yield from flat(value, f"{path}.{name}" if path else str(name))
    elif isinstance(tree, list) and any(isinstance(v, Mapping | list) for v in tree):
        for index, value in enumerate(tree):
            yield from flat(value, f"{path}[{index}]")
    elif isinstance(tree, list):
        yield path, ", ".join(map(str, tree)) or "none"
    else:
        yield path, _plain(path, tree)


def _plain(path: str, value: Any) -> str:
    if value is None or value == {}:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return units.size(value) if path.rpartition(".")[2].startswith("bytes_") else units.count(value)
    return str(value)


def when(started: Any) -> str:
    """A time in ISO 8601 as a date for the head of a page; empty if it is not one."""
    try:
        moment = datetime.fromisoformat(str(started))
    except ValueError:
        return ""
    zone = moment.utcoffset()
    where = "" if zone is None else " UTC" if not zone else f" {moment:%z}"
    return f" · {moment.day} {moment:%B %Y, %H:%M}{where}"


def mark() -> str:
    """A fairy ring: twenty-four caps in a circle, a few of them lit."""
    dots = []
    for i in range(24):
        angle = 2 * math.pi * i / 24
        x, y = 60 + 44 * math.cos(angle), 60 + 44 * math.sin(angle)
        colour, radius = ("warm", 4.6) if i in (2, 9, 17) else ("accent", 3.4 + 1.1 * math.sin(7.0 * i) ** 2)
        dots.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="var(--{colour})"/>')
    return f'<svg class="mark" viewBox="0 0 120 120" aria-hidden="true">{"".join(dots)}</svg>'


def words(name: str) -> str:
    """A name with spaces for underscores."""
    return name.replace("_", " ")


def mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def number(value: Any) -> float | None:
    """The value as a float if it is a number, else None."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def paragraph(sentence: str) -> str:
    """A paragraph of escaped text; what is between backticks is code."""
    return f"<p>{_prose(sentence)}</p>"


def _prose(sentence: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped(sentence))


def escaped(value: Any) -> str:
    """Escaped for HTML, and with no line break between a number and its unit."""
    return re.sub(_UNIT, "\\1\u00a0", html.escape(str(value), quote=True))


def grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are HTML already, with a head; its first column names the rows."""
    top = "".join(f'<th scope="col">{escaped(name)}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(cell if cell.startswith("<td") else f"<td>{cell}</td>" for cell in row[1:])}</tr>'
        for row in rows
    )
    return f'<div class="scroll"><table class="grid"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def folded(summary: str, body: str) -> str:
    """Content that is folded away until the reader opens it."""
    return f"<details><summary>{escaped(summary)}</summary>{body}</details>"


def judged(met: bool, text: str) -> str:
    """A cell that says whether something was met, in words for those who see no colours."""
    return f'<td class="{"met" if met else "unmet"}">{escaped(text)} <span>{"✓" if met else "✗"}</span></td>'
