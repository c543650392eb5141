"""`data`: list the published data sets, describe one, download it."""

from pathlib import Path

from rich.table import Table
from rich.text import Text

from fairyring.cli._terminal import screen
from fairyring.core.errors import DataUnavailable
from fairyring.population import describe, find, names
from fairyring.population import fetch as fetch_files


def show(name: str | None, *, fetch: bool) -> None:
    """List the data sets, or describe one; with `fetch`, download it first.

    Raises:
        PopulationError: there is no data set with this name.
        DataUnavailable: it could not be downloaded.
    """
    if name is None:
        _list()
        return
    about = describe(name)
    if fetch and about.files:
        fetch_files(name)
    rows = [
        ("title", about.title),
        ("source", about.source),
        ("page", about.page or "none"),
        ("licence", about.licence),
        ("cite", about.citation),
        ("clients", about.clients),
        *((f"column {column}", shape) for column, shape in about.shapes.items()),
        ("reader", about.how),
        ("options", ", ".join(f"{option}={value!r}" for option, value in about.options.items()) or "none"),
    ]
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, words in rows:
        table.add_row(label, Text(words))
    try:
        table.add_row("found", Text(_place(find(name)), style="green"))
        table.add_row("load it", Text(f'train, test = fr.load("{name}")'))
    except DataUnavailable as error:
        table.add_row("not found", Text(f"{error.given}. {error.do}", style="yellow"))
    screen().print(table)


def _list() -> None:
    table = Table(box=None, pad_edge=False, show_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column("found", no_wrap=True)
    table.add_column("a client is", overflow="fold")
    table.add_column("licence", overflow="fold")
    for name in names():
        about = describe(name)
        try:
            find(name)
            found = "yes"
        except DataUnavailable:
            found = "no"
        table.add_row(Text(name), found, Text(about.clients), Text(about.licence))
    console = screen()
    console.print(table)
    console.print(
        "\nfairyring data NAME describes one; --fetch downloads it if its source allows that.",
        highlight=False,
    )


def _place(paths: list[Path]) -> str:
    return f"{paths[0].parent}, checksums match" if paths else "in an installed package"
