"""`data`: list the published data sets, describe one, download it."""

from pathlib import Path

from fairyring.cli._result import Result
from fairyring.cli._screen import say, show_pairs, show_table
from fairyring.core.errors import DataUnavailable
from fairyring.population import describe, find, names
from fairyring.population import fetch as fetch_files


def show(name: str | None, *, fetch: bool) -> Result:
    """List the data sets, or describe one; with `fetch`, download it first.

    Raises:
        PopulationError: there is no data set with this name.
        DataUnavailable: it could not be downloaded.
    """
    if name is None:
        return _list()
    about = describe(name)
    if fetch and about.files:
        fetch_files(name)
    place, missing = None, None
    try:
        place = _place(find(name))
    except DataUnavailable as error:
        missing = f"{error.given}. {error.do}"
    found = {
        "name": name,
        "title": about.title,
        "source": about.source,
        "page": about.page or None,
        "licence": about.licence,
        "citation": about.citation,
        "clients": about.clients,
        "columns": about.shapes,
        "reader": about.how,
        "options": {option: repr(value) for option, value in about.options.items()},
        "found": place,
        "missing": missing,
    }
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
    if place is not None:
        rows += [("found", place), ("load it", f'train, test = fr.load("{name}")')]
    else:
        rows.append(("not found", missing or ""))
    return Result(found, lambda: show_pairs(rows, styles={"found": "green", "not found": "yellow"}))


def _list() -> Result:
    rows = []
    for name in names():
        about = describe(name)
        try:
            find(name)
            found = True
        except DataUnavailable:
            found = False
        rows.append({"name": name, "found": found, "clients": about.clients, "licence": about.licence})

    def show() -> None:
        heads = ["name", "found", "a client is", "licence"]
        cells = [
            [row["name"], "yes" if row["found"] else "no", row["clients"], row["licence"]] for row in rows
        ]
        show_table(heads, cells, words=heads)
        say("", "fairyring data NAME describes one; --fetch downloads it if its source allows that.")

    return Result({"data_sets": rows}, show)


def _place(paths: list[Path]) -> str:
    return f"{paths[0].parent}, checksums match" if paths else "in an installed package"
