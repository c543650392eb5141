"""The catalogue of published data sets, and loading one of them or a data set of your own."""

from pathlib import Path

from fairyring.population._columns import refuse_unknown_name
from fairyring.population.readers import (
    _files,
    arabic_speech_commands,
    digits,
    fashion_mnist,
    heart_disease,
    mnist_writers,
    omniglot,
    shakespeare,
    wisdm,
)
from fairyring.population.readers.dataset import Dataset, Splits

_CATALOGUE = {
    module.DATASET.name: module.DATASET
    for module in (
        digits,
        fashion_mnist,
        mnist_writers,
        omniglot,
        shakespeare,
        wisdm,
        heart_disease,
        arabic_speech_commands,
    )
}


def names() -> tuple[str, ...]:
    """The names of the data sets in the catalogue."""
    return tuple(_CATALOGUE)


def describe(name: str) -> Dataset:
    """The description of a data set: title, source, licence, citation, clients, shapes, files, options.

    Raises:
        PopulationError: the catalogue has no data set of this name.
    """
    refuse_unknown_name("data set", name, _CATALOGUE)
    return _CATALOGUE[name]


def find(dataset: str | Dataset) -> list[Path]:
    """The files of a data set, checked by SHA-256. Empty if a Python package contains the data.

    Files are searched for in `$FAIRYRING_DATA`, in `~/.cache/fairyring`, and in the folders of system packages.

    Raises:
        DataUnavailable: files are missing or damaged; the error says what to do.
    """
    dataset = _described(dataset)
    return _files.find(dataset) if dataset.files else []


def fetch(dataset: str | Dataset, into: Path | None = None) -> list[Path]:
    """The files of a data set. Missing ones are downloaded from their published addresses and checked.

    Args:
        dataset: its name in the catalogue, or its description.
        into: the folder; by default its folder in `~/.cache/fairyring`, where `load` searches.

    Raises:
        DataUnavailable: no network, no public address, or a wrong checksum; the error says what to do.
    """
    return _files.fetch(_described(dataset), into)


def load(dataset: str | Dataset, **options: object) -> Splits:
    """The training population and the test population of a data set.

    Args:
        dataset: its name, one of `fairyring.population.names()`; or a `Dataset` of your own.
        options: of its reader. `describe(name).options` has their names and defaults, and `describe(name).how` says what
            they do.

    Raises:
        DataUnavailable: files are missing or damaged; the error says what to do.
        PopulationError: there is no such data set or option, or an option is out of range.
    """
    dataset = _described(dataset)
    for option in options:
        refuse_unknown_name(f"option of data {dataset.name!r}", option, dataset.options)
    return dataset.read(find(dataset), **options)


def _described(dataset: str | Dataset) -> Dataset:
    return dataset if isinstance(dataset, Dataset) else describe(dataset)
