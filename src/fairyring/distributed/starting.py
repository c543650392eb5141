"""What machines have to know before a run's first round, from what the driver knows."""

from typing import NamedTuple

import jax
import numpy as np

from fairyring.distributed import placement
from fairyring.distributed.shard import Rows, Setup
from fairyring.distributed.worker import Cluster, DistributedWorker
from fairyring.simulation import Start


class Prepared(NamedTuple):
    """A run that is ready for its machines.

    Attributes:
        start: what the driver knows.
        setup: what each machine has to know.
        blocks: the clients of each block of rows.
        block_of: the block of each client, where a block's rows are on one machine; None if all rows are on every machine.
    """

    start: Start
    setup: Setup
    blocks: list[np.ndarray]
    block_of: np.ndarray | None

    def rows(self, block: int) -> Rows:
        """The rows of a block's clients."""
        rows, _ = self.start.population.gather(self.blocks[block])
        return {name: rows[name] for name in self.setup.kinds}

    @property
    def travels(self) -> bool:
        """Whether machines read rows themselves: from files that all of them have, or by the population's function."""
        population = self.start.population
        return not population.stored or population.mapped

    def worker(self, cluster: Cluster) -> DistributedWorker:
        """The run's worker on a cluster."""
        start = self.start
        return DistributedWorker(
            cluster, self.setup, start.engine, start.cohorts, start.root, start.states, self.block_of
        )


def prepare(start: Start) -> Prepared:
    """Divide a run's population into blocks, and put together what machines have to know."""
    plan, population = start.plan, start.population
    names = plan.task.reads(population)
    blocks = placement.blocks_of(population, names)
    firsts = np.array([block[0] for block in blocks], np.int64)
    replicated = population.row_bytes(names) * population.examples <= placement.REPLICATED_BYTES
    setup = Setup(
        plan,
        np.asarray(jax.random.key_data(start.root)),
        np.asarray(population.sizes, np.int64),
        {name: (population.shape(name), population.dtype(name)) for name in names},
        firsts,
        replicated,
        start.client_state,
        start.clients_per_batch,
    )
    block_of = None
    if not replicated and population.reads_ahead:
        block_of = placement.stretches_of(population, names)
    elif not replicated:
        block_of = np.searchsorted(firsts, np.arange(len(population)), side="right") - 1
    return Prepared(start, setup, blocks, block_of)
