"""Machines that are objects in this process, and can be lost at will."""

import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from fairyring.distributed import NodeLost, Prepared, prepare
from fairyring.distributed.shard import BlockRows, Reply, Request, Sent, Shard, added
from fairyring.population import Population
from fairyring.rounds.server_program import Sums
from fairyring.rounds.worker import Worker
from fairyring.simulation import Start

Nodes = Callable[[int], Mapping[str, int]]


class LocalCluster:
    """A cluster of machines in this process.

    Args:
        prepared: the run.
        nodes: which machines are there, by how often that was asked.
        losses: rounds in which a machine is lost, after it has computed its part.
        forever: in these rounds one is lost at every attempt, not only at the first.
    """

    def __init__(self, prepared: Prepared, nodes: Nodes, losses: set[int], forever: bool) -> None:
        self.prepared, self._nodes, self.losses, self.forever = prepared, nodes, set(losses), forever
        self.shards: dict[str, Shard] = {}
        self.asked = 0
        self.computed: list[tuple[int, dict[str, int]]] = []
        self.fetched: dict[str, set[int]] = {}
        self.readers: dict[str, Population] = {}

    def nodes(self) -> dict[str, int]:
        now = dict(self._nodes(self.asked))
        self.asked += 1
        for gone in set(self.shards) - set(now):
            del self.shards[gone]
        for name, processors in now.items():
            if name not in self.shards:
                self.shards[name] = Shard(self.prepared.setup, self._rows(name), processors)
        return now

    def _rows(self, name: str):
        population = self.prepared.start.population
        if population.reads_ahead:
            self.readers[name] = pickle.loads(pickle.dumps(population))  # as another process has it
            return self.readers[name]
        return BlockRows(self.prepared.setup, self._fetch(name))

    def _fetch(self, name: str):
        seen = self.fetched.setdefault(name, set())

        def fetch(block: int):
            seen.add(block)
            return self.prepared.rows(block)

        return fetch

    def accumulate(self, sent: Sent, requests: Mapping[str, Request]) -> tuple[Sums, dict[str, Reply]]:
        replies, summed = {}, None
        for name, request in requests.items():
            part, replies[name] = self.shards[name].accumulate(sent, request)
            summed = part if summed is None else added(summed, part)
        self._lose(sent.round, sum(len(one.clients) for one in requests.values()))
        self.computed.append((sent.round, {name: len(one.clients) for name, one in requests.items()}))
        assert summed is not None
        return summed, replies

    def encoded(self, sent: Sent, node: str, request: Request) -> tuple[list[tuple[int, np.ndarray]], Reply]:
        found = self.shards[node].encoded(sent, request)
        self._lose(sent.round, len(request.clients))
        return found

    def _lose(self, round: int, clients: int) -> None:
        if clients and round in self.losses:
            if not self.forever:
                self.losses.remove(round)
                self.shards.clear()
            raise NodeLost(f"lost in round {round}")


class LocalMachines:
    """`simulate(engine=...)` on machines in this process; `cluster` is that of the last run."""

    def __init__(
        self, nodes: Nodes | Mapping[str, int], losses: set[int] | None = None, *, forever: bool = False
    ) -> None:
        self.nodes = nodes if callable(nodes) else lambda _: nodes
        self.losses, self.forever = losses or set(), forever
        self.cluster: LocalCluster | None = None

    @contextmanager
    def worker(self, start: Start) -> Iterator[Worker]:
        prepared = prepare(start)
        self.cluster = LocalCluster(prepared, self.nodes, self.losses, self.forever)
        yield prepared.worker(self.cluster)
