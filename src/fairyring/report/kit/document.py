"""A report as a document, and the one page that every document becomes."""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources

from fairyring.report.kit.html import escaped, mark


@dataclass(frozen=True)
class Section:
    """A part of a document.

    Attributes:
        key: its id in the page.
        title: of it, text.
        body: HTML, made of the pieces of `kit`: paragraphs, tables, figures.
    """

    key: str
    title: str
    body: str


@dataclass(frozen=True)
class Document:
    """What a report says. All but `stats`, `made_of` and bodies of sections is text, and is escaped by the page.

    Attributes:
        kind: "run" or "study".
        tab: the title of its window.
        kicker: what it is about, in a few words.
        title: what came of it.
        lead: the same in some sentences.
        stats: its main numbers, as `stat` writes them.
        sections: in order.
        made_of: what it was made from, as HTML.
        version: of fairyring that made the run or study.
        alarm: a warning at the very top; None for none.
        notes: what the reader should know first.
    """

    kind: str
    tab: str
    kicker: str
    title: str
    lead: str
    stats: Iterable[str]
    sections: Iterable[Section]
    made_of: str
    version: str
    alarm: str | None = None
    notes: Iterable[str] = ()


def page(document: Document) -> str:
    """The whole document as one HTML text without any outside reference."""
    version = escaped(document.version)
    alarm = f'<p class="note alarm">{escaped(document.alarm)}</p>' if document.alarm else ""
    notes = "".join(f'<p class="note">{escaped(note)}</p>' for note in document.notes)
    sections = "".join(
        f'<section id="{one.key}"><h2>{escaped(one.title)}</h2>\n{one.body}</section>\n'
        for one in document.sections
    )
    style = resources.files("fairyring.report.kit").joinpath("style.css").read_text("utf-8")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="generator" content="fairyring {version}">
<link rel="icon" href="data:,">
<title>{escaped(document.tab)} · fairyring</title>
<style>
{style}</style>
</head>
<body>
<main class="{document.kind}">
<header><div>
<p class="kicker">{escaped(document.kicker)}</p>
<h1>{escaped(document.title)}</h1>
<p class="lead">{escaped(document.lead)}</p>
</div>{mark()}</header>
{alarm}{notes}<dl class="stats">{"".join(document.stats)}</dl>
{sections}<footer>Made by fairyring {version} from {document.made_of}. This file holds everything it shows and loads nothing.</footer>
</main>
</body>
</html>
"""
