"""The compiled engine as a worker: a cohort's clients shared among this machine's processors, piece by piece."""

from collections import deque
from collections.abc import Iterator
from typing import Any, Protocol

import jax
import numpy as np

from fairyring.core.program import transfer
from fairyring.learning.device import Broadcast
from fairyring.learning.example_steps import Drawn
from fairyring.learning.server import ServerState
from fairyring.rounds.cohorts import RoundCohort
from fairyring.rounds.server_program import Sums
from fairyring.rounds.spending import RoundNoise
from fairyring.rounds.total import Total
from fairyring.rounds.worker import Work
from fairyring.simulation.engine import Engine, Judged
from fairyring.simulation.feed import Piece, Resident, Streamed

Tree = Any


class States(Protocol):
    """What clients remember: of a run, or of those that a machine was sent."""

    def read(self, clients: np.ndarray, room: int, /) -> Tree:
        """Of some clients, arrays `[room, ...]`."""
        ...

    def write(self, clients: np.ndarray, states: Tree, /) -> None:
        """New ones of some clients."""
        ...


class Cohorts(Protocol):
    """Who takes part."""

    def of(self, round: int, /) -> RoundCohort | None:
        """In a round; None where that is not known here."""
        ...


class CompiledWorker:
    """Computes sums on the engine.

    Args:
        engine: the compiled plan.
        feed: brings clients' rows to the processors.
        cohorts: of the run: the next round's cohort is drawn while processors are at work.
        root: key of the run.
        states: what clients remember, or None.
        last: the run's last round: nobody's rows are read for one after it.
    """

    def __init__(
        self,
        engine: Engine,
        feed: Resident | Streamed,
        cohorts: Cohorts,
        root: jax.Array,
        states: States | None,
        last: int = 0,
    ) -> None:
        self.last = last
        self.engine, self.feed, self.cohorts, self.states = engine, feed, cohorts, states
        self.parts = len(engine.processors)
        self.roots = [jax.device_put(root, processor) for processor in engine.processors]

    def accumulate(self, work: Work) -> Total:
        """See `fairyring.rounds.worker.Worker`."""
        cohort, sent = work.cohort, self._sent(work)
        sums = self._nothing()
        waiting: deque[list[tuple[np.ndarray, Tree, Judged]]] = deque()
        bad: list[np.ndarray] = []
        norms: list[np.ndarray] = []
        for pieces in self.feed.pieces(cohort.staying):
            waiting.append(self._accumulate(pieces, sums, sent, work.noise))
            if len(waiting) > 1:  # fetch the next piece while this one is computed, but no further ahead
                bad += self._settle(waiting.popleft(), norms=norms)
        following = self.cohorts.of(cohort.round + 1)  # while other processors are still at work
        if following is not None and following.round <= self.last:
            self.feed.expect(following.staying)
        for judged in waiting:
            bad += self._settle(judged, norms=norms)
        if len(cohort.canaries):
            sums[0] = self._plant(sums[0], cohort, cohort.canaries)
        parts = (sums[0], *(transfer(part, self.engine.processors[0]) for part in sums[1:]))
        measured = np.concatenate(norms) if norms else None
        return Total(parts, np.concatenate(bad), relative_norms=measured)

    def encoded(
        self, work: Work, faulty: list[np.ndarray], *, keep: bool = True
    ) -> Iterator[tuple[int, np.ndarray]]:
        """See `fairyring.rounds.worker.Worker`: a sum of one, by the same program as a sum of all."""
        cohort, sent = work.cohort, self._sent(work)
        width = len(sent)
        for first in range(0, len(cohort.staying), width):
            for pieces in self.feed.pieces(cohort.staying[first : first + width]):
                sums = self._nothing()
                faulty += self._settle(self._accumulate(pieces, sums, sent, work.noise), keep=keep)
                for place, piece in enumerate(pieces):
                    for client in piece.clients.tolist():  # one, or none
                        yield client, np.asarray(sums[place].message.vector)
        for client in cohort.canaries:
            message = self._plant(self.engine.nothing(0), cohort, np.array([client])).message
            yield int(client), np.asarray(message.vector)

    def warm(self, state: ServerState, number: int) -> Total:
        """See `fairyring.rounds.worker.Worker`."""
        nobody = np.zeros(0, np.int64)
        return self.accumulate(Work(RoundCohort(number, nobody, nobody), state))

    def _plant(self, sums: Sums, cohort: RoundCohort, canaries: np.ndarray) -> Sums:
        """A processor's sums with the messages of canaries in them."""
        ids = np.zeros(self.engine.room, np.int32)
        ids[: len(canaries)] = canaries
        return self.engine.plant(0, sums, ids, np.int32(len(canaries)), np.int32(cohort.round), self.roots[0])

    def _nothing(self) -> list[Sums]:
        """The sum of no messages, on every processor."""
        return [self.engine.nothing(place) for place in range(len(self.engine.processors))]

    def _sent(self, work: Work) -> list[Broadcast]:
        """What the clients on each processor receive."""
        own = Broadcast(work.state.params, work.state.algorithm, np.int32(work.cohort.round))
        return [own, *(transfer(own, processor) for processor in self.engine.processors[1:])]

    def _accumulate(
        self, pieces: list[Piece], sums: list[Sums], sent: list[Broadcast], noise: RoundNoise | None
    ) -> list[tuple[np.ndarray, Tree, Judged]]:
        """Start a piece on every processor; `sums` are replaced. Returns `(clients, new states, what was noticed)` of each."""
        judged = []
        for place, piece in reversed(list(enumerate(pieces))):  # the first core is this thread's own
            client_states = self._fetch(piece.clients, place)
            sums[place], client_states, noticed = self.engine.accumulate(
                place,
                sums[place],
                sent[place],
                piece.columns,
                piece.members,
                client_states,
                self.roots[place],
                self._drawn(piece, noise),
            )
            judged.append((piece.clients, client_states, noticed))
        return judged

    def _drawn(self, piece: Piece, noise: RoundNoise | None) -> Drawn | tuple[()]:
        """What a piece's clients draw for their noisy local steps, by their places; nothing where there are none."""
        shapes = self.engine.drawn
        if shapes is None:
            return ()
        room = len(piece.members.ids)
        drawn = Drawn(*(np.zeros((room, *one.shape), one.dtype) for one in shapes.drawn))
        drawn.batches[:] = -1
        if noise is not None:
            sizes = np.asarray(piece.members.sizes)
            for place, client in enumerate(piece.clients.tolist()):
                noise.draw_steps(client, int(sizes[place]), drawn.noise[place], drawn.batches[place])
        return drawn

    def _fetch(self, clients: np.ndarray, place: int) -> Tree:
        """States of a piece's clients, on their processor."""
        if self.states is None:
            return ()
        return jax.device_put(self.states.read(clients, self.feed.room), self.engine.processors[place])

    def _settle(
        self,
        judged: list[tuple[np.ndarray, Tree, Judged]],
        *,
        keep: bool = True,
        norms: list[np.ndarray] | None = None,
    ) -> list[np.ndarray]:
        """Keep the new states of a piece's clients on every processor; returns those whose update was not finite. Norms of the others,
        where they are measured, are appended to `norms`."""
        bad = []
        for clients, client_states, noticed in judged:
            if keep and self.states is not None and len(clients):
                self.states.write(clients, jax.tree.map(np.asarray, client_states))
            finite = np.asarray(noticed.finite)[: len(clients)]
            bad.append(clients[~finite])
            if norms is not None and self.engine.plan.measures_norms:
                norms.append(np.asarray(noticed.relative_norms)[: len(clients)][finite])
        return bad
