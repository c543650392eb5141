"""`ecology zoo`: the populations that come with the package."""

from pathlib import Path
from typing import Any

from rich.table import Table

from fairyring.cli._ecology_words import say, table_file
from fairyring.cli._terminal import screen
from fairyring.ecology.results import rows_of, write_csv
from fairyring.ecology.zoo import exhibit, make_zoo, names


def listed(csv: Path | None) -> None:
    """Print a line for each population, and write all of their cards as a table."""
    table_file(csv)
    table = Table(box=None, pad_edge=False)
    for title in ("name", "heredity", "bacteria", "generations", "index", "contrast"):
        table.add_column(title, justify="left" if title in ("name", "heredity") else "right")
    for name in names():
        card = exhibit(name).card
        table.add_row(
            name,
            card["heredity"],
            f"{card['population']:.0f}",
            str(card["generations"]),
            f"{card['index']:.2f}",
            f"{card['contrast']:+.2f}",
        )
    screen().print(table)
    if csv is not None:
        cards = rows_of({"name": name} | exhibit(name).card for name in names())
        say(f"Table: {write_csv(cards, csv)}")


def card(name: str) -> None:
    """Print the card of a population."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for key, value in exhibit(name).card.items():
        table.add_row(key, _text(value))
    screen().print(table)


def make(study: Path, out: Path) -> None:
    """Write the populations of a study as files of a zoo."""
    for path in make_zoo(study, out):
        screen().print(str(path), highlight=False, soft_wrap=True, markup=False)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "  ".join(f"{key} {of:+.2f}" for key, of in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
