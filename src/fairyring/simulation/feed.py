"""How examples reach the devices: resident as a whole, or fetched for the clients of a round piece by piece."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from fairyring.population import Population
from fairyring.simulation.columns import bytes_of
from fairyring.simulation.engine import Engine, Members, share

RESIDENT_BYTES = 1 << 30  # all devices together; larger populations are streamed
PIECE_BYTES = 2 << 20  # rows of one piece on one device; two pieces are on their way at a time


class Piece(NamedTuple):
    """Some clients of a round: their places on the devices, and their rows if they had to be fetched."""

    clients: list[np.ndarray]
    members: Members
    columns: Mapping[str, jax.Array] | None


class Resident:
    """A population whose every row lies on every device; a round is a matter of indices."""

    def __init__(
        self, population: Population, columns: tuple[str, ...], engine: Engine, capacity: int
    ) -> None:
        every = np.arange(len(population))
        rows, offsets = population.gather(every)
        self.engine, self.capacity = engine, capacity
        self.columns = engine.alike({name: rows[name] for name in columns})
        self.starts, self.sizes = offsets[:-1].astype(np.int32), np.diff(offsets).astype(np.int32)

    def rounds(self, cohorts: list[np.ndarray]) -> tuple[Members, list[list[np.ndarray]]]:
        """Places on the devices for up to `capacity` rounds; and whom they hold, for each round and device."""
        engine = self.engine
        shape = (self.capacity, engine.devices, engine.room)
        ids, starts, sizes = (np.zeros(shape, np.int32) for _ in range(3))
        counts = np.zeros(shape[:2], np.int32)
        dealt = []
        for r, cohort in enumerate(cohorts):
            parts = [cohort[places] for places in share(cohort, self.sizes[cohort], engine.devices)]
            for d, part in enumerate(parts):
                n = len(part)
                ids[r, d, :n], starts[r, d, :n], sizes[r, d, :n] = part, self.starts[part], self.sizes[part]
                sizes[r, d, n:] = 1  # an idle place of a vectorised block still needs an example to read
                counts[r, d] = n
            dealt.append(parts)
        return Members(ids, starts, sizes, counts), dealt


class Streamed:
    """A population too large to hold, or one whose clients have a memory: rows are fetched piece by piece."""

    def __init__(
        self, population: Population, columns: tuple[str, ...], engine: Engine, mine_bytes: int
    ) -> None:
        self.population, self.columns, self.engine = population, columns, engine
        self.sizes = np.asarray(population.sizes)
        example = population.client(int(np.argmax(self.sizes)))
        self.kinds = {name: (example[name].shape[1:], example[name].dtype) for name in columns}
        row = sum(
            int(np.prod(shape, dtype=np.int64)) * dtype.itemsize for shape, dtype in self.kinds.values()
        )
        seen = self.sizes[self.sizes > 0]
        usual = int(engine.room / engine.devices * seen.mean() * 1.25) + 1
        self.rows = max(int(seen.max()), min(usual, PIECE_BYTES // max(1, row)))
        room = min(engine.room, max(1, PIECE_BYTES // max(1, mine_bytes)))
        self.room = -(-room // engine.together) * engine.together

    def pieces(self, cohort: np.ndarray) -> Iterator[Piece]:
        """The clients of a round, as many at a time as a piece holds."""
        queues = [self._cut(cohort[p]) for p in share(cohort, self.sizes[cohort], self.engine.devices)]
        for i in range(max(map(len, queues))):
            yield self._piece([queue[i] if i < len(queue) else np.zeros(0, np.int64) for queue in queues])

    def _cut(self, clients: np.ndarray) -> list[np.ndarray]:
        parts, begin, rows = [], 0, 0
        for i, size in enumerate(self.sizes[clients]):
            if i > begin and (rows + size > self.rows or i - begin == self.room):
                parts.append(clients[begin:i])
                begin, rows = i, 0
            rows += size
        return [*parts, clients[begin:]] if len(clients) else []

    def _piece(self, parts: list[np.ndarray]) -> Piece:
        devices = len(parts)
        ids, starts = (np.zeros((devices, self.room), np.int32) for _ in range(2))
        sizes, counts = np.ones((devices, self.room), np.int32), np.zeros(devices, np.int32)
        columns = {
            name: np.zeros((devices, self.rows, *shape), dtype) for name, (shape, dtype) in self.kinds.items()
        }
        for d, part in enumerate(parts):
            n = counts[d] = len(part)
            if n == 0:
                continue
            rows, offsets = self.population.gather(part)
            ids[d, :n], starts[d, :n], sizes[d, :n] = part, offsets[:-1], np.diff(offsets)
            for name, column in columns.items():
                column[d, : offsets[-1]] = rows[name]
        members, fetched = self.engine.spread((Members(ids, starts, sizes, counts), columns))
        return Piece(parts, members, fetched)


def feed(
    population: Population, columns: tuple[str, ...], engine: Engine, *, mine: Any, capacity: int
) -> Resident | Streamed:
    """The way of feeding that fits: resident if all rows fit on all devices and no client has a memory."""
    mine_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(mine))
    if not mine_bytes and bytes_of(population, columns) * engine.devices <= RESIDENT_BYTES:
        return Resident(population, columns, engine, capacity)
    return Streamed(population, columns, engine, mine_bytes)
