"""A Ray cluster: an actor on each node, which computes on the node's processors."""

import copyreg
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import jax
import numpy as np

from fairyring.core.errors import RunError
from fairyring.core.extras import require
from fairyring.distributed.shard import BlockRows, Reply, Request, Rows, Sent, Setup, Shard, added
from fairyring.distributed.starting import Prepared, prepare
from fairyring.distributed.worker import NodeLost
from fairyring.population import Population
from fairyring.rounds.server_program import Sums
from fairyring.rounds.worker import Worker
from fairyring.simulation import Start

_READY = 300.0  # seconds that an actor may take to start: Python, JAX, and the rows
_ALIVE = 10.0  # seconds in which an actor that lives answers


def ray(address: str | None = None, *, processors: int | None = None) -> "RayEngine":
    """Rounds on a Ray cluster: `fr.simulate(..., engine=fr.ray("auto"))`.

    There is an actor on each node, with a compiled engine on all of the node's processors. Clients are shared among nodes: of a
    population below 1 GiB every node has all rows, and clients are shared evenly; of a larger one each block of clients is on one node. Sums come
    back by a tree. The result is the same as on one machine: to the bit where whole numbers are summed, and up to float rounding
    otherwise. Clients' states and all secrets stay with the driver. A node that is lost in a round costs that round's work; nodes that come are
    used from the next round on.

    Needs the extra ``ray``.

    Args:
        address: of a cluster, ``"auto"`` for one that runs on this machine; None to start one on this machine, or to use the one that this
            process is connected to.
        processors: how many of each node's to use; by default all.

    Raises:
        MissingExtra: Ray is not installed.
    """
    require("ray", extra="ray", purpose="rounds on a Ray cluster")
    return RayEngine(address, processors)


@dataclass(frozen=True)
class RayEngine:
    """See `ray`.

    Attributes:
        address: of the cluster.
        processors: of each node.
    """

    address: str | None = None
    processors: int | None = None

    @contextmanager
    def worker(self, start: Start) -> Iterator[Worker]:
        """A worker for a run, with actors that live as long."""
        self._connect()
        prepared = prepare(start)
        with _Actors(prepared, self.processors) as cluster:
            yield prepared.worker(cluster)

    def map(self, job: Callable[..., Any], runs: Sequence[Any]) -> Iterator[Any]:
        """Whole runs, one a core: what `job(run, processors=[0])` gives for each, in the order in which they end.

        A run whose node is lost is made again elsewhere; one that is kept in a folder goes on there.
        """
        self._connect()
        import ray as package

        shared = package.put(job)

        def one(shared: Callable[..., Any], run: Any) -> Any:
            return shared(run, processors=[0])

        remote = package.remote(one).options(num_cpus=1, max_retries=3)
        waiting = [remote.remote(shared, run) for run in runs]
        try:
            while waiting:
                (done,), waiting = package.wait(waiting, num_returns=1)
                yield package.get(done)
        finally:
            for reference in waiting:
                package.cancel(reference, force=True)

    def _connect(self) -> None:
        _keep_equinox_whole()
        # Ray sends statistics of its use home unless it is told not to.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray as package

        if package.is_initialized():
            connected = package.get_runtime_context().gcs_address
            if self.address not in (None, "auto", "local", connected):
                raise RunError(
                    "fr.ray",
                    given=f"address={self.address!r}, in a process that is connected to {connected}",
                    expected="one cluster for a process",
                    do="Call ray.shutdown() before, or leave the address out.",
                )
        else:
            package.init(
                address=self.address,
                include_dashboard=None if self.address else False,
                log_to_driver=False,
                logging_level=logging.WARNING,
            )


def _keep_equinox_whole() -> None:
    """Let the structure of an Equinox module be the same in another process.

    It holds an object that stands for a field without a value, and is compared by its identity: so it is sent by its name.
    """
    from equinox._module import _flatten

    copyreg.pickle(_flatten._Missing, lambda _: "MISSING")  # type: ignore[arg-type]


def send_by_value(modules: Iterable[ModuleType]) -> None:
    """Let nodes have what these modules define although they cannot import them, as they have what the main program defines."""
    import ray as package

    for module in modules:
        package.cloudpickle.register_pickle_by_value(module)  # pyright: ignore[reportAttributeAccessIssue]


@dataclass(frozen=True)
class _Reader:
    """Reads rows on the node: from files that every node has under the same paths, or by the population's function."""

    population: Population
    blocks: list[np.ndarray]
    names: tuple[str, ...]

    def read(self, block: int) -> Rows:
        """The rows of a block."""
        rows, _ = self.population.gather(self.blocks[block])
        return {name: rows[name] for name in self.names}


class _Node:
    """What an actor runs."""

    def __init__(self, setup: Setup, rows: "Population | _Reader | list[Any]", processors: int) -> None:
        import ray as package

        if isinstance(rows, Population):
            own = rows
        elif isinstance(rows, _Reader):
            own = BlockRows(setup, rows.read)
        else:
            own = BlockRows(setup, lambda block: package.get(rows[block]))
        self._shard = Shard(setup, own, processors)

    def ready(self) -> bool:
        """Whether it is there."""
        return True

    def accumulate(self, sent: Sent, request: Request) -> tuple[Sums, Reply]:
        """See `Shard`."""
        return self._shard.accumulate(sent, request)

    def encoded(self, sent: Sent, request: Request) -> tuple[list[tuple[int, np.ndarray]], Reply]:
        """See `Shard`."""
        return self._shard.encoded(sent, request)

    def add(self, one: Sums, other: Sums) -> Sums:
        """The sum of two machines' sums."""
        return added(one, other)


class _Actors:
    """A `Cluster` of actors, one on each node.

    Args:
        prepared: the run. Rows that are in this process's memory go to the cluster's, block by block; nodes read others themselves.
        processors: of each node; None for all.
    """

    def __init__(self, prepared: Prepared, processors: int | None) -> None:
        import ray as package

        self._ray, self._processors = package, processors
        self._setup = package.put(prepared.setup)
        population = prepared.start.population
        if population.reads_ahead:
            self._rows = package.put(population)
        elif prepared.travels:
            self._rows = package.put(_Reader(population, prepared.blocks, tuple(prepared.setup.kinds)))
        else:
            self._rows = [package.put(prepared.rows(block)) for block in range(len(prepared.blocks))]
        self._actors: dict[str, Any] = {}
        self._kind = package.remote(_Node)

    def __enter__(self) -> "_Actors":
        return self

    def __exit__(self, *_: object) -> None:
        for actor in self._actors.values():
            self._ray.kill(actor)
        self._actors.clear()

    def nodes(self) -> dict[str, int]:
        """See `Cluster`. An actor is started on each node that has none."""
        alive = {
            node["NodeID"]: int(node["Resources"].get("CPU", 0))
            for node in self._ray.nodes()
            if node["Alive"] and node["Resources"].get("CPU", 0) >= 1
        }
        for gone in set(self._actors) - set(alive):
            del self._actors[gone]
        counts = {name: min(cpus, self._processors or cpus) for name, cpus in sorted(alive.items())}
        new = {name: self._start(name, count) for name, count in counts.items() if name not in self._actors}
        for name, actor in new.items():
            if self._answers(actor, _READY):
                self._actors[name] = actor
            else:
                self._ray.kill(actor)
        return {name: count for name, count in counts.items() if name in self._actors}

    def _start(self, node: str, processors: int) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        where = NodeAffinitySchedulingStrategy(node, soft=False)
        options = self._kind.options(num_cpus=processors, scheduling_strategy=where, max_restarts=0)
        return options.remote(self._setup, self._rows, processors)

    def _answers(self, actor: Any, seconds: float) -> bool:
        errors = self._ray.exceptions
        try:
            return self._ray.get(actor.ready.remote(), timeout=seconds)
        except errors.RayTaskError as error:
            raise _cause(error) from error
        except errors.RayActorError as error:
            if isinstance(error, errors.ActorDiedError) and "creation task" in str(error):
                raise _not_started(error) from error
            return False
        except errors.RayError:
            return False

    def accumulate(self, sent: Sent, requests: Mapping[str, Request]) -> tuple[Sums, dict[str, Reply]]:
        """See `Cluster`."""
        broadcast, sums, replies = self._ray.put(sent), [], {}
        for node, request in requests.items():
            actor = self._actors[node]
            summed, replies[node] = actor.accumulate.options(num_returns=2).remote(broadcast, request)
            sums.append((actor, summed))
        while len(sums) > 1:  # the second of two goes to the first
            pairs = zip(sums[::2], sums[1::2], strict=False)
            joined = [(actor, actor.add.remote(one, other)) for (actor, one), (_, other) in pairs]
            sums = joined + sums[len(sums) - len(sums) % 2 :]
        return self._get((sums[0][1], replies))

    def encoded(self, sent: Sent, node: str, request: Request) -> tuple[list[tuple[int, np.ndarray]], Reply]:
        """See `Cluster`."""
        return self._get(self._actors[node].encoded.remote(sent, request))

    def _get(self, references: Any) -> Any:
        """The values of references.

        Raises:
            NodeLost: of one that is gone.
        """
        errors = self._ray.exceptions
        leaves, structure = jax.tree.flatten(references)
        try:
            return structure.unflatten(self._ray.get(leaves))
        except errors.RayTaskError as error:
            if isinstance(error.cause, errors.RayError):  # another's result that it needed
                self._forget_lost()
                raise NodeLost(f"{type(error.cause).__name__}") from error
            raise _cause(error) from error
        except errors.RayError as error:
            self._forget_lost()
            raise NodeLost(f"{type(error).__name__}") from error

    def _forget_lost(self) -> None:
        """Leave out actors that do not answer; `nodes` starts others."""
        for name, actor in list(self._actors.items()):
            if not self._answers(actor, _ALIVE):
                del self._actors[name]


def _cause(error: Any) -> BaseException:
    """The error that a user's code raised on a node."""
    cause = error.cause
    return cause if isinstance(cause, BaseException) else error


def _not_started(error: Exception) -> RunError:
    return RunError(
        "Ray",
        given=f"an actor that did not start: {' '.join(str(error).split())[:500]}",
        expected="nodes on which fairyring is installed, with the packages that the plan needs",
        do="Install them on every node, or give the cluster a runtime environment.",
    )
