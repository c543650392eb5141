"""What is known of a published set before it is read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from fairyring.population.population import Population


class Splits(NamedTuple):
    """What to train on, and what to evaluate on."""

    train: Population
    test: Population | None


@dataclass(frozen=True)
class File:
    """One file of a set.

    Attributes:
        name: as it lies in the folder of the set.
        sha256: of its bytes; of a `.gz` file, of what is packed in it, since the same data is published in
            archives whose headers differ.
        url: its published address, or None.
    """

    name: str
    sha256: str
    url: str | None = None


@dataclass(frozen=True)
class Dataset:
    """A published set.

    Attributes:
        name: for `load`.
        title: what it is called where it is published.
        source: who publishes it.
        licence: as stated at the source.
        citation: what to cite.
        clients: what a client is.
        shapes: column -> type and shape of one row, in words.
        how: what the reader does to the published data, and where the files come from.
        files: what must lie in the folder; empty where a package brings the data.
        folder: name of the folder under `$FAIRYRING_DATA` and `~/.cache/fairyring`.
        page: its page, or None.
        system: folders where an operating system's package puts it.
        options: of the reader: name -> default, filled in by the catalogue.
    """

    name: str
    title: str
    source: str
    licence: str
    citation: str
    clients: str
    shapes: Mapping[str, str]
    how: str
    files: tuple[File, ...] = ()
    folder: str = ""
    page: str | None = None
    system: tuple[str, ...] = ()
    options: Mapping[str, object] = field(default_factory=dict)
