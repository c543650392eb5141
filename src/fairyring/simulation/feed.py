"""How examples reach the processors: all at once, to stay there, or fetched piece by piece for the clients of a round."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from fairyring.core.program import replicate
from fairyring.simulation.engine import Engine, Members, assign_to_processors

RESIDENT_BYTES = (
    1 << 30
)  # cores share one copy, each accelerator has its own; larger populations are streamed
PIECE_BYTES = 2 << 20  # rows of one piece on one processor; two pieces are in flight at a time
STATE_BYTES = 16 << 20  # states of the clients of one piece


class Piece(NamedTuple):
    """Some clients of a round, for one processor.

    Attributes:
        clients: their indices in the population.
        members: where their rows are in the columns.
        columns: the rows, by column.
    """

    clients: np.ndarray
    members: Members
    columns: Mapping[str, Any]


class ClientRows(Protocol):
    """What a feed asks of clients' examples: a population, or what a machine has of one."""

    @property
    def sizes(self) -> np.ndarray:
        """Examples of each client, `[clients]`."""
        ...

    def __len__(self) -> int: ...

    def gather(self, clients: Any, /) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Rows of some clients, one after the other, and where each begins, with the end."""
        ...

    def prefetch(self, clients: Any, /) -> None:
        """Begin to read rows of clients that are gathered next, where that takes time."""
        ...

    def shape(self, column: str, /) -> tuple[int, ...]:
        """Of a row of a column."""
        ...

    def dtype(self, column: str, /) -> np.dtype:
        """Of a column."""
        ...

    def row_bytes(self, columns: tuple[str, ...], /) -> int:
        """Bytes of a row of these columns."""
        ...


class Resident:
    """A population all of whose rows are on every processor; a round only sends indices.

    Args:
        population: the clients.
        columns: names of the columns to send.
        engine: gives the processors to send them to.
        room: the most clients of a piece.
    """

    def __init__(self, population: ClientRows, columns: tuple[str, ...], engine: Engine, room: int) -> None:
        every = np.arange(len(population))
        rows, offsets = population.gather(every)
        self.room = room
        self.columns = replicate({name: rows[name] for name in columns}, engine.processors)
        self.starts, self.sizes = offsets[:-1].astype(np.int32), np.diff(offsets).astype(np.int32)

    def expect(self, cohort: np.ndarray) -> None:
        """Nothing: all rows are there."""

    def pieces(self, cohort: np.ndarray) -> Iterator[list[Piece]]:
        """The clients of a round in steps: in each step one piece for every processor."""
        parts = [
            cohort[places] for places in assign_to_processors(cohort, self.sizes[cohort], len(self.columns))
        ]
        for first in range(0, max(1, *map(len, parts)), self.room):
            yield [
                Piece(part, members(part, self.starts[part], self.sizes[part], self.room), columns)
                for part, columns in zip(
                    (part[first : first + self.room] for part in parts), self.columns, strict=True
                )
            ]


class Streamed:
    """A population too large to stay on the processors: rows are fetched piece by piece.

    Args:
        population: the clients.
        columns: names of the columns to send.
        engine: gives the processors to send them to.
        room: the most clients of a piece.
    """

    def __init__(self, population: ClientRows, columns: tuple[str, ...], engine: Engine, room: int) -> None:
        self.population, self.processors = population, engine.processors
        self.sizes = np.asarray(population.sizes)
        self.kinds = {name: (population.shape(name), population.dtype(name)) for name in columns}
        sizes = self.sizes[self.sizes > 0]
        usual = int(engine.room / len(self.processors) * sizes.mean() * 1.25) + 1
        self.rows = max(int(sizes.max()), min(usual, PIECE_BYTES // max(1, population.row_bytes(columns))))
        self.room = room

    def pieces(self, cohort: np.ndarray) -> Iterator[list[Piece]]:
        """The clients of a round in steps: in each step one piece for every processor."""
        shares = assign_to_processors(cohort, self.sizes[cohort], len(self.processors))
        queues = [self._cut(cohort[places]) for places in shares]
        no_clients = np.zeros(0, np.int64)
        steps = range(max(1, *map(len, queues)))
        self.population.prefetch(
            np.concatenate([no_clients, *(q[i] for i in steps for q in queues if i < len(q))])
        )
        for i in steps:
            yield [
                self._piece(queue[i] if i < len(queue) else no_clients, processor)
                for queue, processor in zip(queues, self.processors, strict=True)
            ]

    def expect(self, cohort: np.ndarray) -> None:
        """Begin to read the rows of a later round."""
        self.population.prefetch(cohort)

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
    """Clients and where their rows are, filled up to `room` places."""
    n = len(clients)
    ids, begins, lengths = (np.zeros(room, np.int32) for _ in range(3))
    ids[:n], begins[:n], lengths[:n] = clients, starts, sizes
    lengths[n:] = 1  # an idle place of a vectorised block still needs an example to read
    return Members(ids, begins, lengths, np.int32(n))


def make_feed(
    population: ClientRows, columns: tuple[str, ...], engine: Engine, *, client_state: Any
) -> Resident | Streamed:
    """`Resident` if all rows fit, otherwise `Streamed`.

    Args:
        population: the clients.
        columns: names of the columns to send.
        engine: gives the processors to send them to.
        client_state: shapes of a client's own state. If there is one, pieces have fewer clients, so that the states of a whole
            cohort need not fit into memory.
    """
    bytes_each = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(client_state))
    room = engine.room
    if bytes_each:
        fit = max(1, STATE_BYTES // bytes_each)
        room = min(room, -(-fit // engine.clients_per_batch) * engine.clients_per_batch)
    size = population.row_bytes(columns) * int(np.sum(population.sizes))
    kind = Resident if size <= RESIDENT_BYTES else Streamed
    return kind(population, columns, engine, room)
