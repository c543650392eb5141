"""Which machine computes which clients of a round."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from fairyring.population import Population, client_blocks
from fairyring.simulation import assign_to_processors

BLOCK_BYTES = 64 << 20  # of rows that travel together
REPLICATED_BYTES = 1 << 30  # a population of fewer bytes is on every machine


def blocks_of(population: Population, columns: tuple[str, ...]) -> list[np.ndarray]:
    """The clients in order, in blocks whose rows travel together."""
    rows = max(1, BLOCK_BYTES // max(1, population.row_bytes(columns)))
    return list(client_blocks(np.asarray(population.sizes), rows))


def stretches_of(population: Population, columns: tuple[str, ...]) -> np.ndarray:
    """The block of each client whose rows are read from files as they are needed, int64 `[clients]`: those that are near each other there have one."""
    rows = max(1, BLOCK_BYTES // max(1, population.row_bytes(columns)))
    return np.asarray(population.starts) // rows


def owners_of(blocks: int, nodes: Sequence[str]) -> tuple[str, ...]:
    """The machine that each block is on: the one whose hash with the block's number is the largest.

    So a machine that comes takes blocks from all others, and one that goes leaves its own to all others; no other block moves
    (rendezvous hashing, Thaler and Ravishankar, 1998).
    """

    return _owners(blocks, tuple(nodes))


@lru_cache(maxsize=8)  # the machines of a round are mostly those of the last one
def _owners(blocks: int, nodes: tuple[str, ...]) -> tuple[str, ...]:
    def score(node: str, block: int) -> bytes:
        return hashlib.sha256(f"{block} {node}".encode()).digest()

    return tuple(max(nodes, key=lambda node: score(node, block)) for block in range(blocks))


def share(
    clients: np.ndarray,
    sizes: np.ndarray,
    nodes: Sequence[str],
    speeds: Sequence[int],
    block_of: np.ndarray | None,
) -> dict[str, np.ndarray]:
    """A round's clients by machine; machines without any are there, too.

    Args:
        clients: who takes part, `[n]`.
        sizes: examples of all clients.
        nodes: the machines.
        speeds: processors of each of them.
        block_of: the block of each client, where blocks are on one machine each; None if every machine has all rows: then clients are shared
            by their examples, in proportion to the machines' processors.
    """
    if block_of is not None:
        owners = np.array(owners_of(int(block_of.max(initial=0)) + 1, nodes))
        own = owners[block_of[clients]] if len(clients) else np.array([], str)
        return {node: clients[own == node] for node in nodes}
    # Each processor of each machine is a bin of its own.
    bins = assign_to_processors(clients, sizes[clients], sum(speeds))
    ends = np.cumsum([0, *speeds])
    return {
        node: clients[np.sort(np.concatenate(bins[first:last]))]
        for node, first, last in zip(nodes, ends[:-1], ends[1:], strict=True)
    }
