"""The published sets fairyring can read, by name."""

import inspect
from collections.abc import Callable
from dataclasses import replace
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

_READERS = {
    module.DATASET.name: module
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
    """Names of the sets."""
    return tuple(_READERS)


def describe(name: str) -> Dataset:
    """What a set is: title, source, licence, citation, clients, shapes, files, options of `load`.

    Raises:
        PopulationError: there is no set of that name.
    """
    refuse_unknown_name("data set", name, _READERS)
    dataset, read = _READERS[name].DATASET, _READERS[name].read
    return replace(dataset, options=_options(read))


def find(name: str) -> list[Path]:
    """Its files, looked for under `$FAIRYRING_DATA`, `~/.cache/fairyring` and where system packages put them;
    checked by SHA-256. Empty where a Python package brings the data.

    Raises:
        DataUnavailable: they are not there, or damaged; says what to do.
    """
    dataset = describe(name)
    return _files.find(dataset) if dataset.files else []


def fetch(name: str, into: Path | None = None) -> list[Path]:
    """Its files, fetched from their published addresses where they are missing, checked, and renamed into
    place.

    Args:
        name: the set.
        into: the folder; by default its folder in `~/.cache/fairyring`, where `load` looks.

    Raises:
        DataUnavailable: no network, no public address, or other bytes than expected; says what to do.
    """
    return _files.fetch(describe(name), into)


def load(name: str, **options: object) -> Splits:
    """Training and test population of a published set.

    Args:
        name: one of `names()`.
        options: of its reader; `describe(name).options` lists them with their defaults, `describe(name).how`
            says what they do.

    Raises:
        DataUnavailable: its files are not there, or damaged; says what to do.
        PopulationError: no such set or option, or an option out of range.
    """
    dataset = describe(name)
    for option in options:
        refuse_unknown_name(f"option of data {name!r}", option, dataset.options)
    return _READERS[name].read(find(name), **options)


def _options(read: Callable[..., Splits]) -> dict[str, object]:
    parameters = inspect.signature(read).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
