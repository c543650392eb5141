"""How examples reach the devices: resident as a whole, or fetched for the clients of a round piece by piece."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from fairyring.core.program import replicate
from fairyring.population import Population
from fairyring.simulation.columns import bytes_of
from fairyring.simulation.engine import Engine, Members, assign_to_processors

RESIDENT_BYTES = 1 << 30  # cores share them, accelerators hold them each; larger populations are streamed
PIECE_BYTES = 2 << 20  # rows of one piece on one device; two pieces are on their way at a time
SLAB_BYTES = 16 << 20  # what the clients of one piece remember


class Piece(NamedTuple):
    """Some clients of a round for one device: who they are, where their rows lie, and in which columns."""

    clients: np.ndarray
    members: Members
    columns: Mapping[str, Any]


class Resident:
    """A population whose every row lies on every device; a round is a matter of indices.

    Args:
        population: the clients.
        columns: that are read.
        engine: whose devices they go to.
        room: clients of a piece.
    """

    def __init__(self, population: Population, columns: tuple[str, ...], engine: Engine, room: int) -> None:
        every = np.arange(len(population))
        rows, offsets = population.gather(every)
        self.room = room
        self.columns = replicate({name: rows[name] for name in columns}, engine.processors)
        self.starts, self.sizes = offsets[:-1].astype(np.int32), np.diff(offsets).astype(np.int32)

    def pieces(self, cohort: np.ndarray) -> Iterator[list[Piece]]:
        """The clients of a round, as many at a time as a piece holds: a piece for each device."""
        parts = [cohort[places] for places in assign_to_processors(cohort, self.sizes[cohort], len(self.columns))]
        for first in range(0, max(1, *map(len, parts)), self.room):
            yield [
                Piece(part, members(part, self.starts[part], self.sizes[part], self.room), columns)
                for part, columns in zip(
                    (part[first : first + self.room] for part in parts), self.columns, strict=True
                )
            ]


class Streamed:
    """A population too large to hold: rows are fetched piece by piece.

    Args:
        population: the clients.
        columns: that are read.
        engine: whose devices they go to.
        room: the most clients of a piece.
    """

    def __init__(self, population: Population, columns: tuple[str, ...], engine: Engine, room: int) -> None:
        self.population, self.processors = population, engine.processors
        self.sizes = np.asarray(population.sizes)
        example = population.client(int(np.argmax(self.sizes)))
        self.kinds = {name: (example[name].shape[1:], example[name].dtype) for name in columns}
        row = sum(
            int(np.prod(shape, dtype=np.int64)) * dtype.itemsize for shape, dtype in self.kinds.values()
        )
        seen = self.sizes[self.sizes > 0]
        usual = int(engine.room / len(self.processors) * seen.mean() * 1.25) + 1
        self.rows = max(int(seen.max()), min(usual, PIECE_BYTES // max(1, row)))
        self.room = room

    def pieces(self, cohort: np.ndarray) -> Iterator[list[Piece]]:
        """The clients of a round, as many at a time as a piece holds: a piece for each device."""
        shares = assign_to_processors(cohort, self.sizes[cohort], len(self.processors))
        queues = [self._cut(cohort[places]) for places in shares]
        nobody = np.zeros(0, np.int64)
        for i in range(max(1, *map(len, queues))):
            yield [
                self._piece(queue[i] if i < len(queue) else nobody, processor)
                for queue, processor in zip(queues, self.processors, strict=True)
            ]

    def _cut(self, clients: np.ndarray) -> list[np.ndarray]:
        parts, begin, rows = [], 0, 0
        for i, size in enumerate(self.sizes[clients]):
            if i > begin and (rows + size > self.rows or i - begin == self.room):
                parts.append(clients[begin:i])
                begin, rows = i, 0
            rows += size
        return [*parts, clients[begin:]] if len(clients) else []

    def _piece(self, clients: np.ndarray, processor: Any) -> Piece:
        columns = {name: np.zeros((self.rows, *shape), dtype) for name, (shape, dtype) in self.kinds.items()}
        starts = sizes = np.zeros(0, np.int32)
        if len(clients):
            rows, offsets = self.population.gather(clients)
            starts, sizes = offsets[:-1], np.diff(offsets)
            for name, column in columns.items():
                column[: offsets[-1]] = rows[name]
        return Piece(clients, members(clients, starts, sizes, self.room), jax.device_put(columns, processor))


def members(clients: np.ndarray, starts: np.ndarray, sizes: np.ndarray, room: int) -> Members:
    """Clients and their rows, in so many places."""
    n = len(clients)
    ids, begins, lengths = (np.zeros(room, np.int32) for _ in range(3))
    ids[:n], begins[:n], lengths[:n] = clients, starts, sizes
    lengths[n:] = 1  # an idle place of a vectorised block still needs an example to read
    return Members(ids, begins, lengths, np.int32(n))


def feed(
    population: Population, columns: tuple[str, ...], engine: Engine, *, client_state: Any
) -> Resident | Streamed:
    """The way of feeding that fits: resident if all rows fit on all devices.

    Where clients remember something, what those of a piece do makes a slab, so that a cohort's need not fit in memory.
    """
    bytes_each = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(client_state))
    room = engine.room
    if bytes_each:
        slab = max(1, SLAB_BYTES // bytes_each)
        room = min(room, -(-slab // engine.clients_per_batch) * engine.clients_per_batch)
    kind = Resident if bytes_of(population, columns) <= RESIDENT_BYTES else Streamed
    return kind(population, columns, engine, room)
