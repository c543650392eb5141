"""`ecology zoo`: the populations that come with the package."""

from pathlib import Path
from typing import Any

from fairyring.cli._ecology_words import show_written, table_file
from fairyring.cli._result import Result
from fairyring.cli._screen import say, show_pairs, show_table
from fairyring.ecology.results import rows_of, write_csv
from fairyring.ecology.zoo import exhibit, make_zoo, names


def listed(csv: Path | None) -> Result:
    """A line for each population, and all of their cards as a table."""
    table_file(csv)
    cards = {name: exhibit(name).card for name in names()}
    table = (
        None
        if csv is None
        else write_csv(rows_of({"name": name} | card for name, card in cards.items()), csv)
    )
    rows = [
        [
            name,
            card["heredity"],
            f"{card['population']:.0f}",
            str(card["generations"]),
            f"{card['index']:.2f}",
            f"{card['contrast']:+.2f}",
        ]
        for name, card in cards.items()
    ]
    heads = ["name", "heredity", "bacteria", "generations", "index", "contrast"]

    def show() -> None:
        show_table(heads, rows, words=("name", "heredity"))
        show_written(table)

    found = [{"name": name, "card": card} for name, card in cards.items()]
    return Result({"populations": found, "table": table}, show)


def card(name: str) -> Result:
    """The card of a population."""
    found = exhibit(name).card
    pairs = [(key, _text(value)) for key, value in found.items()]
    return Result({"name": name, "card": found}, lambda: show_pairs(pairs))


def make(study: Path, out: Path) -> Result:
    """Write the populations of a study as files of a zoo."""
    written = [str(path) for path in make_zoo(study, out)]
    return Result({"files": written}, lambda: say(*written) if written else None)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "  ".join(f"{key} {of:+.2f}" for key, of in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
