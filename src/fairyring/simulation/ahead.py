"""Rounds of a small model, many in one program.

A round of a small model takes less time on a processor than starting it does. Where nothing but the server's own half happens
between two rounds, several are computed at once, and handed out one by one: the driver and the coordinator notice nothing. Each has
its own cohort, sums, state and record.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fairyring.core.program import Program, kept
from fairyring.learning.device import Broadcast
from fairyring.learning.server import ServerState
from fairyring.rounds.cohorts import CohortSampler
from fairyring.rounds.server_program import ServerProgram
from fairyring.rounds.total import Advanced, Total
from fairyring.rounds.worker import Work
from fairyring.simulation.engine import Engine, Members
from fairyring.simulation.feed import Piece, Resident
from fairyring.simulation.worker import CompiledWorker

Tree = Any

NOBODY = np.zeros(0, np.int64)


class AheadWorker(CompiledWorker):
    """Computes several rounds in one program, and hands out one after the other.

    Args:
        engine: the compiled plan, on one processor.
        server: its server half.
        feed: all rows of the population.
        cohorts: of the run.
        last: the run's last round; no round after it is computed.
        most: how many rounds are computed at once.
    """

    def __init__(
        self,
        engine: Engine,
        server: ServerProgram,
        feed: Resident,
        cohorts: CohortSampler,
        last: int,
        most: int,
    ) -> None:
        super().__init__(engine, feed, cohorts, server.root, None)
        self.resident, self.last, self.most, self.parts = feed, last, most, 0
        self._several = kept(
            server.plan,
            (AheadWorker, engine, self.most),
            lambda: Program(
                several_rounds(engine, server, self.most), engine.processors, options=engine.options
            ),
        )
        # Totals that are not handed out yet, each with its round and the state from which that starts.
        self._ready: deque[tuple[int, ServerState, Total]] = deque()

    def accumulate(self, work: Work) -> Total:
        """See `fairyring.rounds.worker.Worker`."""
        if not self._ready or self._ready[0][0] != work.cohort.round or self._ready[0][1] is not work.state:
            self._ready.clear()
            self._compute(work)
        return self._ready.popleft()[2]

    def warm(self, state: ServerState, number: int) -> Total:
        """See `fairyring.rounds.worker.Worker`."""
        return Total((), NOBODY, advanced=self._advanced(self._run(state, number, []), 0))

    def _compute(self, work: Work) -> None:
        """A round, and those after it."""
        began, number = time.perf_counter(), work.cohort.round
        ends = min(number + self.most, self.last + 1)
        cohorts = [work.cohort, *(self.cohorts.of(later) for later in range(number + 1, ends))]
        pieces = [self._piece(cohort.staying) for cohort in cohorts]
        results = self._run(work.state, number, [piece.members for piece in pieces])
        judged, state = results[3], work.state
        share = (time.perf_counter() - began) / len(cohorts)
        for place, piece in enumerate(pieces):
            advanced = self._advanced(results, place)
            finite = judged.finite[place, : len(piece.clients)]
            norms = (
                judged.relative_norms[place, : len(piece.clients)][finite]
                if len(judged.relative_norms)
                else None
            )
            elsewhere = share * (len(pieces) - 1 if place == 0 else -1)
            total = Total(
                (),
                piece.clients[~finite],
                advanced=advanced,
                seconds_elsewhere=elsewhere,
                relative_norms=norms,
            )
            self._ready.append((number + place, state, total))
            state = advanced.state

    def _piece(self, clients: np.ndarray) -> Piece:
        """A cohort, in the order in which it is summed."""
        [[piece]] = self.resident.pieces(clients)
        return piece

    def _run(self, state: ServerState, number: int, rounds: list[Members]) -> Tree:
        """The state after each round, its auxiliary values, how many reported, and what was noticed of each client: NumPy arrays `[most, ...]`."""
        each = [*rounds, *[self._piece(NOBODY).members] * (self.most - len(rounds))]
        results = self._several(
            0,
            state,
            self.resident.columns[0],
            Members(*map(np.stack, zip(*each, strict=True))),
            np.int32(number),
            np.int32(len(rounds)),
            self.roots[0],
        )
        return jax.tree.map(np.asarray, results)

    @staticmethod
    def _advanced(results: Tree, place: int) -> Advanced:
        # `[place, ...]` is an array also where the state has a number.
        state, auxiliary, reported, _ = jax.tree.map(lambda rounds: rounds[place, ...], results)
        return Advanced(state, auxiliary, reported)


def several_rounds(engine: Engine, server: ServerProgram, most: int) -> Callable[..., Tree]:
    """Up to `most` rounds as one traceable function.

    Returns:
        `several(state, columns, members, number, count, root) -> (states, auxiliary, reported, judged)`: rounds `number` to
        `number + count - 1` (int32 scalars), of which `members` has the clients, `[most, ...]`. Each result has a place for every round.
    """

    def several(
        state: ServerState,
        columns: Tree,
        members: Members,
        number: jax.Array,
        count: jax.Array,
        root: jax.Array,
    ) -> Tree:
        def round(i: jax.Array, carry: tuple[ServerState, Tree]) -> tuple[ServerState, Tree]:
            state, results = carry
            own = jax.tree.map(lambda all_: all_[i], members)
            broadcast = Broadcast(state.params, state.algorithm, number + i)
            sums, _, judged = engine.accumulated(engine.no_sums(), broadcast, columns, own, (), root, ())
            new = *server.finished(state, (sums,), number + i, root), judged
            return new[0], jax.tree.map(lambda rounds, value: rounds.at[i].set(value), results, new)

        # Not the shapes of a whole round: what takes long to trace is traced once.
        halves = jax.eval_shape(server.finished, state, (engine.no_sums(),), number, root)
        shapes = *halves, engine.judged(members.ids.shape[1:])
        empty = jax.tree.map(lambda s: jnp.zeros((most, *s.shape), s.dtype), shapes)
        return lax.fori_loop(0, count, round, (state, empty))[1]

    return several
