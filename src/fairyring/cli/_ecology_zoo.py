"""`ecology zoo`: the populations that come with the package."""

from pathlib import Path
from typing import Any

from fairyring.cli._result import Result
from fairyring.cli._screen import say, show_pairs, show_table
from fairyring.ecology.zoo import exhibit, make_zoo, names


def listed() -> Result:
    """A line for each population."""
    cards = {name: exhibit(name).card for name in names()}
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
    return Result(
        {"populations": [{"name": name, "card": card} for name, card in cards.items()]},
        lambda: show_table(heads, rows, words=("name", "heredity")),
    )


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
