"""A data set: what it is, where its files are, and how they are read."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from fairyring.population.population import Population


class Splits(NamedTuple):
    """A population to train on, and one to evaluate on (None if there is none)."""

    train: Population
    test: Population | None


@dataclass(frozen=True)
class File:
    """One file of a data set.

    Attributes:
        name: its name in the folder of the data set.
        sha256: the SHA-256 of its bytes. For a `.gz` file, that of its contents, because the same data is published in
            archives with different headers.
        url: its published address; None if there is none.
    """

    name: str
    sha256: str
    url: str | None = None


@dataclass(frozen=True)
class Dataset:
    """A data set that `load` can read.

    Attributes:
        name: for `load`.
        title: its title where it is published.
        source: who publishes it.
        licence: as stated at the source.
        citation: what to cite.
        clients: what a client is.
        shapes: for each column, the type and shape of a row, in words.
        how: what the reader does to the published data, and where the files come from.
        read: the reader, `(paths, **options) -> Splits`. It receives the paths of `files`, in their order. Its options
            are keyword-only parameters with defaults.
        files: the files that its folder must have; empty if a Python package contains the data.
        folder: the name of its folder in `$FAIRYRING_DATA` and in `~/.cache/fairyring`.
        page: its web page; None if there is none.
        system: folders where a package of the operating system puts the files.
    """

    name: str
    title: str
    source: str
    licence: str
    citation: str
    clients: str
    shapes: Mapping[str, str]
    how: str
    read: Callable[..., Splits]
    files: tuple[File, ...] = ()
    folder: str = ""
    page: str | None = None
    system: tuple[str, ...] = ()

    @property
    def options(self) -> dict[str, object]:
        """The options of the reader: name -> default."""
        parameters = inspect.signature(self.read).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
