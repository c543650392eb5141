"""One round: clients in, the next state out, with updates added as they are or under masks."""

from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from fairyring.core.program import handed
from fairyring.core.vector import digest
from fairyring.learning.device import Broadcast
from fairyring.learning.example_steps import Drawn
from fairyring.learning.server import ServerState
from fairyring.secagg import Traffic
from fairyring.secagg.server import Stage
from fairyring.simulation.draws import Draw, Draws
from fairyring.simulation.engine import Engine
from fairyring.simulation.feed import Piece, Resident, Streamed
from fairyring.simulation.masked import MaskedSums, Summed
from fairyring.simulation.spending import RoundNoise
from fairyring.simulation.states import ClientStates
from fairyring.simulation.watching import Watch

Tree = Any


class Done(NamedTuple):
    """A round that has been run.

    Attributes:
        state: the server's, after it.
        side: `[weight, means...]` of the reports.
        heard: how many reports are in it.
        faulty: clients whose update was not finite.
        summed: what came of its secure sum, where the masked protocol ran.
        mean: the decoded noisy mean, where noise was added and something was released.
    """

    state: ServerState
    side: np.ndarray
    heard: int
    faulty: np.ndarray
    summed: Summed | None = None
    mean: np.ndarray | None = None

    @property
    def traffic(self) -> Traffic | None:
        """Bytes of all clients' secure sum, where they were counted."""
        return self.summed.traffic if self.summed else None


class Rounds:
    """Runs rounds on the engine.

    Args:
        engine: the compiled plan.
        feed: brings clients' rows to the devices.
        draws: of the run.
        root: key of the run.
        states: what clients remember, or None.
        masks: runs the masked protocol, or None to add updates as they are.
        watch: sees every client's vector before any noise, and what is released; None for nobody.
    """

    def __init__(
        self,
        engine: Engine,
        feed: Resident | Streamed,
        draws: Draws,
        root: jax.Array,
        states: ClientStates | None,
        masks: MaskedSums | None,
        watch: Watch | None = None,
    ) -> None:
        self.watch = watch
        self.engine, self.feed, self.draws, self.states, self.masks = engine, feed, draws, states, masks
        self.roots = [jax.device_put(root, device) for device in engine.devices]
        self._digested: tuple[ServerState, bytes] | None = None

    def run(
        self, state: ServerState, draw: Draw, noise: RoundNoise | None = None, previous: bytes | None = None
    ) -> Done:
        """A round from `state`; of a private plan, with the noise of `noise`.

        `previous` is the head of the run's history before it, to which the masked protocol binds its devices.
        """
        sent = self._sent(state, draw)
        if self.masks is None:
            return self._plain(state, draw, sent, noise)
        return self._masked(state, draw, sent, self.masks, noise, previous)

    def model(self, state: ServerState) -> bytes:
        """Digest of what clients receive of `state`: asked for after a round and before the next, computed once."""
        if self._digested is None or self._digested[0] is not state:
            self._digested = state, digest(jax.tree.leaves((state.params, state.shared)))
        return self._digested[1]

    def warm(self, state: ServerState, number: int) -> None:
        """Compile all that rounds after round `number` need: a round of nobody, whose result is dropped."""
        nobody = np.zeros(0, np.int64)
        draw = Draw(number, nobody, nobody)
        self._plain(state, draw, self._sent(state, draw), None)
        if self.engine.plan.protection is not None:
            sums = self.engine.add_up(0, tuple(self._nothing()))
            self.engine.finish_noisy(0, state, sums, np.int32(number), self.roots[0])

    def _plain(self, state: ServerState, draw: Draw, sent: list[Broadcast], noise: RoundNoise | None) -> Done:
        if (
            self.watch is not None and noise is not None
        ):  # before the round, which changes what clients remember
            deque(self.watch.passing(self._one_by_one(draw, sent, [], noise, keep=False)), 0)
        sums = self._nothing()
        waiting: deque[list[tuple[np.ndarray, Tree, jax.Array]]] = deque()
        bad: list[np.ndarray] = []
        for pieces in self.feed.pieces(draw.staying):
            waiting.append(self._accumulate(pieces, sums, sent, noise))
            if len(waiting) > 1:  # fetch the next piece while this one is computed, but no further ahead
                bad += self._settle(waiting.popleft())
        self.draws.of(draw.round + 1)  # while other devices are still at work
        for judged in waiting:
            bad += self._settle(judged)
        if len(draw.canaries):
            sums[0] = self._plant(sums[0], draw, draw.canaries)
        return self._finish(state, draw, sums, np.concatenate(bad), noise, shared=False)

    def _masked(
        self,
        state: ServerState,
        draw: Draw,
        sent: list[Broadcast],
        masks: MaskedSums,
        noise: RoundNoise | None,
        previous: bytes | None,
    ) -> Done:
        bad = [np.zeros(0, np.int64)]
        vectors = self._one_by_one(draw, sent, bad, noise)
        if self.watch is not None and noise is not None:
            vectors = self.watch.passing(vectors)
        if noise is not None:
            bits = masks.terms.modulus_bits
            vectors = ((c, noise.share(c, bits, v)) for c, v in vectors)
        summed = masks.run(draw, self.draws.leaving(draw), self.model(state), vectors, previous)
        sums = self._nothing()
        if summed.vector is not None:
            message = sums[0][0]._replace(vector=summed.vector)
            sums[0] = jax.device_put((message, np.int32(summed.count)), self.engine.devices[0])
        # From its last stage on the server may know the sum.
        seen = summed.aborted is not None and summed.aborted[0] == Stage.UNMASKING
        done = self._finish(state, draw, sums, np.concatenate(bad), noise, shared=True, seen=seen)
        return done._replace(summed=summed)

    def _one_by_one(
        self,
        draw: Draw,
        sent: list[Broadcast],
        bad: list[np.ndarray],
        noise: RoundNoise | None,
        *,
        keep: bool = True,
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Each client's encoded update: a sum of one, by the same program as a sum of all."""
        width = len(sent)
        for first in range(0, len(draw.staying), width):
            for pieces in self.feed.pieces(draw.staying[first : first + width]):
                sums = self._nothing()
                bad += self._settle(self._accumulate(pieces, sums, sent, noise), keep=keep)
                for place, piece in enumerate(pieces):
                    for client in piece.clients.tolist():  # one, or none
                        yield client, np.asarray(sums[place][0].vector)
        for client in draw.canaries:
            message, _ = self._plant(self.engine.nothing(0), draw, np.array([client]))
            yield int(client), np.asarray(message.vector)

    def _plant(self, sums: Tree, draw: Draw, canaries: np.ndarray) -> Tree:
        """A device's sums with the messages of canaries in them."""
        ids = np.zeros(self.engine.room, np.int32)
        ids[: len(canaries)] = canaries
        return self.engine.plant(0, sums, ids, np.int32(len(canaries)), np.int32(draw.round), self.roots[0])

    def _nothing(self) -> list[Tree]:
        """The sum of no messages, on every device."""
        return [self.engine.nothing(place) for place in range(len(self.engine.devices))]

    def _sent(self, state: ServerState, draw: Draw) -> list[Broadcast]:
        """What the clients on each device receive."""
        own = Broadcast(state.params, state.shared, np.int32(draw.round))
        return [own, *(handed(own, device) for device in self.engine.devices[1:])]

    def _accumulate(
        self, pieces: list[Piece], sums: list[Tree], sent: list[Broadcast], noise: RoundNoise | None
    ) -> list[tuple[np.ndarray, Tree, jax.Array]]:
        """Start a piece on every device; `sums` are replaced. Returns `(clients, new states, who was finite)` of each."""
        judged = []
        for place, piece in reversed(list(enumerate(pieces))):  # the first core is this thread's own
            mine = self._fetch(piece.clients, place)
            sums[place], mine, finite = self.engine.accumulate(
                place,
                sums[place],
                sent[place],
                piece.columns,
                piece.members,
                mine,
                self.roots[place],
                self._drawn(piece, noise),
            )
            judged.append((piece.clients, mine, finite))
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

    def _finish(
        self,
        state: ServerState,
        draw: Draw,
        sums: list[Tree],
        faulty: np.ndarray,
        noise: RoundNoise | None,
        *,
        shared: bool,
        seen: bool = False,
    ) -> Done:
        """The server's half of a round.

        Args:
            shared: the clients' shares of noise are in the sums.
            seen: there is no sum, but the server had what it takes to make one.
        """
        parts = (sums[0], *(handed(part, self.engine.devices[0]) for part in sums[1:]))
        if noise is not None:
            total, heard = self.engine.add_up(0, parts)
            clients, mean = int(heard), None
            # Where who took part is a secret, so is that nobody did: noise alone is released.
            secret = self.engine.plan.secret_rate is not None
            if clients < self.engine.plan.fewest and not (secret and self.engine.plan.fewest == 1):
                noise.cancel(seen=seen)
                return Done(state, np.full(len(self.engine.plan.sides), np.nan), clients, faulty)
            vector = noise.release(np.asarray(total.vector), clients, shared=shared)
            if self.watch is not None:
                self.watch.released(draw, vector, clients)
            noisy = jax.device_put((total._replace(vector=vector), heard), self.engine.devices[0])
            state, side, _, mean = self.engine.finish_noisy(
                0, state, noisy, np.int32(draw.round), self.roots[0]
            )
            return Done(state, np.asarray(side), clients, faulty, mean=np.asarray(mean))
        state, side, heard = self.engine.finish(0, state, parts, np.int32(draw.round), self.roots[0])
        return Done(state, np.asarray(side), int(heard), faulty)

    def _fetch(self, clients: np.ndarray, place: int) -> Tree:
        """States of a piece's clients, on their device."""
        if self.states is None:
            return ()
        return jax.device_put(self.states.read(clients, self.feed.room), self.engine.devices[place])

    def _settle(
        self, judged: list[tuple[np.ndarray, Tree, jax.Array]], *, keep: bool = True
    ) -> list[np.ndarray]:
        """Keep the new states of a piece's clients on every device; returns those whose update was not finite."""
        bad = []
        for clients, mine, finite in judged:
            if keep and self.states is not None and len(clients):
                self.states.write(clients, jax.tree.map(np.asarray, mine))
            bad.append(clients[~np.asarray(finite)[: len(clients)]])
        return bad
