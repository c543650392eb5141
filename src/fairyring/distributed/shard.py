"""One machine's part of a round: a compiled engine, and the rows of the clients that are computed here.

Nothing here knows how requests come and how replies go.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fairyring.learning.example_steps import Drawn
from fairyring.learning.local import Workload
from fairyring.learning.plan import Plan
from fairyring.learning.server import ServerState
from fairyring.lowering import hardware
from fairyring.rounds.cohorts import RoundCohort
from fairyring.rounds.server_program import Sums
from fairyring.rounds.worker import Work
from fairyring.simulation import ClientRows, CompiledWorker, Engine, Streamed, make_feed

Tree = Any
Rows = Mapping[str, np.ndarray]

KEPT_BLOCKS = 64  # in the memory of a machine


class Setup(NamedTuple):
    """What a machine has to know before a run's first round.

    Attributes:
        plan: what runs.
        key: the run's key, as words.
        sizes: examples of every client, int64 `[clients]`.
        kinds: of the columns: name -> (shape of a row, dtype).
        firsts: the first client of each block of rows, ascending.
        replicated: every machine has all rows.
        client_state: shapes of a client's own state; an empty tree without one.
        clients_per_batch: see `simulate`.
    """

    plan: Plan
    key: np.ndarray
    sizes: np.ndarray
    kinds: Mapping[str, tuple[tuple[int, ...], Any]]
    firsts: np.ndarray
    replicated: bool
    client_state: Tree
    clients_per_batch: int | None


class Sent(NamedTuple):
    """What all machines receive at the beginning of a round.

    Attributes:
        round: its number.
        params: of the server's model.
        algorithm: what the algorithm sends besides.
    """

    round: int
    params: Tree
    algorithm: Tree


class Request(NamedTuple):
    """What one machine computes.

    Attributes:
        clients: whose messages, int64 `[n]`.
        states: their own states, arrays `[n, ...]`; an empty tuple without.
        drawn: what they draw for noisy local steps, arrays `[n, ...]`; None without.
    """

    clients: np.ndarray
    states: Tree = ()
    drawn: Drawn | None = None


class Reply(NamedTuple):
    """What one machine sends beside its sum.

    Attributes:
        faulty: clients whose update was not finite.
        states: the clients' new states, in the order of the request; an empty tuple without.
        relative_norms: of their updates; None where they are not measured: see `Total`.
    """

    faulty: np.ndarray
    states: Tree = ()
    relative_norms: np.ndarray | None = None


class Shard:
    """A machine's engine.

    Args:
        setup: of the run.
        rows: of the clients: `BlockRows`, or a population that reads its own here.
        processors: how many of this machine's to use; None for all.
    """

    def __init__(self, setup: Setup, rows: ClientRows, processors: int | None) -> None:
        plan, sizes = setup.plan, setup.sizes
        on = hardware(plan.layout.size, processors=processors, clients_per_batch=setup.clients_per_batch)
        workload = Workload.of(sizes, plan.local, unroll=on.unroll)
        self._engine = Engine(plan, workload, len(sizes), on)
        names = tuple(setup.kinds)
        if setup.replicated:
            self._feed = make_feed(rows, names, self._engine, client_state=setup.client_state)
        else:
            self._feed = Streamed(rows, names, self._engine, self._engine.room)
        self._states = bool(jax.tree.leaves(setup.client_state))
        self._key = jax.random.wrap_key_data(jnp.asarray(setup.key))

    def accumulate(self, sent: Sent, request: Request) -> tuple[Sums, Reply]:
        """The sum of the messages of some clients, as NumPy arrays, and the rest."""
        states = _States(request.clients, request.states) if self._states else None
        total = self._worker(states).accumulate(self._work(sent, request))
        summed = jax.tree.map(np.asarray, total.parts[0])
        for part in total.parts[1:]:
            summed = added(summed, part)
        return summed, Reply(total.faulty, states.new if states is not None else (), total.relative_norms)

    def encoded(self, sent: Sent, request: Request) -> tuple[list[tuple[int, np.ndarray]], Reply]:
        """Each client's encoded vector by itself, and the rest."""
        states = _States(request.clients, request.states) if self._states else None
        faulty: list[np.ndarray] = [np.zeros(0, np.int64)]
        vectors = list(self._worker(states).encoded(self._work(sent, request), faulty))
        return vectors, Reply(np.concatenate(faulty), states.new if states is not None else ())

    def _worker(self, states: "_States | None") -> CompiledWorker:
        return CompiledWorker(self._engine, self._feed, _NoCohorts(), self._key, states)

    def _work(self, sent: Sent, request: Request) -> Work:
        cohort = RoundCohort(sent.round, request.clients, request.clients)
        state = ServerState(sent.params, (), sent.algorithm)
        drawn = _Drawn(request.clients, request.drawn) if request.drawn is not None else None
        # All that a worker asks of a round's noise is what clients draw for their steps.
        return Work(cohort, state, drawn)  # pyright: ignore[reportArgumentType]


def added(one: Tree, other: Tree) -> Tree:
    """The sum of two sums, as NumPy arrays of the same types: whole numbers modulo their size."""
    with np.errstate(over="ignore"):
        return jax.tree.map(lambda a, b: np.add(a, np.asarray(b), dtype=np.asarray(a).dtype), one, other)


class BlockRows:
    """Rows of a population's clients, in blocks that are fetched when they are needed: what a feed asks a population for.

    Args:
        setup: of the run.
        fetch: `block -> rows` of its clients, one after the other.
    """

    def __init__(self, setup: Setup, fetch: Callable[[int], Rows]) -> None:
        self.sizes, self._kinds, self._firsts, self._fetch = setup.sizes, setup.kinds, setup.firsts, fetch
        self._starts = np.cumsum(self.sizes) - self.sizes
        self._blocks: dict[int, Rows] = {}

    def __len__(self) -> int:
        return len(self.sizes)

    def prefetch(self, clients: np.ndarray) -> None:
        """Nothing: blocks are fetched when they are needed."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a row of a column."""
        return self._kinds[name][0]

    def dtype(self, name: str) -> np.dtype:
        """Of a column."""
        return np.dtype(self._kinds[name][1])

    def row_bytes(self, columns: tuple[str, ...]) -> int:
        """Bytes of a row of these columns."""
        return sum(int(np.prod(self.shape(n), dtype=np.int64)) * self.dtype(n).itemsize for n in columns)

    def gather(self, clients: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The rows of some clients, one after the other, and where each begins, with the end."""
        sizes = self.sizes[clients]
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        rows = {n: np.empty((int(offsets[-1]), *self.shape(n)), self.dtype(n)) for n in self._kinds}
        blocks = np.searchsorted(self._firsts, clients, side="right") - 1
        for place, (client, block) in enumerate(zip(clients.tolist(), blocks.tolist(), strict=True)):
            if not sizes[place]:
                continue
            begin = int(self._starts[client] - self._starts[self._firsts[block]])
            own = self._block(block)
            for name, column in rows.items():
                column[offsets[place] : offsets[place + 1]] = own[name][begin : begin + int(sizes[place])]
        return rows, offsets

    def _block(self, block: int) -> Rows:
        found = self._blocks.pop(block, None)
        if found is None:
            found = self._fetch(block)
            while len(self._blocks) >= KEPT_BLOCKS:
                self._blocks.pop(next(iter(self._blocks)))
        self._blocks[block] = found  # the last one used comes last
        return found


class _NoCohorts:
    """Machines are told who takes part."""

    def of(self, round: int) -> None:
        """Nothing to draw ahead."""


class _States:
    """The states of a request's clients, as a worker reads and writes them."""

    def __init__(self, clients: np.ndarray, states: Tree) -> None:
        self._places = {client: place for place, client in enumerate(clients.tolist())}
        self._states = states
        self.new = jax.tree.map(np.array, states)

    def read(self, clients: np.ndarray, room: int) -> Tree:
        """Of some clients, filled up to `room` places."""
        places = [self._places[client] for client in clients.tolist()]

        def padded(all_: np.ndarray) -> np.ndarray:
            out = np.zeros((room, *all_.shape[1:]), all_.dtype)
            out[: len(places)] = all_[places]
            return out

        return jax.tree.map(padded, self._states)

    def write(self, clients: np.ndarray, states: Tree) -> None:
        """New ones of some clients, the first rows of `states`."""
        places = [self._places[client] for client in clients.tolist()]
        for mine, given in zip(jax.tree.leaves(self.new), jax.tree.leaves(states), strict=True):
            mine[places] = np.asarray(given)[: len(places)]


class _Drawn:
    """What was drawn for a request's clients, as a worker asks for it."""

    def __init__(self, clients: np.ndarray, drawn: Drawn) -> None:
        self._places = {client: place for place, client in enumerate(clients.tolist())}
        self._drawn = drawn

    def draw_steps(self, client: int, examples: int, noise: np.ndarray, batches: np.ndarray) -> None:
        """Copy what the driver drew for a client."""
        place = self._places[client]
        noise[...], batches[...] = self._drawn.noise[place], self._drawn.batches[place]
