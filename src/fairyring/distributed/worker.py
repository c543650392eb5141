"""A worker that shares a cohort among machines. Machines may be lost and come back: then the round is computed again."""

import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import jax
import numpy as np

from fairyring.core.errors import PerformanceWarning, RunError
from fairyring.distributed.placement import share
from fairyring.distributed.shard import Reply, Request, Sent, Setup
from fairyring.learning.example_steps import Drawn
from fairyring.learning.server import ServerState
from fairyring.records.states import ClientStates
from fairyring.rounds.cohorts import CohortSampler, RoundCohort
from fairyring.rounds.server_program import Sums
from fairyring.rounds.total import Total
from fairyring.rounds.worker import Work
from fairyring.simulation import Engine

Tree = Any

ATTEMPTS = 10  # at a round that loses machines
_AT_ONCE = 32  # clients whose vectors one machine sends by themselves


class NodeLost(Exception):
    """A machine, or what it had computed, is gone."""


class Cluster(Protocol):
    """Machines, each with a `Shard` of the run."""

    def nodes(self) -> dict[str, int]:
        """The machines that are there now, by name, and how many processors each uses."""
        ...

    def accumulate(self, sent: Sent, requests: Mapping[str, Request]) -> tuple[Sums, dict[str, Reply]]:
        """The sum over all machines, and what each says beside.

        Raises:
            NodeLost: one was lost; nothing of the round counts.
        """
        ...

    def encoded(self, sent: Sent, node: str, request: Request) -> tuple[list[tuple[int, np.ndarray]], Reply]:
        """The vectors of some clients, from one machine.

        Raises:
            NodeLost: it was lost.
        """
        ...


class DistributedWorker:
    """Computes sums on a cluster.

    Clients' states, the noise of private steps and an audit's canaries are the driver's: machines are sent what a round needs of them. So a machine
    that is lost takes nothing along but the round's work.

    Args:
        cluster: the machines.
        setup: of the run, as the machines know it.
        engine: the driver's own, which is compiled only where canaries are planted.
        cohorts: of the run.
        root: key of the run.
        states: what clients remember, or None.
        block_of: the block of each client, where a block's rows are on one machine; None if all rows are on every machine.
    """

    parts = 1  # the machines' sums are added up on their way

    def __init__(
        self,
        cluster: Cluster,
        setup: Setup,
        engine: Engine,
        cohorts: CohortSampler,
        root: jax.Array,
        states: ClientStates | None,
        block_of: np.ndarray | None,
    ) -> None:
        self.cluster, self.setup, self.engine = cluster, setup, engine
        self.cohorts, self.root, self.states, self.block_of = cohorts, root, states, block_of
        self._warned = False

    def accumulate(self, work: Work) -> Total:
        """See `fairyring.rounds.worker.Worker`."""
        cohort, sent = work.cohort, _sent(work)

        def compute(nodes: dict[str, int]) -> tuple[Sums, list[np.ndarray], dict[str, Reply]]:
            parts = self._shared(cohort.staying, nodes)
            requests = {node: self._request(clients, work) for node, clients in parts.items()}
            summed, replies = self.cluster.accumulate(sent, requests)
            return summed, [parts[node] for node in replies], replies

        summed, parts, replies = self._until_done(compute, cohort.round)
        for clients, reply in zip(parts, replies.values(), strict=True):
            self._remember(clients, reply)
        sums = jax.device_put(summed, self.engine.processors[0])
        if len(cohort.canaries):
            sums = self._plant(sums, cohort, cohort.canaries)
        norms = [reply.relative_norms for reply in replies.values() if reply.relative_norms is not None]
        return Total(
            (sums,),
            np.concatenate([reply.faulty for reply in replies.values()]),
            relative_norms=np.concatenate(norms) if norms else None,
        )

    def encoded(
        self, work: Work, faulty: list[np.ndarray], *, keep: bool = True
    ) -> Iterator[tuple[int, np.ndarray]]:
        """See `fairyring.rounds.worker.Worker`."""
        cohort, sent = work.cohort, _sent(work)
        for first in range(0, len(cohort.staying), _AT_ONCE):
            some = cohort.staying[first : first + _AT_ONCE]

            def compute(
                nodes: dict[str, int], some: np.ndarray = some
            ) -> list[tuple[np.ndarray, list, Reply]]:
                parts = {n: clients for n, clients in self._shared(some, nodes).items() if len(clients)}
                return [
                    (clients, *self.cluster.encoded(sent, node, self._request(clients, work)))
                    for node, clients in parts.items()
                ]

            for clients, vectors, reply in self._until_done(compute, cohort.round):
                if keep:
                    self._remember(clients, reply)
                faulty.append(reply.faulty)
                yield from vectors
        for client in cohort.canaries:
            sums = self._plant(self.engine.nothing(0), cohort, np.array([client]))
            yield int(client), np.asarray(sums.message.vector)

    def warm(self, state: ServerState, number: int) -> Total:
        """See `fairyring.rounds.worker.Worker`: all machines compile at once."""
        nobody = np.zeros(0, np.int64)
        return self.accumulate(Work(RoundCohort(number, nobody, nobody), state))

    def _until_done(self, compute: Any, round: int) -> Any:
        """What `compute` returns for the machines that are there; again where one was lost meanwhile.

        Raises:
            RunError: there is no machine; or one is lost again and again.
        """
        lost: Exception | None = None
        for _ in range(ATTEMPTS):
            nodes = self.cluster.nodes()
            if not nodes:
                break
            try:
                return compute(nodes)
            except NodeLost as error:
                lost = error
                if not self._warned:
                    self._warned = True
                    warnings.warn(
                        f"Round {round} is computed again, because a machine was lost: {error}",
                        PerformanceWarning,
                        stacklevel=2,
                    )
        raise RunError(
            f"round {round}",
            given=f"no machine that computes it{f': {lost}' if lost is not None else ''}",
            expected="at least one that stays for a round",
            do="Look at the cluster; a run that is kept in a folder goes on from its last checkpoint, with resume=True.",
        ) from lost

    def _shared(self, clients: np.ndarray, nodes: dict[str, int]) -> dict[str, np.ndarray]:
        return share(clients, self.setup.sizes, list(nodes), list(nodes.values()), self.block_of)

    def _request(self, clients: np.ndarray, work: Work) -> Request:
        states = self.states.read(clients, len(clients)) if self.states is not None else ()
        return Request(clients, states, self._drawn(clients, work))

    def _drawn(self, clients: np.ndarray, work: Work) -> Drawn | None:
        """What clients draw for noisy local steps, from the run's own secret."""
        shapes = self.engine.drawn
        if shapes is None or work.noise is None:
            return None
        drawn = Drawn(*(np.zeros((len(clients), *one.shape), one.dtype) for one in shapes.drawn))
        drawn.batches[:] = -1
        for place, client in enumerate(clients.tolist()):
            size = int(self.setup.sizes[client])
            work.noise.draw_steps(client, size, drawn.noise[place], drawn.batches[place])
        return drawn

    def _remember(self, clients: np.ndarray, reply: Reply) -> None:
        if self.states is not None and len(clients):
            self.states.write(clients, reply.states)

    def _plant(self, sums: Sums, cohort: RoundCohort, canaries: np.ndarray) -> Sums:
        ids = np.zeros(self.engine.room, np.int32)
        ids[: len(canaries)] = canaries
        return self.engine.plant(0, sums, ids, np.int32(len(canaries)), np.int32(cohort.round), self.root)


def _sent(work: Work) -> Sent:
    """What the machines receive of a round."""
    params, algorithm = jax.tree.map(np.asarray, (work.state.params, work.state.algorithm))
    return Sent(work.cohort.round, params, algorithm)
