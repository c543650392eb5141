"""The pieces of a page: escaped text, figures with captions, tables, and what a record may lack."""

import html
import math
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

_UNIT = re.compile(r"(\d) (?=(?:%|[KMGT]iB|B|ms|s|min|h)(?![\w]))")


def section(key: str, title: str, body: str) -> str:
    return f'<section id="{key}"><h2>{escaped(title)}</h2>\n{body}</section>\n'


def figure(svg: str, caption: str, label: str) -> str:
    return f'<figure role="group" aria-label="{escaped(label)}">{svg}<figcaption>{escaped(caption)}</figcaption></figure>'


def pair(figures: list[str]) -> str:
    if len(figures) == 1:
        return f'<div class="pair"><div class="alone">{figures[0]}</div></div>'
    return f'<div class="pair">{"".join(figures)}</div>' if figures else ""


def table(rows: Iterable[tuple[Any, Any]]) -> str:
    cells = "".join(
        f'<tr><th scope="row">{escaped(name)}</th><td>{escaped(value)}</td></tr>' for name, value in rows
    )
    return f"<table><tbody>{cells}</tbody></table>"


def stat(label: str, value: str, note: str, style: str = "") -> str:
    kind = f' class="{style}"' if style else ""
    return (
        f"<div><dt>{escaped(label)}</dt><dd{kind}>{escaped(value)}<small>{escaped(note)}</small></dd></div>"
    )


def absent(sentence: str) -> str:
    return f'<p class="absent">{escaped(sentence)}</p>'


def flat(tree: Any, path: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(tree, Mapping) and tree:
        for name, value in tree.items():
            yield from flat(value, f"{path}.{name}" if path else str(name))
    elif isinstance(tree, list) and any(isinstance(v, Mapping | list) for v in tree):
        for index, value in enumerate(tree):
            yield from flat(value, f"{path}[{index}]")
    elif isinstance(tree, list):
        yield path, ", ".join(map(str, tree)) or "none"
    else:
        yield (
            path,
            {None: "none", True: "yes", False: "no"}.get(tree, str(tree))
            if not isinstance(tree, Mapping)
            else "none",
        )


def when(started: Any) -> str:
    try:
        moment = datetime.fromisoformat(str(started))
    except ValueError:
        return ""
    return f" · {moment.day} {moment:%B %Y, %H:%M}"


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
    return name.replace("_", " ")


def mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def paragraph(sentence: str) -> str:
    return f"<p>{escaped(sentence)}</p>"


def escaped(value: Any) -> str:
    """Escaped for HTML, and with no line break between a number and its unit."""
    return re.sub(_UNIT, "\\1\u00a0", html.escape(str(value), quote=True))
