"""A fast hash of a population, by which a resumed run recognises the one it began with."""

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np

from fairyring.population._mapped import release

if TYPE_CHECKING:
    from fairyring.population.population import Population

_WHOLE = 16 << 20  # bytes; up to this size all rows are hashed
_CLIENTS, _ROWS = 64, 8  # of a larger population, this many clients and this many rows of each


def fingerprint(population: "Population") -> str:
    """See `Population.fingerprint`."""
    names = sorted(population.names)
    shapes = {name: (population.dtype(name).str, list(population.shape(name))) for name in names}
    digest = hashlib.sha256(json.dumps([shapes, sorted(population.attributes)]).encode())
    _add(digest, population.sizes)
    _add(digest, population.ids)
    for name in sorted(population.attributes):
        _add(digest, population.attributes[name])

    with_examples = np.flatnonzero(population.sizes)
    if population.stored and population.examples * population.row_bytes() <= _WHOLE:
        columns, _ = population.rows()
        for name in names:
            _add(digest, columns[name])
        return digest.hexdigest()
    some = with_examples[np.unique(np.linspace(0, len(with_examples) - 1, _CLIENTS).astype(np.int64))]
    population.prefetch(some)
    for client in some.tolist():
        columns = population.client(client)
        rows = np.unique(np.linspace(0, population.sizes[client] - 1, _ROWS).astype(np.int64))
        for name in names:
            _add(digest, columns[name][rows])
    if population.stored:
        release(population.columns)
    return digest.hexdigest()


def _add(digest: "hashlib._Hash", array: np.ndarray) -> None:
    array = np.ascontiguousarray(array)
    digest.update(f"{array.dtype.str}{array.shape}".encode())
    digest.update(array.view(np.uint8).reshape(-1).data if array.size else b"")
